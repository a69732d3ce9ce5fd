"""Kills the processes that write to a folder, and removes it, once its driver has left it or died.

Ray's agents outlive a driver that is killed: they try for a minute to tell a server that is gone,
too. A driver that is killed can do nothing about it, so that this is also a script of its own,
which needs only the standard library: `python -I -S reaper.py FOLDER DRIVER_PID`. It waits for the
end of its standard input, a pipe that only the driver holds open.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

GIVE_UP_S = 5.0
"""Then the folder is left to the next driver, which removes what is old and locked by nobody."""


def writers(folder: Path) -> set[int]:
    """Processes with a file of the folder open for writing, by /proc: to read is no offence."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if any(_writes_below(folder, file) for file in (process / "fd").iterdir()):
                found.add(int(process.name))
    return found


def _writes_below(folder: Path, descriptor: Path) -> bool:
    with contextlib.suppress(OSError):  # closed meanwhile
        if descriptor.readlink().is_relative_to(folder):
            information = (descriptor.parent.parent / "fdinfo" / descriptor.name).read_text()
            flags = next(line for line in information.splitlines() if line.startswith("flags:"))
            return int(flags.split()[1], base=8) & os.O_ACCMODE != os.O_RDONLY
    return False


def kill_writers(folder: Path, driver_pid: int) -> None:
    """Kill all writers but the driver."""
    give_up_s = time.monotonic() + GIVE_UP_S
    # What was started by a process before it was killed shows up the next time.
    while (pids := writers(folder) - {driver_pid}) and time.monotonic() < give_up_s:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def remove(folder: Path) -> None:
    """Remove a folder, which others may be removing."""
    give_up_s = time.monotonic() + GIVE_UP_S
    while folder.exists() and time.monotonic() < give_up_s:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05 if folder.exists() else 0)


if __name__ == "__main__":
    sys.stdin.read()
    _folder = Path(sys.argv[1]).resolve()
    kill_writers(_folder, int(sys.argv[2]))
    remove(_folder)
