"""How the best batch size grows with tokens, B*(D), and the best learning rate with both, eta*(B)
and eta*(D), as in the GIDD study (arXiv 2512.10858, §5): least squares through the vertices of
parabolas, in log–log axes.

Suffixes: P points, V vertices, R resamples, T target losses, C curves.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.errors import FitWarning
from analysis.stats.bootstrap import Noise, Resampler
from analysis.stats.power_law import PowerLaw, weighted_line
from analysis.tables.points import SAME_SIZE, BoolArray, FloatArray, IntArray, Points, rungs

MIN_VALUES = 3
"""Batches, or rates, that a parabola needs."""
MIN_VERTICES = 4
MIN_GROUPS = 2
BATCH_STREAM, RATE_BY_BATCH_STREAM, RATE_BY_TOKENS_STREAM = 20, 21, 22


@dataclass(frozen=True)
class VaryingCurves:
    """Curves to find vertices of: one value y at every x of a curve."""

    x_P: FloatArray
    """What is varied: batch in tokens, or learning rate."""
    y_P: FloatArray
    """What is to be least: tokens to the target, or loss."""
    curve_P: IntArray
    """Number of the curve a point belongs to."""
    group_P: IntArray
    """Number of the runs' group; curves of one group share their runs."""

    @property
    def has_curves(self) -> bool:
        """Whether some curve has enough values for a parabola."""
        curves = np.unique(self.curve_P)
        distinct = (len(np.unique(self.x_P[self.curve_P == curve])) for curve in curves)
        return any(n >= MIN_VALUES for n in distinct)


@dataclass(frozen=True)
class Vertices:
    """The bracketed lowest points of varying curves."""

    x_V: FloatArray
    y_V: FloatArray
    curve_V: IntArray
    group_V: IntArray
    n_open: int
    """Curves without a bracketed vertex."""


@dataclass(frozen=True)
class BatchLaws:
    """Power laws of the best batch and the best rate; None where the data have none."""

    batch_by_tokens: PowerLaw | None
    """B*(D), both in tokens."""
    rate_by_batch: PowerLaw | None
    """eta*(B), B in tokens."""
    rate_by_tokens: PowerLaw | None
    """eta*(D)."""
    warnings: tuple[FitWarning, ...] = ()


def fit_batch_laws(points: Points, resampler: Resampler) -> BatchLaws | None:
    """The laws of one series; None where nowhere three batches or rates can be compared."""
    # A batch that follows the budget by a recipe is not varied in this sense.
    found: dict[str, PowerLaw | FitWarning] = {}
    if np.isfinite(points.batch_tokens_P).all() and (varying := isoloss_curves(points)).has_curves:
        best, name = find_vertices(varying), "B*(D)"
        found[name] = vertex_law(name, points.family, best, best.y_V, resampler, BATCH_STREAM)
    if np.isfinite(points.learning_rate_P).all():
        varying, batch_C, tokens_C = rate_curves(points)
        best = find_vertices(varying)
        for name, by_C, stream in (
            ("eta*(B)", batch_C, RATE_BY_BATCH_STREAM),
            ("eta*(D)", tokens_C, RATE_BY_TOKENS_STREAM),
        ):
            if varying.has_curves and np.ptp(by_C) > 0:
                by_V = by_C[best.curve_V]
                found[name] = vertex_law(name, points.family, best, by_V, resampler, stream)
    if not found:
        return None
    laws = {name: law for name, law in found.items() if isinstance(law, PowerLaw)}
    warnings = tuple(part for part in found.values() if isinstance(part, FitWarning))
    return BatchLaws(laws.get("B*(D)"), laws.get("eta*(B)"), laws.get("eta*(D)"), warnings)


def find_vertices(varying: VaryingCurves) -> Vertices:
    """Parabolas of log y in log x, curve by curve, where three values or more bracket a vertex."""
    rows, n_open = [], 0
    for curve in np.unique(varying.curve_P):
        mine = varying.curve_P == curve
        x, y = np.log(varying.x_P[mine]), np.log(varying.y_P[mine])
        if len(np.unique(x)) < MIN_VALUES:
            n_open += 1
            continue
        bend, slope, middle = np.polyfit(x - x.mean(), y, 2).tolist()
        shift = -slope / (2 * bend) if bend > 0 else np.inf
        if x.min() < x.mean() + shift < x.max():
            lowest = middle + slope * shift / 2
            rows.append((x.mean() + shift, lowest, curve, varying.group_P[mine][0]))
        else:
            n_open += 1
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    curve_V, group_V = table[:, 2:].astype(np.int64).T
    return Vertices(np.exp(table[:, 0]), np.exp(table[:, 1]), curve_V, group_V, n_open)


def vertex_law(
    name: str, family: str, best: Vertices, by_V: FloatArray, resampler: Resampler, stream: int
) -> PowerLaw | FitWarning:
    """The law of the best value over `by_V`, or why there is none."""
    n_groups = len(np.unique(best.group_V))
    log_by_V, log_best_V = np.log(by_V), np.log(best.x_V)
    if len(by_V) < MIN_VERTICES or n_groups < MIN_GROUPS or np.ptp(log_by_V) < np.log(2):
        message = (
            f"no law {name}: {len(by_V)} bracketed vertices of {n_groups} groups "
            f"({best.n_open} are open); {MIN_VERTICES} of {MIN_GROUPS} groups are needed, over a "
            "factor 2 or more"
        )
        return FitWarning("no_batch_law", message, family)
    even_V = np.ones_like(log_by_V)
    slope, intercept = weighted_line(log_by_V, log_best_V, even_V)
    fitted_V = intercept + slope * log_by_V
    columns_V2 = np.stack([even_V, log_by_V - log_by_V.mean()], axis=1)
    noise = Noise(log_best_V - fitted_V, np.linalg.qr(columns_V2)[0], best.group_V)
    # Vertices of one group share their runs: a wild bootstrap by group, with t tails for few.
    draws_RV = fitted_V + resampler.group_noise(noise, stream)
    slope_R, intercept_R = weighted_line(log_by_V, np.vstack([log_best_V, draws_RV]), even_V)
    return PowerLaw.from_lines(slope_R, intercept_R, len(by_V), noise.sigma)


def isoloss_curves(points: Points) -> VaryingCurves:
    """Tokens that each batch needs to reach target losses, size by size."""
    # The vertex of a target is the best batch and the fewest tokens D that reach it.
    rows: list[tuple[float, float, int, int]] = []
    n_curves = 0
    for group, mine in _by_size(points):
        batches = np.unique(points.batch_tokens_P[mine])
        curves = {}
        for batch in batches:
            own = np.flatnonzero(mine & (points.batch_tokens_P == batch))
            order = own[np.lexsort((points.loss_P[own], points.tokens_P[own]))]
            log_loss = np.log(points.loss_P[order])
            earlier = np.concatenate([[np.inf], log_loss[:-1]])
            is_lower = log_loss < np.minimum.accumulate(earlier)
            # The lowest loss of any run of the batch up to each number of tokens.
            curves[batch] = np.log(points.tokens_P[order][is_lower]), log_loss[is_lower]
        for target in _targets(list(curves.values())):
            for batch, (log_tokens, log_loss) in curves.items():
                # Straight lines in log–log axes between the points, never beyond them.
                if log_loss[-1] <= target <= log_loss[0]:
                    tokens = np.exp(np.interp(-target, -log_loss, log_tokens))
                    rows.append((float(batch), float(tokens), n_curves, group))
            n_curves += 1
    return _from_rows(rows)


def rate_curves(points: Points) -> tuple[VaryingCurves, FloatArray, FloatArray]:
    """Losses over the learning rate, and the batch and the tokens of each curve, (C,)."""
    rows: list[tuple[float, float, int, int]] = []
    of_curve: list[tuple[float, float]] = []
    n_groups = 0
    when_P = np.round(np.log(points.tokens_P) / SAME_SIZE)
    batch_P = np.nan_to_num(points.batch_tokens_P)
    for _, mine in _by_size(points):
        for size in np.unique(batch_P[mine]):
            same_P = mine & (batch_P == size)
            for when in np.unique(when_P[same_P]):
                for i in np.flatnonzero(same_P & (when_P == when)):
                    rate, loss = float(points.learning_rate_P[i]), float(points.loss_P[i])
                    rows.append((rate, loss, len(of_curve), n_groups))
                tokens = float(points.tokens_P[same_P & (when_P == when)].mean())
                of_curve.append((float(size), tokens))
            n_groups += 1
    batch_C, tokens_C = np.array(of_curve).T
    return _from_rows(rows), batch_C, tokens_C


def _from_rows(rows: list[tuple[float, float, int, int]]) -> VaryingCurves:
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    numbers = table[:, 2:].astype(np.int64)
    return VaryingCurves(table[:, 0], table[:, 1], numbers[:, 0], numbers[:, 1])


def _by_size(points: Points) -> Iterator[tuple[int, BoolArray]]:
    rung_P = rungs(points.params_P)
    for rung in range(int(rung_P.max()) + 1):
        yield rung, rung_P == rung


def _targets(curves: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Log losses at which the batches of a size are compared, descending."""
    # Losses that three batches or more state, else an even ladder.
    stated, n_batches = np.unique(
        np.concatenate([np.round(log_loss, 9) for _, log_loss in curves]), return_counts=True
    )
    shared: FloatArray = stated[n_batches >= MIN_VALUES][::-1]
    if len(shared):
        return shared
    high = max(float(log_loss[0]) for _, log_loss in curves)
    low = min(float(log_loss[-1]) for _, log_loss in curves)
    return np.linspace(high, low, 18)[1:-1]
