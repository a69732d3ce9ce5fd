"""IsoFLOP curves that share their exponents: the default way to find compute-optimal sizes.

    L = c_k + p_k · N^(−alpha) + r_k · D^(−beta)    within budget k

The level and both arms of a budget float, so a budget that trained well or badly moves nothing but
itself. The curve is exact for every surface E + A/N^alpha + B/D^beta, where a parabola in log N is
biased on asymmetric curves (arXiv 2603.22339).

Suffixes: R resamples, P points (p of one budget), K budgets, A values of an exponent in a grid, G
pairs of these, 2 alpha and beta.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from analysis.stats.power_law import EXPONENT_RANGE, GRID_SIZE
from analysis.tables.points import BoolArray, FloatArray, IntArray

MAX_ITERATIONS = 40
DECREMENT_TOLERANCE = 1e-10
"""Converged when a step would lower the residual sum of squares by less than this fraction."""


@dataclass(frozen=True)
class PairDesign:
    """What is known before any loss is: where the points lie and how they are weighted."""

    log_params_P: FloatArray
    """Centred."""
    log_tokens_P: FloatArray
    """Centred within each budget, so that both arms of every curve are of order one."""
    weight_P: FloatArray
    budget_P: IntArray
    """Index of the budget, 0 … K−1, ascending: points are sorted by budget."""

    @property
    def n_budgets(self) -> int:
        """K."""
        return int(self.budget_P[-1]) + 1

    @cached_property
    def root_weight_P(self) -> FloatArray:
        """In these units all squared errors count alike."""
        return np.sqrt(self.weight_P)

    @cached_property
    def share_P(self) -> FloatArray:
        """Of each point in the weight of its budget."""
        total_K = self.sum_by_budget(self.weight_P[None])[0]
        share_P: FloatArray = self.weight_P / total_K[self.budget_P]
        return share_P

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The points of each budget."""
        ends_K = np.append(self.first_K[1:], len(self.budget_P))
        return tuple(slice(a, b) for a, b in zip(self.first_K, ends_K, strict=True))

    @cached_property
    def first_K(self) -> IntArray:
        """Where each budget's points begin."""
        return np.searchsorted(self.budget_P, np.arange(self.n_budgets))

    def sum_by_budget(self, values_RP: FloatArray) -> FloatArray:
        """Sums over the points of each budget, shape (R, K)."""
        # Not a product with a one-hot matrix: that is large enough for BLAS to wake its threads,
        # which costs ten times the work itself on a busy machine.
        return np.add.reduceat(values_RP, self.first_K, axis=1)

    def centred(self, values_RP: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weighted mean of each budget (R, K), and deviations times the root of the weight."""
        mean_RK = self.sum_by_budget(values_RP * self.share_P)
        deviation_RP = values_RP - self.spread(mean_RK)
        deviation_RP *= self.root_weight_P
        return mean_RK, deviation_RP

    def spread(self, values_RK: FloatArray) -> FloatArray:
        """A value per budget given to each of its points, (R, P)."""
        return np.take(values_RK, self.budget_P, axis=1)


@dataclass(frozen=True)
class PairFit:
    """R fits in the design's centred coordinates."""

    alpha_R: FloatArray
    beta_R: FloatArray
    level_RK: FloatArray
    size_arm_RK: FloatArray
    """p_k."""
    data_arm_RK: FloatArray
    """r_k."""
    residual_P: FloatArray
    """Of the first fit, times the root of the weights."""

    def first(self) -> "PairFit":
        """The first fit alone."""
        return PairFit(
            self.alpha_R[:1],
            self.beta_R[:1],
            self.level_RK[:1],
            self.size_arm_RK[:1],
            self.data_arm_RK[:1],
            self.residual_P,
        )

    def loss(self, log_params: FloatArray, log_tokens: FloatArray) -> FloatArray:
        """Curve at centred coordinates of shape (R or 1, K)."""
        return (
            self.level_RK
            + self.size_arm_RK * np.exp(-self.alpha_R[:, None] * log_params)
            + self.data_arm_RK * np.exp(-self.beta_R[:, None] * log_tokens)
        )


class _Regression(NamedTuple):
    """Coefficients of the two columns, and what they leave of the target."""

    x_arm_RK: FloatArray
    z_arm_RK: FloatArray
    residual_RP: FloatArray  # times the root of the weights


class _Basis:
    """The columns N^(−alpha), D^(−beta) within every budget, centred, ready to regress on."""

    def __init__(self, design: PairDesign, exponents_R2: FloatArray) -> None:
        self.design = design
        self.x_RP = np.exp(-exponents_R2[:, :1] * design.log_params_P)
        self.z_RP = np.exp(-exponents_R2[:, 1:] * design.log_tokens_P)
        self.x_mean_RK, self.x_centred_RP = design.centred(self.x_RP)
        self.z_mean_RK, self.z_centred_RP = design.centred(self.z_RP)
        self.xx_RK = design.sum_by_budget(self.x_centred_RP**2)
        self.zz_RK = design.sum_by_budget(self.z_centred_RP**2)
        self.xz_RK = design.sum_by_budget(self.x_centred_RP * self.z_centred_RP)
        determinant_RK = self.xx_RK * self.zz_RK - self.xz_RK**2
        # Where the columns coincide no arm can be told: both are 0 and the curve is flat.
        self.determinant_RK = np.where(determinant_RK > 0, determinant_RK, np.inf)

    def regress(self, centred_RP: FloatArray) -> _Regression:
        """Least squares of a centred target on the two columns."""
        design = self.design
        xy_RK = design.sum_by_budget(self.x_centred_RP * centred_RP)
        zy_RK = design.sum_by_budget(self.z_centred_RP * centred_RP)
        x_arm_RK = (self.zz_RK * xy_RK - self.xz_RK * zy_RK) / self.determinant_RK
        z_arm_RK = (self.xx_RK * zy_RK - self.xz_RK * xy_RK) / self.determinant_RK
        residual_RP = centred_RP - design.spread(x_arm_RK) * self.x_centred_RP
        residual_RP -= design.spread(z_arm_RK) * self.z_centred_RP
        return _Regression(x_arm_RK, z_arm_RK, residual_RP)

    def tangents(self, found: _Regression, exponents_R2: FloatArray) -> tuple[FloatArray, ...]:
        """dL/dlog(alpha) and dL/dlog(beta) at fixed arms, each (R, P)."""
        design = self.design
        by_alpha_RP = design.spread(-exponents_R2[:, :1] * found.x_arm_RK) * self.x_RP
        by_beta_RP = design.spread(-exponents_R2[:, 1:] * found.z_arm_RK) * self.z_RP
        return by_alpha_RP * design.log_params_P, by_beta_RP * design.log_tokens_P


@dataclass(frozen=True)
class _Linearised:
    """Residual sum of squares, and its Gauss–Newton model in log(alpha), log(beta)."""

    rss_R: FloatArray
    gradient_R2: FloatArray
    """Of −rss / 2."""
    square_R2: FloatArray
    cross_R: FloatArray

    def take(self, chosen: BoolArray) -> "_Linearised":
        """Some of the resamples."""
        return _Linearised(*(value[chosen] for value in vars(self).values()))


def fit_pair(design: PairDesign, loss_RP: FloatArray, start_2: FloatArray | None = None) -> PairFit:
    """Fit all resamples; every budget needs three or more distinct sizes.

    Exponents to start from spare a single fit the grid.
    """
    # Given (alpha, beta) the fit is linear in 3K coefficients. They are projected out: a grid over
    # (alpha, beta) finds the basin, Gauss–Newton on the projected residual finishes (Golub and
    # Pereyra 1973, in Kaufman's form).
    means, mean_RC = _means(design, loss_RP)
    if start_2 is None:
        # Coarser for resamples, which lie around an estimate found on the fine grid.
        grid = _ExponentGrid(means, GRID_SIZE if len(loss_RP) == 1 else 11)
    # Chunks of about 2^15 numbers stay in cache.
    chunk = max(1, 2**15 // mean_RC.shape[1])
    found = []
    for rows in (slice(first, first + chunk) for first in range(0, len(loss_RP), chunk)):
        centred_RC = means.centred(mean_RC[rows])[1]
        rounding_R = np.sum(means.weight_P * mean_RC[rows] ** 2, axis=1) * np.finfo(float).eps
        start_R2 = start_2[None] if start_2 is not None else grid.best(centred_RC)
        found.append(_gauss_newton(means, centred_RC, np.log(start_R2), rounding_R))
    return fit_arms(design, loss_RP, np.exp(np.concatenate(found)))


def _means(design: PairDesign, loss_RP: FloatArray) -> tuple[PairDesign, FloatArray]:
    """Points of one size and number of tokens in a budget as one point of their weighted mean."""
    # Curves and their exponents are the same: about the means, squared errors sum to a constant.
    places = np.stack([design.budget_P, design.log_params_P, design.log_tokens_P])
    order_P = np.lexsort(places[::-1])
    is_new_P = np.any(np.diff(places[:, order_P], axis=1) != 0, axis=0)
    first_C = np.flatnonzero(np.concatenate([[True], is_new_P]))
    if 2 * len(first_C) > len(order_P):
        return design, loss_RP
    weight_C = np.add.reduceat(design.weight_P[order_P], first_C)
    mean_RC = np.empty((len(loss_RP), len(first_C)))
    chunk = max(1, 2**18 // len(order_P))  # so many at a time as need little memory
    for rows in (slice(first, first + chunk) for first in range(0, len(loss_RP), chunk)):
        weighted_RP = loss_RP[rows] * design.weight_P
        if np.any(np.diff(order_P) != 1):
            weighted_RP = weighted_RP[:, order_P]
        mean_RC[rows] = np.add.reduceat(weighted_RP, first_C, axis=1) / weight_C
    one_C = order_P[first_C]
    means = PairDesign(
        design.log_params_P[one_C], design.log_tokens_P[one_C], weight_C, design.budget_P[one_C]
    )
    return means, mean_RC


def tangent_basis(design: PairDesign, fit: PairFit) -> FloatArray:
    """Orthonormal basis of the first fit's tangents, shape (P, 3K + 2), in weighted coordinates."""
    exponents_R2 = np.stack([fit.alpha_R[:1], fit.beta_R[:1]], axis=1)
    basis = _Basis(design, exponents_R2)
    arms = _Regression(fit.size_arm_RK[:1], fit.data_arm_RK[:1], fit.residual_P[None])
    tangents = [tangent_RP[0] for tangent_RP in basis.tangents(arms, exponents_R2)]
    columns_P5 = np.stack([np.ones_like(tangents[0]), basis.x_RP[0], basis.z_RP[0], *tangents], 1)
    columns_P5 *= design.root_weight_P[:, None]
    # Level and arms of a budget touch no other: each budget by itself, then both exponents.
    found_Pc = np.zeros((len(columns_P5), 3 * design.n_budgets + 2))
    for k, mine in enumerate(design.slices):
        found_Pc[mine, 3 * k : 3 * k + 3] = np.linalg.qr(columns_P5[mine, :3])[0]
    tangent_P2, rest_P2 = columns_P5[:, 3:], columns_P5[:, 3:].copy()
    for _ in range(2):  # twice is enough (Giraud et al. 2005)
        rest_P2 -= found_Pc @ (found_Pc.T @ rest_P2)
    left_2, whole_2 = np.linalg.norm(rest_P2, axis=0), np.linalg.norm(tangent_P2, axis=0)
    if np.all(left_2 > 1e-7 * whole_2):
        found_Pc[:, -2:] = np.linalg.qr(rest_P2)[0]
        return found_Pc
    # An exponent that changes nothing by itself: any direction beside the others stands for it.
    orthonormal, _ = np.linalg.qr(np.hstack([found_Pc[:, :-2], tangent_P2]))
    return orthonormal


def fit_arms(design: PairDesign, loss_RP: FloatArray, exponents_R2: FloatArray) -> PairFit:
    """Levels and arms at given exponents, three coefficients for every budget."""
    parts = []
    chunk = max(1, 2**15 // loss_RP.shape[1])
    for rows in (slice(first, first + chunk) for first in range(0, len(loss_RP), chunk)):
        mean_RK, centred_RP = design.centred(loss_RP[rows])
        basis = _Basis(design, exponents_R2[rows])
        found = basis.regress(centred_RP)
        level_RK = mean_RK - found.x_arm_RK * basis.x_mean_RK - found.z_arm_RK * basis.z_mean_RK
        parts.append((level_RK, found.x_arm_RK, found.z_arm_RK))
        if rows.start == 0:
            residual_P = found.residual_RP[0]
    level_RK, size_arm_RK, data_arm_RK = map(np.concatenate, zip(*parts, strict=True))
    return PairFit(
        exponents_R2[:, 0], exponents_R2[:, 1], level_RK, size_arm_RK, data_arm_RK, residual_P
    )


class _ExponentGrid:
    """`n_axis` values A of either exponent, with orthonormal columns of every pair of them."""

    def __init__(self, design: PairDesign, n_axis: int) -> None:
        axis_A = np.geomspace(*EXPONENT_RANGE, n_axis)
        self.design, self.axis_A = design, axis_A
        x_AP = design.centred(np.exp(-axis_A[:, None] * design.log_params_P))[1]
        z_AP = design.centred(np.exp(-axis_A[:, None] * design.log_tokens_P))[1]
        self.columns_K = []  # of each budget, shapes (A, points) and (A·A, points)
        for mine in design.slices:
            x_Ap, z_Ap = _unit(x_AP[:, mine]), z_AP[:, mine]
            rest_AAp = z_Ap - (x_Ap @ z_Ap.T)[:, :, None] * x_Ap[:, None, :]
            self.columns_K.append((x_Ap, _unit(rest_AAp.reshape(-1, rest_AAp.shape[2]))))

    def best(self, centred_RP: FloatArray) -> FloatArray:
        """(alpha, beta) of the cell with the least residual sum of squares, shape (R, 2)."""
        n_axis = len(self.axis_A)
        explained_AAR = np.zeros((n_axis, n_axis, len(centred_RP)))
        for mine, (x_Ap, rest_Gp) in zip(self.design.slices, self.columns_K, strict=True):
            target_pR = centred_RP[:, mine].T
            explained_AAR += ((rest_Gp @ target_pR) ** 2).reshape(explained_AAR.shape)
            explained_AAR += ((x_Ap @ target_pR) ** 2)[:, None]
        best_R = np.argmax(explained_AAR.reshape(n_axis**2, -1), axis=0)
        return np.stack([self.axis_A[best_R // n_axis], self.axis_A[best_R % n_axis]], axis=1)


def _unit(values_GP: FloatArray) -> FloatArray:
    """Rows of length one; a row of zeros stays."""
    length_G1 = np.linalg.norm(values_GP, axis=1, keepdims=True)
    return values_GP / np.where(length_G1 > 0, length_G1, 1.0)


def _gauss_newton(
    design: PairDesign, centred_RP: FloatArray, start_R2: FloatArray, rounding_R: FloatArray
) -> FloatArray:
    """Levenberg–Marquardt on log(alpha), log(beta) within their range, all resamples at once."""
    low, high = np.log(EXPONENT_RANGE)
    position_R2 = start_R2.copy()
    damping_R = np.full(len(start_R2), 1e-3)
    active = np.arange(len(start_R2))
    here = _linearise(design, centred_RP, start_R2)
    for _ in range(MAX_ITERATIONS):
        step_R2, gain_R = _step(here, position_R2[active], damping_R[active])
        is_open_R = gain_R > DECREMENT_TOLERANCE * here.rss_R + rounding_R[active]
        is_open_R &= damping_R[active] < 1e8
        active, here = active[is_open_R], here.take(is_open_R)
        if not len(active):
            break
        trial_R2 = np.clip(position_R2[active] + step_R2[is_open_R], low, high)
        there = _linearise(design, centred_RP[active], trial_R2)
        better_R = there.rss_R <= here.rss_R
        position_R2[active[better_R]] = trial_R2[better_R]
        for name, value in vars(here).items():
            value[better_R] = getattr(there, name)[better_R]
        damping_R[active] *= np.where(better_R, 0.1, 10.0)
    return position_R2


def _linearise(design: PairDesign, centred_RP: FloatArray, position_R2: FloatArray) -> _Linearised:
    exponents_R2 = np.exp(position_R2)
    basis = _Basis(design, exponents_R2)
    found = basis.regress(centred_RP)
    by_alpha, by_beta = (
        basis.regress(design.centred(tangent_RP)[1]).residual_RP
        for tangent_RP in basis.tangents(found, exponents_R2)
    )
    return _Linearised(
        rss_R=_dot(found.residual_RP, found.residual_RP),
        gradient_R2=np.stack([_dot(t_RP, found.residual_RP) for t_RP in (by_alpha, by_beta)], 1),
        square_R2=np.stack([_dot(t_RP, t_RP) for t_RP in (by_alpha, by_beta)], 1),
        cross_R=_dot(by_alpha, by_beta),
    )


def _dot(one_RP: FloatArray, other_RP: FloatArray) -> FloatArray:
    """Row by row, (R,)."""
    result: FloatArray = np.einsum("rp,rp->r", one_RP, other_RP)
    return result


def _step(
    here: _Linearised, position_R2: FloatArray, damping_R: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Damped step (R, 2) and the fall of the residual sum of squares it predicts (R,)."""
    low, high = np.log(EXPONENT_RANGE)
    outward = ((position_R2 <= low) & (here.gradient_R2 < 0)) | (
        (position_R2 >= high) & (here.gradient_R2 > 0)
    )
    gradient_R2 = np.where(outward, 0.0, here.gradient_R2)
    ab = np.where(outward.any(axis=1), 0.0, here.cross_R)
    tiny = np.finfo(float).tiny
    aa, bb = (here.square_R2 * (1 + damping_R)[:, None] + tiny).T
    determinant = np.maximum(aa * bb - ab**2, tiny)  # zero where nothing depends on exponents
    step_R2 = np.stack(
        [
            (bb * gradient_R2[:, 0] - ab * gradient_R2[:, 1]) / determinant,
            (aa * gradient_R2[:, 1] - ab * gradient_R2[:, 0]) / determinant,
        ],
        axis=1,
    )
    return np.clip(step_R2, -1.0, 1.0), np.sum(step_R2 * gradient_R2, axis=1)
