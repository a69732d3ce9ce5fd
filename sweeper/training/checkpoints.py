"""Checkpoints of a trajectory: complete files named by their step, of which the newest two stay."""

import logging
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.storage import TEMPORARY_PREFIX, StorePath
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
    """The checkpoints of one trial, as one attempt at it sees them."""

    def __init__(self, store: Store, trial: Trial) -> None:
        self._folder, self._trial = store.checkpoints(trial), trial
        self._skipped: set[StorePath] = set()
        """Files that this attempt could not use; deleted once there is a better one."""

    def newest_first(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Steps and contents of all that can be read; warns of the others."""
        for path in reversed(self._paths()):
            try:
                contents = _read(path)
                if contents["trajectory"] != self._trial.trajectory_id:
                    raise ValueError(f"of trajectory {contents['trajectory']}")
            except UNREADABLE as error:
                self.skip(_step(path), f"it is unreadable ({type(error).__name__}: {error})")
            else:
                yield _step(path), contents

    def skip(self, step: int, reason: str) -> None:
        """Do not use the checkpoint of a step."""
        path = self._path(step)
        self._skipped.add(path)
        message = "trial %s: checkpoint %s is skipped: %s"
        logger.warning(message, self._trial.trial_id, path.name, reason)

    def save(self, step: int, contents: dict[str, Any]) -> bool:
        """Write a checkpoint, all of it or nothing, and delete older ones.

        Warns and returns False when the disk is full: the next one may fit.
        """
        contents = {"trajectory": self._trial.trajectory_id, **contents}
        # A worker that was killed while it saved leaves a temporary file.
        for path in self._folder.glob(f"{TEMPORARY_PREFIX}*"):
            path.unlink(missing_ok=True)
        try:
            files.replace_with(self._path(step), lambda path: _write(path, contents))
        except OSError as error:
            if not files.is_disk_full(error):
                raise
            message = "trial %s: no checkpoint at step %d, the disk is full (%s)"
            logger.warning(message, self._trial.trial_id, step, error)
            return False
        self._skipped.discard(self._path(step))
        others = [p for p in self._paths() if p != self._path(step) and p not in self._skipped]
        # One older file stays: disks and power fail, and a damaged file then costs one more
        # interval instead of the whole run.
        for path in {*others[:-1], *self._skipped}:
            path.unlink(missing_ok=True)
        self._skipped.clear()
        return True

    def _path(self, step: int) -> StorePath:
        return self._folder / f"step-{step:08}.pt"

    def _paths(self) -> list[StorePath]:
        named = [path for path in self._folder.glob("step-*.pt") if path.stem[5:].isdecimal()]
        return sorted(named, key=_step)  # oldest first


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


def _write(path: Path, contents: dict[str, Any]) -> None:
    # Python's own file raises an OSError that gives the reason; torch's does not.
    with path.open("xb") as file:
        torch.save(contents, file)


def _read(path: StorePath) -> dict[str, Any]:
    with files.local_file(path) as file:
        # torch.load does not compare checksums: a damaged weight would be read as it is.
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        contents: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return contents


def _step(path: StorePath) -> int:
    return int(path.stem[5:])
