"""How a series goes on beyond its budgets: by its loss law, or by a form that may bend.

No data say which form holds out there. The form that predicted larger budgets better from smaller
ones speaks, intervals span both, and a form that this hold-out refutes has no say.

Suffixes: R resamples, K budgets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from analysis.fitting.fit import FamilyFit
from analysis.fitting.holdout import MIN_WINDOW_FOR_OFFSET, FormName, HoldOut
from analysis.isoflop.frontier import Frontier, frontier
from analysis.isoflop.isoflop import IsoFlopFit
from analysis.notation import Interval
from analysis.stats.power_law import PowerLaw, nested_law
from analysis.surface.optimum import surface_optima
from analysis.surface.surface import SurfaceFit
from analysis.tables.cost import CostPerToken
from analysis.tables.points import Points

DECADES = 3.0
"""Of compute beyond the budgets over which the surface's optima are looked for."""
KNOTS_PER_DECADE = 4
"""Of the surface's frontier: cubics between them follow it to 1e-5 of the loss."""
SIZE_MARGIN = float(np.log(1e4))
"""The surface's optimum is looked for up to four decades beyond the observed sizes."""

FORM_NAMES: dict[FormName, str] = {
    "power": "pure power law",
    "offset": "power law with offset",
    "surface": "surface",
    "tied": "surface with α = β",
}


@dataclass(frozen=True)
class Outlook:
    """The frontier of one series, and the forms by which it may go on."""

    observed: Frontier
    """Beyond its budgets it continues as its loss law does."""
    isoflop: IsoFlopFit = field(repr=False)
    points: Points = field(repr=False)
    find_surface: Callable[[], SurfaceFit | None] = field(repr=False)
    """Asked only where something is extrapolated."""
    holdout: HoldOut | None = field(repr=False)

    @classmethod
    def of(cls, fit: FamilyFit) -> "Outlook | None":
        """Of one series; None where fewer than two budgets are bracketed."""
        found = frontier(fit.isoflop)
        if found is None or fit.isoflop is None:
            return None
        return cls(found, fit.isoflop, fit.points, lambda: fit.surface, fit.holdout)

    @property
    def law_form(self) -> FormName:
        """The form of the loss law that the fit shows."""
        return form_of(self.isoflop.loss_law)

    @cached_property
    def by_offset(self) -> Frontier | None:
        """As a law with an offset ≥ 0 goes on; None with fewer budgets than could contradict it."""
        # Exact for E + A/N^alpha + B/D^beta where C = 6·N·D: both arms then fall alike along the
        # optima. With E = 0 the offset is 0.
        fit, law = self.isoflop, self.isoflop.loss_law
        if law is None or len(fit.bracketed) < MIN_WINDOW_FOR_OFFSET:
            return None
        loss_RK = np.exp(fit.log_loss_RK)
        bent = nested_law(law, fit.values("flops"), fit.values("loss"), loss_RK)
        # A draw below 0 is on the edge: the pure law of that draw.
        is_bent_R = bent.offset_R > 0
        return replace(
            self.observed,
            exponent_R=np.concatenate(
                [[bent.exponent], np.where(is_bent_R, bent.exponent_R, law.exponent_R)]
            ),
            offset_R=np.concatenate([[bent.offset or 0.0], np.where(is_bent_R, bent.offset_R, 0)]),
        )

    @cached_property
    def by_surface(self) -> Frontier | None:
        """The surface's optima, within the budgets too; None without a surface."""
        surface = self.find_surface()
        if surface is None:
            return None
        knots_K, margin = self.observed.log_flops_K, DECADES * np.log(10)
        low, high = knots_K[0] - margin, knots_K[-1] + margin
        n_knots = int(np.ceil((high - low) / np.log(10) * KNOTS_PER_DECADE)) + 1
        log_flops_K = np.linspace(low, high, n_knots)
        n_draws = len(self.observed.log_loss_RK) - 1
        cost = CostPerToken.of(self.points)
        found = surface_optima(surface, cost, log_flops_K, SIZE_MARGIN, n_draws)
        if found is None:
            return None
        alpha_R, beta_R, offset_R = (
            np.concatenate([[getattr(surface, name)], np.resize(surface.draws[name], n_draws)])
            for name in ("alpha", "beta", "E")
        )
        exponent_R = -alpha_R * beta_R / (alpha_R + beta_R)
        return Frontier(log_flops_K, found.log_loss_RK, exponent_R, offset_R)


@dataclass(frozen=True)
class FrontierPair:
    """The frontiers of two series by one form."""

    form: FormName
    own: Frontier
    other: Frontier


def extrapolations(own: Outlook, other: Outlook) -> tuple[FrontierPair, ...]:
    """Both series by each form that may hold beyond the data, the one to trust first."""
    law = FrontierPair(own.law_form, own.observed, other.observed)
    bent: FormName = "offset"
    ours, theirs = own.by_surface, other.by_surface
    if ours is not None and theirs is not None:
        bent = "surface"
    elif law.form == "power":
        ours, theirs = own.by_offset, other.by_offset
    if bent == law.form or ours is None or theirs is None:
        return (law,)
    pairs = {law.form: law, bent: FrontierPair(bent, ours, theirs)}
    return tuple(pairs[form] for form in ranked(law.form, bent, [own.holdout, other.holdout]))


def form_of(law: PowerLaw | None) -> FormName:
    """The form of a loss law."""
    return "power" if law is None or law.offset is None else "offset"


def ranked(law: FormName, other: FormName, holdouts: list[HoldOut | None]) -> tuple[FormName, ...]:
    """The form that predicts larger budgets better, then the other unless hold-out refutes it; the
    law first where nothing was tried.
    """
    by_law, by_other = errors_of_forms(law, other, holdouts)
    first, second = (other, law) if by_other < by_law else (law, other)
    is_refuted = any(holdout and holdout.refutes(second, first) for holdout in holdouts)
    return (first,) if is_refuted else (first, second)


def errors_of_forms(
    law: FormName, other: FormName, holdouts: list[HoldOut | None]
) -> tuple[float, float]:
    """Mean errors of both forms in hold-out; equal where a series tells nothing."""
    errors = []
    for holdout in holdouts:
        if holdout is None or holdout.best is None or not {law, other} <= set(holdout.scores):
            return 0.0, 0.0
        errors.append([holdout.scores[form].mean_abs_error for form in (law, other)])
    by_law, by_other = np.mean(errors, axis=0)
    return float(by_law), float(by_other)


def span(one: Interval, two: Interval) -> Interval:
    """The least interval that holds both."""
    return min(one[0], two[0]), max(one[1], two[1])


def are_apart(one: Interval, two: Interval) -> bool:
    """Whether two intervals share nothing."""
    return one[1] < two[0] or two[1] < one[0]
