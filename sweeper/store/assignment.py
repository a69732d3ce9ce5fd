"""What the driver hands to a worker, and what it gets back. Torch-free and picklable.

A worker is a function `run_trial(assignment, *, stop) -> Outcome`. It asks `stop()` between steps
and, when that turns true, writes a checkpoint and returns `"interrupted"`. It publishes through
`sweeper.store.layout`; an exception means that this attempt failed.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from sweeper.store.storage import StoragePath
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.sampling_task import SamplingTask
from sweeper.trials.trial import Trial

Outcome = Literal["published", "diverged", "interrupted"]
"""How an attempt ended: a result is in the store (the latter marked diverged), or it stopped."""

FailureKind = Literal[
    "error", "gpu_oom", "host_oom", "disk_full", "preempted", "crashed", "stalled"
]
"""What ended an attempt without an outcome; `retries.py` says what follows from each.

`error`: the worker raised an exception · `gpu_oom`, `host_oom`: the memory of the GPU or of the
machine did not suffice · `disk_full`: a result could not be written · `preempted`: its machine was
taken away, or asked it to stop · `crashed`: its process died · `stalled`: it made no progress.
"""

AttemptOutcome = Outcome | FailureKind
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt as recorded; without an outcome it runs, or its driver died."""

    number: int
    """Counted from 1. Publishing fails once a later attempt has started."""
    executor: str
    device: Device
    n_threads: int
    """CPU threads of the worker. Sums differ in the last bit with their number."""
    started_at: str
    ended_at: str | None = None
    micro_batch_sequences: int | None = None
    outcome: AttemptOutcome | None = None
    error_class: str | None = None
    error_message: str | None = None
    """One line; the traceback is in `<n>.traceback.txt`."""

    @property
    def started_s(self) -> float:
        """Start as seconds since the epoch, to the second."""
        return datetime.datetime.fromisoformat(self.started_at).timestamp()

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a result and without being asked to."""
        return self.outcome not in ("published", "diverged", "interrupted", "preempted", None)


@dataclass(frozen=True)
class Assignment:
    """One attempt at one trial, or at one measurement of its samples."""

    store_folder: StoragePath
    """The sweep's results folder, absolute."""
    sweep: str
    planned: PlannedTrial
    """Observed only where results are missing, with the resources of this attempt."""
    attempt: Attempt
    keeps_models: bool = False
    """Whether the worker writes its weights at every observation."""
    sampling: SamplingTask | None = None
    """What to measure of the trial's samples; None: it is to be trained."""

    @property
    def task_id(self) -> str:
        """What is attempted: the trial, or a measurement of its samples."""
        return self.trial.trial_id if self.sampling is None else self.sampling.task_id

    @property
    def trial(self) -> Trial:
        """The trial to run."""
        return self.planned.trial


StopRequested = Callable[[], bool]
"""Whether running trials should write a checkpoint and return. Cheap; ask at every step."""


class RunTrial(Protocol):
    """The function that runs a trial; module-level, so that it can be pickled."""

    def __call__(self, assignment: Assignment, *, stop: StopRequested) -> Outcome:
        """Run `assignment` from its last checkpoint, if there is one, to its end."""
