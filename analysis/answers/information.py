"""What a run that is not trained yet would tell about an optimum: the delta method.

A quantity with gradient g in the coefficients theta has variance gᵀVg; one more observation with
row x = d log L / d theta lowers it by (gᵀVx)² / (sigma² + xᵀVx), whatever its loss turns out to be.

Suffixes: P points, K sets of coefficients, c coefficients: K levels, K size arms, K data arms,
alpha, beta.
"""

from dataclasses import dataclass

import numpy as np

from analysis.fitting.fit import FamilyFit
from analysis.isoflop.isoflop import IsoFlopFit, usable_budgets
from analysis.stats.cost import CostPerToken
from analysis.stats.power_law import EXPONENT_RANGE, LawName
from analysis.surface.optimum import best_size
from analysis.surface.surface import SurfaceFit
from analysis.tables.points import FloatArray, IntArray, Points


@dataclass(frozen=True)
class LinearisedCurves:
    """L = c_k + p_k · N^(−alpha) + r_k · D^(−beta) of one series and what was observed of it."""

    points: Points
    set_P: IntArray
    """Set of coefficients that a point observes: c, p, r of its budget k; of a surface K = 1."""
    cost: CostPerToken
    alpha: float
    beta: float
    coefficient_3K: FloatArray
    """Levels, size arms and data arms in coordinates about the origins."""
    log_params_origin: float
    log_tokens_origin_K: FloatArray
    log_flops_K: FloatArray
    """Budgets of the sets; NaN where one set serves all."""
    sigma: float
    """Relative standard deviation of a loss."""

    def slopes(
        self, set_P: IntArray, log_params_P: FloatArray, log_tokens_P: FloatArray
    ) -> FloatArray:
        """d log L / d theta at any points, shape (P, c)."""
        u_P = log_params_P - self.log_params_origin
        v_P = log_tokens_P - self.log_tokens_origin_K[set_P]
        size_P, data_P = np.exp(-self.alpha * u_P), np.exp(-self.beta * v_P)
        level, size_arm, data_arm = self.coefficient_3K[:, set_P]
        onehot_PK = np.eye(self.coefficient_3K.shape[1])[set_P]
        by_alpha_P = -u_P * size_arm * size_P * self._is_free(self.alpha)
        by_beta_P = -v_P * data_arm * data_P * self._is_free(self.beta)
        arms = [onehot_PK * size_P[:, None], onehot_PK * data_P[:, None]]
        slope_Pc = np.hstack([onehot_PK, *arms, by_alpha_P[:, None], by_beta_P[:, None]])
        result: FloatArray = slope_Pc / (level + size_arm * size_P + data_arm * data_P)[:, None]
        return result

    @staticmethod
    def _is_free(exponent: float) -> bool:
        """An exponent at the edge of its range was held there."""
        return EXPONENT_RANGE[0] < exponent < EXPONENT_RANGE[1]

    def covariance(self) -> FloatArray:
        """Of theta, given what has been observed: V = sigma² (XᵀX)⁻¹, shape (c, c)."""
        points = self.points
        # Points of one run count as independent: shares of a variance are better known than it.
        slope_Pc = self.slopes(self.set_P, np.log(points.params_P), np.log(points.tokens_P))
        information_cc = slope_Pc.T @ slope_Pc / self.sigma**2
        curvature_c = np.diag(information_cc)
        # The floor is for a coefficient that no observation depends on.
        scale_c = np.sqrt(np.maximum(curvature_c, 1e-24 * curvature_c.max()))
        correlation_cc = information_cc / np.outer(scale_c, scale_c)
        # A ridge that makes the matrix invertible, too small to be seen.
        stable_cc = correlation_cc + 1e-10 * np.eye(len(scale_c))
        inverse_cc: FloatArray = np.linalg.inv(stable_cc) / np.outer(scale_c, scale_c)
        return inverse_cc

    def optimum(self, index: int, log_flops: float) -> tuple[float, float]:
        """Log of the size and tokens at which a set's curve is lowest along a budget."""
        _, size_arm, data_arm = self.coefficient_3K[:, index]
        log_params = best_size(
            size_arm * np.exp(self.alpha * self.log_params_origin),
            data_arm * np.exp(self.beta * self.log_tokens_origin_K[index]),
            (self.alpha, self.beta),
            self.cost,
            log_flops,
            np.log(100.0),
        )
        return float(log_params), float(self.cost.log_tokens(log_params, log_flops))

    def gradient(self, quantity: LawName, index: int, log_flops: float) -> FloatArray:
        """d log(quantity at the optimum of a budget) / d theta, shape (c,)."""
        log_params, log_tokens = self.optimum(index, log_flops)
        if quantity == "loss":  # to first order the optimum's own shift does not matter
            set_1 = np.array([index])
            place = set_1, np.array([log_params]), np.array([log_tokens])
            by_envelope_c: FloatArray = self.slopes(*place)[0]
            return by_envelope_c
        # Implicit derivative of dL/dlog N = 0 along the budget.
        n_sets = self.coefficient_3K.shape[1]
        _, size_arm, data_arm = self.coefficient_3K[:, index]
        u, v = log_params - self.log_params_origin, log_tokens - self.log_tokens_origin_K[index]
        m, a, b = float(self.cost.slope(np.array(log_params))), self.alpha, self.beta
        size, data = np.exp(-a * u), np.exp(-b * v)
        bend = a**2 * size_arm * size + (b * m) ** 2 * data_arm * data
        gradient_c = np.zeros(3 * n_sets + 2)
        gradient_c[n_sets + index] = a * size
        gradient_c[2 * n_sets + index] = -b * m * data
        gradient_c[-2] = size_arm * size * (1 - a * u) * self._is_free(a)
        gradient_c[-1] = -m * data_arm * data * (1 - b * v) * self._is_free(b)
        by_params_c: FloatArray = gradient_c / bend
        return by_params_c if quantity == "params" else -by_params_c * m


def linearised(fit: FamilyFit) -> LinearisedCurves | None:
    """The curves of a series: its isoFLOP curves, else its surface; None without either."""
    if fit.isoflop is not None and fit.isoflop.loss_law is not None and fit.isoflop.noise:
        return _of_budgets(fit.points, fit.isoflop, fit.isoflop.noise)
    if fit.surface is not None and fit.surface.sigma > 0:
        return _of_surface(fit.points, fit.surface)
    return None


def _of_budgets(points: Points, fit: IsoFlopFit, sigma: float) -> LinearisedCurves | None:
    """Curves with the fit's exponents; parabolas are curves whose exponents go to 0."""
    grid, _ = usable_budgets(points)
    if grid is None:
        return None
    chosen, set_P = grid.points, grid.budget_P
    alpha, beta = fit.exponents or (EXPONENT_RANGE[0], EXPONENT_RANGE[0])
    log_params_P, log_tokens_P = np.log(chosen.params_P), np.log(chosen.tokens_P)
    origin = float(log_params_P.mean())
    tokens_origin_K = np.bincount(set_P, log_tokens_P) / np.bincount(set_P)
    size_P = np.exp(-alpha * (log_params_P - origin))
    data_P = np.exp(-beta * (log_tokens_P - tokens_origin_K[set_P]))
    columns_P3 = np.stack([np.ones_like(size_P), size_P, data_P], axis=1)
    coefficient_3K = np.empty((3, grid.n_budgets))
    for k in range(grid.n_budgets):
        mine = set_P == k
        relative_P3 = columns_P3[mine] / chosen.loss_P[mine, None]
        coefficient_3K[:, k] = np.linalg.lstsq(relative_P3, np.ones(mine.sum()), rcond=None)[0]
    return LinearisedCurves(
        points=chosen,
        set_P=set_P,
        cost=CostPerToken.of(points),
        alpha=alpha,
        beta=beta,
        coefficient_3K=coefficient_3K,
        log_params_origin=origin,
        log_tokens_origin_K=tokens_origin_K,
        log_flops_K=np.log(grid.flops_K),
        sigma=sigma,
    )


def _of_surface(points: Points, fit: SurfaceFit) -> LinearisedCurves:
    origin, tokens_origin = np.log(points.params_P).mean(), np.log(points.tokens_P).mean()
    arms = [fit.A * np.exp(-fit.alpha * origin), fit.B * np.exp(-fit.beta * tokens_origin)]
    return LinearisedCurves(
        points=points,
        set_P=np.zeros(len(points.loss_P), dtype=np.int64),
        cost=CostPerToken.of(points),
        alpha=fit.alpha,
        beta=fit.beta,
        coefficient_3K=np.array([[fit.E], [arms[0]], [arms[1]]]),
        log_params_origin=float(origin),
        log_tokens_origin_K=np.array([tokens_origin]),
        log_flops_K=np.array([np.nan]),
        sigma=fit.sigma,
    )
