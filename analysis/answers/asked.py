"""What is asked of a fit, linearised: how the optima of the budgets enter one interval.

Suffixes: K budgets, c coefficients, n alternatives, R perturbed frontiers.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.answers.expected import Share, Weights
from analysis.answers.information import LinearisedCurves, linearised
from analysis.fitting.fit import FamilyFit
from analysis.isoflop.frontier import Frontier, frontier
from analysis.isoflop.isoflop import IsoFlopFit
from analysis.stats.power_law import LawName, weighted_line
from analysis.tables.points import BoolArray, FloatArray

Interval = Literal["params", "tokens", "loss", "multiplier"]

TINY = 1e-12
"""Relative variance that stands for none."""
SMALL = 1e-5
"""Change of a log loss, for derivatives of a frontier: smooth over far more."""
NEAR = math.log(1.25)
"""A budget nearer than this to another one would tell of the same optimum."""
MARGIN = math.log(1.1)
"""Of a new budget beyond the place that has to lie among the budgets, which is itself estimated."""


@dataclass(frozen=True)
class Asked:
    """One series' part of an asked quantity."""

    fit: FamilyFit
    share: Share
    n_observed: int
    """Budgets that were observed; those after them are new."""
    beyond: int | None
    """Number of the new budget without which the quantity is read beyond all that were observed."""

    @property
    def curves(self) -> LinearisedCurves:
        """Of all budgets, new ones included."""
        return self.share.curves


Quantity = tuple[Asked, ...]
"""Its variance is the sum of those of its parts."""


def asked_of(fits: Sequence[FamilyFit], interval: Interval, flops: float) -> list[Quantity]:
    """One quantity for each series, or the multiplier between two; none without curves."""
    if interval == "multiplier":
        return _multiplier(fits[0], fits[1], flops)
    found = [_optimum(fit, interval, math.log(flops)) for fit in fits]
    return [(asked,) for asked in found if asked is not None]


def _multiplier(baseline: FamilyFit, against: FamilyFit, flops: float) -> list[Quantity]:
    own, other = frontier(baseline.isoflop), frontier(against.isoflop)
    if own is None or other is None:
        return []
    log_loss_1 = own.log_loss(math.log(flops))[:1]
    reached = float(_row(other, 0).log_flops_reaching(log_loss_1)[0])
    if not math.isfinite(reached):
        return []
    # log multiplier = log C' − log C where L*'(C') = L*(C): both losses over the slope at C'.
    beside = _row(other, 0).log_flops_reaching(log_loss_1 + SMALL)
    per_loss = (float(beside[0]) - reached) / SMALL
    parts = []
    # The series that is read where it reaches the other's loss may reach it later.
    for fit, at, margin in ((baseline, math.log(flops), 0.0), (against, reached, MARGIN)):
        found = _optimum(fit, "loss", at, by_frontier=True, margin=margin)
        if found is None:
            return []
        scaled = dataclasses.replace(found.share, scale=per_loss**2)
        parts.append(dataclasses.replace(found, share=scaled))
    return [tuple(parts)]


def _row(series: Frontier, row: int) -> Frontier:
    """One of its frontiers."""
    one = slice(row, row + 1)
    return Frontier(
        series.log_flops_K,
        series.log_loss_RK[one],
        series.exponent_R[one],
        series.offset_R[one],
        series.level,
    )


def _optimum(
    fit: FamilyFit,
    quantity: LawName,
    log_flops: float,
    *,
    by_frontier: bool = False,
    margin: float = 0.0,
) -> Asked | None:
    """`by_frontier`: the loss is read off the frontier beyond the budgets, too; `margin`: of a new
    budget beyond the asked one.
    """
    curves = linearised(fit)
    if curves is None:
        return None
    shared = fit.points.has_shared_runs
    if fit.isoflop is None or np.isnan(curves.log_flops_K).all():
        gradient_1c = curves.gradient(quantity, 0, log_flops)[None]
        share = Share(curves, gradient_1c, _all_of_one, 0.0, 0.0, 1.0, shared)
        return Asked(fit, share, 1, None)
    n_observed = len(curves.log_flops_K)
    new_budgets, is_beyond = _new_budgets(fit.isoflop, log_flops, margin)
    for new in new_budgets:
        curves = curves.extended(new, *_law_optimum(fit.isoflop, new))
    log_flops_K = curves.log_flops_K
    bracketed = np.log(fit.isoflop.values("flops"))
    distance_K = np.abs(log_flops_K[:, None] - bracketed).min(axis=1)
    is_lawful_K = (distance_K < TINY) | (np.arange(len(log_flops_K)) >= n_observed)
    gradient_Kc = np.zeros((len(log_flops_K), curves.n_coefficients))
    for index in np.flatnonzero(is_lawful_K).tolist():
        gradient_Kc[index] = curves.gradient(quantity, index, float(log_flops_K[index]))
    # Size and tokens are read off their laws, and the loss beyond the budgets; among them the
    # frontier passes through its optima.
    is_inside = bool(bracketed[0] <= log_flops <= bracketed[-1])
    law = getattr(fit.isoflop, f"{quantity}_law")
    if quantity == "loss" and (is_inside or by_frontier):
        reading = _FrontierReading(fit.isoflop, log_flops_K, is_lawful_K, log_flops)
        fixed = 0.0 if is_inside else reading.fixed
        share = Share(curves, gradient_Kc, reading.weights, 0.0, fixed, 1.0, shared)
    else:
        weights = _law_weights(log_flops_K, is_lawful_K, log_flops, law.scatter)
        share = Share(curves, gradient_Kc, weights, law.scatter, 0.0, 1.0, shared)
    return Asked(fit, share, n_observed, n_observed if is_beyond else None)


def _new_budgets(fit: IsoFlopFit, log_flops: float, margin: float) -> tuple[list[float], bool]:
    """Logs of the budgets that could be added: the asked one where it lies in a gap, or within two
    steps beyond the largest bracketed one, and one step where it does not; and whether the first is
    beyond all.
    """
    observed, largest = np.log([optimum.flops for optimum in fit.optima]), fit.values("flops")[-1]
    step = float(np.median(np.diff(observed))) if len(observed) > 1 else 0.0
    ahead = log_flops - math.log(largest)
    new, is_beyond = [], bool(TINY < ahead < 2 * step + NEAR and log_flops > observed[-1] + TINY)
    if is_beyond:
        new.append(log_flops + margin)
    elif observed[0] < log_flops < observed[-1] and np.abs(observed - log_flops).min() > NEAR:
        new.append(log_flops)
    if step > NEAR and not is_beyond:
        new.append(float(observed[-1]) + step)
    return [math.log(float(f"{math.exp(each):.3g}")) for each in new], is_beyond


def _law_optimum(fit: IsoFlopFit, log_flops: float) -> tuple[float, float]:
    """Log size and log loss that the laws expect to be optimal at a budget."""
    own = frontier(fit)
    assert own is not None, "curves without laws are refused before"
    assert fit.params_law is not None, "curves without laws are refused before"
    return math.log(fit.params_law(math.exp(log_flops))), float(own.log_loss(log_flops)[0])


def _all_of_one(variance_nK: FloatArray, _: BoolArray) -> FloatArray:
    """Weights of a surface: one set of coefficients serves all budgets."""
    return np.ones_like(variance_nK)


def _law_weights(
    log_flops_K: FloatArray, is_lawful_K: BoolArray, log_flops: float, scatter: float
) -> Weights:
    """Of a prediction by the law through the bracketed budgets, itself weighted."""

    def weights(variance_nK: FloatArray, observed_K: BoolArray) -> FloatArray:
        use_K = is_lawful_K[observed_K]
        x_K = log_flops_K[observed_K]
        share_nK = use_K / np.maximum(variance_nK + scatter**2, TINY)
        share_nK /= share_nK.sum(axis=1, keepdims=True)
        mean_n1 = (share_nK @ x_K)[:, None]
        slope_nK = share_nK * (x_K - mean_n1)
        slope_nK /= np.sum(slope_nK * (x_K - mean_n1), axis=1, keepdims=True)
        result: FloatArray = share_nK + slope_nK * (log_flops - mean_n1)
        return result

    return weights


class _FrontierReading:
    """The loss read off the frontier, which passes through the optima; beyond the budgets it goes
    on as the law does.
    """

    def __init__(
        self, fit: IsoFlopFit, log_flops_K: FloatArray, is_lawful_K: BoolArray, log_flops: float
    ) -> None:
        own = frontier(fit)
        assert own is not None, "curves without laws are refused before"
        assert fit.loss_law is not None, "curves without laws are refused before"
        self.own, self.law, self.log_flops = own, fit.loss_law, log_flops
        self.log_flops_K, self.is_lawful_K = log_flops_K, is_lawful_K
        variance_K = np.maximum(fit.log_loss_RK.var(axis=0) + fit.loss_law.scatter**2, TINY)
        usual = float(np.median(variance_K))
        at_K = np.log(fit.values("flops"))
        apart_KK = np.abs(log_flops_K[:, None] - at_K)
        nearest_K = np.argmin(apart_KK, axis=1)
        self.weight_K = 1.0 / np.where(apart_KK.min(axis=1) < TINY, variance_K[nearest_K], usual)
        self._cached = dict[tuple[bool, ...], FloatArray]()

    @property
    def fixed(self) -> float:
        """Variance by the scatter of budgets about the law, on which the slope beyond rests."""
        x_K = self.log_flops_K[self.is_lawful_K]
        slope_K = weighted_line(x_K, np.eye(len(x_K)), self.weight_K[self.is_lawful_K])[0]
        beyond = max(x_K.min() - self.log_flops, self.log_flops - x_K.max(), 0.0)
        return float(np.sum((self.law.scatter * beyond * slope_K) ** 2))

    def weights(self, variance_nK: FloatArray, observed_K: BoolArray) -> FloatArray:
        """Of the budgets: derivatives by the logs of their losses."""
        key = tuple(observed_K.tolist())
        if key not in self._cached:
            self._cached[key] = self._derivative(observed_K)
        return np.tile(self._cached[key][observed_K], (len(variance_nK), 1))

    def _derivative(self, observed_K: BoolArray) -> FloatArray:
        chosen = np.flatnonzero(self.is_lawful_K & observed_K)
        chosen = chosen[np.argsort(self.log_flops_K[chosen])]
        x_K = self.log_flops_K[chosen]
        log_loss_K = np.array([_row(self.own, 0).log_loss(float(x))[0] for x in x_K])
        change_RK = SMALL * np.vstack([np.zeros(len(x_K)), np.eye(len(x_K))])
        steeper_R = weighted_line(x_K, change_RK, self.weight_K[chosen])[0]
        moved = Frontier(
            log_flops_K=x_K,
            log_loss_RK=log_loss_K + change_RK,
            exponent_R=self.own.exponent_R[0] + steeper_R,
            offset_R=np.repeat(self.own.offset_R[:1], len(change_RK)),
            level=self.own.level,
        )
        log_loss_R = moved.log_loss(self.log_flops)
        weight_K = np.zeros(len(self.log_flops_K))
        weight_K[chosen] = (log_loss_R[1:] - log_loss_R[0]) / SMALL
        return weight_K
