"""The bound on a fixed validation set, with its standard error.

Every trial is scored on the same sequences, noise levels and noise, so differences between trials
are paired. Control variates take out what a score owes to which tokens the noise happens to cover
and which sequences happen to be in the set: on text the standard error is 0.21 to 0.32 of that of
the published protocol (one independent t and one z per sequence; docs/log.md).

Shapes: N sequences of the set, B of them at a time, L tokens each, K n-gram NLLs of each token,
X token weights, C = X (1 + K) control variates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sweeper.families._prefixes import AfterPrefix, prefix_lengths
from sweeper.families._scores import Query, score
from sweeper.families.base import AbstractFamily, Denoiser, stratified
from sweeper.trials.seeds import generator

if TYPE_CHECKING:
    from sweeper.data.corpus import Corpus

EVAL_BATCH_SEQUENCES = 64
"""Sequences whose noise is drawn at a time. Fixed, because another number gives other noise; the
network may read fewer at once."""

N_PREFIX_LENGTHS = 8
"""Lengths of prefix that share the sequences; fewer, if some would get less than two."""

POPULATION_TOKENS = 2**22
"""Validation tokens, spread evenly, over which n-gram NLLs are averaged: all, if there are no more.
None of them costs a pass through the network."""

MIN_SEQUENCES_PER_SLOPE = 10
"""With fewer in half a set there is no regression: its slopes would add more than they remove."""

RELATIVE_RANK = 1e-2
"""Directions in which the control variates vary less than this, relative to the most, have slope 0:
token weights hardly vary in families that fix the number of changed tokens."""


@dataclass(frozen=True)
class ValidationSet:
    """Sequences to score, and what n-gram counts say of their tokens."""

    sequences_NL: Tensor
    ngram_nll_NLK: Tensor
    """K negative log-likelihoods of each token, float32."""
    mean_ngram_nll_K: Tensor
    """Their means over the text that the sequences represent."""

    def half(self, which: int) -> "ValidationSet":
        """Every other sequence, beginning with the first or the second."""
        return ValidationSet(
            self.sequences_NL[which::2], self.ngram_nll_NLK[which::2], self.mean_ngram_nll_K
        )

    def to(self, device: torch.device) -> "ValidationSet":
        """The same set on a device."""
        tensors = (self.sequences_NL, self.ngram_nll_NLK, self.mean_ngram_nll_K)
        return ValidationSet(*(tensor.to(device) for tensor in tensors))


@dataclass(frozen=True)
class BoundEstimate:
    """A bound in nats per token and its standard error over data, noise levels and noise."""

    nats_per_token: float
    stderr: float
    n_tokens: int
    """Tokens that went through the network."""


@dataclass(frozen=True)
class Scoring:
    """How processes share the scoring of a set. No number depends on it, but for the rounding of
    matrix products of other sizes."""

    after_batch: Callable[[], object] = lambda: None
    """Called between batches, to show that the process is alive."""
    is_mine: Callable[[int], bool] = lambda _: True
    """Whether this process scores the batch of a number; exactly one of all processes does."""
    all_gather: Callable[[list[Any]], list[Any]] = lambda parts: parts
    """The parts of all processes from those of each."""
    sequences_at_once: int = EVAL_BATCH_SEQUENCES
    """Most sequences that the network reads in one call, as its memory allows."""


BY_ONE_PROCESS = Scoring()


@dataclass(frozen=True)
class _InParts:
    """A denoiser that reads only some sequences of a batch at once."""

    denoiser: Denoiser
    sequences_at_once: int

    def __call__(self, z_BN: Tensor, t_B: Tensor, /, **reading: Tensor | None) -> Tensor:
        return torch.cat(
            [
                self.denoiser(z_BN[rows], t_B[rows], **self._cut(reading, rows))
                for rows in self._parts(len(z_BN))
            ]
        )

    def score(
        self, z_BN: Tensor, t_B: Tensor, query: Query, /, **reading: Tensor | None
    ) -> tuple[Tensor, ...]:
        parts = [
            score(
                self.denoiser,
                z_BN[rows],
                t_B[rows],
                query.of_sequences(rows),
                **self._cut(reading, rows),
            )
            for rows in self._parts(len(z_BN))
        ]
        return tuple(torch.cat(values) for values in zip(*parts, strict=True))

    def _parts(self, n: int) -> list[slice]:
        starts = range(0, n, self.sequences_at_once)
        return [slice(start, min(start + self.sequences_at_once, n)) for start in starts]

    def _cut(self, reading: dict[str, Tensor | None], rows: slice) -> dict[str, Tensor | None]:
        visible_BLL, positions_BL = reading.get("visible_BLL"), reading.get("positions_BL")
        if positions_BL is not None:
            positions_BL = positions_BL[rows]
        if visible_BLL is not None and visible_BLL.dim() == 3 and len(visible_BLL) > 1:
            visible_BLL = visible_BLL[rows]  # else all sequences share it
        return {"positions_BL": positions_BL, "visible_BLL": visible_BLL}


@dataclass(frozen=True)
class _Scores:
    """One draw of each sequence's bound and control variates, in the order of noise levels."""

    nats_N: Tensor
    controls_NC: Tensor
    """Means over tokens of weight and of weight × n-gram NLL, less what they are on average;
    float64 as the scores."""


def validation_set(corpus: "Corpus", *, seq_len: int, n_sequences: int) -> ValidationSet:
    """The same sequences for every trial, which represent all of the validation text."""
    # Here, so that who brings a set can score it with torch alone.
    from sweeper.data.corpus import validation_sequences
    from sweeper.evaluation.control_variates import count_ngrams

    n_chunks = len(corpus.tokens.validation) // seq_len
    n_population = min(n_chunks, max(n_sequences, POPULATION_TOKENS // seq_len))
    ngrams = count_ngrams(corpus)
    ids_NL = validation_sequences(corpus, seq_len=seq_len, n_sequences=n_sequences)
    population_NL = validation_sequences(corpus, seq_len=seq_len, n_sequences=n_population)
    mean_K = ngrams.nll(population_NL).mean(axis=(0, 1), dtype="float64")
    return ValidationSet(
        torch.from_numpy(ids_NL), torch.from_numpy(ngrams.nll(ids_NL)), torch.from_numpy(mean_K)
    )


@torch.no_grad()
def evaluate_bound(
    family: AbstractFamily,
    denoiser: Denoiser,
    validation: ValidationSet,
    seed: int,
    scoring: Scoring = BY_ONE_PROCESS,
) -> BoundEstimate:
    """Score all sequences; the result does not depend on anything but weights and arguments."""
    evaluator = _evaluator(family, denoiser, seed, scoring)
    first, second = (evaluator.scores(validation.half(i), i) for i in range(2))
    n, total, variance = validation.sequences_NL.shape[0], 0.0, 0.0
    # Control variates for the noise and a regression estimate for the data (Cochran, Sampling
    # Techniques, ch. 7) in one. The slopes come from the other half of the set, with sequences,
    # levels and noise of its own: corrections average to zero whatever the slopes are.
    for here, other in ((first, second), (second, first)):
        corrected_N = here.nats_N - here.controls_NC @ _slopes(other)
        total += corrected_N.sum().item()
        variance += (stratified_stderr(corrected_N) * len(corrected_N)) ** 2
    return BoundEstimate(total / n, variance**0.5 / n, validation.sequences_NL.numel())


@torch.no_grad()
def evaluate_given_prefixes(
    family: AbstractFamily,
    denoiser: Denoiser,
    validation: ValidationSet,
    seed: int,
    scoring: Scoring = BY_ONE_PROCESS,
) -> BoundEstimate:
    """The bound on what follows a clean prefix, nats per token of that.

    Each of a few prefix lengths gets its share of the sequences. To the family the rest of a
    sequence is a shorter sequence. There are no control variates.
    """
    evaluator = _evaluator(family, denoiser, seed, scoring)
    sequences_NL = validation.sequences_NL
    nats, variance, n_tokens = 0.0, 0.0, 0
    n_lengths = min(N_PREFIX_LENGTHS, sequences_NL.shape[0] // 2)  # one has no standard error
    for i, n_prefix in enumerate(prefix_lengths(sequences_NL.shape[1], n_lengths)):
        own_NL = sequences_NL[i::n_lengths]
        sum_N = evaluator.sums_after_prefix(own_NL, n_prefix, i)
        nats += sum_N.sum().item()
        variance += (stratified_stderr(sum_N) * len(sum_N)) ** 2
        n_tokens += own_NL[:, n_prefix:].numel()
    return BoundEstimate(nats / n_tokens, variance**0.5 / n_tokens, sequences_NL.numel())


@dataclass(frozen=True)
class _Evaluator:
    """Draws of the bound, one for each sequence, in the order of their noise levels."""

    family: AbstractFamily
    denoiser: Denoiser
    seed: int
    scoring: Scoring

    def scores(self, half: ValidationSet, which: int) -> _Scores:
        """For half a set, at a stratified grid of levels of its own."""
        device = half.sequences_NL.device
        t_N = self._levels(len(half.sequences_NL), "evaluation levels", which)

        def score(start: int) -> tuple[Tensor, ...]:
            rows = slice(start, start + EVAL_BATCH_SEQUENCES)
            noise = generator(self.seed, "evaluation noise", which, start)
            draw = self.family.bound(
                self.denoiser, half.sequences_NL[rows], t_N[rows].to(device), noise
            )
            weights_BLX = draw.token_weights_BLX
            if weights_BLX is None:
                weights_BLX = torch.ones_like(draw.nats_BL)[..., None]
            ngram_nll_BLK = _with_one(half.ngram_nll_NLK[rows])
            controls = torch.einsum("blx,blk->bxk", weights_BLX.double(), ngram_nll_BLK)
            return draw.nats_BL.double().mean(dim=1).cpu(), controls.cpu()

        nats_N, controls_NXK = self._in_batches(score, len(t_N), which)
        order_N, length = t_N.argsort(), half.sequences_NL.shape[1]
        # Token weights are 1 on average, so weight × NLL is on average what NLL is.
        controls_NXK = controls_NXK / length - _with_one(half.mean_ngram_nll_K).cpu()
        return _Scores(nats_N[order_N], controls_NXK.flatten(1)[order_N])

    def sums_after_prefix(self, x_NL: Tensor, n_prefix: int, which: int) -> Tensor:
        """The bound on each sequence after its prefix, nats."""
        t_N = self._levels(len(x_NL), "prefix evaluation levels", n_prefix)

        def score(start: int) -> tuple[Tensor, ...]:
            x_BL, t_B = (a[start : start + EVAL_BATCH_SEQUENCES] for a in (x_NL, t_N))
            noise = generator(self.seed, "prefix evaluation noise", n_prefix, start)
            reader = AfterPrefix(self.denoiser, x_BL[:, :n_prefix])
            draw = self.family.bound(reader, x_BL[:, n_prefix:], t_B.to(x_BL.device), noise)
            return (draw.nats_BL.double().sum(dim=1).cpu(),)

        (sum_N,) = self._in_batches(score, len(t_N), which)
        return sum_N[t_N.argsort()]

    def _levels(self, n: int, purpose: str, index: int) -> Tensor:
        """A stratified grid of noise levels, (N,), in random order."""
        rng = generator(self.seed, purpose, index)
        return stratified(n, rng)[torch.randperm(n, generator=rng)]

    def _in_batches(
        self, score: Callable[[int], tuple[Tensor, ...]], n: int, first: int
    ) -> list[Tensor]:
        """Each tensor of the scores of n sequences.

        `score` takes the first sequence of a batch and returns tensors on the CPU, sequences first;
        `first` numbers the first batch among those that are shared by several processes.
        """
        parts: list[tuple[int, tuple[Tensor, ...]]] = []
        for i, start in enumerate(range(0, n, EVAL_BATCH_SEQUENCES)):
            if self.scoring.is_mine(first + i):
                parts.append((start, score(start)))
                self.scoring.after_batch()
        parts = sorted(self.scoring.all_gather(parts), key=lambda part: part[0])
        return [torch.cat(tensors) for tensors in zip(*(part for _, part in parts), strict=True)]


def _evaluator(
    family: AbstractFamily, denoiser: Denoiser, seed: int, scoring: Scoring
) -> _Evaluator:
    if scoring.sequences_at_once < EVAL_BATCH_SEQUENCES:
        denoiser = _InParts(denoiser, scoring.sequences_at_once)
    return _Evaluator(family, denoiser, seed, scoring)


def _with_one(nll: Tensor) -> Tensor:
    """(…, 1 + K) float64, so that token weights themselves are the first control variates."""
    return torch.cat([nll.new_ones(*nll.shape[:-1], 1), nll], dim=-1).double()


def _slopes(scores: _Scores) -> Tensor:
    """Least-squares slopes of the scores on their control variates, (C,).

    Fitted to differences between neighbouring noise levels, which have no trend.
    """
    n, n_slopes = scores.controls_NC.shape
    if n < MIN_SEQUENCES_PER_SLOPE * n_slopes:
        return torch.zeros(n_slopes, dtype=torch.float64)
    inverse_CN: Tensor = torch.linalg.pinv(scores.controls_NC.diff(dim=0), rtol=RELATIVE_RANK)
    return inverse_CN @ scores.nats_N.diff()


def stratified_stderr(score_N: Tensor) -> float:
    """Standard error of a mean over strata holding one score each, in stratum order.

    Half the mean squared difference of neighbours estimates the variance within a stratum, up to
    the trend between two neighbours (Wolter, Introduction to Variance Estimation, §8.2).
    """
    n = score_N.numel()
    within = score_N.diff().square().sum() / (2 * (n - 1))
    return float((within / n).sqrt())
