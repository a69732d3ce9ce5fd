"""Exports to clients that keep state for a whole process, each in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from sweeper.store.storage import StoragePath


def needs(client: str) -> pytest.MarkDecorator:
    """Skip tests where a client is not installed."""
    spec = importlib.util.find_spec(client)
    is_missing = spec is None or spec.origin is None  # which a folder of that name has not
    return pytest.mark.skipif(is_missing, reason=f"{client} is not installed (extra {client})")


def exported(*arguments: str | StoragePath, **environment: str) -> subprocess.CompletedProcess[str]:
    """`sweeper export` with arguments, and variables beside those there are."""
    return subprocess.run(
        [sys.executable, "-m", "sweeper", "export", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **environment},
    )


def answer(program: str, **environment: str) -> Any:
    """What a program prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
