"""Compute-optimal size, tokens and loss per budget, and the power laws through them.

A budget enters the laws only if its curve is bracketed; what is left out is named with the reason.

Suffixes: R resamples, P points, K budgets.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.errors import FitWarning
from analysis.isoflop.curves import (
    MINIMA,
    BudgetGrid,
    IsoFlopMethod,
    Minima,
    PairCurves,
    drawn_sizes,
    pair_minima,
)
from analysis.stats.bootstrap import HUBER_SIGMAS, Noise, Resampler
from analysis.stats.cost import cost_polynomial
from analysis.stats.power_law import (
    PowerLaw,
    fit_power_law,
    inverse_variance_weights,
    law_with_offset,
    percentile_interval,
    tell_apart,
)
from analysis.tables.points import FloatArray, Points, n_levels

MIN_SIZES = 4
"""Distinct sizes a budget needs: three coefficients and one point to judge the noise by."""
MIN_PAIR_DOF = 3
"""Points beyond coefficients that `pair` needs; with fewer, parabolas are drawn."""
NOISE_FREE = 1e-10
"""Relative scatter that is rounding, not noise."""
LEAST_SHARE = 1e-3
"""Of its estimate, the least that a resampled loss is taken to be: losses have logarithms."""

ASYMMETRIES = np.array([[0.48, 0.24], [0.24, 0.48]])
"""Alpha and beta at either end of what is published: they sum to 0.62 (arXiv 2203.15556) or 0.71
(arXiv 2404.10102), and exponents beta/(alpha + beta) of N*(C) in `tables/published_laws.csv` lie
between 1/3 and 2/3."""

Reason = Literal["too_few_sizes", "no_minimum", "minimum_at_smallest", "minimum_at_largest", "flat"]

REASONS: dict[Reason, str] = {
    "too_few_sizes": f"fewer than {MIN_SIZES} distinct sizes",
    "no_minimum": "the curve has no minimum between the sizes",
    "minimum_at_smallest": "the minimum is at the small end: add smaller sizes",
    "minimum_at_largest": "the minimum is at the large end: add larger sizes",
    "flat": "an arm does not rise above the noise: add sizes further out",
}


@dataclass(frozen=True)
class Optimum:
    """One budget's compute-optimal point; the numbers are None unless it is bracketed."""

    budget_flops: float
    """Nominal."""
    flops: float
    """Mean over the points: what the laws are fitted against."""
    n_points: int
    bracketed: bool
    reason: Reason | None
    """Why it is not bracketed."""
    params: float | None = None
    tokens: float | None = None
    loss: float | None = None
    """Nats per token."""
    params_ci: tuple[float, float] | None = None
    tokens_ci: tuple[float, float] | None = None
    loss_ci: tuple[float, float] | None = None
    curve_params: tuple[float, ...] = field(default=(), repr=False)
    curve_loss: tuple[float, ...] = field(default=(), repr=False)
    """The fitted curve for drawing, bracketed or not; empty with too few sizes."""


@dataclass(frozen=True)
class IsoFlopFit:
    """Optima of all budgets, ascending, and the laws through the bracketed ones."""

    method: IsoFlopMethod
    optima: tuple[Optimum, ...]
    noise: float | None
    """Relative standard deviation of the losses about the curves."""
    effective_noise: float | None
    """The one that scatters the fit as its points do: less where outliers count less."""
    exponents: tuple[float, float] | None
    """alpha and beta shared by the curves, of method `pair`."""
    log_params_RK: FloatArray = field(repr=False, compare=False)
    log_tokens_RK: FloatArray = field(repr=False, compare=False)
    log_loss_RK: FloatArray = field(repr=False, compare=False)
    """Bootstrap draws of the bracketed optima, budgets ascending."""
    residual_P: FloatArray = field(repr=False, compare=False)
    """Relative residuals of the losses about the curves, before what the fit absorbed."""
    n_shapes: int = 1
    """Shapes of curve that the draws have in turn."""
    params_law: PowerLaw | None = None
    tokens_law: PowerLaw | None = None
    loss_law: PowerLaw | None = None
    offset_law: PowerLaw | None = None
    """The loss law with an offset, where this series by itself supports one."""
    warnings: tuple[FitWarning, ...] = ()

    @property
    def bracketed(self) -> tuple[Optimum, ...]:
        """The optima that the laws rest on."""
        return tuple(optimum for optimum in self.optima if optimum.bracketed)

    def values(self, name: Literal["flops", "params", "tokens", "loss"]) -> FloatArray:
        """A number of every bracketed optimum, (K,)."""
        return np.array([getattr(each, name) for each in self.bracketed], dtype=np.float64)


def fit_isoflop(points: Points, method: IsoFlopMethod, resampler: Resampler) -> IsoFlopFit:
    """Fit the curves of one series, judge them, and fit the laws through the bracketed ones."""
    grid, left_out = usable_budgets(points)
    warnings = [_left_out_warning(points.family, optimum) for optimum in left_out]
    if grid is None:  # no budget can be drawn
        draws_RK, said = np.empty((0, 0)), tuple(warnings)
        nothing = IsoFlopFit(
            method, tuple(left_out), None, None, None, draws_RK, draws_RK, draws_RK, np.empty(0),
            warnings=said,
        )  # fmt: skip
        return with_laws(nothing, points.family, resampler, weighted=False)
    used, more = _method_for(grid, method)
    warnings += [*_uneven_budgets(grid), *more]
    grid = _tempered(_weigh_by_stderr(grid)) if used == "pair" else grid
    minima = MINIMA[used](grid, grid.points.loss_P[None])
    # In relative units, tempering apart: what counts less is noise all the same.
    residual_P = (grid.points.loss_P - minima.fitted_P) / np.sqrt(grid.variance_P)
    temper_P = grid.weight_P * grid.variance_P
    noise = Noise(residual_P, minima.basis_Pc, grid.points.run_P, temper_P)
    noise_RP = resampler.wild_noise(grid.points, noise)
    if used == method:
        draws = _resampled(grid, used, minima, noise_RP)
    else:
        draws = _resampled_shapes(grid, minima, noise_RP)
    judged = [_judge(grid, minima, draws, noise, k) for k in range(grid.n_budgets)]
    optima = sorted([*judged, *left_out], key=lambda optimum: optimum.budget_flops)
    warnings += [_left_out_warning(points.family, o) for o in judged if not o.bracketed]
    bracketed_K = np.array([optimum.bracketed for optimum in judged])
    fit = IsoFlopFit(
        method=used,
        optima=tuple(optima),
        noise=noise.sigma,
        effective_noise=noise.pooled * _noise_factor(grid, minima),
        exponents=minima.exponents,
        log_params_RK=draws.log_params_RK[:, bracketed_K],
        log_tokens_RK=draws.log_tokens_RK[:, bracketed_K],
        log_loss_RK=np.log(draws.loss_RK[:, bracketed_K]),
        residual_P=noise.scaled_residual_P,
        n_shapes=1 if used == method else len(ASYMMETRIES),
        warnings=tuple(warnings),
    )
    return with_laws(fit, points.family, resampler, weighted=used == "pair")


def usable_budgets(
    points: Points, min_sizes: int = MIN_SIZES
) -> tuple[BudgetGrid | None, list[Optimum]]:
    """Budgets with enough sizes as a `BudgetGrid`, and the others as unbracketed optima."""
    usable, left_out = [], []
    for budget in points.budgets_K:
        mine = points.budget_P == budget
        if min(n_levels(points.params_P[mine]), n_levels(points.tokens_P[mine])) >= min_sizes:
            usable.append(budget)
        else:
            flops = float(points.flops_P[mine].mean())
            left_out.append(Optimum(float(budget), flops, int(mine.sum()), False, "too_few_sizes"))
    if not usable:
        return None, left_out
    in_budget = np.flatnonzero(np.isin(points.budget_P, usable))
    # Seeds of one size and number of tokens beside each other, so that they need not be gathered.
    keys = (getattr(points, name)[in_budget] for name in ("tokens_P", "params_P", "budget_P"))
    chosen = points.take(in_budget[np.lexsort(tuple(keys))])
    budget_P = np.searchsorted(np.array(usable), chosen.budget_P).astype(np.int64)
    return BudgetGrid(
        points=chosen,
        budget_P=budget_P,
        nominal_K=np.array(usable),
        flops_K=np.bincount(budget_P, chosen.flops_P) / np.bincount(budget_P),
        weight_P=1.0 / chosen.loss_P**2,
        variance_P=chosen.loss_P**2,  # equal relative noise at all budgets
        cost=cost_polynomial(points),
    ), left_out


def _uneven_budgets(grid: BudgetGrid) -> list[FitWarning]:
    """A remark where points of a budget did not spend alike, as under another FLOP convention."""
    log_flops_P = np.log(grid.points.flops_P)
    spread = [float(np.ptp(log_flops_P[grid.budget_P == k])) for k in range(grid.n_budgets)]
    worst = int(np.argmax(spread))
    if spread[worst] <= 0.5:
        return []
    message = (
        f"points of budget {grid.nominal_K[worst]:.3g} differ by {np.exp(spread[worst]):.2f}× in "
        "FLOPs; method pair allows for it, parabola and akima do not"
    )
    return [FitWarning("uneven_budget", message, grid.points.family, float(grid.nominal_K[worst]))]


def _method_for(grid: BudgetGrid, method: IsoFlopMethod) -> tuple[IsoFlopMethod, list[FitWarning]]:
    n_points, n_coefficients = len(grid.points.loss_P), 3 * grid.n_budgets + 2
    if method != "pair" or n_points - n_coefficients >= MIN_PAIR_DOF:
        return method, []
    message = (
        f"{n_points} points at {grid.n_budgets} budgets are too few for method pair "
        f"({n_coefficients} coefficients): parabolas, whose bias is in the intervals"
    )
    return "parabola", [FitWarning("parabola_instead_of_pair", message, grid.points.family)]


def _weigh_by_stderr(grid: BudgetGrid) -> BudgetGrid:
    """Weights that count imprecise losses less, where the source states standard errors."""
    loss_P = grid.points.loss_P
    if not tell_apart(grid.points.stderr_P / loss_P):
        return grid
    curves = PairCurves.of(grid, loss_P[None])
    dof = len(loss_P) - curves.basis_Pc.shape[1]
    relative_residual_P = 1.0 - curves.fitted_P / loss_P
    weight_P = inverse_variance_weights(relative_residual_P, grid.points.stderr_P / loss_P, dof)
    if weight_P is None:
        return grid
    variance_P = loss_P**2 / weight_P
    return dataclasses.replace(grid, weight_P=1.0 / variance_P, variance_P=variance_P)


def _tempered(grid: BudgetGrid) -> BudgetGrid:
    """Huber weights on top: points far from the curves count less (Huber 1964)."""
    # Without them a few misread points choose the shape of all curves, since the shape is shared.
    robust, start = grid, None
    for _ in range(6):
        curves = PairCurves.of(robust, grid.points.loss_P[None], start=start)
        start = curves.exponents
        residual_P = (grid.points.loss_P - curves.fitted_P) * np.sqrt(grid.weight_P)
        # Before what the fit absorbed (Schweppe's form of the weights): a bad point at the end of a
        # curve bends the curve towards itself and hides.
        alone = Noise(residual_P, curves.basis_Pc, np.arange(len(residual_P)))
        if alone.robust_sigma < NOISE_FREE:
            return grid
        scaled_P = np.maximum(np.abs(alone.scaled_residual_P), NOISE_FREE)
        # A bad point keeps a thousandth of its weight, so that no budget loses all of it.
        temper_P = np.clip(HUBER_SIGMAS * alone.robust_sigma / scaled_P, 1e-3, 1.0)
        robust = dataclasses.replace(grid, weight_P=grid.weight_P * temper_P)
    return robust


def _resampled(
    grid: BudgetGrid, method: IsoFlopMethod, minima: Minima, noise_RP: FloatArray
) -> Minima:
    """Minima of the fitted curves plus relative noise, which is overwritten."""
    centre_P = grid.points.loss_P if method == "akima" else minima.fitted_P
    noise_RP *= np.sqrt(grid.variance_P) * _noise_factor(grid, minima)
    noise_RP += centre_P
    draws = MINIMA[method](grid, np.maximum(noise_RP, LEAST_SHARE * centre_P, out=noise_RP))
    # Three bad runs in a curve make a noise under which some curves dip below zero.
    positive_RK = np.maximum(draws.loss_RK, LEAST_SHARE * np.abs(minima.loss_RK))
    return dataclasses.replace(draws, loss_RK=positive_RK)


def _noise_factor(grid: BudgetGrid, minima: Minima) -> float:
    """By how much more noise moves an estimate whose weights follow the noise."""
    # Noise moves an estimate with new weights more than one with kept weights, as these have. To
    # first order an M-estimate moves by the mean of psi over that of its slope, and with kept
    # weights by the mean of psi over that of the weights.
    temper_P = grid.weight_P * grid.variance_P
    within = float(np.mean(temper_P > 1.0 - 1e-9))
    # Huber (1981, §7.6): few points per coefficient.
    correction = 1.0 + minima.basis_Pc.shape[1] / len(temper_P) * (1.0 - within) / within
    factor: float = float(temper_P.mean()) / within * correction
    return factor


def _resampled_shapes(grid: BudgetGrid, parabolas: Minima, noise_RP: FloatArray) -> Minima:
    """Minima of curves of either shape in turn, where parabolas only stand in for `pair`."""
    # A parabola misses the minimum of an asymmetrical valley by what no residual shows, and four
    # sizes do not tell its shape. Half of the draws have each of the extreme shapes, so that an
    # interval of their percentiles holds what either one says. The shape of a draw is that of all
    # series: what it does to both cancels in their multiplier.
    loss_1P = grid.points.loss_P[None]
    shape_R = np.arange(len(noise_RP)) % len(ASYMMETRIES)
    centre_SP = np.stack([PairCurves.of(grid, loss_1P, one[None]).fitted_P for one in ASYMMETRIES])
    centre_RP = centre_SP[shape_R]
    noise_RP *= np.sqrt(grid.variance_P)
    noise_RP += centre_RP
    loss_RP = np.maximum(noise_RP, LEAST_SHARE * centre_RP, out=noise_RP)
    draws = pair_minima(grid, loss_RP, ASYMMETRIES[shape_R])
    positive_RK = np.maximum(draws.loss_RK, LEAST_SHARE * np.abs(parabolas.loss_RK))
    return dataclasses.replace(draws, loss_RK=positive_RK)


def _judge(grid: BudgetGrid, minima: Minima, draws: Minima, noise: Noise, k: int) -> Optimum:
    mine = grid.budget_P == k
    reason = _why_not_bracketed(grid, minima, noise, k)
    sizes = np.exp(drawn_sizes(grid)[:, k])
    optimum = Optimum(
        budget_flops=float(grid.nominal_K[k]),
        flops=float(grid.flops_K[k]),
        n_points=int(mine.sum()),
        bracketed=reason is None,
        reason=reason,
        curve_params=tuple(sizes.tolist()),
        curve_loss=tuple(minima.drawn_QK[:, k].tolist()),
    )
    if reason is not None:
        return optimum
    low, high = percentile_interval(draws.log_params_RK[:, k])
    if low <= grid.sizes(k)[0] and high >= grid.sizes(k)[-1]:  # an interval that excludes no size
        return dataclasses.replace(optimum, bracketed=False, reason="flat")
    return dataclasses.replace(
        optimum,
        params=float(np.exp(minima.log_params_RK[0, k])),
        tokens=float(np.exp(minima.log_tokens_RK[0, k])),
        loss=float(minima.loss_RK[0, k]),
        params_ci=(float(np.exp(low)), float(np.exp(high))),
        tokens_ci=percentile_interval(np.exp(draws.log_tokens_RK[:, k])),
        loss_ci=percentile_interval(draws.loss_RK[:, k]),
    )


def _why_not_bracketed(grid: BudgetGrid, minima: Minima, noise: Noise, k: int) -> Reason | None:
    """None where the minimum lies strictly between the ends, and both arms rise above the noise."""
    # Of the curve and of the measured losses.
    mine = grid.budget_P == k
    sizes, size_P = np.unique(np.log(grid.points.params_P[mine]), return_inverse=True)
    mean_loss = np.bincount(size_P, grid.points.loss_P[mine]) / np.bincount(size_P)
    lowest = int(np.argmin(mean_loss))
    position = minima.log_params_RK[0, k]
    if lowest == 0 or position <= sizes[0]:
        return "minimum_at_smallest"
    if lowest == len(sizes) - 1 or position >= sizes[-1]:
        return "minimum_at_largest"
    loss = minima.loss_RK[0, k]
    if not minima.is_interior_RK[0, k] or loss <= 0:
        return "no_minimum"
    rise = min(minima.drawn_QK[0, k], minima.drawn_QK[-1, k]) - loss
    # One bad run inflates its budget's own noise; the noise of the others says what an arm must
    # exceed.
    sigma = min(noise.sigma_of(mine), noise.robust_sigma) * np.sqrt(grid.variance_P[mine].mean())
    return "flat" if rise < max(2.0 * sigma, 0.002 * loss) else None


def with_laws(fit: IsoFlopFit, family: str, resampler: Resampler, *, weighted: bool) -> IsoFlopFit:
    """Add the three laws, or the warning that says why there are none."""
    n_budgets, n_bracketed = len(fit.optima), len(fit.bracketed)
    remark = None
    if n_budgets == 1:
        remark = "single_budget", "a single budget: no law can be fitted"
    elif n_bracketed < 2:
        message = f"{n_bracketed} of {n_budgets} budgets bracketed, a law needs two: laws are null"
        remark = "too_few_bracketed_budgets", message
    elif n_bracketed == 2:
        message = "the laws rest on two bracketed budgets: nothing tests that they are power laws"
        remark = "law_from_two_budgets", message
    warnings = fit.warnings if remark is None else (*fit.warnings, FitWarning(*remark, family))
    if n_bracketed < 2:
        return dataclasses.replace(fit, warnings=warnings)
    flops_K, loss_K = fit.values("flops"), fit.values("loss")

    def law(value_K: FloatArray, draws_RK: FloatArray, purpose: int) -> PowerLaw:
        normal_RK = resampler.normals(purpose, n_bracketed)
        return fit_power_law(
            flops_K, np.log(value_K), draws_RK, normal_RK, weighted=weighted, n_shapes=fit.n_shapes
        )

    loss_law, offset_law = law(loss_K, fit.log_loss_RK, 2), None
    if weighted:  # the parity methods report pure laws, as published
        offset_law = law_with_offset(loss_law, flops_K, loss_K, np.exp(fit.log_loss_RK))
    return dataclasses.replace(
        fit,
        params_law=law(fit.values("params"), fit.log_params_RK, 0),
        tokens_law=law(fit.values("tokens"), fit.log_tokens_RK, 1),
        loss_law=loss_law,
        offset_law=offset_law,
        warnings=warnings,
    )


def _left_out_warning(family: str, optimum: Optimum) -> FitWarning:
    why = REASONS[optimum.reason] if optimum.reason else ""
    message = f"budget {optimum.budget_flops:.3g} FLOPs is not bracketed: {why}"
    return FitWarning("unbracketed_budget", message, family, optimum.budget_flops)
