"""How much more compute one series needs than another, at equal compute-optimal loss.

The draws of both series come from the same random numbers, so what their runs share cancels.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis import notation
from analysis.errors import FitWarning, SettingsError
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.isoflop.crossover import Crossover, crossover
from analysis.isoflop.frontier import Frontier, frontier
from analysis.stats.power_law import LawName, percentile_interval
from analysis.tables.points import FloatArray

N_CURVE = 41
MAX_UNREACHABLE_SHARE = 0.025
"""With more resamples than this that never reach the loss, the upper end is unknown."""
EDGE_TOLERANCE = 1e-9
"""Relative: a loss observed at the edge of the overlap belongs to it."""

Json = dict[str, Any]


@dataclass(frozen=True)
class MultiplierPoint:
    """The comparison at one budget of the baseline."""

    flops: float
    loss: float
    """Compute-optimal loss of the baseline there, nats per token."""
    multiplier: float | None
    """FLOPs that `against` needs to reach the loss, over those of the baseline; None where it never
    does."""
    ci: tuple[float, float] | None
    """95 %; None where too many resamples never reach the loss."""
    extrapolated: bool
    """The loss is outside those that both series reached."""
    unreachable_share: float
    """Share of the resamples that never reach the loss."""


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
    """One sentence with numbers and their uncertainty."""
    warnings: tuple[FitWarning, ...]
    crossover: Crossover | None = None
    """Where the two frontiers meet; None where they do not near the data, or one is missing."""


def compare(result: FitResult, baseline: str, against: str) -> Comparison:
    """Compare two series of one fit; raises `SettingsError` for an unknown or repeated label."""
    if baseline == against:
        message = f"--baseline and --against are both {baseline!r}: name two different series"
        raise SettingsError(message)
    ours, theirs = result.family(baseline), result.family(against)
    own, other = frontier(ours.isoflop), frontier(theirs.isoflop)
    warnings = [
        warning for warning in result.warnings if warning.family in (None, baseline, against)
    ]
    names: tuple[LawName, ...] = ("params", "tokens", "loss")
    exponents = {name: _exponent_difference(ours, theirs, name) for name in names}
    if own is None or other is None:
        lacking = baseline if own is None else against
        message = f"{lacking} has no frontier: fewer than two of its budgets are bracketed"
        verdict = f"{against} and {baseline} cannot be compared: {message}."
        warnings.append(FitWarning("no_frontier", message, lacking))
        return Comparison(baseline, against, (), (), exponents, verdict, tuple(warnings))
    budgets = _budgets(ours, theirs)
    points = tuple(multiplier_at(own, other, nominal, flops) for nominal, flops in budgets)
    dense = np.geomspace(budgets[0][1], budgets[-1][1], N_CURVE)
    curve = tuple(multiplier_at(own, other, float(c), float(c)) for c in dense)
    warnings += [c for point in points for c in _point_warnings(point, baseline, against)]
    if all(point.extrapolated for point in points):
        warnings.append(_no_overlap(own, other, baseline, against))
    verdict = _verdict(points, baseline, against)
    met = crossover(own, other)
    return Comparison(baseline, against, points, curve, exponents, verdict, tuple(warnings), met)


def compare_all(result: FitResult) -> tuple[Comparison, ...]:
    """Every pair of series, the one with the lower loss at the largest budget as baseline."""
    budgets = [flops for fit in result.families.values() for flops in fit.points.budgets_K]
    if not budgets:
        return ()
    ranked = sorted(result.families, key=lambda label: _loss_at(result, label, max(budgets)))
    return tuple(compare(result, *pair) for pair in itertools.combinations(ranked, 2))


def to_json(comparison: Comparison, sensitivity: Json | None = None) -> Json:
    """The answer of `sweeper compare --json`: numbers are finite or null.

    `sensitivity` is what `Sensitivity.to_json` says of this comparison.
    """
    return {
        "baseline": comparison.baseline,
        "against": comparison.against,
        "points": [
            notation.to_json(point, "flops", "multiplier", "ci", "extrapolated")
            for point in comparison.points
        ],
        "exponents": notation.to_json(comparison.exponents),
        "crossing": notation.to_json(comparison.crossover),
        "verdict": comparison.verdict,
        "sensitivity": sensitivity,
        "warnings": notation.to_json(comparison.warnings),
    }


def _loss_at(result: FitResult, label: str, flops: float) -> float:
    """Log compute-optimal loss of a series, infinite without a frontier."""
    found = frontier(result.families[label].isoflop)
    return math.inf if found is None else float(found.log_loss(math.log(flops))[0])


def _budgets(ours: FamilyFit, theirs: FamilyFit) -> list[tuple[float, float]]:
    """(nominal, actual) FLOPs at which to compare: the bracketed budgets of either series."""
    chosen: dict[float, float] = {}
    for fit in (theirs, ours):  # the baseline's own actual FLOPs win
        if fit.isoflop is not None:
            chosen |= {optimum.budget_flops: optimum.flops for optimum in fit.isoflop.bracketed}
    return sorted(chosen.items())


def multiplier_at(own: Frontier, other: Frontier, nominal: float, flops: float) -> MultiplierPoint:
    """The comparison at one budget; its nominal FLOPs name it, its actual FLOPs are read."""
    log_loss_R = own.log_loss(float(np.log(flops)))
    log_ratio_R = other.log_flops_reaching(log_loss_R) - np.log(flops)
    loss = float(np.exp(log_loss_R[0]))
    low = max(own.loss_range[0], other.loss_range[0]) * (1 - EDGE_TOLERANCE)
    high = min(own.loss_range[1], other.loss_range[1]) * (1 + EDGE_TOLERANCE)
    draws_R, estimate = log_ratio_R[1:], log_ratio_R[0]
    reached_R = np.isfinite(draws_R)
    unreachable_share = float(1 - reached_R.mean())
    multiplier = _finite_exp(estimate)
    has_interval = multiplier is not None and unreachable_share <= MAX_UNREACHABLE_SHARE
    return MultiplierPoint(
        flops=nominal,
        loss=loss,
        multiplier=multiplier,
        ci=_finite_interval(draws_R[reached_R]) if has_interval else None,
        extrapolated=not low <= loss <= high,
        unreachable_share=unreachable_share,
    )


def _finite_exp(log_value: float) -> float | None:
    return float(np.exp(log_value)) if np.isfinite(log_value) and abs(log_value) < 700 else None


def _finite_interval(log_draws_R: FloatArray) -> tuple[float, float] | None:
    low, high = (_finite_exp(end) for end in percentile_interval(log_draws_R))
    return None if low is None or high is None else (low, high)


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
    warnings = []
    where = f"at {point.flops:.3g} FLOPs"
    if point.multiplier is None:
        message = f"{where} {against} does not reach the loss of {baseline}, {point.loss:.4g}"
        warnings.append(FitWarning("unreachable", message, against, point.flops))
    elif point.ci is None:
        message = (
            f"{where} {against} reaches the loss of {baseline} in "
            f"{1 - point.unreachable_share:.0%} of the resamples only: no interval"
        )
        warnings.append(FitWarning("possibly_unreachable", message, against, point.flops))
    return warnings


def _no_overlap(own: Frontier, other: Frontier, baseline: str, against: str) -> FitWarning:
    message = (
        f"no budget lies where both were observed: {baseline} reached "
        f"{own.loss_range[0]:.4g}–{own.loss_range[1]:.4g} nats per token, {against} "
        f"{other.loss_range[0]:.4g}–{other.loss_range[1]:.4g}; every multiplier is extrapolated"
    )
    return FitWarning("no_overlap", message)


def _verdict(points: tuple[MultiplierPoint, ...], baseline: str, against: str) -> str:
    """The largest budget inside the overlap speaks; without one, the largest."""
    observed = [point for point in points if not point.extrapolated and point.ci is not None]
    point = (observed or list(points))[-1]
    where = f"At {point.flops:.3g} FLOPs"
    target = f"{point.loss:.3f} nats/token"
    if point.multiplier is None:
        return f"{where} {against} does not reach the {target} of {baseline} at any compute."
    remark = " (extrapolated)" if point.extrapolated else ""
    interval = "[no interval]"
    if point.ci is not None:
        interval = f"[{point.ci[0]:.3g}, {point.ci[1]:.3g}]"
        if point.ci[0] <= 1 <= point.ci[1]:
            remark += "; the interval includes 1, so neither is shown to be better"
    return (
        f"{where} {against} needs {point.multiplier:.3g}× {interval} the compute of {baseline} "
        f"to reach {target}{remark}."
    )
