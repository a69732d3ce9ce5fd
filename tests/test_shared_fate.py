"""What is to end with a process ends with it, and not before."""

import os
import signal
import subprocess
import sys
import time

import pytest
from processes import title

PARENT = """\
import os, subprocess, sys
from sweeper.executors.shared_fate import children, killed_with_this

other = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, start_new_session=True)
assert children(os.getpid()) == [other.pid]
with killed_with_this([other.pid]):
    print(other.pid, flush=True)
    sys.stdin.readline()
print("left", flush=True)
sys.stdin.readline()
"""


def _started() -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout
    return parent, int(parent.stdout.readline())


def _is_gone_soon(pid: int) -> bool:
    give_up_s = time.monotonic() + 10
    while title(pid) and time.monotonic() < give_up_s:
        time.sleep(0.01)
    return not title(pid)


@pytest.mark.parametrize("is_group", [False, True])
def test_others_are_killed_with_a_process_that_is_killed(is_group: bool) -> None:
    parent, other = _started()
    (os.killpg if is_group else os.kill)(parent.pid, signal.SIGKILL)
    parent.communicate()
    assert _is_gone_soon(other)


def test_others_outlive_a_process_that_has_left_in_order() -> None:
    parent, other = _started()
    assert parent.stdin
    assert parent.stdout
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "left\n"
    parent.kill()
    parent.communicate()
    time.sleep(0.5)
    assert title(other) == "sleep 600"
    os.kill(other, signal.SIGKILL)
