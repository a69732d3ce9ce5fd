"""What the driver hands to a worker, and what it gets back. Torch-free and picklable.

A worker is a function `run_trial(assignment, *, stop) -> Outcome`. It asks `stop()` between steps
and, when that turns true, writes a checkpoint and returns `"interrupted"`. It publishes through
`sweeper.store.layout`; an exception means that this attempt failed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from sweeper.store.plan_file import StoredCell
from sweeper.store.storage import StorePath
from sweeper.trials.flops import FlopsPerToken
from sweeper.trials.ladder import ParameterGroups
from sweeper.trials.resources import BY_DEFAULT, Resources
from sweeper.trials.text_options import AS_BYTES, TextOptions
from sweeper.trials.trial import Trial

Outcome = Literal["published", "diverged", "interrupted"]
"""How an attempt ended: a result is in the store (the latter marked diverged), or it stopped."""

FailureKind = Literal[
    "error", "gpu_oom", "host_oom", "disk_full", "preempted", "crashed", "stalled"
]
"""What ended an attempt without an outcome; each kind has its policy (`policy.py`).

`error`: the worker raised an exception · `gpu_oom`, `host_oom`: the memory of the GPU or of the
machine did not suffice · `disk_full`: a result could not be written · `preempted`: its machine was
taken away, or asked it to stop · `crashed`: its process died · `stalled`: it made no progress.
"""

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Assignment:
    """One attempt at one trial."""

    store_folder: StorePath
    """The sweep's results folder, absolute."""
    sweep: str
    series: str
    """Label of the series; not part of the trial's identity."""
    source: str
    """Corpus as named in the sweep file."""
    trial: Trial
    cells: tuple[StoredCell, ...]
    """One cell per observed step of `trial`, in that order."""
    params: ParameterGroups
    flops_per_token: FlopsPerToken
    attempt: int
    """Counted from 1. Publishing fails once a later attempt has started."""
    n_threads: int
    """CPU threads of the worker. Sums differ in the last bit with their number."""
    device: Device
    reading: TextOptions = AS_BYTES
    resources: Resources = BY_DEFAULT

    @property
    def train_flops(self) -> float:
        """Training FLOPs of the whole trial."""
        return self.trial.n_steps * self.trial.tokens_per_step * self.flops_per_token.total


StopRequested = Callable[[], bool]
"""Whether running trials should write a checkpoint and return. Cheap; ask at every step."""


class RunTrial(Protocol):
    """The function that runs a trial; module-level, so that it can be pickled."""

    def __call__(self, assignment: Assignment, *, stop: StopRequested) -> Outcome:
        """Run `assignment` from its last checkpoint, if there is one, to its end."""
        ...
