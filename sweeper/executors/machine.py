"""What this machine offers to embedded workers: cores, and a place for short-lived files."""

import contextlib
import fcntl
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TEMPORARY_FOLDERS = Path("/tmp")
"""Not TMPDIR, which may be long: the names of Ray's sockets may have no more than 107 bytes."""

_PREFIX = "sweeper-ray-"
_ABANDONED_AFTER_S = 60.0
_REMOVE_FOR_S = 3.0


def available_cores() -> int:
    """Cores that this process may really use: its affinity, and its container's quota."""
    n_cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        n_cores = min(n_cores, math.ceil(int(quota) / int(period)))
    return max(1, n_cores)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A fresh folder with a short name, removed afterwards.

    Folders of processes that were killed are removed by the next one: their locks are free.
    """
    for folder in TEMPORARY_FOLDERS.glob(f"{_PREFIX}*"):
        _remove_if_abandoned(folder)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=TEMPORARY_FOLDERS))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    # Processes that are about to end may still write to it.
    give_up_s = time.monotonic() + _REMOVE_FOR_S
    while folder.exists() and time.monotonic() < give_up_s:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05 if folder.exists() else 0)


def _remove_if_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError):
        lock_path = folder / "lock"
        age_s = time.time() - folder.stat().st_mtime
        if folder.stat().st_uid != os.getuid() or age_s < _ABANDONED_AFTER_S:
            return
        with lock_path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
