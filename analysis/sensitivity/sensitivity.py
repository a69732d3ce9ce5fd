"""Which conclusions survive other conventions, other forms and fewer data.

Every variation goes through the same isoFLOP fit or its laws, with resamples paired as there.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from analysis.answers.compare import Comparison, multipliers
from analysis.answers.forms import Outlook
from analysis.fitting.fit import FitResult
from analysis.isoflop.curves import IsoFlopMethod
from analysis.isoflop.frontier import frontier
from analysis.isoflop.isoflop import IsoFlopFit, fit_isoflop, with_laws
from analysis.isoflop.noise_correlation import noise_correlation
from analysis.notation import Interval
from analysis.sensitivity.conclusions import Conclusion, Quantity, Row, Sensitivity
from analysis.sensitivity.variations import Case, Changed, Variation, cases
from analysis.stats.bootstrap import Resampler
from analysis.stats.power_law import LawName, PowerLaw, percentile_interval
from analysis.surface.surface import SurfaceFit, resampled_surface
from analysis.tables.points import Points
from analysis.tables.tidy import TidyTable

N_DRAWS = 100
"""Resamples of every refit: an end of an interval then wobbles by about an eighth of its width."""
LAWS: tuple[LawName, ...] = ("params", "tokens", "loss")


@dataclass(frozen=True)
class _Refit:
    """What one series shows under one variation."""

    laws: Mapping[LawName, PowerLaw] = field(default_factory=dict)
    outlook: Outlook | None = None
    reason: str = ""
    """Why a law or the frontier is missing."""
    is_changed: bool = True
    """Whether the variation changes anything about this series."""


Refits = Mapping[str, _Refit]
Pair = tuple[str, str]


class _Number(NamedTuple):
    value: float | None = None
    ci: Interval | None = None
    reason: str = ""


def sensitivities(
    table: TidyTable, result: FitResult, comparisons: Sequence[Comparison]
) -> tuple[Sensitivity, ...]:
    """Of each comparison whose series have isoFLOP budgets; every series is refitted only once."""
    named = {label for each in comparisons for label in (each.baseline, each.against)}
    fits = {k: fit for k in sorted(named) if (fit := result.families[k].isoflop) is not None}
    if not fits:
        return ()
    n_draws = min(N_DRAWS, result.settings.n_bootstrap)
    with_offset = any(fit.loss_law is not None and fit.loss_law.offset for fit in fits.values())
    series, settings = [family.points for family in result.families.values()], result.settings
    # Fewer draws of what the fit drew: the first of them.
    correlation_FF = noise_correlation(series, settings.isoflop)
    resampler = Resampler.create(series, n_draws, settings.seed, correlation_FF)
    refitter = _Refitter(resampler, with_offset, result)
    as_fitted = {
        label: refitter.laws_of(label, fit, result.families[label].points)
        for label, fit in fits.items()
    }
    fits = {
        label: dataclasses.replace(
            fit,
            log_params_RK=fit.log_params_RK[:n_draws],
            log_tokens_RK=fit.log_tokens_RK[:n_draws],
            log_loss_RK=fit.log_loss_RK[:n_draws],
        )
        for label, fit in fits.items()
    }
    unchanged = {
        label: dataclasses.replace(refitter.refit(label, fit, fit.method), is_changed=False)
        for label, fit in fits.items()
    }
    varied = [
        (case.variation, unchanged | refitter.refit_all(case, fits))
        for case in cases(table, result, fits)
    ]
    return tuple(
        Sensitivity(
            baseline=each.baseline,
            against=each.against,
            comparisons=_comparisons(as_fitted, varied, (each.baseline, each.against)),
            exponents=_exponents(as_fitted, varied, (each.baseline, each.against)),
            params_convention=result.params_convention,
            flops_convention=result.flops_convention,
            n_draws=n_draws,
        )
        for each in comparisons
        if {each.baseline, each.against} <= set(fits)
    )


@dataclass(frozen=True)
class _Refitter:
    resampler: Resampler
    with_offset: bool
    """Whether the loss laws of the fit have an offset: it changes what their exponents mean."""
    result: FitResult

    def refit_all(self, case: Case, chosen: Mapping[str, object]) -> dict[str, _Refit]:
        """The chosen series that a variation changes."""
        changed = {k: each for k, each in case.changed.items() if k in chosen}
        found = {k: self.refit(k, each, case.method) for k, each in changed.items()}
        if case.otherwise is not None and not all(refit.laws for refit in found.values()):
            return {k: self.refit(k, case.otherwise[k], case.method) for k in found}
        return found

    def refit(self, label: str, changed: Changed, method: IsoFlopMethod) -> _Refit:
        """One series: a changed table is fitted, changed optima get new laws."""
        if isinstance(changed, str):
            return _Refit(reason=changed)
        if isinstance(changed, IsoFlopFit):
            if len(changed.bracketed) >= 2:
                weighted = changed.method == "pair"
                changed = with_laws(changed, label, self.resampler, weighted=weighted)
            return self.laws_of(label, changed, self._kept(label, changed))
        fit = fit_isoflop(changed, method, self.resampler)
        if fit.method != method:
            return _Refit(reason=f"too few points for method {method}")
        return self.laws_of(label, fit, changed)

    def _kept(self, label: str, changed: IsoFlopFit) -> Points:
        """The points of a series without those of the budgets that a variation takes away."""
        family = self.result.families[label]
        kept = {optimum.budget_flops for optimum in changed.bracketed}
        bracketed = () if family.isoflop is None else family.isoflop.bracketed
        dropped = [o.budget_flops for o in bracketed if o.budget_flops not in kept]
        if not dropped:
            return family.points
        return family.points.take(~np.isin(family.points.budget_P, dropped))

    def _outlook(self, label: str, fit: IsoFlopFit, points: Points) -> Outlook | None:
        """A varied frontier goes on by the forms that the fit chooses among, fitted to its data."""
        observed, family = frontier(fit), self.result.families[label]
        if observed is None:
            return None

        def surface() -> SurfaceFit | None:
            if points is family.points or family.surface is None:
                return family.surface
            found = resampled_surface(points, self.result.settings.huber_delta, self.resampler)
            return found if isinstance(found, SurfaceFit) else None

        return Outlook(observed, fit, points, surface, family.holdout)

    def laws_of(self, label: str, fit: IsoFlopFit, points: Points) -> _Refit:
        """The laws of a fit, the loss law in the form that the fitted one has."""
        if fit.params_law is None or fit.tokens_law is None or fit.loss_law is None:
            few = f"{len(fit.bracketed)} of {len(fit.optima)} budgets bracketed, a law needs two"
            return _Refit(reason=few)
        laws: dict[LawName, PowerLaw] = {"params": fit.params_law, "tokens": fit.tokens_law}
        loss_law = fit.offset_law if self.with_offset else fit.loss_law
        if loss_law is None:
            reason = "here the losses do not support the offset that the fitted loss law has"
            return _Refit(laws, self._outlook(label, fit, points), reason)
        laws["loss"] = loss_law
        bent = dataclasses.replace(fit, loss_law=loss_law)
        return _Refit(laws, self._outlook(label, bent, points))


Varied = Sequence[tuple[Variation, Refits]]


def _comparisons(as_fitted: Refits, varied: Varied, pair: Pair) -> tuple[Conclusion, ...]:
    """Differences of exponents, and the multiplier, where a variation changes either series."""
    varied = [each for each in varied if any(each[1][label].is_changed for label in pair)]
    differences = []
    for law in LAWS:
        tried = [(variation, _difference(refits, pair, law)) for variation, refits in varied]
        differences.append(_signed(law, _difference(as_fitted, pair, law), tried, neutral=0.0))
    # Read at the largest budget of the fit whose loss both series observed; where none was, at the
    # largest, extrapolated as in `compare`. Where a variation changes what FLOPs are, or takes that
    # budget away: at its own.
    extrapolates = _multiplier(as_fitted, pair, None, False)[0].value is None
    here, flops = _multiplier(as_fitted, pair, None, extrapolates)
    there = []
    for variation, refits in varied:
        at = None if variation.kind == "flops" else flops
        there.append((variation, _multiplier(refits, pair, at, extrapolates)[0]))
    return (*differences, _signed("multiplier", here, there, neutral=1.0))


def _difference(refits: Refits, pair: Pair, law: LawName) -> _Number:
    """Exponent of the second series minus that of the first, by paired draws."""
    for label in pair:
        if law not in refits[label].laws:
            return _Number(reason=f"{label}: {refits[label].reason}")
    ours, theirs = (refits[label].laws[law] for label in pair)
    ci = percentile_interval(theirs.exponent_R - ours.exponent_R)
    return _Number(theirs.exponent - ours.exponent, ci)


def _multiplier(
    refits: Refits, pair: Pair, flops: float | None, may_extrapolate: bool
) -> tuple[_Number, float | None]:
    """A multiplier at these FLOPs or the largest knot where there is one, and those FLOPs."""
    own, other = (refits[label].outlook for label in pair)
    if own is None or other is None:
        missing = pair[0] if own is None else pair[1]
        return _Number(reason=f"{missing}: {refits[missing].reason}"), None
    knots = np.exp(np.union1d(own.observed.log_flops_K, other.observed.log_flops_K))[::-1].tolist()
    # The largest knot first.
    read = multipliers(own, other)
    for at in [*([] if flops is None else [flops]), *knots]:
        point = read(at, at)
        is_usable = point.multiplier is not None and point.ci is not None
        if is_usable and (may_extrapolate or not point.extrapolated):
            return _Number(point.multiplier, point.ci), at
    return _Number(reason="no budget at which both series observed the loss"), None


def _signed(
    quantity: Quantity, here: _Number, there: Sequence[tuple[Variation, _Number]], neutral: float
) -> Conclusion:
    """On which side of `neutral` a number lies, and which variations say the other."""

    def is_shown(number: _Number) -> bool:
        return number.ci is not None and not number.ci[0] <= neutral <= number.ci[1]

    rows = []
    for variation, number in there:
        is_reversed = (
            number.value is not None
            and here.value is not None
            and (number.value > neutral) != (here.value > neutral)
        )
        rows.append(Row(variation, *number, is_reversed, is_shown(number)))
    return Conclusion(quantity, None, here.value, here.ci, is_shown(here), tuple(rows))


def _exponents(as_fitted: Refits, varied: Varied, pair: Pair) -> tuple[Conclusion, ...]:
    """The exponents of each series by itself, where a variation changes it."""
    found = []
    for label in pair:
        mine = [(variation, each[label]) for variation, each in varied if each[label].is_changed]
        for law in LAWS:
            here = _exponent(as_fitted[label], law)
            rows = []
            for variation, refit in mine:
                there = _exponent(refit, law)
                is_moved = is_apart = False
                if there.value is not None and there.ci is not None and here.ci is not None:
                    # Moved: outside the fit's interval. Apart: the two intervals do not overlap.
                    is_moved = not here.ci[0] <= there.value <= here.ci[1]
                    is_apart = there.ci[1] < here.ci[0] or there.ci[0] > here.ci[1]
                rows.append(Row(variation, *there, is_moved, is_apart))
            found.append(Conclusion(law, label, here.value, here.ci, True, tuple(rows)))
    return tuple(found)


def _exponent(refit: _Refit, law: LawName) -> _Number:
    if law not in refit.laws:
        return _Number(reason=refit.reason)
    return _Number(refit.laws[law].exponent, refit.laws[law].exponent_ci)
