"""Checkpoints of a trajectory: complete files named by their step.

The newest two stay while a trial runs, the newest one of a trial that a longer one may continue.
"""

import logging
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from sweeper.store import files
from sweeper.store.layout import Store, checkpoint_steps
from sweeper.store.storage import TEMPORARY_PREFIX, StoragePath
from sweeper.trials.trial import Trial

logger = logging.getLogger(__name__)

UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    UnpicklingError,
    zipfile.BadZipFile,
)
"""What reading a torn, damaged or foreign checkpoint may raise."""


class Checkpoints:
    """The checkpoints of a trial's trajectory, as one attempt at it sees them."""

    def __init__(self, store: Store, trial: Trial) -> None:
        self._store, self._trial = store, trial
        self._folder = store.checkpoints(trial)
        self._skipped: set[StoragePath] = set()
        """Files that this attempt could not use; deleted once there is a better one."""

    def newest_first(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Steps and contents of all that can be read; warns of the others."""
        for step in reversed(checkpoint_steps(self._folder)):
            try:
                contents = _read(self._path(step))
                if contents["trajectory"] != self._trial.trajectory_id:
                    raise ValueError(f"of trajectory {contents['trajectory']}")
            except UNREADABLE as error:
                self.skip(step, f"it is unreadable ({type(error).__name__}: {error})")
            else:
                yield step, contents

    def skip(self, step: int, reason: str) -> None:
        """Do not use the checkpoint of a step, which is of no use to anybody."""
        self._skipped.add(self._path(step))
        self.pass_over(step, reason)

    def pass_over(self, step: int, reason: str) -> None:
        """Do not use the checkpoint of a step, which another trial of the trajectory may."""
        message = "trial %s: checkpoint %s is skipped: %s"
        logger.warning(message, self._trial.trial_id, self._path(step).name, reason)

    def keep_newest(self) -> None:
        """Delete all but the newest checkpoint, from which a longer trial may go on."""
        for step in checkpoint_steps(self._folder)[:-1]:
            self._path(step).unlink(missing_ok=True)

    def save(self, step: int, contents: dict[str, Any]) -> bool:
        """Write a checkpoint, all of it or nothing, and delete older ones.

        Warns and returns False when the disk is full: the next one may fit.
        """

        def write(path: Path) -> None:
            # Python's own file raises an OSError that gives the reason; torch's does not.
            with path.open("xb") as file:
                ids = {"trajectory": self._trial.trajectory_id, "trial": self._trial.trial_id}
                torch.save({**ids, **contents}, file)

        # A worker that was killed while it saved leaves a temporary file.
        for path in self._folder.glob(f"{TEMPORARY_PREFIX}*"):
            path.unlink(missing_ok=True)
        try:
            files.replace_with(self._path(step), write)
        except OSError as error:
            if not files.is_disk_full(error):
                raise
            message = "trial %s: no checkpoint at step %d, the disk is full (%s)"
            logger.warning(message, self._trial.trial_id, step, error)
            return False
        self._skipped.discard(self._path(step))
        others = [self._path(each) for each in checkpoint_steps(self._folder) if each != step]
        others = [path for path in others if path not in self._skipped]
        # One older file stays: disks and power fail, and a damaged file then costs one more
        # interval instead of the whole run.
        for path in {*others[:-1], *self._skipped}:
            path.unlink(missing_ok=True)
        self._skipped.clear()
        return True

    def _path(self, step: int) -> StoragePath:
        return self._store.checkpoint(self._trial, step)


class CheckpointTimer:
    """When the next checkpoint is due."""

    def __init__(
        self, every_s: float | None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`every_s`: seconds from the end of one to the start of the next; None: 30 s, or more
        where saving takes longer than 2 % of that."""
        self._every_s, self._clock_s = every_s, clock_s
        self._last_save_s = 0.0
        self._saved_at_s = clock_s()

    @property
    def interval_s(self) -> float:
        """Seconds between two checkpoints."""
        if self._every_s is not None:
            return self._every_s
        # A killed worker loses 30 s at most where saving is cheap; saving takes 2 % of the time.
        return max(30.0, self._last_save_s / 0.02)

    def is_due(self) -> bool:
        """Whether the interval has passed."""
        return self._clock_s() - self._saved_at_s >= self.interval_s

    def time(self, save: Callable[[], object]) -> None:
        """Save, and count the interval from the end of it."""
        start_s = self._clock_s()
        save()
        self._saved_at_s = self._clock_s()
        self._last_save_s = self._saved_at_s - start_s


def _read(path: StoragePath) -> dict[str, Any]:
    with files.local_file(path) as file:
        # torch.load does not compare checksums: a damaged weight would be read as it is.
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        contents: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return contents
