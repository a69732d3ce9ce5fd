"""Where and with what a sweep ran: versions, commit and hardware, and no secrets.

Nothing here identifies a user, a host or a path, and no environment variable is read.
"""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("sweeper", "torch", "ray", "numpy", "pyarrow", "pandas", "scipy")
"""Distributions whose versions can matter for a result."""


def manifest() -> dict[str, Any]:
    """Versions, git commit and hardware as plain JSON values."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "git": _git(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpu_cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpus": _command("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"),
    }


def version(package: str) -> str | None:
    """Installed version of a package, without importing it."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _git() -> dict[str, Any] | None:
    here = str(Path(__file__).parent)
    commit = _command("git", "-C", here, "rev-parse", "HEAD")
    if not commit:
        return None
    changes = _command("git", "-C", here, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit[0], "has_uncommitted_changes": bool(changes)}


def _command(*words: str) -> list[str]:
    """Output lines of a program; none when it is absent, fails or hangs."""
    try:
        run = subprocess.run(words, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return run.stdout.splitlines()


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
