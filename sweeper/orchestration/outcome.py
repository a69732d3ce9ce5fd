"""How a run of the driver ended."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from sweeper.errors import ExitCode
from sweeper.executors.stop import StopReason
from sweeper.store.pending import DonePoints, pending_trials
from sweeper.store.results import Published
from sweeper.trials.plan import Plan

EndReason = Literal[
    "complete", "interrupted", "limit", "same_error", "disk_full", "executor", "superseded"
]
"""Nothing is left to start; somebody stopped the driver; a limit forbids what is left; many trials
ended in one error; nothing can be written any more; nothing can run any more; another driver has
taken over."""

END_REASONS: dict[StopReason, EndReason] = {
    "limit": "limit",
    "same_error": "same_error",
    "disk_full": "disk_full",
    "executor": "executor",
    "superseded": "superseded",
}
"""What stops a driver, other than a person."""

_EXIT_CODES: dict[EndReason, ExitCode] = {
    "interrupted": ExitCode.INTERRUPTED,
    "disk_full": ExitCode.INTERRUPTED,
    "executor": ExitCode.INTERRUPTED,
    "superseded": ExitCode.INTERRUPTED,
    "limit": ExitCode.LIMIT_REACHED,
    "same_error": ExitCode.SOME_FAILED,
}


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """What a driver leaves behind."""

    reason: EndReason
    n_done: int
    """Planned trials with all their results, from this and earlier runs."""
    n_diverged: int
    """Of these, trials that diverged."""
    n_failed: int
    """Trials that failed and were given up in this run."""
    n_left: int
    """Trials that wait for another run."""

    @property
    def exit_code(self) -> ExitCode:
        """Of `sweeper run`."""
        at_end = ExitCode.SOME_FAILED if self.n_failed else ExitCode.DONE
        return _EXIT_CODES.get(self.reason, at_end)


def count_outcome(
    plan: Plan, records: tuple[Published, ...], failed: Set[str], reason: EndReason
) -> SweepOutcome:
    """What the planned trials have come to."""
    done = DonePoints.of(records)
    n_failed = sum(each.trial_id in failed for each in pending_trials(plan.trials, records))
    n_done = sum(done.cover(planned) for planned in plan.trials)
    return SweepOutcome(
        reason=reason,
        n_done=n_done,
        n_diverged=sum(planned.trajectory_id in done.diverged_at for planned in plan.trials),
        n_failed=n_failed,
        n_left=len(plan.trials) - n_done - n_failed,
    )
