"""Approach 1 (arXiv 2203.15556, §3.1): laws along the lower envelope of training curves.

The envelope needs no isoFLOP design and no form of the loss, but it prefers lucky runs, which its
intervals do not show: in simulation exponents are off by .01, several times the interval. Prefer
the isoFLOP laws where both exist.

Suffixes: R resamples, P points, H points on the hull, G runs.
"""

from dataclasses import dataclass

import numpy as np

from analysis.errors import FitWarning
from analysis.stats.bootstrap import Resampler
from analysis.stats.power_law import PowerLaw
from analysis.tables.points import BoolArray, FloatArray, Points, n_levels

MIN_RUNS = 5
"""Fewer runs than this and a resample often holds one or two curves."""


@dataclass(frozen=True)
class Envelope:
    """The laws along the hull."""

    n_points: int
    """On the hull."""
    n_runs: int
    """Runs that touch the hull."""
    params_law: PowerLaw
    tokens_law: PowerLaw
    loss_law: PowerLaw


def fit_envelope(points: Points, resampler: Resampler) -> Envelope | FitWarning:
    """Span the hull and fit its laws, or say why the series has none."""
    if not points.has_shared_runs:
        message = "no envelope: every run is observed once, training curves are needed"
        return FitWarning("no_training_curves", message, points.family)
    if points.n_runs < MIN_RUNS:
        message = f"no envelope: {points.n_runs} training curves, {MIN_RUNS} are needed"
        return FitWarning("too_few_training_curves", message, points.family)
    # A point off the hull of its own run can be on no hull of several runs.
    of_run_GP = points.run_P == np.unique(points.run_P)[:, None]
    on_own_GP = lower_hulls(np.log(points.flops_P), np.log(points.loss_P), of_run_GP)
    candidates = points.take(np.flatnonzero(on_own_GP.any(axis=0)))
    log_flops_P, log_loss_P = np.log(candidates.flops_P), np.log(candidates.loss_P)
    everyone = np.ones((1, len(log_flops_P)), dtype=bool)
    is_drawn_RP = resampler.run_counts(candidates) > 0
    present_RP = np.vstack([everyone, is_drawn_RP])  # the first row is the estimate
    on_hull_RP = lower_hulls(log_flops_P, log_loss_P, present_RP)
    hull = candidates.take(on_hull_RP[0])
    n_sizes = n_levels(hull.params_P)
    if n_sizes < 3:  # a power law through two sizes is a line through two points
        message = f"no envelope: {n_sizes} sizes lie on it, 3 are needed"
        return FitWarning("too_few_sizes_on_envelope", message, points.family)
    return Envelope(
        n_points=len(hull.loss_P),
        n_runs=hull.n_runs,
        params_law=_law(log_flops_P, np.log(candidates.params_P), on_hull_RP),
        tokens_law=_law(log_flops_P, np.log(candidates.tokens_P), on_hull_RP),
        loss_law=_law(log_flops_P, log_loss_P, on_hull_RP),
    )


def lower_hulls(x_P: FloatArray, y_P: FloatArray, present_RP: BoolArray) -> BoolArray:
    """Which points are vertices of the falling lower hull of each resample, shape (R, P)."""
    # The envelope as in Gemstones (arXiv 2502.06857), of (log C, log L). Jarvis' march, all
    # resamples at once: from the leftmost point on, the next vertex is the one with the steepest
    # descent, until nothing lies lower.
    rank_P = np.lexsort((y_P, x_P)).argsort()
    here_R = np.argmin(np.where(present_RP, rank_P, len(x_P)), axis=1)
    on_hull_RP = np.zeros_like(present_RP)
    active = np.flatnonzero(present_RP.any(axis=1))
    while len(active):
        on_hull_RP[active, here_R[active]] = True
        run_RP = x_P - x_P[here_R[active], None]
        ahead_RP = present_RP[active] & (run_RP > 0)
        rise_RP = y_P - y_P[here_R[active], None]
        slope_RP = np.where(ahead_RP, rise_RP / np.where(ahead_RP, run_RP, 1.0), np.inf)
        best_R = np.argmin(slope_RP, axis=1)
        falls_R = slope_RP[np.arange(len(active)), best_R] < 0
        here_R[active] = best_R
        active = active[falls_R]
    return on_hull_RP


def _law(x_P: FloatArray, y_P: FloatArray, chosen_RP: BoolArray) -> PowerLaw:
    """Least-squares line through the chosen points; the first row is the estimate."""
    # A resample whose hull is a single point says nothing of a slope and is left out.
    chosen_RP = chosen_RP[chosen_RP.sum(axis=1) > 1]
    share_RP = chosen_RP / chosen_RP.sum(axis=1, keepdims=True)
    x_mean_R1, y_mean_R1 = (share_RP @ x_P)[:, None], (share_RP @ y_P)[:, None]
    centred_RP = share_RP * (x_P - x_mean_R1)
    slope_R = np.sum(centred_RP * (y_P - y_mean_R1), axis=1) / np.sum(
        centred_RP * (x_P - x_mean_R1), axis=1
    )
    intercept_R = y_mean_R1[:, 0] - slope_R * x_mean_R1[:, 0]
    mine = chosen_RP[0]
    residual_H = y_P[mine] - intercept_R[0] - slope_R[0] * x_P[mine]
    scatter = float(np.std(residual_H))
    return PowerLaw.from_lines(slope_R, intercept_R, len(residual_H), scatter)
