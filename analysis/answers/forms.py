"""How a series goes on beyond its budgets: by its loss law, or by a form that may bend.

No data say which form holds out there. The form that predicted larger budgets better from smaller
ones speaks, intervals span both, and a form that the data refute has no say.

Suffixes: R resamples, K budgets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from analysis.fitting.fit import FamilyFit
from analysis.fitting.holdout import MIN_WINDOW_FOR_OFFSET, FormName, HoldOut
from analysis.isoflop.frontier import Frontier, frontier
from analysis.isoflop.isoflop import IsoFlopFit
from analysis.notation import Interval
from analysis.stats.cost import CostPerToken
from analysis.stats.power_law import PowerLaw, nested_law
from analysis.surface.optimum import surface_optima
from analysis.surface.surface import SurfaceFit
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

    def misfit(self, form: FormName) -> float:
        """Mean relative distance of the observed optima from a form fitted to them."""
        log_flops_K, log_loss_K = self.observed.log_flops_K, np.log(self.isoflop.values("loss"))
        surface = self.by_surface if form == "surface" else None
        law = self._bent_law if form == "offset" else self.isoflop.loss_law
        if surface is not None:
            fitted_K = np.array([surface.log_loss(x)[0] for x in log_flops_K.tolist()])
        elif law is not None:
            fitted_K = np.log([law(flops) for flops in np.exp(log_flops_K).tolist()])
        else:
            return np.inf
        return float(np.mean(np.abs(fitted_K - log_loss_K)))

    @cached_property
    def _bent_law(self) -> PowerLaw | None:
        """A law with an offset ≥ 0; None with fewer budgets than could contradict it."""
        # Exact for E + A/N^alpha + B/D^beta where C = 6·N·D: both arms then fall alike along the
        # optima. With E = 0 the offset is 0.
        fit, law = self.isoflop, self.isoflop.loss_law
        if law is None or len(fit.bracketed) < MIN_WINDOW_FOR_OFFSET:
            return None
        loss_RK = np.exp(fit.log_loss_RK)
        return nested_law(law, fit.values("flops"), fit.values("loss"), loss_RK)

    @cached_property
    def by_offset(self) -> Frontier | None:
        """As the law with an offset goes on, where there is one."""
        law, bent = self.isoflop.loss_law, self._bent_law
        if law is None or bent is None:
            return None
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
    return tuple(pairs[form] for form in ranked((own, other), law.form, bent))


def form_of(law: PowerLaw | None) -> FormName:
    """The form of a loss law."""
    return "power" if law is None or law.offset is None else "offset"


class Errors(NamedTuple):
    """Mean relative errors of two forms of one series."""

    law: float
    other: float
    is_held_out: bool
    """Of larger budgets predicted from smaller ones; else of the optima that both are fitted to."""
    refuted: FormName | None
    """The form that these errors leave no doubt about."""


def ranked(outlooks: Sequence[Outlook], law: FormName, other: FormName) -> tuple[FormName, ...]:
    """The form that errs less, then the other unless it is refuted in a series."""
    errors = [errors_of_forms(outlook, law, other) for outlook in outlooks]
    is_law_better = sum(each.law for each in errors) <= sum(each.other for each in errors)
    first, second = (law, other) if is_law_better else (other, law)
    return (first,) if any(each.refuted == second for each in errors) else (first, second)


def errors_of_forms(outlook: Outlook, law: FormName, other: FormName) -> Errors:
    """By hold-out where it predicted often enough, else about the observed optima."""
    holdout = outlook.holdout
    if holdout is not None and holdout.best is not None and {law, other} <= set(holdout.scores):
        by_law, by_other = (holdout.scores[form].mean_abs_error for form in (law, other))
        refuted = [a for a, b in ((law, other), (other, law)) if holdout.refutes(a, b)]
        return Errors(by_law, by_other, True, refuted[0] if refuted else None)
    by_law, by_other = outlook.misfit(law), outlook.misfit(other)
    # The other form has a coefficient more and always fits better: it speaks only where the law
    # misses by what is neither the noise of the optima nor the like of its own misses.
    noise = float(np.mean(np.std(outlook.isoflop.log_loss_RK, axis=0)))
    if by_law < 2.0 * noise or by_law < 3.0 * by_other:
        return Errors(0.0, 0.0, False, None)
    return Errors(by_law, by_other, False, law)


def span(one: Interval, two: Interval) -> Interval:
    """The least interval that holds both."""
    return min(one[0], two[0]), max(one[1], two[1])


def are_apart(one: Interval, two: Interval) -> bool:
    """Whether two intervals share nothing."""
    return one[1] < two[0] or two[1] < one[0]
