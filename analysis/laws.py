"""Power laws y = offset + coefficient · C^exponent, fitted in log–log axes, with bootstrap
intervals.

Suffixes: R resamples, K budgets.
"""

from dataclasses import dataclass, field

import numpy as np

from analysis.points import FloatArray

INTERVAL = (2.5, 97.5)
"""Percentiles of every interval: central 95 %."""


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
    low, high = np.percentile(draws_R, INTERVAL)
    return float(low), float(high)


def weighted_line(
    x_K: FloatArray, y_RK: FloatArray, weight_K: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Slope and intercept of weighted least-squares lines, one per leading index of `y_RK`."""
    share_K = weight_K / weight_K.sum()
    centred_K = x_K - share_K @ x_K
    slope = (y_RK @ (share_K * centred_K)) / (share_K @ centred_K**2)
    return slope, y_RK @ share_K - slope * (share_K @ x_K)


def excess_variance(residual_variance: "ResidualVariance", upper: float) -> float:
    """tau² such that Σ (y − fit)² / (var + tau²) equals its degrees of freedom; 0 if it never
    exceeds.

    The moment estimator of Paule and Mandel (1982) for results of unequal known variance, by
    bisection on [0, upper]: the sum falls monotonically in tau².
    """
    if residual_variance.surplus(0.0) <= 0:
        return 0.0
    low, high = 0.0, upper
    for _ in range(60):
        middle = 0.5 * (low + high)
        if residual_variance.surplus(middle) > 0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@dataclass(frozen=True)
class ResidualVariance:
    """Points on a line with known variances, for the estimator above."""

    x_K: FloatArray
    y_K: FloatArray
    variance_K: FloatArray

    def surplus(self, tau_squared: float) -> float:
        """Weighted residual sum of squares minus degrees of freedom."""
        weight_K = 1.0 / np.maximum(self.variance_K + tau_squared, np.finfo(float).tiny)
        slope, intercept = weighted_line(self.x_K, self.y_K, weight_K)
        residual_K = self.y_K - intercept - slope * self.x_K
        return float(weight_K @ residual_K**2) - (len(self.x_K) - 2)


def fit_power_law(
    flops_K: FloatArray,
    log_y_K: FloatArray,
    log_y_RK: FloatArray,
    normal_RK: FloatArray,
    *,
    weighted: bool,
) -> PowerLaw:
    """Pure power law through K ≥ 2 points, with the bootstrap of its points carried through.

    `log_y_RK` are the bootstrap values of the points. Weights are 1 / (their variance + tau²), tau²
    being the scatter of the points about the law beyond their noise, or equal where `weighted` is
    false (plain least squares, as the published studies do). Each resample adds normal scatter of
    variance tau² (`normal_RK`), so a law that does not quite hold gets the wider interval it
    deserves.
    """
    x_K = np.log(flops_K)
    variance_K = np.var(log_y_RK, axis=0)
    tau_squared = 0.0
    if len(x_K) > 2:
        upper = 10.0 * float(np.var(log_y_K)) + 1e-12
        tau_squared = excess_variance(ResidualVariance(x_K, log_y_K, variance_K), upper)
    total_K = variance_K + tau_squared
    weight_K = np.ones_like(x_K)
    if weighted and total_K.min() > 1e-12 * total_K.max():
        weight_K = total_K.min() / total_K
    slope, intercept = weighted_line(x_K, log_y_K[None], weight_K)
    scattered_RK = log_y_RK + np.sqrt(tau_squared) * normal_RK
    slope_R, intercept_R = weighted_line(x_K, scattered_RK, weight_K)
    return PowerLaw(
        coefficient=float(np.exp(intercept[0])),
        exponent=float(slope[0]),
        exponent_ci=percentile_interval(slope_R),
        offset=None,
        n_budgets=len(x_K),
        scatter=float(np.sqrt(tau_squared)),
        exponent_R=slope_R,
        log_coefficient_R=intercept_R,
        offset_R=np.zeros_like(slope_R),
    )
