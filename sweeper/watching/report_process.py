"""Processes that run the command `report`, one of them waiting with its libraries loaded.

Loading them takes longer than the report of a small sweep. They are of low priority: training goes
first.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

from sweeper.errors import StoreError

NICENESS = 10
COMMAND = (sys.executable, "-m", "sweeper.verbs.watching.waiting_report")


class ReportProcesses:
    """Its methods may be called by several threads. Close it in the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: subprocess.Popen[bytes] | None = None
        self._working: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def prepare(self) -> None:
        """Have one wait, unless one does."""
        with self._lock:
            if not self._is_closed and not _is_alive(self._waiting):
                self._waiting = _started()

    def run(self, arguments: Sequence[str]) -> None:
        """The command with these arguments; raises StoreError with what it says where it fails."""
        with self._lock:
            if self._is_closed:
                raise StoreError("no report is made any more: serving ends")
            child = self._waiting if _is_alive(self._waiting) else None
            child, self._waiting = child or _started(), None
            self._working.add(child)
        said = child.communicate(json.dumps(list(arguments)).encode() + b"\n")[1]
        with self._lock:
            self._working.discard(child)
        if child.returncode:
            lines = said.decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else f"exit code {child.returncode}"
            raise StoreError(last.removeprefix("error: "))

    def close(self) -> None:
        """End all of them."""
        with self._lock:
            self._is_closed = True
            children = [*self._working, *([self._waiting] if self._waiting else [])]
            waiting = self._waiting
        for child in children:
            child.kill()
        if waiting is not None:
            waiting.communicate()


def _is_alive(child: subprocess.Popen[bytes] | None) -> bool:
    return child is not None and child.poll() is None


def _started() -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    child = subprocess.Popen(COMMAND, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe)
    with contextlib.suppress(OSError):  # it may have ended
        os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
    return child
