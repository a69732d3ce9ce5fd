"""Rounds: how a sweep goes on by itself until what it asks is answered.

What a round adds follows from the sweep's file and from the results of the rounds before it, and
from nothing else. So a sweep that was killed finds its round again by deciding every earlier one
once more, and its plan is the one that it would have had.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.errors import ConfigError
from sweeper.verbs.driving.chosen_runs import Answer, answer_to, chosen_runs

if TYPE_CHECKING:
    from analysis.answers.propose import Proposal
    from analysis.fitting.fit import FitResult
    from sweeper.planning.planner import PlannedSweep
    from sweeper.store.layout import Store
    from sweeper.sweepfile.schema import LoadedSweep, Sweep

N_BOOTSTRAP = 400  # resamples behind the interval that decides whether a round follows
MAX_ROUNDS = 8  # where the sweep file does not ask a question, which has a number of its own


@dataclass(frozen=True)
class Rounds:
    """The rounds of one sweep."""

    store: "Store"
    bfloat16_from_width: float

    def latest(
        self, loaded: "LoadedSweep", planned: "PlannedSweep"
    ) -> "tuple[LoadedSweep, PlannedSweep]":
        """The round that a sweep is at, by what was published."""
        while loaded.sweep.goes_on and self._is_complete(planned):
            if (following := self.after(loaded, planned, lambda _: None)) is None:
                break
            loaded, planned = following
        return loaded, planned

    def after(
        self, loaded: "LoadedSweep", planned: "PlannedSweep", tell: Callable[[str], None]
    ) -> "tuple[LoadedSweep, PlannedSweep] | None":
        """The round after a complete one; None where the sweep needs or may have no more."""
        sweep, number = loaded.sweep, 1 + _rounds_so_far(loaded.sweep)
        if not sweep.goes_on:
            return None
        if number > (MAX_ROUNDS if sweep.ask is None else sweep.ask.rounds):
            tell(f"no further round: {number - 1} were allowed")
            return None
        result = self._fit(planned)
        answer = answer_to(result, sweep)
        spent = planned.totals.train_flops
        left = min(sweep.limits.flops, _total(sweep)) - spent
        chosen = chosen_runs(result, sweep, answer, spent, left)
        revised_to = self._revision(loaded, planned, chosen, number, _so_far(sweep, answer))
        if revised_to is None:
            tell(f"no further round, {_reason(sweep, answer, left)}{_so_far(sweep, answer)}")
            return None
        revision, replanned, kept = revised_to
        if self._is_complete(replanned) and len(replanned.trials) == len(planned.trials):
            tell(f"no further round: nothing new to train{_so_far(sweep, answer)}")
            return None
        for line in (
            revision.document.remarks[-1],
            *(f"  {_named(each)}: {each.why}" for each in kept),
        ):
            tell(line)
        return revision, replanned

    def _revision(
        self,
        loaded: "LoadedSweep",
        planned: "PlannedSweep",
        chosen: "Sequence[Proposal]",
        number: int,
        so_far: str,
    ) -> "tuple[LoadedSweep, PlannedSweep, Sequence[Proposal]] | None":
        """The sweep with as many of the chosen runs, best first, as its limits allow; or None."""
        from sweeper.planning.planner import plan_revision
        from sweeper.sweepfile.document import revised
        from sweeper.sweepfile.schema import validated

        for n_runs in range(len(chosen), 0, -1):
            kept = chosen[:n_runs]
            entries = [*_entries(loaded.document.value), *_as_entries(kept, number)]
            flops = math.fsum(each.run.flops_added for each in kept)
            remark = f"round {number}: {n_runs} runs, {flops:.2g} FLOPs{so_far}"
            revision = validated(revised(loaded.document, "design.added", entries, remark))
            try:
                replanned = plan_revision(
                    revision, planned.corpus, bfloat16_from_width=self.bfloat16_from_width
                )
            except ConfigError:  # whole steps cost a little more than was counted on
                continue
            return revision, replanned, kept
        return None

    def proposals(self, planned: "PlannedSweep") -> str:
        """Runs that would bracket the budgets that are open, as `sweeper propose` shows them."""
        from analysis.answers.propose import Request, propose
        from analysis.report.text import proposals_text

        result = self._fit(planned)
        found = propose(result, Request(tuple(result.families), "params", None))
        if not any(each.purpose == "bracket" for each in found.proposals):
            return "every budget is bracketed"
        return proposals_text(found)

    def _is_complete(self, planned: "PlannedSweep") -> bool:
        from sweeper.store.pending import pending_trials
        from sweeper.store.results import published

        return not pending_trials(planned.trials, published(self.store))

    def _fit(self, planned: "PlannedSweep") -> "FitResult":
        """A fit of what a plan asks for, whatever else the folder holds."""
        from analysis.fitting.fit import FitSettings, fit_table
        from analysis.tables.store_table import from_observations, with_batch_and_rate
        from sweeper.store.tables import build_tables

        tables = build_tables(self.store, planned.plan)
        frame = tables["observations"].to_pandas()
        points = {(e.trajectory_id, cell.step) for e in planned.trials for cell in e.cells}
        mine = [point in points for point in zip(frame.trajectory_id, frame.step, strict=True)]
        frame = with_batch_and_rate(frame[mine], tables["trials"].to_pandas())
        table = from_observations(frame, planned.plan.name, None, None)
        return fit_table(table, FitSettings(n_bootstrap=N_BOOTSTRAP))


def _named(each: "Proposal") -> str:
    seed = f", seed {each.run.seed}" if each.run.seed else ""
    return f"{each.run.family} {each.run.params:,.0f}{seed}"


def _words(sweep: "Sweep", answer: Answer) -> str:
    assert sweep.ask is not None
    about = " and ".join(sweep.ask.labels)
    return f"the interval of {sweep.ask.interval} of {about} is a factor {answer.ratio:.3g} wide"


def _so_far(sweep: "Sweep", answer: Answer | None) -> str:
    if sweep.ask is None:
        return ""
    if answer is None:
        return f"; there is no interval of {sweep.ask.interval} yet"
    beyond = ", beyond the bracketed budgets" if answer.is_open else ""
    return f"; {_words(sweep, answer)}{beyond}, asked for {sweep.ask.within:g}"


def _reason(sweep: "Sweep", answer: Answer | None, left: float) -> str:
    """Why nothing is added, with so many FLOPs left."""
    if sweep.ask is not None and answer is not None and answer.settles(sweep.ask.within):
        return "the question is answered"
    return "the limit on FLOPs is reached" if left <= 0 else "nothing left to add"


def _total(sweep: "Sweep") -> float:
    return math.inf if sweep.design.auto is None else sweep.design.auto.flops


def _rounds_so_far(sweep: "Sweep") -> int:
    return max((entry.round for entry in sweep.design.added), default=0)


def _entries(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """The added runs that a sweep file has, as plain values."""
    return list(sweep["design"].get("added", ()))


def _as_entries(chosen: "Iterable[Proposal]", number: int) -> list[dict[str, Any]]:
    """Runs as entries of `design.added`."""
    return [
        {
            "series": each.run.family,
            "size": int(each.run.params),
            "budgets": [f"{budget:.6g}" for budget in each.run.budgets],
            "seeds": [each.run.seed],
            "round": number,
            "why": each.why,
            "optional": True,
        }
        for each in chosen
    ]
