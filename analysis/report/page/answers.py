"""The first thing on the page: who is better at the budget, by how much, how sure.

Where the interval includes equal compute, the page says which runs would be expected to tell.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis import notation
from analysis.answers.compare import Comparison, MultiplierPoint, multiplier_between
from analysis.answers.propose import Proposals, Request, narrower, next_runs
from analysis.fitting.fit import FitResult
from analysis.report.page.charts.forests import answer_chart
from analysis.report.page.charts.vega import Json
from analysis.report.tables import Table
from analysis.report.text import fragment
from analysis.sensitivity.conclusions import Sensitivity

LEAST_WITHIN = 1.02
"""Upper over lower end of an interval that is worth asking for: series that are equal to a percent
are called equal."""
MAX_PROPOSED_POINTS = 5000
"""Of a table; what to run next in a larger one takes longer to find than its page."""

MAX_RUNS = 40
"""That the page proposes: nobody reads on, and each takes as long to find as the one before."""


@dataclass(frozen=True)
class Answer:
    """One pair of series."""

    baseline: str
    against: str
    status: Literal["shown", "open", "none"]
    sentence: str
    remark: str
    chart: Json | None
    runs: Table | None = None
    fragment: str = ""
    """YAML of the runs that would tell."""


def answer(
    fit: FitResult, comparison: Comparison, tried: Sensitivity | None, flops: float | None
) -> Answer:
    """What the data say of a pair at a budget, or at the largest that both observed."""
    pair = comparison.baseline, comparison.against
    if not comparison.points:
        return _unbracketed(fit, comparison, flops)
    point = None if flops is None else multiplier_between(fit, *pair, flops)
    point = point or _spoken(comparison.points)
    status, sentence = _sentence(point, *pair)
    chart = answer_chart(comparison.points, point, *pair)
    remark = _how_sure(point, tried)
    if status == "shown":
        return Answer(*pair, status, sentence, remark, chart)
    found = _would_tell(fit, point, pair)
    if found is None:
        return Answer(*pair, status, sentence + ".", remark, chart)
    if not found.proposals:
        text = f"{sentence}; twice the compute spent so far is not expected to tell."
        return Answer(*pair, status, text, remark, chart)
    n = len(found.proposals)
    runs, in_all = ("this run", "") if n == 1 else (f"these {n} runs", " in all")
    would = f"{sentence}; {runs} of {notation.flops(found.flops)} FLOPs{in_all} would"
    if not _is_enough(found) and n >= MAX_RUNS:
        would = (
            f"{sentence}; more than {n} runs are expected to be needed, of which these come first"
        )
    elif not _is_enough(found):
        would = f"{sentence}; {runs}, twice the compute spent, would tell more but not enough"
    return Answer(
        *pair, status, f"{would}.", remark, chart, _runs_table(found), fragment(found).rstrip()
    )


def _unbracketed(fit: FitResult, comparison: Comparison, flops: float | None) -> Answer:
    """Of a pair that cannot be compared: why, and what would bracket its budgets."""
    pair = comparison.baseline, comparison.against
    lacking = next(each for each in comparison.warnings if each.code == "no_frontier")
    request = Request(pair, "multiplier", flops, resumes=False)
    found = next_runs(fit, request, _spent(fit, pair), MAX_RUNS)
    sentence = f"Cannot tell yet: {lacking.message}"
    if not found.proposals:
        return Answer(*pair, "none", f"{sentence}.", "", None)
    n = len(found.proposals)
    runs = "this run is" if n == 1 else f"these {n} runs are"
    text = f"{sentence}; {runs} where minima may lie, {notation.flops(found.flops)} FLOPs in all."
    table, yaml = _runs_table(found), fragment(found).rstrip()
    return Answer(*pair, "none", text, "", None, table, yaml)


def _spent(fit: FitResult, pair: tuple[str, str]) -> float:
    """FLOPs of the runs of both series."""
    total = 0.0
    for label in pair:
        points = fit.families[label].points
        _, run_P = np.unique(points.run_P, return_inverse=True)
        last = np.zeros(int(run_P.max()) + 1)
        np.maximum.at(last, run_P, points.flops_P)
        total += float(last.sum())
    return total


def _spoken(points: Sequence[MultiplierPoint]) -> MultiplierPoint:
    """As in `compare`: the largest budget that both observed, else the largest."""
    observed = [point for point in points if not point.extrapolated and point.ci is not None]
    return (observed or list(points))[-1]


def _sentence(
    point: MultiplierPoint, baseline: str, against: str
) -> tuple[Literal["shown", "open"], str]:
    at = f"At {notation.flops(point.flops)} FLOPs"
    if point.multiplier is None:
        return "shown", f"{at} {baseline} is better: {against} reaches its loss at no compute."
    value = notation.with_interval(point.multiplier, point.ci, notation.ratio)
    if point.ci is None or point.ci[0] <= 1.0 <= point.ci[1]:
        needs = f"{against} needs {value} the compute of {baseline} for equal loss"
        return "open", f"Cannot tell yet {at[0].lower()}{at[1:]}: {needs}"
    if point.ci[0] > 1.0:
        return "shown", f"{at} {baseline} is better: {against} needs {value} its compute."
    return "shown", f"{at} {against} is better: it needs {value} the compute of {baseline}."


def _how_sure(point: MultiplierPoint, tried: Sensitivity | None) -> str:
    """One line: what the interval is, and under how many variations the side is the same."""
    parts = ["brackets hold 95 % of the resamples" if point.ci else "no interval: too few data"]
    if point.extrapolated:
        parts.append("extrapolated")
    if tried is not None and (found := tried.of("multiplier")).tried:
        n = len(found.tried)
        parts.append(f"the same side under {n - len(found.changed)} of {n} variations")
    line = "; ".join(parts)
    return f"{line[0].upper()}{line[1:]}."


def _would_tell(fit: FitResult, point: MultiplierPoint, pair: tuple[str, str]) -> Proposals | None:
    """Runs for as much compute as was spent, fewer where the answer is then expected."""
    points = [fit.families[label].points for label in pair]
    if point.multiplier is None or sum(len(each.loss_P) for each in points) > MAX_PROPOSED_POINTS:
        return None
    # An interval about the present value leaves out 1 once it is no wider than its square.
    within = max(math.exp(2.0 * abs(math.log(point.multiplier))), LEAST_WITHIN)
    request = Request(pair, "multiplier", point.flops, within=within, resumes=False)
    spend = _spent(fit, pair)
    found = next_runs(fit, request, spend, MAX_RUNS)
    ratio = 1.0 if point.ci is None else point.ci[1] / point.ci[0]
    if found.proposals or ratio <= 1.0 or (found.ratio_now or 1.0) <= 1.0:
        return found
    # The width to be expected may be less than that of the interval: both shrink by one factor.
    again = narrower(request, found.ratio_now or 1.0, ratio)
    return next_runs(fit, again, spend, MAX_RUNS)


def _is_enough(found: Proposals) -> bool:
    within = found.request.within
    return found.ratio_after is not None and within is not None and found.ratio_after <= within


def _runs_table(found: Proposals) -> Table:
    rows = [
        (
            each.run.family,
            notation.count(each.run.params),
            notation.count(each.run.tokens),
            str(each.run.seed),
            notation.flops(each.run.flops_added),
            each.why,
        )
        for each in found.proposals
    ]
    return Table(("series", "size", "tokens", "seed", "FLOPs", "why"), tuple(rows), n_text=1)
