"""How a run of the driver ended."""

from dataclasses import dataclass
from typing import Literal

from sweeper.stop_signal import StopReason

EndReason = Literal["complete", "interrupted", "limit", "same_error", "disk_full", "superseded"]
"""Nothing is left to start; somebody stopped the driver; a limit forbids what is left; many trials
ended in one error; nothing can be written any more; another driver has taken over."""

END_REASONS: dict[StopReason, EndReason] = {
    "limit": "limit",
    "same_error": "same_error",
    "disk_full": "disk_full",
    "superseded": "superseded",
}
"""What stops a driver, other than a person."""

_EXIT_CODES: dict[EndReason, int] = {
    "interrupted": 3,
    "disk_full": 3,
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
