"""IsoFLOP curves that share their exponents: the default way to find compute-optimal sizes.

    L = c_k + p_k · N^(−alpha) + r_k · D^(−beta)    within budget k

The level and both arms of a budget float, so a budget that trained well or badly moves nothing but
itself. The curve is exact for every surface E + A/N^alpha + B/D^beta, where a parabola in log N is
biased on asymmetric curves (arXiv 2603.22339).

Suffixes: R resamples, P points (p of one budget), K budgets, A values of an exponent in a grid, G
pairs of these, T targets of a regression, 2 alpha and beta or the arms of size and data.
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
SAME_COLUMN = 1e-12
"""Of its squared length, the part of a column beside another that is rounding."""


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
    def log_2P(self) -> FloatArray:
        """Of size and data."""
        return np.stack([self.log_params_P, self.log_tokens_P])

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

    # Any axes may stand before R in these three: a call of NumPy on the points of one resample
    # costs more than its numbers, so both arms go through together.

    def sum_by_budget(self, values_RP: FloatArray) -> FloatArray:
        """Sums over the points of each budget, shape (R, K)."""
        # Not a product with a one-hot matrix: that is large enough for BLAS to wake its threads,
        # which costs ten times the work itself on a busy machine.
        return np.add.reduceat(values_RP, self.first_K, axis=-1)

    def centred(self, values_RP: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weighted mean of each budget (R, K), and deviations times the root of the weight."""
        mean_RK = self.sum_by_budget(values_RP * self.share_P)
        deviation_RP = self.spread(mean_RK)
        np.subtract(values_RP, deviation_RP, out=deviation_RP)
        deviation_RP *= self.root_weight_P
        return mean_RK, deviation_RP

    def spread(self, values_RK: FloatArray) -> FloatArray:
        """A value per budget given to each of its points, (R, P)."""
        return values_RK.take(self.budget_P, axis=-1)


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
    """Coefficients of the two columns, and what they leave of the targets."""

    arm_2TRK: FloatArray
    residual_TRP: FloatArray  # times the root of the weights


class _Basis:
    """The columns N^(−alpha), D^(−beta) within every budget, centred, ready to regress on."""

    def __init__(self, design: PairDesign, exponents_R2: FloatArray) -> None:
        self.design = design
        self.negative_2R1 = -exponents_R2.T[:, :, None]
        self.column_2RP = np.exp(self.negative_2R1 * design.log_2P[:, None])
        self.mean_2RK, self.centred_2RP = design.centred(self.column_2RP)
        size_RP, data_RP = self.centred_2RP
        self.square_2RK = design.sum_by_budget(self.centred_2RP**2)
        self.cross_RK = design.sum_by_budget(size_RP * data_RP)
        determinant_RK = self.square_2RK[0] * self.square_2RK[1] - self.cross_RK**2
        # Where the columns coincide no arm can be told: both are 0 and the curve is flat.
        self.determinant_RK = np.where(determinant_RK > 0, determinant_RK, np.inf)

    def regress(self, centred_TRP: FloatArray) -> _Regression:
        """Least squares of centred targets on the two columns."""
        spread, columns_2RP = self.design.spread, self.centred_2RP
        by_2TRK = self.design.sum_by_budget(columns_2RP[:, None] * centred_TRP)
        arm_2TRK = self.square_2RK[::-1, None] * by_2TRK - self.cross_RK * by_2TRK[::-1]
        arm_2TRK /= self.determinant_RK
        residual_TRP = spread(arm_2TRK[0])
        residual_TRP *= columns_2RP[0]
        np.subtract(centred_TRP, residual_TRP, out=residual_TRP)
        residual_TRP -= spread(arm_2TRK[1]) * columns_2RP[1]
        return _Regression(arm_2TRK, residual_TRP)

    def tangents(self, arm_2RK: FloatArray) -> FloatArray:
        """dL/dlog(alpha) and dL/dlog(beta) at fixed arms, (2, R, P)."""
        tangent_2RP = self.design.spread(self.negative_2R1 * arm_2RK)
        tangent_2RP *= self.column_2RP
        tangent_2RP *= self.design.log_2P[:, None]
        return tangent_2RP


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
    # Chunks of about 2^14 numbers stay in cache.
    chunk = max(1, 2**14 // mean_RC.shape[1])
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
    tangent_2P = basis.tangents(np.stack([fit.size_arm_RK[:1], fit.data_arm_RK[:1]]))[:, 0]
    one_P = np.ones_like(design.weight_P)
    columns_P5 = np.stack([one_P, *basis.column_2RP[:, 0], *tangent_2P], axis=1)
    columns_P5 *= design.root_weight_P[:, None]
    # Level and arms of a budget touch no other: each budget by itself, then both exponents.
    found_Pc = np.zeros((len(columns_P5), 3 * design.n_budgets + 2))
    count_K = np.bincount(design.budget_P)
    for count in np.unique(count_K).tolist():  # all budgets of so many points in one call
        budget_k1 = np.flatnonzero(count_K == count)[:, None]
        row_kp = design.first_K[budget_k1] + np.arange(count)
        orthonormal_kp3, _ = np.linalg.qr(columns_P5[row_kp, :3])
        found_Pc[row_kp[:, :, None], 3 * budget_k1[:, :, None] + np.arange(3)] = orthonormal_kp3
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
        found = basis.regress(centred_RP[None])
        size_arm_RK, data_arm_RK = found.arm_2TRK[:, 0]
        level_RK = mean_RK - size_arm_RK * basis.mean_2RK[0] - data_arm_RK * basis.mean_2RK[1]
        parts.append((level_RK, size_arm_RK, data_arm_RK))
        if rows.start == 0:
            residual_P = found.residual_TRP[0, 0]
    level_RK, size_arm_RK, data_arm_RK = map(np.concatenate, zip(*parts, strict=True))
    return PairFit(
        exponents_R2[:, 0], exponents_R2[:, 1], level_RK, size_arm_RK, data_arm_RK, residual_P
    )


class _ExponentGrid:
    """`n_axis` values A of either exponent, and products of their columns within every budget."""

    def __init__(self, design: PairDesign, n_axis: int) -> None:
        self.design, self.axis_A = design, np.geomspace(*EXPONENT_RANGE, n_axis)
        column_2AP = np.exp(-self.axis_A[:, None] * design.log_2P[:, None])
        self.column_2AP = design.centred(column_2AP)[1]
        square_2AK = design.sum_by_budget(self.column_2AP**2)
        square_2KA = np.where(square_2AK > 0, square_2AK, 1.0).swapaxes(1, 2)
        cross_KAA = np.stack([x_Ap @ z_Ap.T for x_Ap, z_Ap in self._by_budget(self.column_2AP)])
        # Less its share of the size column, a data column is orthogonal to that.
        self.weight_KA1 = 1.0 / square_2KA[0][:, :, None]
        self.share_KAA = cross_KAA * self.weight_KA1
        rest_KAA = square_2KA[1][:, None] - self.share_KAA * cross_KAA
        is_apart_KAA = rest_KAA > SAME_COLUMN * square_2KA[1][:, None]
        self.rest_weight_KAA = is_apart_KAA / np.where(is_apart_KAA, rest_KAA, 1.0)

    def best(self, centred_RP: FloatArray) -> FloatArray:
        """(alpha, beta) of the cell with the least residual sum of squares, shape (R, 2)."""
        n_axis = len(self.axis_A)
        explained_AAR = np.zeros((n_axis, n_axis, len(centred_RP)))
        parts = zip(self._by_budget(self.column_2AP), self._by_budget(centred_RP), strict=True)
        for k, (column_2Ap, target_Rp) in enumerate(parts):
            size_AR, data_AR = column_2Ap @ target_Rp.T
            rest_AAR = data_AR - self.share_KAA[k][:, :, None] * size_AR[:, None]
            rest_AAR *= rest_AAR
            rest_AAR *= self.rest_weight_KAA[k][:, :, None]
            explained_AAR += rest_AAR
            explained_AAR += (self.weight_KA1[k] * size_AR**2)[:, None]
        best_R = np.argmax(explained_AAR.reshape(n_axis**2, -1), axis=0)
        return np.stack([self.axis_A[best_R // n_axis], self.axis_A[best_R % n_axis]], axis=1)

    def _by_budget(self, values_P: FloatArray) -> list[FloatArray]:
        """Split along the last axis."""
        return [values_P[..., mine] for mine in self.design.slices]


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
    basis = _Basis(design, np.exp(position_R2))
    found = basis.regress(centred_RP[None])
    residual_RP = found.residual_TRP[0]
    tangent_2RP = design.centred(basis.tangents(found.arm_2TRK[:, 0]))[1]
    tangent_2RP = basis.regress(tangent_2RP).residual_TRP
    return _Linearised(
        rss_R=np.einsum("rp,rp->r", residual_RP, residual_RP),
        gradient_R2=np.einsum("trp,rp->tr", tangent_2RP, residual_RP).T,
        square_R2=np.einsum("trp,trp->tr", tangent_2RP, tangent_2RP).T,
        cross_R=np.einsum("rp,rp->r", *tangent_2RP),
    )


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
