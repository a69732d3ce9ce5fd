"""The three methods that fit an isoFLOP curve and find its lowest point, on all resamples at once.

Each takes losses of shape (R, P). A resample without a minimum lands on the better end of the
sampled sizes, so that intervals do not rest on the lucky resamples only.

Suffixes: R resamples, P points, K budgets, Q positions along a drawn curve.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from analysis.isoflop.pair import PairDesign, PairFit, fit_arms, fit_pair, tangent_basis
from analysis.tables.points import BoolArray, FloatArray, IntArray, Points

IsoFlopMethod = Literal["pair", "parabola", "akima"]

N_DRAWN = 61
"""Positions along a drawn curve."""


@dataclass(frozen=True)
class BudgetGrid:
    """The points of one series at K budgets, each with enough sizes to draw a curve."""

    points: Points
    budget_P: IntArray
    """Index of the budget, 0 … K−1; points are sorted by it."""
    nominal_K: FloatArray
    flops_K: FloatArray
    """Mean training FLOPs of the budget's points."""
    weight_P: FloatArray
    variance_P: FloatArray
    """Variance of the losses up to a factor; weights are its inverse, less for outlying points."""
    cost: np.poly1d = field(repr=False)
    """log of FLOPs per token as a polynomial in log params: 6·N, or whatever the source counts."""

    @property
    def n_budgets(self) -> int:
        """K."""
        return len(self.nominal_K)

    def sizes(self, k: int) -> FloatArray:
        """Distinct log params of budget k, ascending."""
        return np.unique(np.log(self.points.params_P[self.budget_P == k]))

    def ends(self) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest log params of every budget, each (K,)."""
        first_K = np.searchsorted(self.budget_P, np.arange(self.n_budgets))
        log_params_P = np.log(self.points.params_P)
        low_K = np.minimum.reduceat(log_params_P, first_K)
        return low_K, np.maximum.reduceat(log_params_P, first_K)

    def log_tokens(self, log_params: FloatArray) -> FloatArray:
        """Log of the tokens that a model of this size trains on at each budget; last axis K."""
        result: FloatArray = np.log(self.flops_K) - self.cost(log_params)
        return result


@dataclass(frozen=True)
class Minima:
    """Lowest points of the curves, with the fitted values behind them."""

    log_params_RK: FloatArray
    log_tokens_RK: FloatArray
    loss_RK: FloatArray
    is_interior_RK: BoolArray
    """Whether the curve turns up on both sides within the sampled sizes."""
    fitted_P: FloatArray
    """The first resample's curves at the points."""
    basis_Pc: FloatArray
    """Orthonormal columns spanning the fit's tangent space, in weighted coordinates."""
    drawn_QK: FloatArray
    """The first resample's curves at `N_DRAWN` sizes evenly spaced in log params."""
    exponents: tuple[float, float] | None
    """alpha and beta of the first resample, where the method has them."""


def drawn_sizes(grid: BudgetGrid) -> FloatArray:
    """Log params at which curves are drawn, shape (Q, K)."""
    return np.linspace(*grid.ends(), N_DRAWN)


@dataclass(frozen=True)
class PairCurves:
    """Curves c + p·N^(−alpha) + r·D^(−beta) of all resamples; their minima are looked for later."""

    grid: BudgetGrid
    design: PairDesign
    fit: PairFit
    origin: float
    """Of log params."""
    tokens_origin_K: FloatArray
    fitted_P: FloatArray
    """The first resample's curves at the points."""

    @classmethod
    def of(
        cls,
        grid: BudgetGrid,
        loss_RP: FloatArray,
        exponents_R2: FloatArray | None = None,
        start: tuple[float, float] | None = None,
    ) -> "PairCurves":
        """The curves share alpha and beta, which are fitted unless given.

        `start`: exponents near those of a single fit, which then are not looked for everywhere.
        """
        log_params_P, log_tokens_P = np.log(grid.points.params_P), np.log(grid.points.tokens_P)
        origin = float(log_params_P.mean())
        count_K = np.bincount(grid.budget_P)
        tokens_origin_K = np.bincount(grid.budget_P, log_tokens_P) / count_K
        design = PairDesign(
            log_params_P=log_params_P - origin,
            log_tokens_P=log_tokens_P - tokens_origin_K[grid.budget_P],
            weight_P=grid.weight_P,
            budget_P=grid.budget_P,
        )
        if exponents_R2 is None:
            fit = fit_pair(design, loss_RP, None if start is None else np.array(start))
        else:
            fit = fit_arms(design, loss_RP, exponents_R2)
        fitted_P = loss_RP[0] - fit.residual_P / design.root_weight_P
        return cls(grid, design, fit, origin, tokens_origin_K, fitted_P)

    @property
    def exponents(self) -> tuple[float, float]:
        """alpha and beta of the first resample."""
        return float(self.fit.alpha_R[0]), float(self.fit.beta_R[0])

    @cached_property
    def basis_Pc(self) -> FloatArray:
        """As in `Minima`."""
        return tangent_basis(self.design, self.fit)

    def loss(self, log_params: FloatArray) -> FloatArray:
        """Of all resamples along the budgets, at log params whose last axis is K."""
        log_tokens = self.grid.log_tokens(log_params) - self.tokens_origin_K
        return self.fit.loss(log_params - self.origin, log_tokens)


def pair_minima(
    grid: BudgetGrid, loss_RP: FloatArray, exponents_R2: FloatArray | None = None
) -> Minima:
    """Lowest points of curves that share alpha and beta, fitted unless given."""
    curves = PairCurves.of(grid, loss_RP, exponents_R2)
    vertex_RK, has_minimum_RK = _pair_vertex(curves)
    low_K, high_K = grid.ends()
    is_interior_RK = has_minimum_RK & (vertex_RK > low_K) & (vertex_RK < high_K)
    lower_end_RK = np.where(curves.loss(low_K) < curves.loss(high_K), low_K, high_K)
    log_params_RK = np.where(is_interior_RK, vertex_RK, lower_end_RK)
    return Minima(
        log_params_RK=log_params_RK,
        log_tokens_RK=grid.log_tokens(log_params_RK),
        loss_RK=curves.loss(log_params_RK),
        is_interior_RK=is_interior_RK,
        fitted_P=curves.fitted_P,
        basis_Pc=curves.basis_Pc,
        drawn_QK=replace(curves, fit=curves.fit.first()).loss(drawn_sizes(grid)),
        exponents=curves.exponents,
    )


def _pair_vertex(curves: PairCurves) -> tuple[FloatArray, BoolArray]:
    """Root of dL/dlog N along each budget, and whether both arms rise, each (R, K)."""
    grid, fit = curves.grid, curves.fit
    # With D = C / M(N), the root solves log(alpha·p) − alpha·n = log(beta·r·m'(n)) − beta·log D(n),
    # where m' is the slope of log M. For M = 6N this is N* = [alpha·p / (beta·r)]^(1/(alpha+beta))
    # in one step; Newton needs a few more for the slight curvature of real costs.
    alpha, beta = fit.alpha_R[:, None], fit.beta_R[:, None]
    rises = (fit.size_arm_RK > 0) & (fit.data_arm_RK > 0)
    log_arms_RK = np.log(
        np.where(rises, alpha * fit.size_arm_RK, 1.0) / np.where(rises, beta * fit.data_arm_RK, 1.0)
    )
    slope, curvature = grid.cost.deriv(), grid.cost.deriv(2)
    low_K, high_K = grid.ends()
    position_RK = np.broadcast_to(0.5 * (low_K + high_K), rises.shape).copy()
    for _ in range(12):
        m_slope = np.maximum(slope(position_RK), 0.05)
        log_tokens = grid.log_tokens(position_RK) - curves.tokens_origin_K
        imbalance = (
            log_arms_RK
            - alpha * (position_RK - curves.origin)
            - np.log(m_slope)
            + beta * log_tokens
        )
        descent = alpha + beta * m_slope + curvature(position_RK) / m_slope
        step = imbalance / np.maximum(descent, 0.1 * (alpha + beta))
        position_RK = np.clip(position_RK + step, low_K - 3.0, high_K + 3.0)
    return position_RK, rises


def parabola_minima(grid: BudgetGrid, loss_RP: FloatArray) -> Minima:
    """Least-squares parabolas in log params, unweighted; tokens from parabolas in log tokens."""
    # As published (Hoffmann et al. 2022, approach 2, and both studies behind this project).
    by_params = _parabolas(grid, np.log(grid.points.params_P), loss_RP)
    by_tokens = _parabolas(grid, np.log(grid.points.tokens_P), loss_RP)
    return replace(by_params, log_tokens_RK=by_tokens.log_params_RK)


def _parabolas(grid: BudgetGrid, x_P: FloatArray, loss_RP: FloatArray) -> Minima:
    """Minima of parabolas along any axis x, which takes the place of log params."""
    shape = (len(loss_RP), grid.n_budgets)
    vertex_RK, loss_RK = np.empty(shape), np.empty(shape)
    is_interior_RK = np.empty(shape, dtype=bool)
    fitted_P, basis_Pc = np.empty(len(x_P)), np.zeros((len(x_P), 3 * grid.n_budgets))
    drawn_QK = np.empty((N_DRAWN, grid.n_budgets))
    for k in range(grid.n_budgets):
        mine = grid.budget_P == k
        origin = x_P[mine].mean()
        x = x_P[mine] - origin
        columns = np.vander(x, 3)  # highest power first
        coefficient_R3 = loss_RP[:, mine] @ np.linalg.pinv(columns).T
        a, b, c = coefficient_R3.T
        vertex = -b / (2 * np.where(a > 0, a, 1.0))
        inside = (a > 0) & (vertex > x.min()) & (vertex < x.max())
        ends_R2 = coefficient_R3 @ np.vander([x.min(), x.max()], 3).T
        lower_end = np.where(ends_R2[:, 0] < ends_R2[:, 1], x.min(), x.max())
        position = np.where(inside, vertex, lower_end)
        vertex_RK[:, k] = position + origin
        loss_RK[:, k] = (a * position + b) * position + c
        is_interior_RK[:, k] = inside
        fitted_P[mine] = columns @ coefficient_R3[0]
        basis_Pc[mine, 3 * k : 3 * k + 3] = np.linalg.qr(columns)[0]
        drawn_QK[:, k] = np.polyval(coefficient_R3[0], np.linspace(x.min(), x.max(), N_DRAWN))
    return Minima(
        log_params_RK=vertex_RK,
        log_tokens_RK=grid.log_tokens(vertex_RK),
        loss_RK=loss_RK,
        is_interior_RK=is_interior_RK,
        fitted_P=fitted_P,
        basis_Pc=basis_Pc,
        drawn_QK=drawn_QK,
        exponents=None,
    )


def akima_minima(grid: BudgetGrid, loss_RP: FloatArray) -> Minima:
    """Akima splines through the mean loss of each size, in log params (arXiv 2406.19146)."""
    # scipy.interpolate takes 0.4 s to import, and only this method needs it.
    from scipy.interpolate import Akima1DInterpolator

    shape = (len(loss_RP), grid.n_budgets)
    log_params_RK, loss_RK = np.empty(shape), np.empty(shape)
    is_interior_RK = np.empty(shape, dtype=bool)
    drawn_QK = np.empty((N_DRAWN, grid.n_budgets))
    for k in range(grid.n_budgets):
        mine = grid.budget_P == k
        sizes, index = np.unique(np.log(grid.points.params_P[mine]), return_inverse=True)
        mean_by_size = np.eye(len(sizes))[index] / np.bincount(index)
        spline = Akima1DInterpolator(sizes, (loss_RP[:, mine] @ mean_by_size).T)
        position = np.linspace(sizes[0], sizes[-1], 401)
        curve = spline(position)
        lowest_R = np.argmin(curve, axis=0)
        log_params_RK[:, k] = position[lowest_R]
        loss_RK[:, k] = np.min(curve, axis=0)
        is_interior_RK[:, k] = (lowest_R > 0) & (lowest_R < len(position) - 1)
        drawn_QK[:, k] = spline(np.linspace(sizes[0], sizes[-1], N_DRAWN))[:, 0]
    # They pass through every point, so the noise is judged from the parabola's residuals instead.
    return replace(
        parabola_minima(grid, loss_RP[:1]),
        log_params_RK=log_params_RK,
        log_tokens_RK=grid.log_tokens(log_params_RK),
        loss_RK=loss_RK,
        is_interior_RK=is_interior_RK,
        drawn_QK=drawn_QK,
    )


MINIMA: dict[IsoFlopMethod, Callable[[BudgetGrid, FloatArray], Minima]] = {
    "pair": pair_minima,
    "parabola": parabola_minima,
    "akima": akima_minima,
}
