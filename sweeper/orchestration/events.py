"""What a driver tells whoever shows its progress. The last event is the outcome."""

from dataclasses import dataclass
from typing import Literal

from sweeper.errors import ExitCode
from sweeper.executors.base import Failure
from sweeper.store.assignment import Assignment
from sweeper.store.results import Published
from sweeper.trials.plan import PlannedTrial

EndReason = Literal[
    "complete", "interrupted", "limit", "same_error", "disk_full", "executor", "superseded"
]


@dataclass(frozen=True)
class SweepStarted:
    """The driver knows what there is to do, at first or after the plan has changed."""

    name: str
    n_planned: int
    n_done: int
    """Planned trials with all their results."""
    n_waiting: int
    """Trials that are to run, those that do included."""
    flops_planned: float
    flops_done: float
    flops_waiting: float
    """Training FLOPs of the trials that are to run, from their start."""
    waiting: tuple[PlannedTrial, ...]
    """Those that do not run yet."""
    executor: str
    n_slots: int
    device: str


@dataclass(frozen=True)
class ResultsTaken:
    """Results were taken over from other sweeps of the results folder."""

    published: tuple[Published, ...]
    settled: tuple[str, ...] = ()
    """Trials that waited and need not run any more."""


@dataclass(frozen=True)
class Notice:
    """What a person should know, and nothing else depends on."""

    text: str


@dataclass(frozen=True)
class TrialRefused:
    """A trial fits on no node, and is not started."""

    planned: PlannedTrial
    reason: str


@dataclass(frozen=True)
class TrialStarted:
    """An attempt has begun."""

    assignment: Assignment


@dataclass(frozen=True)
class TrialPublished:
    """A trial is done, or has diverged."""

    assignment: Assignment
    published: Published


@dataclass(frozen=True)
class TrialInterrupted:
    """A trial has written a checkpoint and stopped."""

    assignment: Assignment


@dataclass(frozen=True)
class TrialFailed:
    """An attempt has failed."""

    assignment: Assignment
    failure: Failure
    will_retry: bool


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """The driver has nothing left to do, or may do no more: what it leaves behind."""

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
        if self.reason == "limit":
            return ExitCode.LIMIT_REACHED
        if self.reason == "same_error" or (self.reason == "complete" and self.n_failed):
            return ExitCode.SOME_FAILED
        return ExitCode.DONE if self.reason == "complete" else ExitCode.INTERRUPTED


AttemptEvent = TrialStarted | TrialPublished | TrialInterrupted | TrialFailed
Event = SweepStarted | ResultsTaken | Notice | TrialRefused | AttemptEvent | SweepOutcome
