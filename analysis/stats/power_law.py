"""Power laws y = offset + coefficient · C^exponent in log–log axes, with bootstrap intervals.

Suffixes: R resamples, K budgets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.tables.points import FloatArray, IntArray

INTERVAL = (2.5, 97.5)
"""Percentiles of every interval: central 95 %."""
OFFSET_STRIDE = 6
"""Cells of a grid of exponents between those that are looked at first."""
MIN_BUDGETS_FOR_OFFSET = 6
"""Three coefficients through fewer points follow the noise."""
EXPONENT_RANGE = (0.02, 2.0)
"""Search range of alpha and beta, the exponents of the loss in params and tokens; with both at the
lower end a curve is a parabola in log params."""
GRID_SIZE = 22
"""Values of either exponent in the search."""
TINY = float(np.finfo(float).tiny)

LawName = Literal["params", "tokens", "loss"]
"""Of a frontier: N*(C), D*(C) and L*(C)."""


@dataclass(frozen=True)
class PowerLaw:
    """y(C) = offset + coefficient · C^exponent with C in FLOPs."""

    coefficient: float
    """Value at C = 1 FLOP without the offset; no interval has a meaning so far from the data."""
    exponent: float
    exponent_ci: tuple[float, float]
    """95 % bootstrap interval."""
    offset: float | None
    """Limit at infinite compute in the units of y; None for a pure power law."""
    n_budgets: int
    scatter: float
    """Standard deviation of log y about the law beyond the noise of its points."""
    exponent_R: FloatArray = field(repr=False, compare=False)
    log_coefficient_R: FloatArray = field(repr=False, compare=False)
    offset_R: FloatArray = field(repr=False, compare=False)
    """Bootstrap draws; zeros for a pure power law."""

    @classmethod
    def from_lines(
        cls, slope_R: FloatArray, intercept_R: FloatArray, n_points: int, scatter: float
    ) -> "PowerLaw":
        """The law of a line in log–log axes; entry 0 is the estimate, the others are draws."""
        return cls(
            coefficient=float(np.exp(intercept_R[0])),
            exponent=float(slope_R[0]),
            exponent_ci=percentile_interval(slope_R[1:]),
            offset=None,
            n_budgets=n_points,
            scatter=scatter,
            exponent_R=slope_R[1:],
            log_coefficient_R=intercept_R[1:],
            offset_R=np.zeros(len(slope_R) - 1),
        )

    def __call__(self, flops: float) -> float:
        """Value at a budget."""
        return (self.offset or 0.0) + float(
            np.exp(np.log(self.coefficient) + self.exponent * np.log(flops))
        )

    def draws(self, flops: float) -> FloatArray:
        """Bootstrap values at a budget, shape (R,)."""
        values_R: FloatArray = self.offset_R + np.exp(
            self.log_coefficient_R + self.exponent_R * np.log(flops)
        )
        return values_R

    def interval(self, flops: float) -> tuple[float, float]:
        """95 % interval of the law's value at a budget."""
        return percentile_interval(self.draws(flops))


def percentile_interval(draws_R: FloatArray) -> tuple[float, float]:
    """Central 95 % of the draws."""
    # As `np.percentile` does it, which takes ten times as long to find out what it is asked.
    ordered_R = np.sort(draws_R)
    if np.isnan(ordered_R[-1]):
        return np.nan, np.nan
    low, high = (_between(ordered_R, percent / 100.0) for percent in INTERVAL)
    return low, high


def _between(ordered_R: FloatArray, share: float) -> float:
    """Interpolated value at a share of the way through ordered draws."""
    place = share * (len(ordered_R) - 1)
    first = min(int(place), len(ordered_R) - 2) if len(ordered_R) > 1 else 0
    below, above = float(ordered_R[first]), float(ordered_R[min(first + 1, len(ordered_R) - 1)])
    part = place - first
    return above - (above - below) * (1.0 - part) if part >= 0.5 else below + (above - below) * part


def weighted_line(
    x_K: FloatArray, y_RK: FloatArray, weight_K: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Slope and intercept of weighted least-squares lines, one per leading index of `y_RK`."""
    share_K = weight_K / weight_K.sum()
    centred_K = x_K - share_K @ x_K
    slope = (y_RK @ (share_K * centred_K)) / (share_K @ centred_K**2)
    return slope, y_RK @ share_K - slope * (share_K @ x_K)


def excess_variance(surplus: Callable[[FloatArray], FloatArray], upper: float) -> float:
    """tau² in [0, upper] at which `surplus`, of many tau² at once, is zero; 0 if it is never
    positive.
    """
    # The moment estimator of Paule and Mandel (1982) for results of unequal known variance:
    # `surplus` is Σ residual² / (variance + tau²) less its degrees of freedom, and falls
    # monotonically in tau².
    if surplus(np.zeros(1))[0] <= 0:
        return 0.0
    low, width = 0.0, upper
    for _ in range(10):  # each like six halvings
        width /= 64.0
        low += width * float(np.sum(surplus(low + width * np.arange(1.0, 64.0)) > 0))
    return low + 0.5 * width


def variance_about_line(x_K: FloatArray, y_K: FloatArray, variance_K: FloatArray) -> float:
    """Variance of points of known variances about their line, beyond that of the points."""

    def surplus(tau_squared_T: FloatArray) -> FloatArray:
        weight_TK = 1.0 / np.maximum(variance_K + tau_squared_T[:, None], TINY)
        share_TK = weight_TK / weight_TK.sum(axis=1, keepdims=True)
        x_TK, y_TK = x_K - (share_TK @ x_K)[:, None], y_K - (share_TK @ y_K)[:, None]
        slope_T = np.sum(share_TK * x_TK * y_TK, axis=1) / np.sum(share_TK * x_TK**2, axis=1)
        residual_TK = y_TK - slope_T[:, None] * x_TK
        result_T: FloatArray = np.sum(weight_TK * residual_TK**2, axis=1) - (len(x_K) - 2)
        return result_T

    return excess_variance(surplus, 10.0 * float(np.var(y_K)) + 1e-12)


def tell_apart(stderr_P: FloatArray) -> bool:
    """Whether standard errors say that some points are more precise than others."""
    return bool(stderr_P.any() and np.ptp(stderr_P) > 1e-9 * stderr_P.max())


def inverse_variance_weights(
    residual_P: FloatArray, stderr_P: FloatArray, dof: int
) -> FloatArray | None:
    """1 / (stderr² + tau²) with mean 1, both inputs relative to the loss; None where the standard
    errors cannot tell points apart.
    """
    # Where they are all alike they say nothing of weights: what all points share moves no minimum.
    if not tell_apart(stderr_P):
        return None

    def surplus(tau_squared_T: FloatArray) -> FloatArray:
        variance_TP = np.maximum(stderr_P**2 + tau_squared_T[:, None], TINY)
        result_T: FloatArray = np.sum(residual_P**2 / variance_TP, axis=1) - dof
        return result_T

    upper = float(np.sum(residual_P**2) / dof) + TINY
    # A stated error of 0 would otherwise count infinitely.
    tau_squared = max(excess_variance(surplus, upper), 2.0**-60 * upper)
    weight_P = 1.0 / (stderr_P**2 + tau_squared)
    result: FloatArray = weight_P / weight_P.mean()
    return result


def fit_power_law(
    flops_K: FloatArray,
    log_y_K: FloatArray,
    log_y_RK: FloatArray,
    normal_RK: FloatArray,
    *,
    weighted: bool,
    n_shapes: int = 1,
) -> PowerLaw:
    """Pure power law through K ≥ 2 points of bootstrap values `log_y_RK`, which are carried
    through; plain least squares where not `weighted`, as the published studies do. Draws of
    `n_shapes` biases take turns.
    """
    x_K = np.log(flops_K)
    # A bias moves all points alike: it is no noise that would explain their scatter.
    variance_K = np.mean([log_y_RK[i::n_shapes].var(axis=0) for i in range(n_shapes)], axis=0)
    tau_squared = 0.0
    if len(x_K) > 2:
        tau_squared = variance_about_line(x_K, log_y_K, variance_K)
    # Weights are 1 / (variance + tau²), tau² the scatter about the law beyond the points' noise.
    total_K = variance_K + tau_squared
    weight_K = np.ones_like(x_K)
    if weighted and total_K.min() > 1e-12 * total_K.max():
        weight_K = total_K.min() / total_K
    # A law that does not quite hold gets the wider interval it deserves.
    scattered_RK = log_y_RK + np.sqrt(tau_squared) * normal_RK
    slope_R, intercept_R = weighted_line(x_K, np.vstack([log_y_K, scattered_RK]), weight_K)
    return PowerLaw.from_lines(slope_R, intercept_R, len(x_K), float(np.sqrt(tau_squared)))


def law_with_offset(
    law: PowerLaw, flops_K: FloatArray, loss_K: FloatArray, loss_RK: FloatArray
) -> PowerLaw | None:
    """The law with an offset where the points demand one beyond the pure `law`, else None."""
    if len(flops_K) < MIN_BUDGETS_FOR_OFFSET:
        return None
    found, misfit = _offset_law(flops_K, loss_K, loss_RK)
    pure_misfit = float(np.sum(np.log(loss_K / [law(flops) for flops in flops_K]) ** 2))
    gain = _aicc(pure_misfit, len(loss_K), 2) - _aicc(misfit, len(loss_K), 3)
    # From 10 on the pure law has essentially no support (Burnham and Anderson 2002).
    is_demanded = gain >= 10.0 and found.offset is not None and found.offset > 0
    # And 97.5 % of the resamples have a positive offset.
    return found if is_demanded and np.mean(found.offset_R > 0) >= INTERVAL[1] / 100 else None


def nested_law(
    law: PowerLaw, flops_K: FloatArray, loss_K: FloatArray, loss_RK: FloatArray
) -> PowerLaw:
    """The best law with an offset ≥ 0 through four or more points; on the edge, `law` itself."""
    # No evidence is asked for: whether an offset predicts better is for the hold-out to say.
    found, _ = _offset_law(flops_K, loss_K, loss_RK)
    return found if found.offset is not None and found.offset > 0 else law


def _offset_law(
    flops_K: FloatArray, loss_K: FloatArray, loss_RK: FloatArray
) -> tuple[PowerLaw, float]:
    """Least squares of relative residuals, and their sum of squares; the offset has any sign."""
    exponent, offset, log_coefficient, misfit = _offset_fit(flops_K, loss_K[None])
    exponent_R, offset_R, log_coefficient_R, _ = _offset_fit(flops_K, loss_RK)
    law = PowerLaw(
        coefficient=float(np.exp(log_coefficient[0])),
        exponent=float(exponent[0]),
        exponent_ci=percentile_interval(exponent_R),
        offset=float(offset[0]),
        n_budgets=len(flops_K),
        scatter=float(np.sqrt(misfit[0] / (len(flops_K) - 3))),
        exponent_R=exponent_R,
        log_coefficient_R=log_coefficient_R,
        offset_R=offset_R,
    )
    return law, float(misfit[0])


def _aicc(misfit: float, n_points: int, n_coefficients: int) -> float:
    """Akaike's criterion for small samples; the noise counts as a coefficient too."""
    k = n_coefficients + 1
    per_point = max(misfit / n_points, TINY)
    return n_points * float(np.log(per_point)) + 2 * k + 2 * k * (k + 1) / (n_points - k - 1)


def _offset_fit(
    flops_K: FloatArray, loss_RK: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Exponent (< 0), offset, log coefficient and relative sum of squares, each (R,)."""
    # For a given exponent, offset and coefficient are linear least squares on relative residuals;
    # the exponent is the best of a grid, refined by a parabola through it and its neighbours.
    grid_G = np.geomspace(0.02, 1.5, 150)
    log_c_K = np.log(flops_K) - np.log(flops_K).mean()

    def misfits(index_RJ: IntArray) -> FloatArray:
        return _linear_part(log_c_K, loss_RK[:, None], grid_G[index_RJ])[2]

    # Every sixth cell, then all about the best of those.
    coarse_J = np.arange(0, len(grid_G), OFFSET_STRIDE)
    coarse_RJ = np.tile(coarse_J, (len(loss_RK), 1))
    near_R = coarse_J[np.argmin(misfits(coarse_RJ), axis=1)]
    first_R = np.clip(near_R - OFFSET_STRIDE, 0, len(grid_G) - 2 * OFFSET_STRIDE - 1)
    fine_RJ = first_R[:, None] + np.arange(2 * OFFSET_STRIDE + 1)
    misfit_RJ = misfits(fine_RJ)
    place_R = np.clip(np.argmin(misfit_RJ, axis=1), 1, 2 * OFFSET_STRIDE - 1)
    best_R = fine_RJ[np.arange(len(place_R)), place_R]
    left, middle, right = (misfit_RJ[np.arange(len(place_R)), place_R + d] for d in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1.0), 0.0)
    log_step = np.log(grid_G[1] / grid_G[0])
    decay_R = grid_G[best_R] * np.exp(np.clip(shift, -1, 1) * log_step)
    offset_R, arm_R, misfit_R = _linear_part(log_c_K, loss_RK, decay_R)
    log_arm_R = np.log(np.maximum(arm_R, TINY))
    return -decay_R, offset_R, log_arm_R + decay_R * np.log(flops_K).mean(), misfit_R


def _linear_part(
    log_c_K: FloatArray, loss: FloatArray, decay: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Offset, coefficient (centred) and relative sum of squares at given exponents, each of their
    shape; the losses have an axis K more.
    """
    one = 1.0 / loss
    x = np.exp(-decay[..., None] * log_c_K) * one
    sum_oo, sum_xx, sum_ox = (one**2).sum(-1), (x**2).sum(-1), (one * x).sum(-1)
    sum_o, sum_x = one.sum(-1), x.sum(-1)
    determinant = sum_oo * sum_xx - sum_ox**2
    offset = (sum_xx * sum_o - sum_ox * sum_x) / determinant
    arm = (sum_oo * sum_x - sum_ox * sum_o) / determinant
    misfit = ((1.0 - offset[..., None] * one - arm[..., None] * x) ** 2).sum(-1)
    return offset, arm, misfit
