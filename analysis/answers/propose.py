"""Which runs to add: those that bracket open budgets, then those that tell most of an interval.

Suffixes: n options.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from analysis.answers.asked import Asked, Interval, asked_of
from analysis.answers.bracketing import bracketing
from analysis.answers.candidates import (
    CandidateRun,
    Nearest,
    Option,
    merged,
    nearest_rung,
    options,
    three_digits,
)
from analysis.answers.predict import BUDGETS
from analysis.answers.prospect import Limit, Prospect, SeriesProspect
from analysis.answers.run_noise import ASSUMED_RUN_SHARE
from analysis.errors import FitWarning, SettingsError
from analysis.fitting.fit import FamilyFit, FitResult
from sweeper.errors import did_you_mean

Json = dict[str, Any]

LEAST_OF_BEST = 0.1
"""Of the best option's effect, the least that one per FLOP is taken for: the cheapest budget would
get ever more runs that tell next to nothing."""
LARGEST_SHARE = 0.9
"""Of the width that is expected of what there is, the most that `narrower` asks for."""
LEAST_OF_LEFT = 1e-3
"""Of the squared widths that are left, the least effect of an option that is worth its name."""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    families: tuple[str, ...]
    """Series to add runs to; of `multiplier`, the baseline and the series against it."""
    interval: Interval
    """Of N*, D* or L* at a budget, or of the multiplier between two series there."""
    flops: float | None
    """Budget at which the interval should shrink; None is the largest bracketed one."""
    n_runs: int = 8
    """How many `propose` names; `next_runs` goes by FLOPs."""
    within: float | None = None
    """Upper end over lower end of the 95 % interval that is narrow enough; None: as narrow as the
    runs make it."""
    resumes: bool = True
    """Whether a longer run goes on where a trained one ended, for the difference in FLOPs; else it
    is trained again from its start."""
    brackets: bool = True
    """Whether open budgets are bracketed first, for up to half of what may be added."""

    def __post_init__(self) -> None:
        if self.interval not in (known := get_args(Interval)):
            hint = did_you_mean(self.interval, known)
            message = f"--interval {self.interval}: expected one of {', '.join(known)}{hint}"
            raise SettingsError(message)
        if self.flops is not None and not BUDGETS[0] <= self.flops <= BUDGETS[1]:
            message = f"--at {self.flops:g}: expected a budget of {BUDGETS[0]:g} to {BUDGETS[1]:g}"
            raise SettingsError(f"{message} FLOPs, say 1e21")
        if self.n_runs < 1:
            raise SettingsError(f"--number {self.n_runs}: expected 1 or more")
        if self.within is not None and not self.within > 1.0:
            message = f"within {self.within:g}: expected the upper end over the lower one, say 1.5"
            raise SettingsError(message)
        if self.interval == "multiplier" and len(set(self.families)) != 2:
            raise SettingsError(
                "--interval multiplier: expected two series, one as --baseline and one as --family"
            )


def narrower(request: Request, expected: float, found: float) -> Request:
    """The request for as much less than is asked as was expected less than found of what there is;
    `expected` and `found` are ratios of an interval's ends above 1.
    """
    assert request.within is not None, "only a request for a width can be narrower"
    share = min(math.log(request.within) / math.log(found), LARGEST_SHARE)
    return dataclasses.replace(request, within=expected**share)


@dataclass(frozen=True)
class Proposal:
    """One run to add."""

    run: CandidateRun
    purpose: Literal["bracket", "precision"]
    why: str
    width: float | None
    """Of the interval, with this run and those ranked above it, over its present width."""


@dataclass(frozen=True)
class Proposals:
    """What `sweeper propose` says, best first."""

    request: Request
    target_flops: float | None
    """Budget of the interval; None where there is no interval to shrink."""
    proposals: tuple[Proposal, ...]
    n_more: int
    """Bracketing runs beyond those asked for."""
    ratio_now: float | None
    """Upper over lower end of the 95 % interval to be expected from what was observed, of several
    series the widest; None where there is no interval."""
    ratio_after: float | None
    """With all proposed runs."""
    warnings: tuple[FitWarning, ...]

    @property
    def flops(self) -> float:
        """FLOPs to be spent on all."""
        return sum(proposal.run.flops_added for proposal in self.proposals)


def propose(result: FitResult, request: Request) -> Proposals:
    """The `n_runs` runs to add; raises `SettingsError` for an unknown series."""
    return _planned(result, request, Limit(request.n_runs, math.inf))


def next_runs(
    result: FitResult, request: Request, spend: float, most: float = math.inf
) -> Proposals:
    """The runs to add for `spend` FLOPs, at most so many, fewer where the interval is then expected
    to be narrow enough; raises `SettingsError` for an unknown series.
    """
    if not spend > 0.0:
        raise SettingsError(f"{spend:g} FLOPs to spend: expected more than 0")
    return _planned(result, request, Limit(most, spend))


def bracketing_runs(
    result: FitResult, spend: float, *, resumes: bool = True
) -> tuple[Proposal, ...]:
    """What would bracket the open budgets of all series, for at most `spend` FLOPs."""
    request = Request(tuple(result.families), "params", None, resumes=resumes)
    return _planned(result, request, Limit(math.inf, spend), narrows=False).proposals


def _planned(
    result: FitResult, request: Request, limit: Limit, *, narrows: bool = True
) -> Proposals:
    fits = [result.family(label) for label in request.families]
    nearest = nearest_rung if result.params_convention == "trunk" else three_digits
    # The largest bracketed budget, else the most compute that a surface was fitted to.
    bracketed = [o.flops for fit in fits if fit.isoflop for o in fit.isoflop.bracketed]
    with_surface = [float(fit.points.flops_P.max()) for fit in fits if fit.surface is not None]
    target_flops = request.flops or max(bracketed or with_surface, default=None)
    quantities = []
    if narrows and target_flops is not None:
        quantities = asked_of(fits, request.interval, target_flops)
    asked = {part.fit.family: part for each in quantities for part in each}
    start = Prospect(
        {
            f.family: SeriesProspect.of(f, asked.get(f.family), resumes=request.resumes)
            for f in fits
        },
        tuple(tuple(part.fit.family for part in each) for each in quantities),
        0.0 if request.within is None else 0.5 * math.log(request.within),
    )
    first = [
        pair
        for fit in fits
        if request.brackets
        for pair in bracketing(fit, start.series[fit.family].known, nearest)
    ]
    first.sort(key=lambda pair: pair[0].flops)
    # While there is an interval to shrink, open budgets get at most half.
    shown, room = [], limit.half if quantities else limit
    for run, why in first:
        if room.allows(Option((run,))):
            shown.append((run, why))
            room = room.left([run])
    state, left, chosen = start, limit.left([run for run, _ in shown]), list[Option]()
    for run, _ in shown:
        state = state.after(Option((run,)))
    for label, part in asked.items():
        drawn = _drawing(state.series[label], part, nearest, left)
        if drawn is not None:
            chosen.append(drawn)
            state, left = state.after(drawn), left.left(drawn.runs)
    if quantities:
        chosen += _greedy(state, left, nearest)
    ranked, end = _told_one_by_one(start, shown, chosen)
    return Proposals(
        request=request,
        target_flops=target_flops if quantities else None,
        proposals=tuple(ranked),
        n_more=len(first) - len(shown),
        ratio_now=start.ratio if quantities else None,
        ratio_after=end.ratio if quantities else None,
        warnings=tuple(_warnings(result, fits, start)),
    )


def _drawing(series: SeriesProspect, asked: Asked, nearest: Nearest, limit: Limit) -> Option | None:
    """The runs of the new budget without which what is asked would be read beyond all budgets; as
    many of them as are allowed: a later round completes them.
    """
    # A law is precise beyond its budgets, and wrong: the greedy choice would not see the need.
    numbers = series.known.levels.set_K
    for each in options(series.known, nearest):
        if each.new_level is None or numbers[each.new_level] != asked.beyond:
            continue
        if limit.allows(each):
            return each
        some = list[CandidateRun]()
        for run in each.runs:
            if limit.left(some).allows(Option((run,))):
                some.append(run)
        return Option(tuple(some)) if some else None
    return None


def _greedy(state: Prospect, limit: Limit, nearest: Nearest) -> list[Option]:
    """Options by what they remove of the widths per FLOP, each given those before it."""
    chosen = list[Option]()
    asked = {label for each in state.quantities for label in each}
    while (now := state.excess) > 0.0:
        found = [(label, state.series[label].choices(nearest)) for label in sorted(asked)]
        every = [each for _, choices in found for each in choices.options]
        fall_n = now - np.concatenate([state.excesses(*each) for each in found])
        flops_n = np.concatenate([choices.flops_n for _, choices in found])
        n_runs_n = np.concatenate([choices.n_runs_n for _, choices in found])
        fall_n[(n_runs_n > limit.n_runs) | (flops_n > limit.most_flops)] = 0.0
        least = max(LEAST_OF_BEST * fall_n.max(initial=0.0), LEAST_OF_LEFT * now)
        is_worthwhile_n = fall_n >= least
        if not is_worthwhile_n.any():
            break
        best = every[int(np.argmax(np.where(is_worthwhile_n, fall_n / flops_n, 0.0)))]
        chosen.append(best)
        state, limit = state.after(best), limit.left(best.runs)
    return chosen


def _told_one_by_one(
    start: Prospect, shown: Sequence[tuple[CandidateRun, str]], chosen: Sequence[Option]
) -> tuple[list[Proposal], Prospect]:
    """Every run once, with what it removes given those above it, and what is left in the end."""
    open_whys = {run.name: why for run, why in shown}
    runs = merged([*(run for run, _ in shown), *(run for each in chosen for run in each.runs)])
    new = {(each.runs[0].family, each.new_level) for each in chosen if each.new_level is not None}
    last_of = {
        (run.family, place.level): index for index, run in enumerate(runs) for place in run.points
    }
    state, proposals = start, list[Proposal]()
    first = before = _sum_of_squares(start)
    for index, run in enumerate(runs):
        new_levels = start.series[run.family].known.new_levels
        drawn = [
            place.level
            for place in run.points
            if (run.family, place.level) in new and last_of[run.family, place.level] == index
        ]
        state = state.after(Option((run,), next(iter(drawn), None)))
        left = _sum_of_squares(state)
        width = math.sqrt(left / first) if first > 0.0 else None
        if (why := open_whys.get(run.name)) is not None:
            proposals.append(Proposal(run, "bracket", why, width if chosen else None))
        else:
            why = (
                f"{_described(run, new_levels)}: removes {1.0 - left / before:.0%} of what is left"
            )
            proposals.append(Proposal(run, "precision", why, width))
        before = left
    return proposals, state


def _sum_of_squares(state: Prospect) -> float:
    """Of the half widths: in units of variances."""
    return sum(half**2 for half in state.half_widths())


def _described(run: CandidateRun, new_levels: Sequence[int]) -> str:
    """What a run adds to its series."""
    new = [place.flops for place in run.points if place.level in new_levels]
    if new:
        return f"one of the sizes that draw a curve at {new[-1]:.3g} FLOPs"
    if run.lengthens is not None:
        return f"goes on from {run.lengthens.flops:.3g} FLOPs"
    return "a new size" if run.kind == "size" else "another seed of a size"


def to_json(found: Proposals) -> Json:
    """The answer of `sweeper propose --json`: numbers are finite or null."""
    return {
        "interval": found.request.interval,
        "families": list(found.request.families),
        "target_flops": found.target_flops,
        "proposals": [
            {
                "rank": rank,
                "family": proposal.run.family,
                "params": proposal.run.params,
                "seed": proposal.run.seed,
                "tokens": proposal.run.tokens,
                "flops": proposal.run.flops,
                "flops_added": proposal.run.flops_added,
                "budget_flops": proposal.run.budget_flops,
                "budgets": list(proposal.run.budgets),
                "purpose": proposal.purpose,
                "why": proposal.why,
                "interval_width": proposal.width,
            }
            for rank, proposal in enumerate(found.proposals, start=1)
        ],
        "n_more": found.n_more,
        "ratio_now": found.ratio_now,
        "ratio_after": found.ratio_after,
        "warnings": [warning.to_json() for warning in found.warnings],
    }


def _warnings(result: FitResult, fits: Sequence[FamilyFit], state: Prospect) -> list[FitWarning]:
    warnings = []
    if not state.quantities:
        message = (
            "there is no interval to shrink yet: no law or surface is identified, so only what "
            "brackets a budget can be proposed; a law needs two bracketed budgets"
        )
        warnings.append(FitWarning("no_interval", message))
    if result.params_convention != "trunk":
        message = (
            f"sizes count {result.params_convention} parameters, and are not rounded to rungs: "
            "sweep files speak of trunk parameters"
        )
        warnings.append(FitWarning("sizes_are_not_rungs", message))
    for fit in fits:
        asked = state.series[fit.family].asked
        if asked is not None and fit.points.has_shared_runs and asked.curves.noise.is_assumed:
            message = (
                f"too few runs tell how much luck their points share: {ASSUMED_RUN_SHARE:.0%} of "
                "the variance is assumed to be the run's"
            )
            warnings.append(FitWarning("run_share_assumed", message, fit.family))
    return warnings
