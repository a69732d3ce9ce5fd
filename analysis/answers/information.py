"""The curves of a series, linearised in their coefficients: how losses and optima move with them.

Slopes d log L / d theta say what an observation tells, gradients of an optimum what is asked;
`expected.py` puts both together.

Suffixes: P points, K sets of coefficients, c coefficients: K levels, K size arms, K data arms,
alpha, beta.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from analysis.answers.run_noise import RunNoise, run_noise
from analysis.fitting.fit import FamilyFit
from analysis.isoflop.isoflop import IsoFlopFit, usable_budgets
from analysis.stats.cost import CostPerToken
from analysis.stats.power_law import EXPONENT_RANGE, LawName
from analysis.surface.optimum import best_size
from analysis.surface.surface import SurfaceFit
from analysis.tables.points import FloatArray, IntArray, Points

NOISELESS = RunNoise(0.0, 0.0, is_assumed=True)
"""Of curves whose residuals are yet to be seen."""


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
    noise: RunNoise

    @property
    def n_coefficients(self) -> int:
        """c."""
        return 3 * len(self.log_flops_K) + 2

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

    def extended(self, log_flops: float, log_params: float, log_loss: float) -> "LinearisedCurves":
        """With the set of a further budget, which nothing was observed of yet: its lowest point is
        the given one, and its size arm is as long as those of the others.
        """
        arm = np.exp(np.mean(np.log(np.maximum(self.coefficient_3K[1], 1e-12))))
        log_tokens = float(self.cost.log_tokens(np.array(log_params), log_flops))
        size = arm * np.exp(-self.alpha * (log_params - self.log_params_origin))
        # dL/dlog N = 0: alpha · size = beta · m · data. The data arm is 1 at its own origin.
        data = self.alpha * size / (self.beta * float(self.cost.slope(np.array(log_params))))
        new_31 = np.array([[np.exp(log_loss) - size - data], [arm], [data]])
        return dataclasses.replace(
            self,
            coefficient_3K=np.hstack([self.coefficient_3K, new_31]),
            log_tokens_origin_K=np.append(self.log_tokens_origin_K, log_tokens),
            log_flops_K=np.append(self.log_flops_K, log_flops),
        )

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
    if fit.isoflop is not None and fit.isoflop.loss_law is not None and fit.isoflop.effective_noise:
        return _of_budgets(fit.points, fit.isoflop)
    if fit.surface is not None and fit.surface.sigma > 0:
        return _of_surface(fit.points, fit.surface)
    return None


def _of_budgets(points: Points, fit: IsoFlopFit) -> LinearisedCurves | None:
    """Curves with the fit's exponents; parabolas are curves whose exponents go to 0."""
    grid, _ = usable_budgets(points)
    if grid is None or fit.noise is None or fit.effective_noise is None:
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
    curves = LinearisedCurves(
        points=chosen,
        set_P=set_P,
        cost=CostPerToken.of(points),
        alpha=alpha,
        beta=beta,
        coefficient_3K=coefficient_3K,
        log_params_origin=origin,
        log_tokens_origin_K=tokens_origin_K,
        log_flops_K=np.log(grid.flops_K),
        noise=NOISELESS,
    )
    # Outliers count here as far as they count in the fit.
    return _with_noise(curves, fit.effective_noise, fit.effective_noise / fit.noise)


def _with_noise(curves: LinearisedCurves, sigma: float, factor: float) -> LinearisedCurves:
    """With the noise of runs and points that the residuals, times a factor, show."""
    points, set_P = curves.points, curves.set_P
    u_P = np.log(points.params_P) - curves.log_params_origin
    v_P = np.log(points.tokens_P) - curves.log_tokens_origin_K[set_P]
    level, size_arm, data_arm = curves.coefficient_3K[:, set_P]
    fitted_P = (
        level + size_arm * np.exp(-curves.alpha * u_P) + data_arm * np.exp(-curves.beta * v_P)
    )
    slope_Pc = curves.slopes(set_P, np.log(points.params_P), np.log(points.tokens_P))
    residual_P = factor * (points.loss_P / fitted_P - 1.0)
    noise = run_noise(residual_P, slope_Pc, points.run_P, sigma)
    return dataclasses.replace(curves, noise=noise)


def _of_surface(points: Points, fit: SurfaceFit) -> LinearisedCurves:
    origin, tokens_origin = np.log(points.params_P).mean(), np.log(points.tokens_P).mean()
    arms = [fit.A * np.exp(-fit.alpha * origin), fit.B * np.exp(-fit.beta * tokens_origin)]
    curves = LinearisedCurves(
        points=points,
        set_P=np.zeros(len(points.loss_P), dtype=np.int64),
        cost=CostPerToken.of(points),
        alpha=fit.alpha,
        beta=fit.beta,
        coefficient_3K=np.array([[fit.E], [arms[0]], [arms[1]]]),
        log_params_origin=float(origin),
        log_tokens_origin_K=np.array([tokens_origin]),
        log_flops_K=np.array([np.nan]),
        noise=NOISELESS,
    )
    return _with_noise(curves, fit.sigma, 1.0)
