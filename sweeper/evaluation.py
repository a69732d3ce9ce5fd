"""The bound on a fixed validation set, with its standard error.

Every trial is scored on the same sequences, with the same noise levels and the same noise: one
noise level per sequence from a single stratified grid over the whole set. Differences between
trials are therefore paired.

Shapes: N sequences of the set, B of them at a time, L tokens each.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sweeper.families.base import AbstractFamily, Denoiser, stratified
from sweeper.seeds import generator

EVAL_BATCH_SEQUENCES = 64
"""Sequences scored at a time. Fixed, because the noise is drawn per batch."""


@dataclass(frozen=True)
class BoundEstimate:
    """A bound in nats per token and its standard error over data, noise levels and noise."""

    nats_per_token: float
    stderr: float
    n_tokens: int


@torch.no_grad()
def evaluate_bound(
    family: AbstractFamily, denoiser: Denoiser, sequences_NL: Tensor, seed: int
) -> BoundEstimate:
    """Score all sequences; the result does not depend on anything but weights and arguments."""
    n = sequences_NL.shape[0]
    rng = generator(seed, "evaluation levels")
    t_N = stratified(n, rng)[torch.randperm(n, generator=rng)]
    scores = []
    for start in range(0, n, EVAL_BATCH_SEQUENCES):
        rows = slice(start, start + EVAL_BATCH_SEQUENCES)
        noise = generator(seed, "evaluation noise", start)
        nats_BL = family.bound(
            denoiser, sequences_NL[rows], t_N[rows].to(sequences_NL.device), noise
        )
        scores.append(nats_BL.double().mean(dim=1).cpu())
    score_N = torch.cat(scores)
    return BoundEstimate(
        nats_per_token=score_N.mean().item(),
        stderr=stratified_stderr(score_N[t_N.argsort()]),
        n_tokens=sequences_NL.numel(),
    )


def stratified_stderr(score_N: Tensor) -> float:
    """Standard error of a mean over strata holding one score each, in stratum order.

    Half the mean squared difference of neighbours estimates the variance within a stratum, up to
    the trend between two neighbours (Wolter, Introduction to Variance Estimation, §8.2).
    """
    n = score_N.numel()
    within = score_N.diff().square().sum() / (2 * (n - 1))
    return float((within / n).sqrt())
