"""How wide the answer to a sweep's question is, and the runs of the round that follows."""

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.answers.propose import Proposal, Proposals, Request
    from analysis.fitting.fit import FitResult
    from sweeper.sweepfile.schema import Sweep

ROUND_SHARE = 0.25
"""Most FLOPs to narrow an answer in one round, in units of all before it."""
NARROWEST = 1.01
"""Interval that rounds go for, where they have to go for less than what is asked."""


def answer_ratio(result: "FitResult", sweep: "Sweep") -> float | None:
    """Upper over lower end of the interval that is asked for; None where there is none yet."""
    from analysis.answers.compare import multiplier_between
    from analysis.answers.predict import predict

    ask = sweep.ask
    if ask is None or not set(ask.labels) <= set(result.families):
        return None
    curves = [result.families[label].isoflop for label in ask.labels]
    bracketed = [o.flops for fit in curves if fit is not None for o in fit.bracketed]
    if not bracketed:
        return None
    flops = ask.at or max(bracketed)
    if ask.interval == "multiplier":
        point = multiplier_between(result, ask.labels[0], ask.labels[1], flops)
        ci = None if point is None else point.ci
    else:
        estimate = getattr(predict(result, ask.labels[0], flops), ask.interval)
        ci = None if estimate is None else estimate.ci
    return ci[1] / ci[0] if ci is not None and ci[0] > 0 else None


def chosen_runs(
    result: "FitResult", sweep: "Sweep", answer: float | None, spent: float, left: float
) -> "list[Proposal]":
    """Runs of the round after `spent` FLOPs, with `left`: first what brackets open budgets, then
    what narrows the answer most; `answer` is its `answer_ratio`.
    """
    from analysis.answers.propose import Request, bracketing_runs

    chosen: list[Proposal] = []
    # Whether or not a checkpoint is still there: a round follows from file and results alone.
    resumes = sweep.checkpoints_kept_until != "published"
    # The budgets of `auto` only serve the question: once it has an answer, others tell more of it.
    brackets = answer is None or sweep.design.auto is None
    if sweep.brackets and brackets and left > 0:
        chosen += bracketing_runs(result, left, resumes=resumes)
    left -= math.fsum(each.run.flops_added for each in chosen)
    ask, spend = sweep.ask, min(left, ROUND_SHARE * spent)
    if ask is not None and spend > 0 and (answer is None or answer > ask.within):
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
    result: "FitResult", request: "Request", answer: float | None, spend: float, *, must_add: bool
) -> "Proposals":
    """The runs that tell most of an answer which is not as narrow as asked."""
    from analysis.answers.propose import next_runs

    found = next_runs(result, request, spend)
    if found.proposals or not must_add or not answer or not found.ratio_now or not request.within:
        return found
    # Expected to be as narrow as asked, and is not: expect as much less of the runs.
    within = request.within ** (math.log(found.ratio_now) / math.log(answer))
    narrower = dataclasses.replace(request, within=max(within, NARROWEST))
    return next_runs(result, narrower, spend)
