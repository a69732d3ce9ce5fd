"""Processes that end with this one, even when it is killed and cannot end them itself."""

import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_WATCHER = """\
import os, signal, sys
sys.stdin.read()
for pid in map(int, sys.argv[1:]):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
"""Waits for the end of a pipe that only its parent holds open; needs nothing but the standard
library, so that it starts at once and stays small."""


@contextlib.contextmanager
def killed_with_this(pids: Iterable[int]) -> Iterator[None]:
    """While within it, the death of this process is that of some others."""
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCHER, *map(str, pids)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # or it would go with the group that this process is killed with
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


def children(pid: int) -> list[int]:
    """Processes that a process has started, by any of its threads; none once it is gone."""
    found = list[int]()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # that thread, or all of it, has ended
            found += map(int, file.read_text().split())
    return found
