"""A trained model as `lm-eval` sees one; needs that package.

An empty context is none at all: sequences were cut anywhere in training, too.
"""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import TemplateLM

from sweeper.benchmarks.likelihoods import Option, Score, Scorer
from sweeper.data.tokenizer import load_tokenizer
from sweeper.errors import ConfigError
from sweeper.families.base import SamplingPlan
from sweeper.models.config import TOKENIZER_FILE
from sweeper.models.load import Model
from sweeper.sampling.sources import BATCH_SEQUENCES, model_source
from sweeper.trials.seeds import generator
from sweeper.trials.text_options import BYTES

NO_ID = -1
"""Where the documents of a corpus have no token that ends them."""

NEW_TOKENS = 256
"""Most tokens to generate where a task does not say."""


@dataclass
class Tally:
    """What a task took."""

    texts: int = 0
    """Texts scored: options, or parts of rolling texts as long as the model's sequences."""
    tokens: int = 0
    """Tokens scored or generated."""
    draws: int = 0
    """Passes of texts through the network."""
    cut: int = 0
    """Texts that lost the beginning of their context."""
    undecided: int = 0
    """Questions whose two best options were not apart when draws ended."""
    nats: float = 0.0
    """Sum of the log-likelihoods, or of minus their bounds."""
    variance: float = 0.0
    """Of `nats`, over draws."""


class SweeperLM(TemplateLM):  # type: ignore[misc]
    """Log-likelihoods, or minus bounds on them, and samples of one model."""

    def __init__(
        self,
        model: Model,
        folder: Path,
        seed: int,
        after: Callable[[int], object] = lambda _: None,
    ) -> None:
        """`after` is told how many more questions or texts are done."""
        super().__init__()
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        """By name of task."""
        self.scorer = scorer_of(model, seed)
        self._model, self._source, self._after = model, model_source(model), after
        self._separator = separator_id(model, folder)

    @property
    def eot_token_id(self) -> int:
        """The token that ends documents."""
        return NO_ID if self._separator is None else self._separator

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: object
    ) -> list[int]:
        """The ids of a text, without special tokens; raises ConfigError for ids of no model."""
        ids = self._model.tokenizer.encode(string)
        if odd := [id_ for id_ in ids if not 0 <= id_ < self._model.config.vocab_size]:
            raise ConfigError(
                f"a task's text has token {odd[0]}, which is not of this model, whose ids are 0 to "
                f"{self._model.config.vocab_size - 1}: leave the task out"
            )
        return ids

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Of continuations; those of one document are the options of a question."""
        options = []
        for context, continuation in (request.args for request in requests):
            if context:
                before, ids = self._encode_pair(context, continuation)
            else:
                before, ids = [], self.tok_encode(continuation)
            options.append(Option((*before,), (*ids,)))
        documents = [(request.task_name, request.doc_id) for request in requests]
        scores = self._scored(options, documents, [name for name, _ in documents])
        return [(score.nats, score.is_greedy) for score in scores]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[object, list[int], list[int]]], **_: object
    ) -> list[tuple[float, bool]]:
        # For whoever has tokens only: what has the same context is a question.
        options = [Option((*context,), (*ids,)) for _, context, ids in requests]
        scores = self._scored(options, [option.context for option in options], [""] * len(options))
        return [(score.nats, score.is_greedy) for score in scores]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Of whole texts, in parts as long as the model's sequences, each without context."""
        options, texts, names = [], [], []
        for number, request in enumerate(requests):
            ids = self.tok_encode(*request.args)
            for start in range(0, len(ids), self.scorer.seq_len):
                options.append(Option((), (*ids[start : start + self.scorer.seq_len],)))
                texts.append(number)
                names.append(request.task_name)
        sums = [0.0] * len(requests)
        keys = range(len(options))  # every part is a question of its own
        for number, score in zip(texts, self._scored(options, keys, names), strict=True):
            sums[number] += score.nats
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What follows each context by the family's sampler, up to the first stop."""
        alike: dict[tuple[int, SamplingPlan], list[int]] = defaultdict(list)
        contexts = []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0]) if request.args[0] else []
            plan = self._plan(len(ids), request.args[1])
            contexts.append(ids[max(0, len(ids) + plan.seq_len - self.scorer.seq_len) :])
            alike[len(contexts[-1]), plan].append(number)
            tally = self.tallies[request.task_name]
            tally.texts += 1
            tally.tokens += plan.seq_len
            tally.cut += len(contexts[-1]) < len(ids)
        texts = [""] * len(requests)
        batches = (
            (plan, numbers[start : start + BATCH_SEQUENCES])
            for (_, plan), numbers in alike.items()
            for start in range(0, len(numbers), BATCH_SEQUENCES)
        )
        for i, (plan, numbers) in enumerate(batches):
            prefix_BP = torch.tensor([contexts[n] for n in numbers], dtype=torch.int64)
            samples = self._source.sample(
                dataclasses.replace(plan, n_sequences=len(numbers)),
                prefix_BP,
                generator(self.scorer.seed, "benchmark samples", i),
            )
            for number, new in zip(numbers, samples.ids_BL.tolist(), strict=True):
                texts[number] = self._until(new, requests[number].args[1])
            self._after(len(numbers))
        return texts

    def _plan(self, n_context: int, wishes: dict[str, Any]) -> SamplingPlan:
        """For one sequence; a context may fill half of the model's length, or what is left."""
        longest = self.scorer.seq_len
        n_new = int(wishes.get("max_gen_toks", NEW_TOKENS))
        n_new = min(n_new, longest - min(n_context, longest // 2))
        is_drawn = wishes.get("do_sample", False)
        return SamplingPlan(
            n_sequences=1,
            seq_len=n_new,
            n_steps=n_new,
            temperature=float(wishes.get("temperature", 1.0)) if is_drawn else 0.0,
            top_p=float(wishes.get("top_p", 1.0)) if is_drawn else 1.0,
        )

    def _until(self, ids: list[int], wishes: dict[str, Any]) -> str:
        """The text of ids, up to the end of the document and the first stop."""
        if self._separator in ids:
            ids = ids[: ids.index(self._separator)]
        text = self._model.tokenizer.decode(ids)
        stops = wishes.get("until") or []
        for stop in [stops] if isinstance(stops, str) else stops:
            text = text.split(stop)[0] if stop else text
        return text

    def _scored(
        self, options: Sequence[Option], keys: Iterable[Hashable], names: Sequence[str]
    ) -> list[Score]:
        """The scores of options in their order; those of one key are one question."""
        questions: dict[Hashable, list[int]] = defaultdict(list)
        for i, key in enumerate(keys):
            questions[key].append(i)
        numbers = [*questions.values()]
        scores = self.scorer.scores([[options[i] for i in part] for part in numbers], self._after)
        for part, of_question in zip(numbers, scores, strict=True):
            tally = self.tallies[names[part[0]]]
            tally.undecided += not of_question[0].is_sure
            for i, score in zip(part, of_question, strict=True):
                tally.texts += 1
                tally.tokens += len(options[i].ids)
                tally.draws += score.n_draws
                tally.cut += score.is_cut
                tally.nats += score.nats
                tally.variance += score.stderr**2
        found = dict(zip(itertools.chain(*numbers), itertools.chain(*scores), strict=True))
        return [found[i] for i in range(len(options))]


def scorer_of(model: Model, seed: int) -> Scorer:
    """What scores options with a loaded model."""
    backbone = model.network.backbone
    return Scorer(
        model.family,
        model.network,
        model.config.seq_len,
        backbone.embedding.device,
        seed,
        prefix_share=model.config.trial.prefix_share,
        sequences_at_once=backbone.sequences_at_once(model.config.seq_len),
    )


def separator_id(model: Model, folder: Path) -> int | None:
    """The token that ends documents in the corpus of the model in a folder, if there is one."""
    if model.config.tokenizer == "ids":
        return None
    name = BYTES if model.config.tokenizer == "bytes" else str(folder / TOKENIZER_FILE)
    return load_tokenizer(model.config.source, name).separator_id
