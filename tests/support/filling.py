"""Planted trials that fill up the disk of their results at a chosen moment."""

import contextlib
from pathlib import Path

import planted
from noted import CHECKPOINT_EVERY, run_and_do

from sweeper.store.assignment import Assignment, Outcome, StopRequested


def fill_before_checkpoint(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Fill the disk just before the second checkpoint."""
    return _run_and_fill(assignment, stop, at_step=2 * CHECKPOINT_EVERY - 1)


def fill_before_publication(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Fill the disk after the last step."""
    return _run_and_fill(assignment, stop, at_step=assignment.trial.n_steps)


def fill_after_publication(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Fill the disk before the driver has heard that the trial is published."""
    outcome = run_and_do(assignment, stop=stop)
    _fill(assignment)
    return outcome


def _run_and_fill(assignment: Assignment, stop: StopRequested, *, at_step: int) -> Outcome:
    def fill(step: int) -> None:
        if step == at_step:
            _fill(assignment)

    return run_and_do(assignment, stop=stop, on_step=fill)


def fill(folder: Path) -> None:
    """Leave not a byte on the disk of a folder; once only."""
    with contextlib.suppress(FileExistsError), (folder / "ballast").open("xb", buffering=0) as file:
        for size in (2**16, 2**12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def _fill(assignment: Assignment) -> None:
    fill(planted.on_disk(assignment.store_folder).parent)
