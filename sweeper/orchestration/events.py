"""What a driver tells whoever shows its progress."""

from dataclasses import dataclass

from sweeper.executors.base import Failure
from sweeper.executors.stop import StopReason
from sweeper.orchestration.outcome import SweepOutcome
from sweeper.store.assignment import Assignment
from sweeper.store.results import Published
from sweeper.trials.plan import PlannedTrial


@dataclass(frozen=True)
class SweepStarted:
    """The driver knows what there is to do, at first or after the plan has changed."""

    name: str
    n_planned: int
    """Trials in the plan."""
    n_done: int
    """Of these, trials with all their results."""
    n_waiting: int
    """Trials that are to run, those that do included."""
    flops_planned: float
    flops_done: float
    flops_waiting: float
    """Training FLOPs of the trials that are to run, from their start."""
    work_waiting: float
    """Expected duration of those that do not run yet, from their start, in FLOPs of a worker."""
    executor: str
    n_slots: int
    device: str


@dataclass(frozen=True)
class ResultsTaken:
    """Results were taken over from other sweeps of the results folder."""

    published: tuple[Published, ...]
    work: float = 0.0
    """Expected duration, in FLOPs of a worker, of what need not run any more."""


@dataclass(frozen=True)
class PlanChanged:
    """The driver continues with another plan; `SweepStarted` follows."""

    n_added: int
    """Trials that the plan did not have."""
    n_dropped: int
    """Trials that the new one does not have."""


@dataclass(frozen=True)
class TrialRefused:
    """A trial fits on no node, and is not started."""

    planned: PlannedTrial
    reason: str


@dataclass(frozen=True)
class WaitingForNodes:
    """Nothing runs, and what waits fits on no node that is there now."""

    n_waiting: int
    first: str
    """What the first of them asks for."""


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


@dataclass(frozen=True)
class ExecutorFailed:
    """Nothing can run any more here."""

    reason: str


@dataclass(frozen=True)
class Stopping:
    """Running trials are asked to stop; nothing more is started."""

    reason: StopReason
    n_running: int


@dataclass(frozen=True)
class SweepEnded:
    """The driver has nothing left to do, or may do no more."""

    outcome: SweepOutcome


Event = (
    SweepStarted
    | ResultsTaken
    | PlanChanged
    | TrialRefused
    | WaitingForNodes
    | TrialStarted
    | TrialPublished
    | TrialInterrupted
    | TrialFailed
    | ExecutorFailed
    | Stopping
    | SweepEnded
)
