"""How a run of the driver ended."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from sweeper.executors.stop import StopReason
from sweeper.store.pending import Settled, missing
from sweeper.store.plan_file import StoredPlan
from sweeper.store.results import Published

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

_EXIT_CODES: dict[EndReason, int] = {
    "interrupted": 3,
    "disk_full": 3,
    "executor": 3,
    "superseded": 3,
    "limit": 4,
    "same_error": 1,
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
    def exit_code(self) -> int:
        """0 done, 1 some trials failed, 3 interrupted and resumable, 4 a limit was reached."""
        return _EXIT_CODES.get(self.reason, 1 if self.n_failed else 0)


def count_outcome(
    plan: StoredPlan, records: tuple[Published, ...], given_up: Set[str], reason: EndReason
) -> SweepOutcome:
    """What the planned trials have come to."""
    settled = Settled.by(records)
    n_failed = sum(each.trial_id in given_up for each in missing(plan.trials, records))
    n_done = sum(settled.has_all(planned) for planned in plan.trials)
    return SweepOutcome(
        reason=reason,
        n_done=n_done,
        n_diverged=sum(planned.trajectory_id in settled.diverged_at for planned in plan.trials),
        n_failed=n_failed,
        n_left=len(plan.trials) - n_done - n_failed,
    )
