"""The budget at which two frontiers meet: where the better series changes.

Suffixes: R resamples (row 0 is the estimate), G grid of log FLOPs.
"""

from dataclasses import dataclass

import numpy as np

from analysis.isoflop.frontier import Frontier
from analysis.stats.power_law import percentile_interval
from analysis.tables.points import FloatArray

SEARCHED_DECADES = 3.0
"""Beyond the budgets of both series."""


@dataclass(frozen=True)
class Crossover:
    """Where the compute-optimal losses of two series are equal."""

    flops: float
    ci: tuple[float, float] | None
    """95 %; None where too many resamples do not cross."""
    share: float
    """Share of the resamples that cross."""
    extrapolated: bool
    """Outside the budgets that both series have."""


def crossover(own: Frontier, other: Frontier) -> Crossover | None:
    """Where two frontiers meet, at the place nearest to the budgets of both; None where the
    estimates do not within the decades searched.
    """
    low = max(own.log_flops_K[0], other.log_flops_K[0])
    high = min(own.log_flops_K[-1], other.log_flops_K[-1])
    margin = SEARCHED_DECADES * np.log(10)
    first = min(own.log_flops_K[0], other.log_flops_K[0]) - margin
    last = max(own.log_flops_K[-1], other.log_flops_K[-1]) + margin
    grid_G = np.linspace(first, last, 241)
    gap_RG = np.stack([other.log_loss(x) - own.log_loss(x) for x in grid_G.tolist()], axis=1)
    where_R = _nearest_zero(grid_G, gap_RG, min(low, high), max(low, high))
    if not np.isfinite(where_R[0]):
        return None
    draws_R = where_R[1:][np.isfinite(where_R[1:])]
    share = len(draws_R) / max(1, len(where_R) - 1)
    # With more resamples that do not cross, an end of the interval is unknown.
    ends = percentile_interval(draws_R) if share >= 0.975 else None
    return Crossover(
        flops=float(np.exp(where_R[0])),
        ci=None if ends is None else (float(np.exp(ends[0])), float(np.exp(ends[1]))),
        share=share,
        extrapolated=not low <= where_R[0] <= high,
    )


def _nearest_zero(grid_G: FloatArray, gap_RG: FloatArray, low: float, high: float) -> FloatArray:
    """The zero of each row nearest to [low, high], interpolated; inf without one, (R,)."""
    left_RG, right_RG = gap_RG[:, :-1], gap_RG[:, 1:]
    changes_RG = np.sign(left_RG) * np.sign(right_RG) < 0
    step = np.where(changes_RG, left_RG - right_RG, 1.0)
    zero_RG = grid_G[:-1] + left_RG / step * (grid_G[1] - grid_G[0])
    distance_RG = np.maximum(np.maximum(low - zero_RG, zero_RG - high), 0.0)
    distance_RG = np.where(changes_RG, distance_RG, np.inf)
    best_R = distance_RG.argmin(axis=1)
    rows = np.arange(len(gap_RG))
    return np.where(changes_RG[rows, best_R], zero_RG[rows, best_R], np.inf)
