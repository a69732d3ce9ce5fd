"""IsoFLOP valleys that share their shape: the default way to find compute-optimal sizes.

Within budget k the loss is

    L = c_k + p_k · N^(−alpha) + r_k · D^(−beta),

with one alpha and one beta for all budgets. The level and both arms of each budget float, so a
budget that trained well or badly moves nothing but itself, yet the curve is exact for every surface
of the form E + A/N^alpha + B/D^beta, where a parabola in log N is biased on asymmetric valleys
(arXiv 2603.22339). As alpha and beta go to 0 the three terms span 1, log N and (log N)², so the
parabola is a limit of it.

Given (alpha, beta) the fit is linear in 3K coefficients. They are projected out: a grid over
(alpha, beta) finds the basin and Gauss–Newton on the projected residual (Golub and Pereyra 1973, in
Kaufman's form) finishes, for all resamples at once.

Suffixes: R resamples, P points, K budgets, G grid cells.
"""

from dataclasses import dataclass

import numpy as np

from analysis.points import FloatArray, IntArray

EXPONENT_RANGE = (0.02, 2.0)
"""Search range of alpha and beta; the lower end is a parabola to all intents."""
GRID_SIZE = 22
RESAMPLE_GRID_SIZE = 11
"""Coarser for resamples, which lie around an estimate found on the fine grid."""
MAX_ITERATIONS = 40
DECREMENT_TOLERANCE = 1e-10
"""Converged when a step would lower the residual sum of squares by less than this fraction."""


@dataclass(frozen=True)
class PairDesign:
    """What is known before any loss is: where the points lie and how they are weighted."""

    log_params_P: FloatArray
    """Centred."""
    log_tokens_P: FloatArray
    """Centred within each budget, so that both arms of every valley are of order one."""
    weight_P: FloatArray
    budget_P: IntArray
    """Index of the budget, 0 … K−1, ascending: points are sorted by budget."""

    @property
    def n_budgets(self) -> int:
        """K."""
        return int(self.budget_P[-1]) + 1

    def sum_by_budget(self, values_RP: FloatArray) -> FloatArray:
        """Weighted sums over the points of each budget, shape (R, K).

        Not a product with a one-hot matrix: that is large enough for BLAS to wake its threads,
        which costs ten times the work itself on a busy machine.
        """
        first_K = np.searchsorted(self.budget_P, np.arange(self.n_budgets))
        return np.add.reduceat(values_RP * self.weight_P, first_K, axis=1)


@dataclass(frozen=True)
class PairFit:
    """R fitted families of valleys in the design's centred coordinates."""

    alpha_R: FloatArray
    beta_R: FloatArray
    level_RK: FloatArray
    size_arm_RK: FloatArray
    """p_k."""
    data_arm_RK: FloatArray
    """r_k."""
    residual_RP: FloatArray

    def loss(self, log_params: FloatArray, log_tokens: FloatArray) -> FloatArray:
        """Curve at centred coordinates of shape (R or 1, K)."""
        return (
            self.level_RK
            + self.size_arm_RK * np.exp(-self.alpha_R[:, None] * log_params)
            + self.data_arm_RK * np.exp(-self.beta_R[:, None] * log_tokens)
        )


class _Basis:
    """The columns 1, N^(−alpha), D^(−beta) within every budget, ready to regress on."""

    def __init__(self, design: PairDesign, alpha_R: FloatArray, beta_R: FloatArray) -> None:
        self.design = design
        self.total_K = design.sum_by_budget(np.ones((1, len(design.weight_P))))[0]
        self.x_RP = np.exp(-alpha_R[:, None] * design.log_params_P)
        self.z_RP = np.exp(-beta_R[:, None] * design.log_tokens_P)
        self.x_mean_RK, self.x_centred_RP = self._centre(self.x_RP)
        self.z_mean_RK, self.z_centred_RP = self._centre(self.z_RP)
        self.xx_RK = design.sum_by_budget(self.x_centred_RP**2)
        self.zz_RK = design.sum_by_budget(self.z_centred_RP**2)
        self.xz_RK = design.sum_by_budget(self.x_centred_RP * self.z_centred_RP)
        determinant_RK = self.xx_RK * self.zz_RK - self.xz_RK**2
        # Where the columns coincide no arm can be told: both are 0 and the valley is flat.
        self.determinant_RK = np.where(determinant_RK > 0, determinant_RK, np.inf)

    def _centre(self, values_RP: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean_RK = self.design.sum_by_budget(values_RP) / self.total_K
        return mean_RK, values_RP - mean_RK[:, self.design.budget_P]

    def regress(self, y_RP: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Level, two arms (R, K) and residual (R, P) of least squares on the three columns."""
        y_mean_RK, y_centred_RP = self._centre(y_RP)
        xy_RK = self.design.sum_by_budget(self.x_centred_RP * y_centred_RP)
        zy_RK = self.design.sum_by_budget(self.z_centred_RP * y_centred_RP)
        x_arm_RK = (self.zz_RK * xy_RK - self.xz_RK * zy_RK) / self.determinant_RK
        z_arm_RK = (self.xx_RK * zy_RK - self.xz_RK * xy_RK) / self.determinant_RK
        k = self.design.budget_P
        residual_RP = (
            y_centred_RP - x_arm_RK[:, k] * self.x_centred_RP - z_arm_RK[:, k] * self.z_centred_RP
        )
        level_RK = y_mean_RK - x_arm_RK * self.x_mean_RK - z_arm_RK * self.z_mean_RK
        return level_RK, x_arm_RK, z_arm_RK, residual_RP


def fit_pair(design: PairDesign, loss_RP: FloatArray) -> PairFit:
    """Fit all resamples; every budget needs three or more distinct sizes."""
    log_exponents_R2 = np.log(_best_grid_cells(design, loss_RP))
    log_exponents_R2 = _gauss_newton(design, loss_RP, log_exponents_R2)
    return _fit_at(design, loss_RP, np.exp(log_exponents_R2))


def tangent_basis(design: PairDesign, fit: PairFit) -> FloatArray:
    """Orthonormal basis of the first fit's tangents, shape (P, 3K + 2), in weighted coordinates."""
    onehot_PK = np.eye(design.n_budgets)[design.budget_P]
    basis = _Basis(design, fit.alpha_R[:1], fit.beta_R[:1])
    columns = [onehot_PK, onehot_PK * basis.x_RP[0, :, None], onehot_PK * basis.z_RP[0, :, None]]
    tangents = [tangent_RP[0, :, None] for tangent_RP in _tangents(design, fit)]
    jacobian = np.hstack([*columns, *tangents]) * np.sqrt(design.weight_P)[:, None]
    orthonormal, _ = np.linalg.qr(jacobian)
    return orthonormal


def _fit_at(design: PairDesign, loss_RP: FloatArray, exponents_R2: FloatArray) -> PairFit:
    alpha_R, beta_R = exponents_R2[:, 0], exponents_R2[:, 1]
    level_RK, x_arm_RK, z_arm_RK, residual_RP = _Basis(design, alpha_R, beta_R).regress(loss_RP)
    return PairFit(alpha_R, beta_R, level_RK, x_arm_RK, z_arm_RK, residual_RP)


def _best_grid_cells(design: PairDesign, loss_RP: FloatArray) -> FloatArray:
    """(alpha, beta) of the grid cell with the least residual sum of squares, shape (R, 2)."""
    n_axis = GRID_SIZE if len(loss_RP) == 1 else RESAMPLE_GRID_SIZE
    axis = np.geomspace(*EXPONENT_RANGE, n_axis)
    alpha_G, beta_G = (mesh.ravel() for mesh in np.meshgrid(axis, axis, indexing="ij"))
    explained_GR = np.zeros((len(alpha_G), len(loss_RP)))
    for k in range(design.n_budgets):
        mine = design.budget_P == k
        weight = design.weight_P[mine]
        x_GP = _centred(np.exp(-alpha_G[:, None] * design.log_params_P[mine]), weight)
        z_GP = _centred(np.exp(-beta_G[:, None] * design.log_tokens_P[mine]), weight)
        first_GP = _unit(x_GP)
        second_GP = _unit(z_GP - np.sum(first_GP * z_GP, axis=1, keepdims=True) * first_GP)
        target_PR = _centred(loss_RP[:, mine], weight).T
        explained_GR += (first_GP @ target_PR) ** 2
        explained_GR += (second_GP @ target_PR) ** 2
    best_R = np.argmax(explained_GR, axis=0)
    return np.stack([alpha_G[best_R], beta_G[best_R]], axis=1)


def _centred(values: FloatArray, weight_P: FloatArray) -> FloatArray:
    """Values minus their weighted mean, times the root of the weights; last axis P."""
    mean = values @ weight_P / weight_P.sum()
    result: FloatArray = (values - mean[:, None]) * np.sqrt(weight_P)
    return result


def _unit(values_GP: FloatArray) -> FloatArray:
    """Rows of length one; a row of zeros stays."""
    length_G1 = np.linalg.norm(values_GP, axis=1, keepdims=True)
    return values_GP / np.where(length_G1 > 0, length_G1, 1.0)


def _tangents(design: PairDesign, fit: PairFit) -> tuple[FloatArray, FloatArray]:
    """dL/dlog(alpha) and dL/dlog(beta) at fixed arms, each (R, P)."""
    u_P, v_P, k = design.log_params_P, design.log_tokens_P, design.budget_P
    alpha, beta = fit.alpha_R[:, None], fit.beta_R[:, None]
    by_alpha = -alpha * u_P * fit.size_arm_RK[:, k] * np.exp(-alpha * u_P)
    by_beta = -beta * v_P * fit.data_arm_RK[:, k] * np.exp(-beta * v_P)
    return by_alpha, by_beta


def _gauss_newton(design: PairDesign, loss_RP: FloatArray, start_R2: FloatArray) -> FloatArray:
    """Levenberg–Marquardt on log(alpha), log(beta) within their range, all resamples at once."""
    low, high = np.log(EXPONENT_RANGE)
    weight_P = design.weight_P
    position_R2 = start_R2.copy()
    damping_R = np.full(len(loss_RP), 1e-3)
    active = np.arange(len(loss_RP))
    for _ in range(MAX_ITERATIONS):
        here = _fit_at(design, loss_RP[active], np.exp(position_R2[active]))
        rss_R = here.residual_RP**2 @ weight_P
        step_R2, gain_R = _step(design, here, position_R2[active], damping_R[active])
        trial_R2 = np.clip(position_R2[active] + step_R2, low, high)
        there = _fit_at(design, loss_RP[active], np.exp(trial_R2))
        better_R = there.residual_RP**2 @ weight_P <= rss_R
        position_R2[active[better_R]] = trial_R2[better_R]
        damping_R[active] *= np.where(better_R, 0.1, 10.0)
        level = np.sum(weight_P * loss_RP[active] ** 2, axis=1) * np.finfo(float).eps
        active = active[(gain_R > DECREMENT_TOLERANCE * rss_R + level) & (damping_R[active] < 1e8)]
        if not len(active):
            break
    return position_R2


def _step(
    design: PairDesign, fit: PairFit, position_R2: FloatArray, damping_R: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Damped step (R, 2) and the fall of the residual sum of squares it predicts (R,)."""
    low, high = np.log(EXPONENT_RANGE)
    basis = _Basis(design, fit.alpha_R, fit.beta_R)
    by_alpha, by_beta = (basis.regress(t_RP)[3] for t_RP in _tangents(design, fit))
    weight_P = design.weight_P
    gradient_R2 = np.stack(
        [(t_RP * fit.residual_RP) @ weight_P for t_RP in (by_alpha, by_beta)], axis=1
    )
    outward = ((position_R2 <= low) & (gradient_R2 < 0)) | (
        (position_R2 >= high) & (gradient_R2 > 0)
    )
    gradient_R2 = np.where(outward, 0.0, gradient_R2)
    aa, bb = by_alpha**2 @ weight_P, by_beta**2 @ weight_P
    ab = np.where(outward.any(axis=1), 0.0, (by_alpha * by_beta) @ weight_P)
    tiny = np.finfo(float).tiny
    aa, bb = aa * (1 + damping_R) + tiny, bb * (1 + damping_R) + tiny
    determinant = np.maximum(aa * bb - ab**2, tiny)  # zero where nothing depends on exponents
    step_R2 = np.stack(
        [
            (bb * gradient_R2[:, 0] - ab * gradient_R2[:, 1]) / determinant,
            (aa * gradient_R2[:, 1] - ab * gradient_R2[:, 0]) / determinant,
        ],
        axis=1,
    )
    return np.clip(step_R2, -1.0, 1.0), np.sum(step_R2 * gradient_R2, axis=1)
