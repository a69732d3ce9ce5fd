"""How the best batch size grows with tokens, B*(D), and the best learning rate with both, eta*(B)
and eta*(D), as in the GIDD study (arXiv 2512.10858, §5): least squares through the vertices of
parabolas, in log–log axes. Where sizes differ their effect is fitted along, as eta*(N, D) of Step
Law (arXiv 2503.04715): larger models are trained on more tokens, and at lower rates.

Suffixes: P points, V vertices, R resamples, T target losses, C curves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import fdtrc

from analysis.errors import FitWarning
from analysis.stats.bootstrap import Noise, Resampler
from analysis.stats.power_law import percentile_interval
from analysis.tables.points import SAME_SIZE, BoolArray, FloatArray, IntArray, Points, rungs

MIN_VALUES = 3
"""Batches, or rates, that a parabola needs."""
MIN_VERTICES = 4
MIN_GROUPS = 2
SIGNIFICANT = 0.05
"""Probability below which an F test takes a difference between sizes for real."""
ROUNDING = 1e-3
"""Standard deviation of log vertices that is never noise: no grid of rates resolves 0.1 %."""
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
    params_P: FloatArray | None = None
    """Sizes; None for curves to be pooled whatever their size."""

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
    params_V: FloatArray | None = None
    """Sizes; None where curves are pooled."""


@dataclass(frozen=True)
class SettingLaw:
    """y = coefficient · N^params_exponent · x^exponent, of a best batch or rate y, x its tokens or
    its batch: an exponent at a fixed size.
    """

    exponent: float
    exponent_ci: tuple[float, float]
    params_exponent: float | None
    """None for a single size, for pooled ones, and where each size has a level of its own."""
    params_exponent_ci: tuple[float, float] | None
    coefficient: float | None
    """Value at N = x = 1; None where each size has its own."""
    size_coefficients: dict[float, float]
    """By params; empty for pooled sizes."""
    x_range: tuple[float, float]
    """Of the vertices."""
    n_budgets: int
    """Vertices."""

    def at(self, params: float, x: float) -> float | None:
        """Its value, with the size's level interpolated; None beyond the vertices."""
        sizes = sorted(self.size_coefficients)
        low, high = self.x_range
        slack = 1.0 + SAME_SIZE
        # A lone size says nothing about others, a pooled law is for any.
        if sizes and not sizes[0] / slack <= params <= sizes[-1] * slack:
            return None
        if not low / slack <= x <= high * slack:
            return None
        if self.coefficient is None:
            levels = np.log([self.size_coefficients[size] for size in sizes])
            level = float(np.exp(np.interp(np.log(params), np.log(sizes), levels)))
        else:
            level = self.coefficient * params ** (self.params_exponent or 0.0)
        return float(level * x**self.exponent)


@dataclass(frozen=True)
class BatchLaws:
    """Power laws of the best batch and the best rate; None where the data have none."""

    batch_by_tokens: SettingLaw | None
    """B*(D), both in tokens."""
    rate_by_batch: SettingLaw | None
    """eta*(B), B in tokens."""
    rate_by_tokens: SettingLaw | None
    """eta*(D) at the best batch."""
    warnings: tuple[FitWarning, ...] = ()


def fit_batch_laws(points: Points, resampler: Resampler) -> BatchLaws | None:
    """The laws of one series; None where nowhere three batches or rates can be compared."""
    # A batch that follows the budget by a recipe is not varied in this sense.
    found: dict[str, SettingLaw | FitWarning] = {}
    warnings: list[FitWarning] = []

    def add(name: str, varying: VaryingCurves, by_C: FloatArray | None, stream: int) -> None:
        if varying.has_curves and (by_C is None or np.ptp(by_C) > 0):
            best = find_vertices(varying)
            by_V = best.y_V if by_C is None else by_C[best.curve_V]
            law = vertex_law(name, points.family, best, by_V, resampler, stream)
            found[name] = law
            if isinstance(law, SettingLaw):
                warnings.extend(sizes_differ(name, points.family, best, by_V))

    if np.isfinite(points.batch_tokens_P).all():
        add("B*(D)", isoloss_curves(points), None, BATCH_STREAM)
    if np.isfinite(points.learning_rate_P).all():
        varying, batch_C, _ = rate_curves(points)
        add("eta*(B)", varying, batch_C, RATE_BY_BATCH_STREAM)
        varying, _, tokens_C = rate_curves(at_best_batch(points))
        add("eta*(D)", varying, tokens_C, RATE_BY_TOKENS_STREAM)
    if not found:
        return None
    laws = {name: law for name, law in found.items() if isinstance(law, SettingLaw)}
    warnings += [part for part in found.values() if isinstance(part, FitWarning)]
    return BatchLaws(laws.get("B*(D)"), laws.get("eta*(B)"), laws.get("eta*(D)"), tuple(warnings))


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
            size = np.nan if varying.params_P is None else varying.params_P[mine].mean()
            rows.append((x.mean() + shift, lowest, curve, varying.group_P[mine][0], size))
        else:
            n_open += 1
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    curve_V, group_V = table[:, 2:4].astype(np.int64).T
    sizes_V = None if varying.params_P is None else table[:, 4]
    return Vertices(np.exp(table[:, 0]), np.exp(table[:, 1]), curve_V, group_V, n_open, sizes_V)


def vertex_law(
    name: str, family: str, best: Vertices, by_V: FloatArray, resampler: Resampler, stream: int
) -> SettingLaw | FitWarning:
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
    levels_VS, log_size_S = _levels(best)
    n_sizes = len(log_size_S)
    within_V = _residual(levels_VS, log_by_V)
    if max(np.ptp(within_V[level_V > 0]) for level_V in levels_VS.T) < np.log(2):
        message = (
            f"no law {name}: it varies by less than a factor 2 at any one size, so that the data "
            "cannot tell its effect from that of size; vary it at a fixed size"
        )
        return FitWarning("sizes_disagree", message, family)
    by_size_VK = np.column_stack([log_by_V, levels_VS])
    has_own_levels = False
    columns_VK = by_size_VK
    if n_sizes > 1:
        power_VK = np.column_stack([log_by_V, np.ones_like(log_by_V), levels_VS @ log_size_S])
        # Where the table's parametrisation does not follow a power of the size.
        has_own_levels = n_sizes > 2 and _f_test(power_VK, by_size_VK, log_best_V) < SIGNIFICANT
        columns_VK = by_size_VK if has_own_levels else power_VK
    noise = Noise(_residual(columns_VK, log_best_V), np.linalg.qr(columns_VK)[0], best.group_V)
    # Vertices of one group share their runs: a wild bootstrap by group, with t tails for few.
    drawn_RV = log_best_V - noise.residual_P + resampler.group_noise(noise, stream)
    theta_RK = np.vstack([log_best_V, drawn_RV]) @ np.linalg.pinv(columns_VK).T
    slope, *levels = theta_RK[0].tolist()
    by_params = n_sizes > 1 and not has_own_levels
    level_S = levels[0] + levels[1] * log_size_S if by_params else np.array(levels)
    return SettingLaw(
        exponent=slope,
        exponent_ci=percentile_interval(theta_RK[1:, 0]),
        params_exponent=levels[1] if by_params else None,
        params_exponent_ci=percentile_interval(theta_RK[1:, 2]) if by_params else None,
        coefficient=None if has_own_levels else float(np.exp(levels[0])),
        size_coefficients={}
        if best.params_V is None
        else dict(zip(np.exp(log_size_S).tolist(), np.exp(level_S).tolist(), strict=True)),
        x_range=(float(by_V.min()), float(by_V.max())),
        n_budgets=len(by_V),
    )


def sizes_differ(
    name: str, family: str, best: Vertices, by_V: FloatArray
) -> tuple[FitWarning, ...]:
    """A remark where the exponent changes from size to size beyond the noise of the vertices."""
    log_by_V = np.log(by_V)
    levels_VS, log_size_S = _levels(best)
    together_VK = np.column_stack([log_by_V, levels_VS])
    each_VK = np.column_stack([log_by_V[:, None] * levels_VS, levels_VS])
    if len(log_size_S) < 2 or _f_test(together_VK, each_VK, np.log(best.x_V)) >= SIGNIFICANT:
        return ()
    slope_S = (np.log(best.x_V) @ np.linalg.pinv(each_VK).T)[: len(log_size_S)]
    varied_S = [np.ptp(log_by_V[level_V > 0]) > SAME_SIZE for level_V in levels_VS.T]
    slopes = slope_S[np.array(varied_S)]
    message = (
        f"{name}: sizes disagree on its exponent, {slopes.min():.2f} to {slopes.max():.2f}; "
        "the one shown is that of all and its interval takes it for the same everywhere"
    )
    return (FitWarning("sizes_disagree", message, family),)


def _levels(best: Vertices) -> tuple[FloatArray, FloatArray]:
    """Which size each vertex is of, (V, S) of 0 and 1, and the log of each size, (S,)."""
    if best.params_V is None:
        return np.ones((len(best.x_V), 1)), np.zeros(1)
    rung_V = rungs(best.params_V)
    levels_VS = np.eye(int(rung_V.max(initial=0)) + 1)[rung_V]
    log_size_S: FloatArray = (np.log(best.params_V) @ levels_VS) / levels_VS.sum(axis=0)
    return levels_VS, log_size_S


def _residual(columns_VK: FloatArray, y_V: FloatArray) -> FloatArray:
    residual_V: FloatArray = y_V - columns_VK @ (np.linalg.pinv(columns_VK) @ y_V)
    return residual_V


def _f_test(small_VK: FloatArray, large_VK: FloatArray, y_V: FloatArray) -> float:
    """Probability of so much better a fit of the larger model were the smaller one true."""
    n_small, n_large = (int(np.linalg.matrix_rank(part)) for part in (small_VK, large_VK))
    n_more, dof = n_large - n_small, len(y_V) - n_large
    if n_more < 1 or dof < 1:
        return 1.0
    error = [float(np.sum(_residual(part, y_V) ** 2)) for part in (small_VK, large_VK)]
    variance = max(error[1] / dof, ROUNDING**2)
    return float(fdtrc(n_more, dof, max(0.0, error[0] - error[1]) / n_more / variance))


def isoloss_curves(points: Points) -> VaryingCurves:
    """Tokens that each batch needs to reach target losses, size by size."""
    # The vertex of a target is the best batch and the fewest tokens D that reach it.
    rows: list[tuple[float, float, int, int, float]] = []
    n_curves = 0
    for group, mine in _by_size(points):
        size = float(points.params_P[mine].mean())
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
                    rows.append((float(batch), float(tokens), n_curves, group, size))
            n_curves += 1
    return _from_rows(rows)


def rate_curves(points: Points) -> tuple[VaryingCurves, FloatArray, FloatArray]:
    """Losses over the learning rate, and the batch and the tokens of each curve, (C,)."""
    rows: list[tuple[float, float, int, int, float]] = []
    of_curve: list[tuple[float, float]] = []
    n_groups = 0
    when_P = rungs(points.tokens_P)
    batch_P = np.nan_to_num(points.batch_tokens_P)
    for _, mine in _by_size(points):
        size = float(points.params_P[mine].mean())
        for batch in np.unique(batch_P[mine]):
            same_P = mine & (batch_P == batch)
            for when in np.unique(when_P[same_P]):
                for i in np.flatnonzero(same_P & (when_P == when)):
                    rate, loss = float(points.learning_rate_P[i]), float(points.loss_P[i])
                    rows.append((rate, loss, len(of_curve), n_groups, size))
                tokens = float(points.tokens_P[same_P & (when_P == when)].mean())
                of_curve.append((float(batch), tokens))
                # Lengths share luck where they are points of the same runs.
                n_groups += not points.has_shared_runs
            n_groups += 1
    batch_C, tokens_C = np.array(of_curve).T
    return _from_rows(rows), batch_C, tokens_C


def at_best_batch(points: Points) -> Points:
    """The lowest loss of any batch at every size, rate and number of tokens; no batch is stated."""
    when_P = rungs(points.tokens_P)
    keys_P3 = np.column_stack([rungs(points.params_P), when_P, points.learning_rate_P])
    by_loss_P = np.argsort(points.loss_P, kind="stable")
    _, first = np.unique(keys_P3[by_loss_P], axis=0, return_index=True)
    best = points.take(np.sort(by_loss_P[first]))
    return replace(best, batch_tokens_P=np.full(len(best.loss_P), np.nan))


def _from_rows(rows: list[tuple[float, float, int, int, float]]) -> VaryingCurves:
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    numbers = table[:, 2:4].astype(np.int64)
    return VaryingCurves(table[:, 0], table[:, 1], numbers[:, 0], numbers[:, 1], table[:, 4])


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
