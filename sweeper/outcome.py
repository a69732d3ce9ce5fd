"""How a run of the driver ended."""

from dataclasses import dataclass
from typing import Literal

EndReason = Literal["complete", "interrupted", "limit"]
"""Nothing is left to start; a signal stopped the driver; a limit forbids what is left."""


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
        if self.reason == "interrupted":
            return 3
        if self.reason == "limit":
            return 4
        return 1 if self.n_failed else 0
