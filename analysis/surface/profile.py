"""Profile-likelihood intervals of the surface's exponents.

The profile of an exponent is the least objective over the other four coefficients. Its interval
follows the bend of the ridge along which coefficients trade, where ± 2 standard errors would not,
and costs a hundredth of a bootstrap.

Suffixes: R values of the exponent, P points, 5 the coordinates of theta.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.stats.bootstrap import COEFFICIENTS_ALONG_SIZES
from analysis.surface.solver import (
    EXPONENT_LIMITS,
    SurfaceProblem,
    expand,
    log_residuals,
    newton,
    relative_slopes,
)
from analysis.tables.points import FloatArray, IntArray


def profile_intervals(
    problem: SurfaceProblem, theta_5: FloatArray, delta: float, run_P: IntArray
) -> dict[str, tuple[float, float] | None]:
    """95 % intervals of alpha and beta; None where the profile never rises far enough."""
    spread = _spread(problem, theta_5, delta, run_P)
    if spread.tau < 1e-20:  # rounding
        return {"alpha": (theta_5[3], theta_5[3]), "beta": (theta_5[4], theta_5[4])}
    return {
        name: _interval(problem, theta_5, delta, spread, coordinate)
        for name, coordinate in (("alpha", 3), ("beta", 4))
    }


@dataclass(frozen=True)
class _Spread:
    """How far the coefficients scatter, to first order."""

    tau: float
    """Scale of the objective: residual variance for least squares."""
    inverse_55: FloatArray
    """Of the Hessian, zero along E where the fit lies on the face E = 0."""
    inflation_5: FloatArray
    """Sandwich over naive variance of each coefficient, 1 or more."""
    dof: int


def _interval(
    problem: SurfaceProblem, theta_5: FloatArray, delta: float, spread: _Spread, coordinate: int
) -> tuple[float, float] | None:
    inflation = float(spread.inflation_5[coordinate])
    variance = spread.tau * inflation * spread.inverse_55[coordinate, coordinate]
    # Six standard errors to either side; the signed root of the ratio is nearly straight between.
    offset_R = np.linspace(-6.0, 6.0, 25) * float(np.sqrt(variance))
    # The others follow along the ridge: their regression on the exponent.
    along_5 = spread.inverse_55[:, coordinate] / spread.inverse_55[coordinate, coordinate]
    start_R5 = theta_5 + offset_R[:, None] * along_5
    start_R5[:, coordinate] = np.clip(start_R5[:, coordinate], *EXPONENT_LIMITS)
    profile = newton(problem, start_R5, delta, np.arange(5) == coordinate)
    least = float(expand(problem, theta_5[None], delta).value_R[0])
    ratio_R = 2 * np.maximum(profile.objective_R - least, 0.0) / (spread.tau * inflation)
    closed_R = profile.is_certified_R
    value_R = profile.theta_R5[closed_R, coordinate]
    root_R = (np.sign(offset_R) * np.sqrt(ratio_R))[closed_R]
    # 2 · (f(value) − f(best)) / tau ≤ t² (the likelihood-ratio type test of Ronchetti 1982).
    limit = float(stdtrit(spread.dof, 0.975))
    if not len(root_R) or root_R[0] > -limit or root_R[-1] < limit:
        return None
    low, high = np.interp([-limit, limit], np.maximum.accumulate(root_R), value_R)
    return float(low), float(high)


def _spread(problem: SurfaceProblem, theta_5: FloatArray, delta: float, run_P: IntArray) -> _Spread:
    weight_P = problem.weight_RP[0]
    slope_P5 = relative_slopes(problem, theta_5)
    expansion = expand(problem, theta_5[None], delta)
    residual_P = log_residuals(problem, theta_5)
    psi_P = np.clip(residual_P, -delta, delta)
    free = np.arange(5) if theta_5[0] > 0 else np.arange(1, 5)
    inverse_55 = np.zeros((5, 5))
    inverse_55[np.ix_(free, free)] = np.linalg.pinv(expansion.hessian_R55[0][np.ix_(free, free)])
    runs, run_index_P = np.unique(run_P, return_inverse=True)
    n_points, n_runs = len(run_P), len(runs)
    dof = max(1, n_points - len(free))
    in_zone = max(float(np.mean(np.abs(residual_P) <= delta)), 1.0 / n_points)
    # The residual variance for least squares.
    tau = float(np.sum(weight_P * psi_P**2)) / dof / in_zone
    score_G5 = np.zeros((n_runs, 5))
    np.add.at(score_G5, run_index_P, (weight_P * psi_P)[:, None] * slope_P5)
    # Vertical scaling of the ratio (Chandler and Bate 2007) where runs share luck or noise differs.
    clustered_55 = inverse_55 @ (score_G5.T @ score_G5) @ inverse_55 * n_runs / (n_runs - 1)
    naive_5 = np.maximum(tau * np.diag(inverse_55), np.finfo(float).tiny)
    return _Spread(
        tau=tau,
        inverse_55=inverse_55,
        inflation_5=np.maximum(np.diag(clustered_55) / naive_5, 1.0),
        dof=dof if n_runs == n_points else max(1, min(dof, n_runs - COEFFICIENTS_ALONG_SIZES)),
    )
