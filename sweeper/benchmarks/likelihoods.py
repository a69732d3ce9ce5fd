"""Log-likelihoods of continuations given a context: exact, or minus a bound with its error.

A question has options whose differences decide, so all its options share noise levels, and noise
where they are equally long; more is drawn until the best two are apart.

Shapes: B sequences, L tokens, N draws of an option, O options of a question, V vocabulary.
"""

import dataclasses
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeper.benchmarks.gathered import gathered
from sweeper.errors import ConfigError
from sweeper.evaluation.bound import stratified_stderr
from sweeper.families._prefixes import AfterPrefix
from sweeper.families.base import AbstractFamily, Denoiser, stratified, token_nll
from sweeper.trials.seeds import generator

FIRST_DRAWS = 8
"""Noise levels of the first round, each in a stratum of its own; further rounds double them."""

SURE_AT = 3.0
"""Standard errors between the best and the second option at which no more is drawn."""

QUESTIONS_AT_ONCE = 64
"""Questions whose calls of the network are made together."""

LOGITS_AT_ONCE = 2**27
"""Most logits of a batch in exact scoring, which looks for the largest."""


@dataclass(frozen=True)
class Option:
    """Ids to score, and those before them."""

    context: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """What is known of log p(ids | context)."""

    nats: float
    """The log-likelihood, or minus the bound on −log p."""
    stderr: float
    """Of `nats` over noise levels and noise; 0 where it is exact."""
    is_greedy: bool
    """Whether every id is the likeliest after those before it; never so where that is unknown."""
    n_draws: int
    is_sure: bool
    """Whether the best option of the question is ahead of the second by more than noise."""
    is_cut: bool
    """Whether the context lost its beginning to the length of the model."""


@dataclass(frozen=True)
class Scorer:
    """Scores options with a network and its family."""

    family: AbstractFamily
    denoiser: Denoiser
    seq_len: int
    """Longest sequence, as trained."""
    device: torch.device
    seed: int
    prefix_share: float = 0.0
    """Of training sequences, that had a clean prefix."""
    max_draws: int = 128
    """Of an option; `FIRST_DRAWS` times a power of two."""
    sequences_at_once: int = 64

    def __post_init__(self) -> None:
        if self.max_draws not in {FIRST_DRAWS << k for k in range(24)}:
            raise ConfigError(
                f"{self.max_draws} draws: expected {FIRST_DRAWS} or that doubled, such as 64 or 128"
            )

    @property
    def reads_contexts(self) -> bool:
        """Whether it is p(ids | context); else p(context and ids), which ranks options as well."""
        if self.family.is_exact or self.prefix_share:
            return True
        try:
            nothing_BP = torch.zeros(1, 0, dtype=torch.int64, device=self.device)
            self.family.given_prefix(self.denoiser, nothing_BP)
        except ConfigError:
            return False
        return True

    @torch.no_grad()
    def scores(
        self,
        questions: Sequence[Sequence[Option]],
        after_questions: Callable[[int], object] = lambda _: None,
    ) -> list[list[Score]]:
        """Those of the options of each question; a function of question, model and seed.

        `after_questions` is told how many more are done. Raises ConfigError for an option that is
        empty or longer than the model's sequences.
        """
        score = self._exact if self.family.is_exact else self._bounds
        done: list[list[Score]] = []
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            part = questions[start : start + QUESTIONS_AT_ONCE]
            done += score([[self._fitting(option) for option in options] for options in part])
            after_questions(len(part))
        return [
            [
                dataclasses.replace(score, is_cut=self._is_cut(option))
                for option, score in zip(*question, strict=True)
            ]
            for question in zip(questions, done, strict=True)
        ]

    def _is_cut(self, option: Option) -> bool:
        return len(option.context) + len(option.ids) > self.seq_len

    def _fitting(self, option: Option) -> Option:
        """The option with as much of its context as fits, from the right."""
        if not 0 < len(option.ids) <= self.seq_len:
            raise ConfigError(
                f"a text to score has {len(option.ids)} tokens; expected 1 to {self.seq_len}, the "
                "length that the model was trained on: leave the task out"
            )
        n_cut = max(0, len(option.context) + len(option.ids) - self.seq_len)
        return Option(option.context[n_cut:], option.ids)

    def _exact(self, questions: Sequence[Sequence[Option]]) -> list[list[Score]]:
        flat = [option for options in questions for option in options]
        by_length = defaultdict(list)
        for i, option in enumerate(flat):
            by_length[len(option.context) + len(option.ids)].append(i)
        found: dict[int, Score] = {}
        for length, numbers in by_length.items():
            fitting = LOGITS_AT_ONCE // (length * self.family.vocab_size)
            at_once = max(1, min(self.sequences_at_once, fitting))
            for batch in (numbers[i : i + at_once] for i in range(0, len(numbers), at_once)):
                x_BL = self._tensor([flat[i].context + flat[i].ids for i in batch])
                noisy = self.family.noisy_batch(x_BL, torch.Generator())
                logits_BLV = self.denoiser(noisy.zt_BL, noisy.t_B)
                nats_BL = -token_nll(logits_BLV, x_BL).double()
                is_best_BL = logits_BLV.argmax(dim=-1) == x_BL
                for i, nats_L, is_best_L in zip(batch, nats_BL, is_best_BL, strict=True):
                    scored = slice(len(flat[i].context), None)
                    found[i] = Score(
                        nats_L[scored].sum().item(),
                        stderr=0.0,
                        is_greedy=bool(is_best_L[scored].all()),
                        n_draws=1,
                        is_sure=True,
                        is_cut=False,
                    )
        numbers_of = itertools.count()
        return [[found[next(numbers_of)] for _ in options] for options in questions]

    def _bounds(self, questions: Sequence[Sequence[Option]]) -> list[list[Score]]:
        if not self.reads_contexts:
            questions = [[Option((), o.context + o.ids) for o in options] for options in questions]
        drawn = [Drawn(()) for _ in questions]
        for round_, n_draws in enumerate(rounds(self.max_draws)):
            is_open = [not known.is_sure for known in drawn]
            computations = [
                self._draws(option, key, round_, n_draws)
                for options in itertools.compress(questions, is_open)
                for key in [_key(options)]
                for option in options
            ]
            nats = iter(
                gathered(
                    computations, self.denoiser, self.family.vocab_size, self.sequences_at_once
                )
            )
            for i in itertools.compress(range(len(questions)), is_open):
                nats_ON = torch.stack([next(nats) for _ in questions[i]])
                drawn[i] = Drawn((*drawn[i].rounds, nats_ON))
        return [known.scores for known in drawn]

    def _draws(
        self, option: Option, key: int, round_: int, n_draws: int
    ) -> Callable[[Denoiser], Tensor]:
        """Draws of minus the bound, nats, (N,), in the order of their noise levels."""
        x_NL, context_1P = self._tensor([option.ids] * n_draws), self._tensor([option.context])

        def compute(denoiser: Denoiser) -> Tensor:
            if option.context and self.prefix_share:
                denoiser = AfterPrefix(denoiser, context_1P)
            elif option.context:
                denoiser = self.family.given_prefix(denoiser, context_1P)
            t_N = stratified(n_draws, generator(self.seed, "benchmark levels", key, round_))
            noise = generator(self.seed, "benchmark noise", key, round_)
            draw = self.family.bound(denoiser, x_NL, t_N.to(self.device), noise)
            return -draw.nats_BL.double().sum(dim=1).cpu()

        return compute

    def _tensor(self, ids: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(ids, dtype=torch.int64, device=self.device)


@dataclass(frozen=True)
class Drawn:
    """Draws of the options of one question, nats, (O, N) for each round, N in order of level."""

    rounds: tuple[Tensor, ...]

    @property
    def scores(self) -> list[Score]:
        """What they say of each option."""
        n_draws = sum(nats_ON.shape[1] for nats_ON in self.rounds)
        is_sure = self.is_sure or len(self.rounds[0]) == 1
        return [
            Score(
                *_mean_and_stderr(option),
                is_greedy=False,
                n_draws=n_draws,
                is_sure=is_sure,
                is_cut=False,
            )
            for option in zip(*self.rounds, strict=True)
        ]

    @property
    def is_sure(self) -> bool:
        """Whether the best option is ahead of the second by more than noise; never with one."""
        if not self.rounds or len(self.rounds[0]) < 2:
            return False
        sum_O = torch.cat(self.rounds, dim=1).sum(dim=1)
        best, second = sum_O.topk(2).indices.tolist()
        gap, stderr = _mean_and_stderr([nats[best] - nats[second] for nats in self.rounds])
        return gap > SURE_AT * stderr


def rounds(max_draws: int) -> Iterator[int]:
    """Draws of each round, which double their sum: 8, 8, 16, 32 …"""
    yield FIRST_DRAWS
    n_draws = FIRST_DRAWS
    while n_draws < max_draws:
        yield n_draws
        n_draws *= 2


def _mean_and_stderr(rounds: Sequence[Tensor]) -> tuple[float, float]:
    """Of all draws of independent stratified rounds."""
    n = sum(map(len, rounds))
    variance = sum((len(nats_N) * stratified_stderr(nats_N)) ** 2 for nats_N in rounds)
    return sum(nats_N.sum().item() for nats_N in rounds) / n, variance**0.5 / n


def _key(options: Sequence[Option]) -> int:
    """A number of its own for every question, so that its noise depends on nothing else."""
    text = repr([(option.context, option.ids) for option in options])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
