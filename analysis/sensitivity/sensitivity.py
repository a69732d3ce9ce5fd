"""Which conclusions survive other conventions, other forms and fewer data.

Differences are paired within every variation: both series draw the same random numbers there, as
they do in the fit. The multiplier is read at the largest budget of the fit whose loss both series
observed; where a variation changes what FLOPs are, or takes that budget away, at its own. Where
no loss was observed by both, it is the extrapolated one at the largest budget, as in `compare`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from analysis.answers.compare import Comparison, multiplier_at
from analysis.fitting.fit import FitResult
from analysis.sensitivity.conclusions import Conclusion, Interval, Quantity, Row, Sensitivity
from analysis.sensitivity.readings import Reading
from analysis.sensitivity.variants import Variants, Variation, read_variants
from analysis.stats.power_law import LawName, percentile_interval
from analysis.tables.tidy import TidyTable

LAWS: tuple[LawName, ...] = ("params", "tokens", "loss")

Readings = Mapping[str, Reading]


@dataclasses.dataclass(frozen=True)
class _Number:
    """A quantity under one variation."""

    value: float | None = None
    ci: Interval | None = None
    reason: str = ""


def sensitivities(
    table: TidyTable, result: FitResult, comparisons: Sequence[Comparison]
) -> tuple[Sensitivity, ...]:
    """Of each comparison whose series have isoFLOP budgets; every series is refitted only once."""
    named = sorted(set(chain.from_iterable((c.baseline, c.against) for c in comparisons)))
    labels = [label for label in named if result.families[label].isoflop is not None]
    variants = read_variants(table, result, labels) if labels else None
    if variants is None:
        return ()
    return tuple(
        sensitivity(variants, each.baseline, each.against)
        for each in comparisons
        if {each.baseline, each.against} <= set(labels)
    )


def sensitivity(variants: Variants, baseline: str, against: str) -> Sensitivity:
    """Every conclusion about two series of which the variants were read."""
    pair = (baseline, against)
    varied = [
        (variation, readings)
        for variation, readings in variants.varied
        if any(readings[label].is_touched for label in pair)
    ]
    differences = [_difference_conclusion(variants, varied, pair, law) for law in LAWS]
    exponents = [
        _exponent_conclusion(variants, varied, label, law) for label in pair for law in LAWS
    ]
    return Sensitivity(
        baseline=baseline,
        against=against,
        comparisons=(*differences, _multiplier_conclusion(variants, varied, pair)),
        exponents=tuple(exponents),
        params_convention=variants.params_convention,
        flops_convention=variants.flops_convention,
        n_draws=variants.n_draws,
    )


Varied = Sequence[tuple[Variation, Readings]]


def _difference_conclusion(
    variants: Variants, varied: Varied, pair: tuple[str, str], law: LawName
) -> Conclusion:
    here = _difference(variants.baseline, pair, law)
    rows = [
        _signed_row(variation, _difference(readings, pair, law), here, neutral=0.0)
        for variation, readings in varied
    ]
    return _signed_conclusion(law, here, rows, neutral=0.0)


def _difference(readings: Readings, pair: tuple[str, str], law: LawName) -> _Number:
    """Exponent of the second series minus that of the first."""
    missing = [label for label in pair if law not in readings[label].laws]
    if missing:
        return _Number(reason=f"{missing[0]}: {readings[missing[0]].reason}")
    ours, theirs = (readings[label].laws[law] for label in pair)
    n_draws = min(len(ours.exponent_R), len(theirs.exponent_R))
    draws_R = theirs.exponent_R[:n_draws] - ours.exponent_R[:n_draws]
    return _Number(theirs.exponent - ours.exponent, percentile_interval(draws_R))


def _multiplier_conclusion(variants: Variants, varied: Varied, pair: tuple[str, str]) -> Conclusion:
    observed = _multiplier(variants.baseline, pair, _Where())
    is_extrapolated = observed[0].value is None
    here, flops = _multiplier(variants.baseline, pair, _Where(None, is_extrapolated))
    rows = []
    for variation, readings in varied:
        where = _Where(None if variation.changes_compute else flops, is_extrapolated)
        found, _ = _multiplier(readings, pair, where)
        rows.append(_signed_row(variation, found, here, neutral=1.0))
    return _signed_conclusion("multiplier", here, rows, neutral=1.0)


@dataclasses.dataclass(frozen=True)
class _Where:
    """At which budget a multiplier is read."""

    flops: float | None = None
    """Wanted; None, or where it was not observed: the largest that was."""
    may_extrapolate: bool = False


def _multiplier(
    readings: Readings, pair: tuple[str, str], where: _Where
) -> tuple[_Number, float | None]:
    """A multiplier, and the FLOPs it holds at."""
    missing = [label for label in pair if readings[label].frontier is None]
    if missing:
        return _Number(reason=f"{missing[0]}: {readings[missing[0]].reason}"), None
    own, other = (readings[label].frontier for label in pair)
    assert own is not None
    assert other is not None
    knots = np.exp(np.union1d(own.log_flops_K, other.log_flops_K))[::-1].tolist()
    for flops in [*([] if where.flops is None else [where.flops]), *knots]:
        point = multiplier_at(own, other, flops, flops)
        is_usable = point.multiplier is not None and point.ci is not None
        if is_usable and (where.may_extrapolate or not point.extrapolated):
            return _Number(point.multiplier, point.ci), flops
    return _Number(reason="no budget at which both series observed the loss"), None


def _signed_conclusion(
    quantity: Quantity, here: _Number, rows: Sequence[Row], *, neutral: float
) -> Conclusion:
    is_shown = here.ci is not None and not here.ci[0] <= neutral <= here.ci[1]
    return Conclusion(quantity, None, here.value, here.ci, is_shown, tuple(rows))


def _signed_row(variation: Variation, there: _Number, here: _Number, *, neutral: float) -> Row:
    is_changed = (
        there.value is not None
        and here.value is not None
        and (there.value > neutral) != (here.value > neutral)
    )
    is_shown = there.ci is not None and not there.ci[0] <= neutral <= there.ci[1]
    return Row(variation, there.value, there.ci, there.reason, is_changed, is_shown)


def _exponent_conclusion(
    variants: Variants, varied: Varied, label: str, law: LawName
) -> Conclusion:
    here = _exponent(variants.baseline[label], law)
    rows = [
        _moved_row(variation, _exponent(readings[label], law), here)
        for variation, readings in varied
        if readings[label].is_touched
    ]
    return Conclusion(law, label, here.value, here.ci, True, tuple(rows))


def _exponent(reading: Reading, law: LawName) -> _Number:
    if law not in reading.laws:
        return _Number(reason=reading.reason)
    return _Number(reading.laws[law].exponent, reading.laws[law].exponent_ci)


def _moved_row(variation: Variation, there: _Number, here: _Number) -> Row:
    if there.value is None or here.ci is None or there.ci is None:
        return Row(variation, there.value, there.ci, there.reason, False, False)
    is_changed = not here.ci[0] <= there.value <= here.ci[1]
    is_apart = there.ci[1] < here.ci[0] or there.ci[0] > here.ci[1]
    return Row(variation, there.value, there.ci, there.reason, is_changed, is_apart)
