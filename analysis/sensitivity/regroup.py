"""IsoFLOP budgets under another count of FLOPs.

Runs that spent alike under one count did not under another: a small model's head may cost it 2.6
times what a large one's costs. So each size's loss is read along its own curve, over the recounted
FLOPs, at common new budgets: by monotone cubics in log–log axes, never beyond what the size was
observed at. An interpolated point keeps run, slot and standard error of the nearest observed one,
so that resampling knows which points share their luck.

Suffixes: P points, T new budgets.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

from analysis.isoflop.isoflop import MIN_SIZES
from analysis.tables.points import FloatArray, IntArray, Points, rungs

EVEN = 0.02
"""Log range of FLOPs within a budget up to which its points spent alike."""


def spent_alike(points: Points) -> bool:
    """Whether the FLOPs of each budget's points agree."""
    spread = [np.ptp(np.log(points.flops_P[points.budget_P == b])) for b in points.budgets_K]
    return max(spread, default=0.0) <= EVEN


def regrouped(series: Mapping[str, Points]) -> dict[str, Points] | None:
    """Series whose points lie at common budgets of their present FLOPs.

    None where no compute was observed at enough sizes, as when every budget has sizes of its own.
    """
    targets_T = _new_budgets(list(series.values()))
    if targets_T is None:
        return None
    return {label: _read_at(points, targets_T) for label, points in series.items()}


def _new_budgets(series: Sequence[Points]) -> FloatArray | None:
    """Budgets as far apart as the old ones, over all compute with enough sizes."""
    ranges = [found for points in series if (found := _well_observed(points)) is not None]
    steps = [np.diff(np.log(points.budgets_K)) for points in series]
    if not ranges or not np.concatenate(steps).size:
        return None
    low, high = min(start for start, _ in ranges), max(end for _, end in ranges)
    step = float(np.median(np.concatenate(steps)))
    n_budgets = max(2, round((high - low) / step) + 1)
    targets_T: FloatArray = np.exp(np.linspace(low, high, n_budgets))
    return targets_T


def _well_observed(points: Points) -> tuple[float, float] | None:
    """Log FLOPs between which `MIN_SIZES` sizes were observed; None where nowhere."""
    log_flops_P = np.log(points.flops_P)
    spans = np.array(
        [(log_flops_P[mine].min(), log_flops_P[mine].max()) for mine in _curves(points)]
    )
    if len(spans) < MIN_SIZES:
        return None
    start, end = np.sort(spans[:, 0])[MIN_SIZES - 1], np.sort(spans[:, 1])[-MIN_SIZES]
    return (float(start), float(end)) if start < end else None


def _curves(points: Points) -> list[IntArray]:
    """Indices of the points of each run, or of each size where runs have one point each."""
    if points.has_shared_runs:
        curve_P = points.run_P
    else:
        curve_P = rungs(points.params_P)
    return [np.flatnonzero(curve_P == curve) for curve in np.unique(curve_P)]


def _read_at(points: Points, targets_T: FloatArray) -> Points:
    """Points of every curve; none where no new budget lies within any."""
    parts = [_read_curve(points.take(mine), targets_T) for mine in _curves(points)]
    fields = [f.name for f in dataclasses.fields(Points) if f.name != "family"]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
    return Points(family=points.family, **arrays)


def _read_curve(curve: Points, targets_T: FloatArray) -> Points:
    """One size's points at those new budgets that lie within its observed FLOPs."""
    log_flops, first = np.unique(np.log(curve.flops_P), return_index=True)
    curve = curve.take(first)  # seeds of one size and budget: the first stands for all
    inside_T = targets_T[
        (np.log(targets_T) >= log_flops[0] - 1e-9) & (np.log(targets_T) <= log_flops[-1] + 1e-9)
    ]
    at = np.clip(np.log(inside_T), log_flops[0], log_flops[-1])
    nearest = np.abs(at[:, None] - log_flops).argmin(axis=1)
    if len(log_flops) == 1:
        return dataclasses.replace(curve.take(nearest), flops_P=inside_T, budget_P=inside_T)
    return dataclasses.replace(
        curve.take(nearest),
        tokens_P=np.exp(np.interp(at, log_flops, np.log(curve.tokens_P))),
        loss_P=np.exp(PchipInterpolator(log_flops, np.log(curve.loss_P))(at)),
        flops_P=inside_T,
        budget_P=inside_T,
    )
