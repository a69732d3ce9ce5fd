"""What benchmarks share: a line per measurement, beside its target, and what they ran on."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """One measurement."""

    what: str
    value: float
    target: float | None
    """What it should not exceed; None for what is only told."""
    unit: str = "s"
    remark: str = ""

    @property
    def is_missed(self) -> bool:
        return self.target is not None and self.value > self.target

    def __str__(self) -> str:
        shown = f"{self.value:.4g} {self.unit}"
        wanted = ""
        if self.target is not None:
            wanted = f"target {self.target:g} {self.unit}: {'MISSED' if self.is_missed else 'ok'}"
        return f"{self.what:68} {shown:>12}   {wanted:24}   {self.remark}".rstrip()


def say(line: str) -> None:
    """Print at once: parts write to the same place."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def median_seconds(run: Callable[[], object], n_runs: int) -> float:
    """After one run that warms caches."""
    run()
    times = []
    for _ in range(n_runs):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def say_machine(*versions: str) -> None:
    """The processor, the versions and the load at the start."""
    say(f"{processor()}; Python {platform.python_version()}, {', '.join(versions)}")
    if hasattr(os, "getloadavg"):
        say(f"load of the machine at the start: {os.getloadavg()[0]:.1f}")


def processor() -> str:
    """Its name where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} threads" if names else platform.machine()
