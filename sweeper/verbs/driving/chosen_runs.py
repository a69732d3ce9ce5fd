"""How wide the answer to a sweep's question is, and the runs of the round that follows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.answers.propose import Proposal, Proposals, Request
    from analysis.fitting.fit import FitResult
    from analysis.isoflop.isoflop import Optimum
    from sweeper.sweepfile.schema import Sweep

ROUND_SHARE = 0.25
"""Most FLOPs to narrow an answer in one round, in units of all before it."""


@dataclass(frozen=True)
class Answer:
    """How wide the interval is that a sweep asks for."""

    ratio: float
    """Upper over lower end."""
    is_open: bool
    """Whether it is read beyond the bracketed budgets of a series, where open ones lie."""

    def settles(self, within: float) -> bool:
        """Whether it is as narrow as asked, and no bracket is missing that it needs."""
        return self.ratio <= within and not self.is_open


def answer_to(result: "FitResult", sweep: "Sweep") -> Answer | None:
    """The answer to the question of a sweep; None where there is none yet."""
    from analysis.answers.compare import multiplier_between
    from analysis.answers.predict import predict

    ask = sweep.ask
    if ask is None or not set(ask.labels) <= set(result.families):
        return None
    fits = [result.families[label].isoflop for label in ask.labels]
    optima = [fit.optima for fit in fits if fit is not None]
    bracketed = [each.flops for own in optima for each in own if each.bracketed]
    if not bracketed:
        return None
    flops = ask.at or max(bracketed)
    if ask.interval == "multiplier":
        point = multiplier_between(result, ask.labels[0], ask.labels[1], flops)
        ci, is_beyond = (None, False) if point is None else (point.ci, point.extrapolated)
    else:
        predicted = predict(result, ask.labels[0], flops)
        estimate = getattr(predicted, ask.interval)
        ci = None if estimate is None else estimate.ci
        is_beyond = predicted.extrapolation_decades > 0
    if ci is None or ci[0] <= 0:
        return None
    return Answer(ci[1] / ci[0], is_beyond and any(map(_is_open_above, optima)))


def _is_open_above(optima: "Sequence[Optimum]") -> bool:
    """Whether a series has open budgets above its bracketed ones."""
    largest = max((each.flops for each in optima if each.bracketed), default=0.0)
    return any(each.flops > largest for each in optima)


def chosen_runs(
    result: "FitResult", sweep: "Sweep", answer: Answer | None, spent: float, left: float
) -> "list[Proposal]":
    """Runs of the round after `spent` FLOPs, with `left`: first what brackets open budgets, then
    what narrows the answer most.
    """
    from analysis.answers.propose import Request, bracketing_runs

    chosen: list[Proposal] = []
    # Whether or not a checkpoint is still there: a round follows from file and results alone.
    resumes = sweep.checkpoints_kept_until != "published"
    # The budgets of `auto` only serve the question: where it needs no bracket, others tell more.
    brackets = answer is None or answer.is_open or sweep.design.auto is None
    if sweep.brackets and brackets and left > 0:
        chosen += bracketing_runs(result, left, resumes=resumes)
    left -= math.fsum(each.run.flops_added for each in chosen)
    ask, spend = sweep.ask, min(left, ROUND_SHARE * spent)
    if ask is not None and spend > 0 and (answer is None or not answer.settles(ask.within)):
        request = Request(
            ask.labels,
            ask.interval,
            ask.at,
            within=ask.within,
            resumes=resumes,
            brackets=brackets,
        )
        known = {each.run.name for each in chosen}
        found = _narrowing(result, request, answer, spend, must_add=not chosen)
        chosen += [each for each in found.proposals if each.run.name not in known]
    return chosen


def _narrowing(
    result: "FitResult", request: "Request", answer: Answer | None, spend: float, *, must_add: bool
) -> "Proposals":
    """The runs that tell most of an answer which is not as narrow as asked."""
    from analysis.answers.propose import narrower, next_runs

    found = next_runs(result, request, spend)
    expected, within = found.ratio_now or 1.0, request.within or 1.0
    if found.proposals or not must_add or answer is None:
        return found
    if answer.ratio <= within or expected <= 1.0:
        return found
    # Expected to be as narrow as asked, and is not.
    return next_runs(result, narrower(request, expected, answer.ratio), spend)
