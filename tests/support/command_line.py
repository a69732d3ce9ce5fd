"""The command line, in a process of its own."""

import functools
import multiprocessing
import multiprocessing.forkserver
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

LOADED = [
    "pytest",
    "sweeper.cli",
    "sweeper.planning.planner",
    "sweeper.training.memory",
    "sweeper.training.worker",
    "analysis.figures.render",
    "analysis.report.html",
]
"""Where processes begin: loading it takes each of them seconds, and one for all of them."""

WAIT_S = 300.0


def sweeper(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a verb; what it reads and writes, and how it ends, is as in a terminal.

    What it loads, and when, is not: all of it is there. Tests of that start Python themselves.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "stdout", Path(folder) / "stderr"
        process = _server().Process(target=_run, args=(arguments, cwd, said, environment))
        process.start()
        process.join(WAIT_S)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, WAIT_S, *(path.read_text() for path in said))
        output, errors = (path.read_text() for path in said)
        return subprocess.CompletedProcess(arguments, process.exitcode, output, errors)


@functools.cache
def _server() -> ForkServerContext:
    """What processes are forks of. It runs no code of a test, so that each begins afresh."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # which libraries read when they are loaded
        multiprocessing.forkserver.ensure_running()
    return context


def _run(
    arguments: tuple[str, ...], cwd: Path, said: tuple[Path, Path], environment: Mapping[str, str]
) -> None:
    from sweeper.cli import main  # there already, and no business of the process of the tests

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for descriptor, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = ["sweeper", *arguments]
    main()
