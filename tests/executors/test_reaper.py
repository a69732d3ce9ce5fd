"""What writes to the temporary folder of a process ends with that process, as the folder does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import title

PARENT = """\
import subprocess, sys
from sweeper.executors.machine import temporary_folder

def sleeping(file):
    return subprocess.Popen(["sleep", "600"], stdout=file, start_new_session=True).pid

with temporary_folder() as folder, (folder / "log").open("w") as log:
    print(folder, sleeping(log), sleeping((folder / "log").open()), flush=True)
    sys.stdin.readline()
print("left", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def parent() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _kill(parent: subprocess.Popen[str]) -> None:
    parent.kill()


def _kill_group(parent: subprocess.Popen[str]) -> None:
    os.killpg(parent.pid, signal.SIGKILL)


def _let_leave(parent: subprocess.Popen[str]) -> None:
    assert parent.stdin
    assert parent.stdout
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "left\n"  # it writes to the folder, too, and lives on


@pytest.mark.parametrize("end", [_kill, _kill_group, _let_leave])
def test_a_folder_goes_with_its_writers_and_spares_its_readers(
    parent: subprocess.Popen[str], end: Callable[[subprocess.Popen[str]], None]
) -> None:
    assert parent.stdout
    name, writer, reader = parent.stdout.readline().split()
    # A process has no title for a moment while it becomes another program.
    _wait_until(lambda: title(int(writer)) == title(int(reader)) == "sleep 600")
    end(parent)
    _wait_until(lambda: not Path(name).exists())
    assert title(int(writer)) == ""
    assert title(int(reader)) == "sleep 600"
    os.kill(int(reader), signal.SIGKILL)
    parent.kill()
    parent.communicate()


def _wait_until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
