"""Negative controls: samplers of nonsense, which a metric worth a headline must rank last.

Each looks good to some metric: repeated and frequent tokens to cross-entropy under a judge,
unigrams and shuffled text to the entropy of histograms and to counts of distinct n-grams (arXiv
2606.08417).

Shapes: T training tokens, B sequences, N tokens to generate, P tokens of a prefix.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sweeper.data.corpus import Corpus
from sweeper.data.synthetic import parse_synthetic
from sweeper.errors import ConfigError
from sweeper.evaluation.control_variates import spread_pieces
from sweeper.families.base import Samples
from sweeper.sampling.protocol import Protocol, require_comparable
from sweeper.trials.records import SampleRow
from sweeper.trials.sampling_task import CONTROL_FAMILY

ControlName = Literal["unigram", "bigram", "shuffled", "repeated"]


@dataclass(frozen=True)
class TrainingText:
    """Training tokens as controls read them."""

    tokens_T: np.ndarray
    vocab_size: int

    def drawn(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Tokens at random places."""
        return self.tokens_T[rng.integers(len(self.tokens_T), size=shape)].astype(np.int64)

    def stretches(self, n: int, length: int, rng: np.random.Generator) -> np.ndarray:
        """Real sequences at random places, (n, length)."""
        starts = rng.integers(max(len(self.tokens_T) - length, 1), size=n)
        tokens = np.take(self.tokens_T, starts[:, None] + np.arange(length), mode="wrap")
        return tokens.astype(np.int64)

    def following(self, tokens_B: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each token the one that follows it at a random one of its places."""
        firsts_V, places_T = self._places
        n_B = firsts_V[tokens_B + 1] - firsts_V[tokens_B]
        # A token whose only place is the last has no follower: any token follows it.
        chosen_B = firsts_V[tokens_B] + rng.integers(np.maximum(n_B, 1))
        next_B = self.tokens_T[places_T[np.minimum(chosen_B, len(places_T) - 1)] + 1]
        return np.where(n_B > 0, next_B, self.drawn(tokens_B.shape, rng)).astype(np.int64)

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the places of each token begin in the sorted list of places, and that list."""
        before = self.tokens_T[:-1]
        n_V = np.bincount(before, minlength=self.vocab_size)
        return np.concatenate([[0], n_V.cumsum()]), np.argsort(before, kind="stable")


Sampler = Callable[[TrainingText, np.ndarray, int, np.random.Generator], np.ndarray]
"""Training text, prefixes (B, P) and a number N to tokens (B, N)."""


def _unigram(
    text: TrainingText, prefix_BP: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    return text.drawn((len(prefix_BP), n), rng)


def _bigram(
    text: TrainingText, prefix_BP: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    token_B = prefix_BP[:, -1] if prefix_BP.shape[1] else text.drawn((len(prefix_BP),), rng)
    drawn = [token_B]
    for _ in range(n):
        drawn.append(text.following(drawn[-1], rng))
    return np.stack(drawn[1:] if prefix_BP.shape[1] else drawn[:-1], axis=1)


def _shuffled(
    text: TrainingText, prefix_BP: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    return rng.permuted(text.stretches(len(prefix_BP), n, rng), axis=1)


def _repeated(
    text: TrainingText, prefix_BP: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    return np.repeat(text.drawn((len(prefix_BP), 1), rng), n, axis=1)


_CONTROLS: Mapping[ControlName, Sampler] = {
    "unigram": _unigram,
    "bigram": _bigram,
    "shuffled": _shuffled,
    "repeated": _repeated,
}


@dataclass(frozen=True)
class Control:
    """A sampler without a network: a `Source`."""

    name: ControlName
    text: TrainingText
    is_timed: bool = False

    @property
    def identity(self) -> str:
        """Of no weights."""
        return f"control:{self.name}"

    def generate(self, protocol: Protocol, prefix_BP: Tensor, rng: torch.Generator) -> Samples:
        """What follows each prefix, whatever the sampler and its settings."""
        # Numpy's streams differ from torch's; one draw seeds them.
        numbers = np.random.default_rng(int(torch.randint(2**62, (), generator=rng)))
        ids_BN = _CONTROLS[self.name](self.text, prefix_BP.numpy(), protocol.new_tokens, numbers)
        return Samples(torch.from_numpy(ids_BN), 0)

    def own_nll(self, _protocol: Protocol, _prefix_BP: Tensor, _ids_BN: Tensor, /) -> None:
        """Not told: nobody sets a control beside models at its own entropy."""
        return


def controls_for(corpus: Corpus) -> tuple[Control, ...]:
    """The controls of a corpus, from its training tokens; a sample of them, where they are many."""
    text = TrainingText(spread_pieces(corpus.tokens.train), corpus.tokens.vocab_size)
    return tuple(Control(name, text) for name in control_names(corpus.source))


def control_names(corpus_source: str) -> tuple[ControlName, ...]:
    """The controls that a corpus has, as it is named in the sweep file.

    One that *is* the source is no negative control: `bigram` of a chain of order 1, and `unigram`,
    `bigram` and `shuffled` of independent tokens are left out.
    """
    names: list[ControlName] = [*_CONTROLS]
    if corpus_source.startswith("synthetic:"):
        source = parse_synthetic(corpus_source)
        if source.kind == "iid":
            names = ["repeated"]
        elif source.order == 1:
            names.remove("bigram")
    return tuple(names)


LARGER_IS_BETTER = ("mauve", "distinct_2", "distinct_4", "unigram_entropy_nats")
"""Columns of `samples` that praise samples by being large; other measures of quality are losses."""


def ranks_controls_last(rows: Sequence[SampleRow], metric: str) -> bool:
    """Whether a column puts every control behind the best row of every series.

    Only the best: with one step, independent tokens are all that a diffusion model can draw, and
    such a sampler *is* a control. Rows without the number do not count. Raises ConfigError for rows
    of different protocols, or where there is nothing to rank.
    """
    ranked = [row for row in rows if getattr(row, metric) is not None]
    require_comparable(ranked)
    sign, best = -1 if metric in LARGER_IS_BETTER else 1, dict[str, float]()
    for row in ranked:
        value = sign * getattr(row, metric)
        best[row.series] = min(value, best.get(row.series, value))
    controls = {row.series for row in ranked if row.family == CONTROL_FAMILY}
    if not controls or controls == set(best):
        raise ConfigError(
            f"{metric}: expected rows of a model and of a control that have it: measure both"
        )
    models = [value for series, value in best.items() if series not in controls]
    return max(models) < min(best[series] for series in controls)
