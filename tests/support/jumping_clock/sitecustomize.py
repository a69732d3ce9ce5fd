"""A wall clock that jumps, for every Python process that finds this folder on its path.

The file `CLOCK_JUMP` holds by how many seconds `time.time` is off; without one it is right. The
monotonic clock, and that of the file system, go on as they are.
"""

import os
import time
from pathlib import Path

_true_time = time.time


def _jump_s() -> float:
    try:
        return float(Path(os.environ["CLOCK_JUMP"]).read_text())
    except (OSError, KeyError, ValueError):
        return 0.0


time.time = lambda: _true_time() + _jump_s()
time.time_ns = lambda: int(time.time() * 1e9)
