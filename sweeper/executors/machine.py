"""What this machine offers to embedded workers: cores, and a place for short-lived files."""

import contextlib
import fcntl
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sweeper.executors import reaper

_PREFIX = "sweeper-ray-"
_ABANDONED_AFTER_S = 60.0


def available_cores() -> int:
    """Cores that this process may really use: its affinity, and its container's quota."""
    n_cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        n_cores = min(n_cores, math.ceil(int(quota) / int(period)))
    return max(1, n_cores)


def may_have_gpus() -> bool:
    """Whether it is worth loading torch, which takes a second, to ask it for GPUs."""
    # Linux shows those of NVIDIA and AMD, and any that Windows lends it, as files.
    devices = ("nvidia*", "kfd", "dxg")
    return sys.platform != "linux" or any(any(Path("/dev").glob(name)) for name in devices)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A fresh folder with a short name in Ray's `RAY_TMPDIR`, or else in /tmp.

    Afterwards it is removed, and who writes to it is ended.
    Also when this process is killed; and when all processes are, the next one removes the folder,
    whose lock is free then.
    """
    # Not TMPDIR, which may be long: names of Ray's sockets have 107 bytes at most.
    parent = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
    for folder in parent.glob(f"{_PREFIX}*"):
        _remove_if_abandoned(folder)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    with (folder / "lock").open("w") as lock, _kept(folder):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """While a process waits to end what `folder` is needed for; see there."""
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", reaper.__file__, str(folder), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # or it would go with the group that this process is killed with
    )
    try:
        yield
    finally:
        keeper.communicate()


def _remove_if_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError):
        lock_path = folder / "lock"
        age_s = time.time() - folder.stat().st_mtime
        if folder.stat().st_uid != os.getuid() or age_s < _ABANDONED_AFTER_S:
            return
        with lock_path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
