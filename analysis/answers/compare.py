"""How much more compute one series needs than another, at equal compute-optimal loss.

The draws of both series come from the same random numbers, so what their runs share cancels.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis import notation
from analysis.answers.forms import (
    FORM_NAMES,
    FrontierPair,
    Outlook,
    are_apart,
    extrapolations,
    span,
)
from analysis.errors import FitWarning, SettingsError
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.fitting.holdout import FormName
from analysis.isoflop.crossover import Crossover, crossover
from analysis.isoflop.frontier import Frontier, frontier
from analysis.stats.power_law import LawName, percentile_interval

Json = dict[str, Any]


@dataclass(frozen=True)
class MultiplierPoint:
    """The comparison at one budget of the baseline."""

    flops: float
    loss: float
    """Compute-optimal loss of the baseline there, nats per token."""
    multiplier: float | None
    """FLOPs that `against` needs for the loss over the baseline's; None where it never does."""
    ci: tuple[float, float] | None
    """95 %; None where too many resamples never reach the loss."""
    extrapolated: bool
    """The loss is outside those that both series reached."""
    unreachable_share: float
    """Share of the resamples that never reach the loss."""
    form: FormName | None = None
    """By which the frontiers go on where it is extrapolated."""
    disagreement: float | None = None
    """What the other form says, where not even the intervals of both overlap."""


@dataclass(frozen=True)
class ExponentDifference:
    """Exponent of `against` minus that of `baseline`, by paired draws."""

    baseline: float
    against: float
    difference: float
    difference_ci: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """What `sweeper compare` says."""

    baseline: str
    against: str
    points: tuple[MultiplierPoint, ...]
    """At the budgets of both series."""
    curve: tuple[MultiplierPoint, ...]
    """Dense, over the same range, for drawing."""
    exponents: dict[LawName, ExponentDifference | None]
    verdict: str
    warnings: tuple[FitWarning, ...]
    crossover: Crossover | None = None
    """Where the two frontiers meet; None where they do not near the data, or one is missing."""


def compare(result: FitResult, baseline: str, against: str) -> Comparison:
    """Compare two series of one fit; raises `SettingsError` for an unknown or repeated label."""
    if baseline == against:
        message = f"--baseline and --against are both {baseline!r}: name two different series"
        raise SettingsError(message)
    ours, theirs = result.family(baseline), result.family(against)
    own, other = Outlook.of(ours), Outlook.of(theirs)
    warnings = [c for c in result.warnings if c.family in (None, baseline, against)]
    names: tuple[LawName, ...] = ("params", "tokens", "loss")
    exponents = {name: _exponent_difference(ours, theirs, name) for name in names}
    if own is None or other is None:
        lacking = baseline if own is None else against
        message = f"{lacking} has no frontier: fewer than two of its budgets are bracketed"
        verdict = (
            f"{against} and {baseline} cannot be compared: {message}; `propose` names runs to add."
        )
        warnings.append(FitWarning("no_frontier", message, lacking))
        return Comparison(baseline, against, (), (), exponents, verdict, tuple(warnings))
    # Actual FLOPs by nominal ones, of the bracketed budgets of either; the baseline's win.
    actual: dict[float, float] = {}
    for isoflop in (theirs.isoflop, ours.isoflop):
        if isoflop is not None:
            actual |= {optimum.budget_flops: optimum.flops for optimum in isoflop.bracketed}
    budgets = sorted(actual.items())
    read = multipliers(own, other)
    points = tuple(read(nominal, flops) for nominal, flops in budgets)
    dense = np.geomspace(budgets[0][1], budgets[-1][1], 41)
    curve = tuple(read(float(c), float(c)) for c in dense)
    warnings += [c for point in points for c in _point_warnings(point, baseline, against)]
    if all(point.extrapolated for point in points):
        message = (
            f"no budget lies where both were observed: {baseline} reached "
            f"{_range(own)} nats per token, {against} {_range(other)}; every multiplier is "
            "extrapolated"
        )
        warnings.append(FitWarning("no_overlap", message))
    verdict = _verdict(points, baseline, against)
    met = crossover(own.observed, other.observed)
    return Comparison(baseline, against, points, curve, exponents, verdict, tuple(warnings), met)


def multiplier_between(
    result: FitResult, baseline: str, against: str, flops: float
) -> MultiplierPoint | None:
    """The comparison at one budget, observed or not; None where a series has no frontier."""
    own, other = Outlook.of(result.family(baseline)), Outlook.of(result.family(against))
    return None if own is None or other is None else multiplier_at(own, other, flops, flops)


def compare_all(result: FitResult) -> tuple[Comparison, ...]:
    """Every pair of series, the one with the lower loss at the largest budget as baseline."""
    budgets = [flops for fit in result.families.values() for flops in fit.points.budgets_K]
    if not budgets:
        return ()

    def loss_at_largest(label: str) -> float:
        found = frontier(result.families[label].isoflop)
        return math.inf if found is None else float(found.log_loss(math.log(max(budgets)))[0])

    ranked = sorted(result.families, key=loss_at_largest)
    return tuple(compare(result, *pair) for pair in itertools.combinations(ranked, 2))


@dataclass(frozen=True)
class Stretch:
    """Neighbouring points of a curve that are all observed or all extrapolated."""

    points: tuple[MultiplierPoint, ...]
    is_extrapolated: bool


def stretches(curve: Iterable[MultiplierPoint]) -> list[Stretch]:
    """Cut a curve where its flag changes or a value is missing."""

    def flag(point: MultiplierPoint) -> bool | None:
        return None if point.multiplier is None else point.extrapolated

    groups = [(found, tuple(group)) for found, group in itertools.groupby(curve, key=flag)]
    pieces = []
    for index, (is_extrapolated, members) in enumerate(groups):
        if is_extrapolated is None:
            continue
        before = groups[index - 1] if index else (None, ())
        after = groups[index + 1] if index + 1 < len(groups) else (None, ())
        if is_extrapolated:  # reaches to the observed stretch on either side
            left = before[1][-1:] if before[0] is False else ()
            right = after[1][:1] if after[0] is False else ()
            members = (*left, *members, *right)
        pieces.append(Stretch(members, is_extrapolated))
    return pieces


def to_json(comparison: Comparison, sensitivity: Json | None = None) -> Json:
    """The answer of `sweeper compare --json`: numbers are finite or null."""
    return {
        "baseline": comparison.baseline,
        "against": comparison.against,
        "points": [
            notation.to_json(point, "flops", "multiplier", "ci", "extrapolated", "form")
            for point in comparison.points
        ],
        "exponents": notation.to_json(comparison.exponents),
        "crossing": notation.to_json(comparison.crossover),
        "verdict": comparison.verdict,
        "sensitivity": sensitivity,
        "warnings": notation.to_json(comparison.warnings),
    }


def multiplier_at(own: Outlook, other: Outlook, nominal: float, flops: float) -> MultiplierPoint:
    """The comparison at one budget; its nominal FLOPs name it, its actual FLOPs are read."""
    return multipliers(own, other)(nominal, flops)


def multipliers(own: Outlook, other: Outlook) -> Callable[[float, float], MultiplierPoint]:
    """`multiplier_at` for many budgets of two series, whose forms are ranked only once."""
    # Wider by rounding: a loss observed at the edge of the overlap belongs to it.
    low = max(own.observed.loss_range[0], other.observed.loss_range[0]) * (1 - 1e-9)
    high = min(own.observed.loss_range[1], other.observed.loss_range[1]) * (1 + 1e-9)
    beyond = functools.cache(lambda: extrapolations(own, other))

    def read(nominal: float, flops: float) -> MultiplierPoint:
        point = _read(own.observed, other.observed, nominal, flops)
        if low <= point.loss <= high:
            return point
        return _extrapolated(beyond(), point, flops)

    return read


def _extrapolated(
    pairs: Sequence[FrontierPair], point: MultiplierPoint, flops: float
) -> MultiplierPoint:
    """By all forms that may hold beyond the data, in place of what the observed frontiers say."""
    nominal = point.flops
    readings = [_read(pair.own, pair.other, nominal, flops) for pair in pairs]
    first, second = readings[0], readings[-1]
    ci = None if first.ci is None or second.ci is None else span(first.ci, second.ci)
    is_disputed = first.ci is not None and second.ci is not None and are_apart(first.ci, second.ci)
    return dataclasses.replace(
        first,
        loss=point.loss,
        ci=ci,
        extrapolated=True,
        unreachable_share=max(reading.unreachable_share for reading in readings),
        form=pairs[0].form,
        disagreement=second.multiplier if is_disputed else None,
    )


def _read(own: Frontier, other: Frontier, nominal: float, flops: float) -> MultiplierPoint:
    """The comparison by these two frontiers."""
    log_loss_R = own.log_loss(float(np.log(flops)))
    log_ratio_R = other.log_flops_reaching(log_loss_R) - np.log(flops)
    draws_R, estimate = log_ratio_R[1:], log_ratio_R[0]
    reached_R = np.isfinite(draws_R)
    unreachable_share = float(1 - reached_R.mean())
    multiplier, ci = _finite_exp(estimate), None
    # With more resamples that never reach the loss, the upper end is unknown.
    if multiplier is not None and unreachable_share <= 0.025:
        lower, upper = (_finite_exp(end) for end in percentile_interval(draws_R[reached_R]))
        ci = None if lower is None or upper is None else (lower, upper)
    return MultiplierPoint(
        flops=nominal,
        loss=float(np.exp(log_loss_R[0])),
        multiplier=multiplier,
        ci=ci,
        extrapolated=False,
        unreachable_share=unreachable_share,
    )


def _range(series: Outlook) -> str:
    low, high = series.observed.loss_range
    return f"{low:.4g}–{high:.4g}"


def _finite_exp(log_value: float) -> float | None:
    return float(np.exp(log_value)) if np.isfinite(log_value) and abs(log_value) < 700 else None


def _exponent_difference(
    ours: FamilyFit, theirs: FamilyFit, name: LawName
) -> ExponentDifference | None:
    if ours.isoflop is None or theirs.isoflop is None:
        return None
    own, other = (getattr(fit.isoflop, f"{name}_law") for fit in (ours, theirs))
    if own is None or other is None:
        return None
    return ExponentDifference(
        baseline=own.exponent,
        against=other.exponent,
        difference=other.exponent - own.exponent,
        difference_ci=percentile_interval(other.exponent_R - own.exponent_R),
    )


def _point_warnings(point: MultiplierPoint, baseline: str, against: str) -> list[FitWarning]:
    where = f"at {point.flops:.3g} FLOPs"
    if point.multiplier is None:
        message = f"{where} {against} does not reach the loss of {baseline}, {point.loss:.4g}"
        return [FitWarning("unreachable", message, against, point.flops)]
    if point.ci is None:
        message = (
            f"{where} {against} reaches the loss of {baseline} in "
            f"{1 - point.unreachable_share:.0%} of the resamples only: no interval"
        )
        return [FitWarning("possibly_unreachable", message, against, point.flops)]
    if point.disagreement is not None and point.form is not None:
        message = (
            f"{where} the {FORM_NAMES[point.form]} says {point.multiplier:.3g}×, the other form "
            f"{point.disagreement:.3g}×; the interval spans both"
        )
        return [FitWarning("forms_disagree", message, against, point.flops)]
    return []


def _verdict(points: tuple[MultiplierPoint, ...], baseline: str, against: str) -> str:
    # The largest budget inside the overlap speaks; without one, the largest.
    observed = [point for point in points if not point.extrapolated and point.ci is not None]
    point = (observed or list(points))[-1]
    where = f"At {notation.flops(point.flops)} FLOPs"
    target = f"{point.loss:.3f} nats/token"
    if point.multiplier is None:
        return f"{where} {against} does not reach the {target} of {baseline} at any compute."
    remark = " (extrapolated)" if point.extrapolated else ""
    if point.ci is not None and point.ci[0] <= 1 <= point.ci[1]:
        remark += "; the interval includes 1, so neither is shown to be better"
    value = notation.with_interval(
        point.multiplier, point.ci, notation.ratio, without=notation.NO_INTERVAL
    )
    return f"{where} {against} needs {value} the compute of {baseline} to reach {target}{remark}."
