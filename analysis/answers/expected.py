"""The interval to be expected of an optimum from what was observed, and with further runs.

Least squares with slopes X and noise of covariance S has the coefficients' covariance
(XᵀX)⁻¹ (XᵀSX) (XᵀX)⁻¹. Both sums are over runs, so that a run adds to them what its points are
worth: those of one run share its luck. This is the delta method: it knows no losses, only places.

Suffixes: P points, K budgets, c coefficients, n alternatives.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from analysis.answers.information import LinearisedCurves
from analysis.stats.bootstrap import COEFFICIENTS_ALONG_SIZES
from analysis.tables.points import BoolArray, FloatArray, IntArray

UPPER_TAIL = 0.975
"""Of the central 95 % interval."""


@dataclass(frozen=True)
class Information:
    """What runs tell of the coefficients of one series."""

    square_cc: FloatArray
    """XᵀX."""
    noisy_cc: FloatArray
    """XᵀSX."""
    n_points: int
    n_runs: int

    def plus(self, other: "Information", sign: int = 1) -> "Information":
        """Of these runs and the others, or without them."""
        return Information(
            self.square_cc + sign * other.square_cc,
            self.noisy_cc + sign * other.noisy_cc,
            self.n_points + sign * other.n_points,
            self.n_runs + sign * other.n_runs,
        )


def nothing(curves: LinearisedCurves) -> Information:
    """Of no run."""
    zero_cc = np.zeros((curves.n_coefficients, curves.n_coefficients))
    return Information(zero_cc, zero_cc, 0, 0)


def of_run(
    curves: LinearisedCurves, set_P: IntArray, log_params_P: FloatArray, log_tokens_P: FloatArray
) -> Information:
    """Of all points of one run."""
    if not len(set_P):
        return nothing(curves)
    slope_Pc = curves.slopes(set_P, log_params_P, log_tokens_P)
    square_cc, total_c = slope_Pc.T @ slope_Pc, slope_Pc.sum(axis=0)
    run, point = curves.noise.run**2, curves.noise.point**2
    return Information(
        square_cc, run * np.outer(total_c, total_c) + point * square_cc, len(set_P), 1
    )


Weights = Callable[[FloatArray, BoolArray], FloatArray]
"""Weights (n, K) of the budgets' optima in what is asked, given their variances (n, K) and which
budgets are observed (K,)."""


@dataclass(frozen=True)
class Share:
    """One series' share of the variance of a quantity."""

    curves: LinearisedCurves
    gradient_Kc: FloatArray
    """Of the log of every budget's optimum."""
    weights: Weights
    scatter: float
    """Of whole budgets about their law: runs at the same budgets do not lower it."""
    fixed: float
    """Variance that no run lowers."""
    scale: float
    has_shared_runs: bool

    def variance(self, known: Sequence[Information], observed_K: BoolArray) -> FloatArray:
        """With each alternative of what is known (n,)."""
        # A budget without observations has coefficients that nothing is known of: they stay out.
        is_in_c = np.append(np.tile(observed_K, 3), [True, True])
        both = np.ix_(is_in_c, is_in_c)
        square_ncc = np.stack([each.square_cc[both] for each in known])
        noisy_ncc = np.stack([each.noisy_cc[both] for each in known])
        curvature_nc = np.diagonal(square_ncc, axis1=1, axis2=2)
        # The floor is for a coefficient that no observation depends on.
        floor_n1 = 1e-24 * curvature_nc.max(axis=1, keepdims=True)
        scale_nc = np.sqrt(np.maximum(curvature_nc, floor_n1))
        # A ridge that makes the matrix invertible, too small to be seen.
        unit_ncc = square_ncc / (scale_nc[:, :, None] * scale_nc[:, None, :])
        unit_ncc = unit_ncc + 1e-10 * np.eye(unit_ncc.shape[1])
        gradient_cK = self.gradient_Kc[observed_K][:, is_in_c].T
        pull_ncK = np.linalg.solve(unit_ncc, gradient_cK / scale_nc[:, :, None])
        pull_ncK /= scale_nc[:, :, None]
        return self._of(np.swapaxes(pull_ncK, 1, 2) @ noisy_ncc @ pull_ncK, observed_K)

    def variance_with_point(
        self, known: Information, slope_nc: FloatArray, observed_K: BoolArray
    ) -> FloatArray:
        """With what is known and one more run of a single point, for each of n such runs, whose
        budgets are observed; (n,).
        """
        # As `variance` of the sums, by the formula of Sherman and Morrison (1950): one matrix is
        # solved for all runs.
        is_in_c = np.append(np.tile(observed_K, 3), [True, True])
        both = np.ix_(is_in_c, is_in_c)
        curvature_c = np.diagonal(known.square_cc)[is_in_c]
        scale_c = np.sqrt(np.maximum(curvature_c, 1e-24 * curvature_c.max()))
        unit_cc = known.square_cc[both] / np.outer(scale_c, scale_c) + 1e-10 * np.eye(len(scale_c))
        noisy_cc = known.noisy_cc[both] / np.outer(scale_c, scale_c)
        slope_cn = slope_nc[:, is_in_c].T / scale_c[:, None]
        gradient_cK = self.gradient_Kc[observed_K][:, is_in_c].T / scale_c[:, None]
        solved = np.linalg.solve(unit_cc, np.hstack([gradient_cK, slope_cn]))
        pull_cK, toward_cn = np.split(solved, [gradient_cK.shape[1]], axis=1)
        share_n = 1.0 / (1.0 + np.sum(slope_cn * toward_cn, axis=0))
        gain_nK = (slope_cn.T @ pull_cK) * share_n[:, None]
        spread_cn = noisy_cc @ toward_cn
        cross_nKK = (spread_cn.T @ pull_cK)[:, :, None] * gain_nK[:, None, :]
        own_n = np.sum(toward_cn * spread_cn, axis=0) + self.curves.noise.total**2
        covariance_nKK = pull_cK.T @ noisy_cc @ pull_cK - cross_nKK - np.swapaxes(cross_nKK, 1, 2)
        covariance_nKK += own_n[:, None, None] * gain_nK[:, :, None] * gain_nK[:, None, :]
        return self._of(covariance_nKK, observed_K)

    def _of(self, covariance_nKK: FloatArray, observed_K: BoolArray) -> FloatArray:
        """From the covariances of the optima of the observed budgets."""
        weight_nK = self.weights(np.diagonal(covariance_nKK, axis1=1, axis2=2), observed_K)
        spread_n = np.einsum("nk,nkj,nj->n", weight_nK, covariance_nKK, weight_nK)
        scatter_n = self.scatter**2 * np.sum(weight_nK**2, axis=1)
        result: FloatArray = self.scale * (spread_n + scatter_n + self.fixed)
        return result

    def dof(self, n_points: int, n_runs: int, observed_K: BoolArray) -> int:
        """Degrees of freedom of the noise, as the bootstrap counts them."""
        own = n_points - 3 * int(observed_K.sum()) - 2
        if self.has_shared_runs:
            own = min(own, n_runs - COEFFICIENTS_ALONG_SIZES)
        return max(1, own)


def half_width(variances: Sequence[float], dofs: Sequence[int]) -> float:
    """Of the interval of a log quantity whose variance has independently estimated parts."""
    total = sum(variances)
    if total <= 0.0:
        return 0.0
    # Welch and Satterthwaite's degrees of freedom of a sum.
    dof = total**2 / sum(v**2 / d for v, d in zip(variances, dofs, strict=True))
    return t_quantile(max(1, math.floor(dof))) * math.sqrt(total)


def half_widths(
    variances: Sequence[float], dofs: Sequence[int], variance_n: FloatArray, dof_n: IntArray
) -> FloatArray:
    """`half_width` of what is given and one more part, for n alternatives of that part."""
    total_n = sum(variances) + variance_n
    weight_n = sum(v**2 / d for v, d in zip(variances, dofs, strict=True)) + variance_n**2 / dof_n
    safe_n = np.where(weight_n > 0.0, weight_n, 1.0)
    whole_n = np.maximum(1, np.floor(total_n**2 / safe_n)).astype(np.int64)
    each, which_n = np.unique(whole_n, return_inverse=True)
    quantile_n = np.array([t_quantile(dof) for dof in each.tolist()])[which_n]
    result: FloatArray = np.where(total_n > 0.0, quantile_n * np.sqrt(np.abs(total_n)), 0.0)
    return result


@lru_cache
def t_quantile(dof: int) -> float:
    """Student's, at the upper end of a central 95 % interval."""
    return float(stdtrit(dof, UPPER_TAIL))
