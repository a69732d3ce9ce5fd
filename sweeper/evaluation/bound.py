"""The bound on a fixed validation set, with its standard error.

Every trial is scored on the same sequences, with the same noise levels and the same noise: one
level per sequence, from a stratified grid over each half of the set. Differences between trials are
therefore paired.

What makes a mean of such scores noisy is, for the most part, which tokens the noise happens to
cover and which sequences happen to be in the set, and both matter because some tokens are harder
than others. How hard is known well enough from counts of training tokens (`difficulty.py`), and a
family says by how much a draw depends on each token: its exposure, which is 1 on average. So the
mean of exposure × difficulty is known as well: it is the mean difficulty of the whole validation
text, of which the set is a part. What a score owes to its distance from that mean is taken out:
control variates for the noise and a regression estimate for the data (Cochran, Sampling Techniques,
ch. 7) in one. The slopes of that regression come from the other half of the set, whose sequences,
levels and noise are its own, so the corrections average to zero whatever the slopes are.

On text, with trained networks, the standard error is 0.21 to 0.32 of that of the published protocol
(one independent t in [1e-3, 1] and one z per sequence); measured in docs/log.md.

Shapes: N sequences of the set, B of them at a time, L tokens each, K measures of difficulty, X of
exposure, C = X (1 + K) control variates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sweeper.data.corpus import Corpus, validation_sequences
from sweeper.evaluation.control_variates import count_difficulty
from sweeper.families._prefixes import after_prefix, prefix_lengths
from sweeper.families.base import AbstractFamily, Denoiser, stratified
from sweeper.trials.seeds import generator

EVAL_BATCH_SEQUENCES = 64
"""Sequences scored at a time. Fixed, because the noise is drawn per batch."""

N_PREFIX_LENGTHS = 8
"""Lengths of prefix that sequences are dealt to; fewer, if some would get less than two."""

POPULATION_TOKENS = 2**22
"""Validation tokens, spread evenly, over which mean difficulties are taken: all, if there are no
more. None of them costs a pass through the network."""

MIN_SEQUENCES_PER_SLOPE = 10
"""With fewer in half a set there is no regression: its slopes would add more than they remove."""

RELATIVE_RANK = 1e-2
"""Directions in which the control variates vary less than this, relative to the most, have slope 0:
exposure hardly varies in families that fix the number of changed tokens."""


@dataclass(frozen=True)
class ValidationSet:
    """Sequences to score, and how hard their tokens are."""

    sequences_NL: Tensor
    difficulty_NLK: Tensor
    """K measures of each token, float32."""
    mean_difficulty_K: Tensor
    """Their means over the text that the sequences stand for."""

    @classmethod
    def alone(cls, sequences_NL: Tensor) -> "ValidationSet":
        """Sequences that stand for themselves, of unknown difficulty (K = 0)."""
        none_NLK = torch.zeros(*sequences_NL.shape, 0, device=sequences_NL.device)
        return cls(sequences_NL, none_NLK, none_NLK[0, 0])

    def half(self, which: int) -> "ValidationSet":
        """Every other sequence, beginning with the first or the second."""
        return ValidationSet(
            self.sequences_NL[which::2], self.difficulty_NLK[which::2], self.mean_difficulty_K
        )

    def to(self, device: torch.device) -> "ValidationSet":
        """The same set on a device."""
        return ValidationSet(
            self.sequences_NL.to(device),
            self.difficulty_NLK.to(device),
            self.mean_difficulty_K.to(device),
        )


@dataclass(frozen=True)
class BoundEstimate:
    """A bound in nats per token and its standard error over data, noise levels and noise."""

    nats_per_token: float
    stderr: float
    n_tokens: int
    """Tokens that went through the network."""


_Part = tuple[Tensor, ...]
"""Scores of one batch, on the CPU, sequences first."""


@dataclass(frozen=True)
class Scoring:
    """How a set is scored. No number depends on it."""

    after_batch: Callable[[], object] = lambda: None
    """Called between batches, to tell that the process is alive."""
    takes: Callable[[int], bool] = lambda _: True
    """Whether this process scores the batch of a number; of several, exactly one does."""
    gathered: Callable[[list[Any]], list[Any]] = lambda parts: parts
    """The parts of all processes from those of each."""


ALONE = Scoring()
"""By one process, which tells nobody."""


@dataclass(frozen=True)
class _Scores:
    """One draw of each sequence's bound and control variates, in the order of noise levels."""

    nats_N: Tensor
    excess_NC: Tensor
    """Exposure, and exposure × difficulty, less their means; float64 as the scores."""


def validation_set(corpus: Corpus, *, seq_len: int, n_sequences: int) -> ValidationSet:
    """The same sequences for every trial, measured against all of the validation text."""
    n_chunks = len(corpus.validation_tokens) // seq_len
    n_population = min(n_chunks, max(n_sequences, POPULATION_TOKENS // seq_len))
    difficulty = count_difficulty(corpus)
    ids_NL = validation_sequences(corpus, seq_len=seq_len, n_sequences=n_sequences)
    population_NL = validation_sequences(corpus, seq_len=seq_len, n_sequences=n_population)
    mean_K = difficulty.measure(population_NL).mean(axis=(0, 1), dtype="float64")
    return ValidationSet(
        torch.from_numpy(ids_NL),
        torch.from_numpy(difficulty.measure(ids_NL)),
        torch.from_numpy(mean_K),
    )


@torch.no_grad()
def evaluate_bound(
    family: AbstractFamily,
    denoiser: Denoiser,
    validation: ValidationSet,
    seed: int,
    scoring: Scoring = ALONE,
) -> BoundEstimate:
    """Score all sequences; the result does not depend on anything but weights and arguments."""
    draws = _Draws(family, denoiser, seed, scoring)
    first, second = (_scores(draws, validation.half(i), i) for i in range(2))
    n, total, variance = validation.sequences_NL.shape[0], 0.0, 0.0
    for here, other in ((first, second), (second, first)):
        corrected_N = here.nats_N - here.excess_NC @ _slopes(other)
        total += corrected_N.sum().item()
        variance += (stratified_stderr(corrected_N) * len(corrected_N)) ** 2
    return BoundEstimate(total / n, variance**0.5 / n, validation.sequences_NL.numel())


@torch.no_grad()
def evaluate_given_prefixes(
    family: AbstractFamily,
    denoiser: Denoiser,
    validation: ValidationSet,
    seed: int,
    scoring: Scoring = ALONE,
) -> BoundEstimate:
    """The bound on what follows a clean prefix, nats per token of that.

    The sequences are dealt to a few lengths of prefix. To the family the rest of each is a shorter
    sequence; there is no regression.
    """
    draws, sequences_NL = _Draws(family, denoiser, seed, scoring), validation.sequences_NL
    nats, variance, n_tokens = 0.0, 0.0, 0
    n_lengths = min(N_PREFIX_LENGTHS, sequences_NL.shape[0] // 2)  # one has no standard error
    for i, n_prefix in enumerate(prefix_lengths(sequences_NL.shape[1], n_lengths)):
        own_NL = sequences_NL[i::n_lengths]
        sum_N = _sums_after(draws, own_NL, n_prefix, i)
        nats += sum_N.sum().item()
        variance += (stratified_stderr(sum_N) * len(sum_N)) ** 2
        n_tokens += own_NL[:, n_prefix:].numel()
    return BoundEstimate(nats / n_tokens, variance**0.5 / n_tokens, sequences_NL.numel())


@dataclass(frozen=True)
class _Draws:
    """What the bound is drawn with."""

    family: AbstractFamily
    denoiser: Denoiser
    seed: int
    scoring: Scoring

    def of_batches(self, score: Callable[[int], _Part], n: int, first: int) -> list[Tensor]:
        """Each tensor of the scores of n sequences, scored in batches that begin at `start`.

        `first` numbers the first batch among those that are dealt to several processes.
        """
        parts: list[tuple[int, _Part]] = []
        for i, start in enumerate(range(0, n, EVAL_BATCH_SEQUENCES)):
            if self.scoring.takes(first + i):
                parts.append((start, score(start)))
                self.scoring.after_batch()
        parts = sorted(self.scoring.gathered(parts), key=lambda part: part[0])
        return [torch.cat(tensors) for tensors in zip(*(part for _, part in parts), strict=True)]


def _sums_after(draws: _Draws, x_NL: Tensor, n_prefix: int, which: int) -> Tensor:
    """One draw of the bound on each sequence after its prefix, nats, in the order of levels."""
    n, seed = x_NL.shape[0], draws.seed
    rng = generator(seed, "prefix evaluation levels", n_prefix)
    t_N = stratified(n, rng)[torch.randperm(n, generator=rng)]

    def score(start: int) -> _Part:
        x_BL, t_B = (a[start : start + EVAL_BATCH_SEQUENCES] for a in (x_NL, t_N))
        noise = generator(seed, "prefix evaluation noise", n_prefix, start)
        reader = after_prefix(draws.denoiser, x_BL[:, :n_prefix])
        draw = draws.family.bound(reader, x_BL[:, n_prefix:], t_B.to(x_BL.device), noise)
        return (draw.nats_BL.double().sum(dim=1).cpu(),)

    (sum_N,) = draws.of_batches(score, n, which)
    return sum_N[t_N.argsort()]


def _scores(draws: _Draws, half: ValidationSet, which: int) -> _Scores:
    """Draw the bound of half a set at a stratified grid of levels of its own."""
    n, device = half.sequences_NL.shape[0], half.sequences_NL.device
    rng = generator(draws.seed, "evaluation levels", which)
    t_N = stratified(n, rng)[torch.randperm(n, generator=rng)]

    def score(start: int) -> _Part:
        rows = slice(start, start + EVAL_BATCH_SEQUENCES)
        noise = generator(draws.seed, "evaluation noise", which, start)
        draw = draws.family.bound(
            draws.denoiser, half.sequences_NL[rows], t_N[rows].to(device), noise
        )
        nats_B = draw.nats_BL.double().mean(dim=1)
        difficulty_BLK = _with_one(half.difficulty_NLK[rows])
        weighted = torch.einsum("blx,blk->bxk", draw.exposure_BLX.double(), difficulty_BLK)
        return nats_B.cpu(), weighted.cpu()

    nats_N, weighted_NXK = draws.of_batches(score, n, which)
    order_N = t_N.argsort()
    length = half.sequences_NL.shape[1]
    excess_NXK = weighted_NXK / length - _with_one(half.mean_difficulty_K).cpu()
    return _Scores(nats_N[order_N], excess_NXK.flatten(1)[order_N])


def _with_one(difficulty: Tensor) -> Tensor:
    """(…, 1 + K) float64, so that exposure itself is the first control variate."""
    return torch.cat([difficulty.new_ones(*difficulty.shape[:-1], 1), difficulty], dim=-1).double()


def _slopes(scores: _Scores) -> Tensor:
    """Least-squares slopes of the scores on their control variates, (C,).

    Fitted to differences between neighbouring noise levels, which have no trend.
    """
    n, n_slopes = scores.excess_NC.shape
    if n < MIN_SEQUENCES_PER_SLOPE * n_slopes:
        return torch.zeros(n_slopes, dtype=torch.float64)
    inverse_CN: Tensor = torch.linalg.pinv(scores.excess_NC.diff(dim=0), rtol=RELATIVE_RANK)
    return inverse_CN @ scores.nats_N.diff()


def stratified_stderr(score_N: Tensor) -> float:
    """Standard error of a mean over strata holding one score each, in stratum order.

    Half the mean squared difference of neighbours estimates the variance within a stratum, up to
    the trend between two neighbours (Wolter, Introduction to Variance Estimation, §8.2).
    """
    n = score_N.numel()
    within = score_N.diff().square().sum() / (2 * (n - 1))
    return float((within / n).sqrt())
