"""Planted trials that note every step they take, so that a test knows when and whom to disturb.

The notes lie in the folder `STEP_NOTES`, one file per trial, one line per step.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from planted import planned_sweep, planted_result, run_planted_slowly

from sweeper.store.assignment import Assignment, Outcome, StopRequested
from sweeper.store.results import publish
from sweeper.trials.plan import Plan
from sweeper.trials.resources import Resources

STEP_NOTES = "STEP_NOTES"
"""Environment variable that names the folder of the notes; also the mark of a sweep's processes."""

STEP_TIME_S = 0.05
CHECKPOINT_EVERY = 4
"""Steps: what a killed worker may lose."""


@dataclass(frozen=True)
class Step:
    """A step that an attempt has taken."""

    attempt: int
    pid: int
    step: int
    at_s: float
    """By the monotonic clock, which all processes of a machine share."""
    wall_s: float
    """By the wall clock of its process."""
    node: str
    """Where: the id of a Ray node, or `-`."""
    gpus: str
    """What CUDA would see, or `-`."""

    @classmethod
    def of(cls, line: str) -> "Step":
        """A step as it was noted."""
        attempt, pid, step, at_s, wall_s, node, gpus = line.split()
        return cls(int(attempt), int(pid), int(step), float(at_s), float(wall_s), node, gpus)


def notes(folder: Path) -> dict[str, list[Step]]:
    """All steps taken so far by trial, in the order in which they were taken."""
    return {
        # The last line may be half written.
        path.name: [Step.of(line) for line in path.read_text().split("\n")[:-1]]
        for path in sorted(folder.iterdir())
    }


def run_noting_steps(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Train slowly, with a checkpoint every few steps."""
    return run_and_do(assignment, stop=stop)


def run_noting_slow_steps(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """The same, four times as slowly: time enough to disturb it twice."""
    return run_and_do(assignment, stop=stop, step_time_s=4 * STEP_TIME_S)


def run_noting_quick_steps(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """The same without any wait worth noting."""
    return run_and_do(assignment, stop=stop, step_time_s=STEP_TIME_S / 50)


def run_and_do(
    assignment: Assignment,
    *,
    stop: StopRequested,
    step_time_s: float = STEP_TIME_S,
    on_step: Callable[[int], None] = lambda _step: None,
) -> Outcome:
    """Train slowly, note every step, and then do something."""
    note = _noting(assignment)

    def note_and_do(step: int) -> None:
        note(step)
        on_step(step)

    return run_planted_slowly(
        assignment,
        stop=stop,
        step_time_s=step_time_s,
        checkpoint_every=CHECKPOINT_EVERY,
        on_step=note_and_do,
    )


def one_trial() -> Plan:
    """The shortest sweep."""
    return planned_sweep(("masked",), widths=(8,))


def mixed_sweep() -> Plan:
    """Trials that want half a GPU each, trials that want none, and one that fits nowhere."""
    resources = {
        "masked": Resources(gpus=0.5, cpus=1.0),
        "uniform": Resources(gpus=0.0, cpus=1.0),
    }
    masked, uniform = (planned_sweep((label,)).trials for label in resources)
    trials = [
        dataclasses.replace(planned, resources=resources[planned.series])
        for planned in (*masked, *uniform[:2])
    ]
    too_large = dataclasses.replace(uniform[2], resources=Resources(gpus=0.0, cpus=64.0))
    return Plan("planted", (*trials, too_large))


def run_with_little_gpu_memory(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Run out of GPU memory unless the micro-batch is at most two sequences."""
    import torch  # only here: the other planted trials do without

    limit = assignment.planned.resources.micro_batch_sequences
    if limit is None or limit > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return run_noting_quick_steps(assignment, stop=stop)


def run_and_diverge(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """End at once, as a run does whose loss is no number any more."""
    publish(assignment, planted_result(assignment, until_step=12))
    return "diverged"


def run_with_an_error(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Raise the same error in every trial, with a message that differs."""
    raise KeyError(f"no column {assignment.trial.trial_id}")


def _noting(assignment: Assignment) -> Callable[[int], None]:
    path = Path(os.environ[STEP_NOTES]) / assignment.trial.trial_id
    ray = sys.modules.get("ray")
    has_node = ray is not None and ray.is_initialized()
    node = ray.get_runtime_context().get_node_id() if ray and has_node else "-"
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES") or "-"

    def note(step: int) -> None:
        when = f"{time.monotonic()} {time.time()}"
        with path.open("a") as file:
            file.write(f"{assignment.attempt.number} {os.getpid()} {step} {when} {node} {gpus}\n")

    return note
