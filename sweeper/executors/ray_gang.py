"""The actor that runs one attempt at a trial of several ranks, and hears and answers meanwhile.

What it runs, and with it torch and Ray Train, is imported when it runs: `ray_ranks.py`.
"""

import contextlib
import faulthandler
import os
import shutil
import signal
import tempfile
import threading
from types import FrameType
from typing import Any

import ray

from sweeper.assignment import Assignment, Outcome, RunTrial
from sweeper.executors.base import Failure


class Gang:
    """The body of an actor of three threads that takes no CPU itself."""

    def __init__(self, environment: dict[str, str]) -> None:
        """`environment` is set in each rank before it imports torch."""
        os.environ.update(environment)
        self._environment = environment
        self._stop = threading.Event()
        self._result: Outcome | Failure | None = None
        self._held: Any = None
        self._folder = ""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def run(self, run_trial: RunTrial, assignment: Assignment) -> Outcome | Failure:
        """Run an attempt by all its ranks."""
        from sweeper.executors.ray_ranks import Place, run_ranks

        self._result = None
        itself = ray.get_runtime_context().current_actor
        self._folder = tempfile.mkdtemp(prefix="sweeper-gang-")
        try:
            place = Place(self._folder, self._environment)
            self._result = run_ranks(run_trial, assignment, itself, place)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._result

    def stop(self) -> None:
        """Ask the ranks to write a checkpoint and end."""
        self._stop.set()

    def is_stopping(self) -> bool:
        """What the first rank asks from time to time."""
        return self._stop.is_set()

    def hold(self, placement_group: Any) -> None:
        """Remember what the ranks occupy."""
        self._held = placement_group

    def end(self) -> None:
        """End the ranks at once and free what they occupy. Call this before the actor is killed:
        what Train reserves outlives the actor that asked for it."""
        if self._held is not None:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                ray.util.remove_placement_group(self._held)
        shutil.rmtree(self._folder, ignore_errors=True)

    def result(self) -> Outcome | Failure | None:
        """What `run` returned last, for callers that could not be reached then."""
        return self._result

    def stacks(self) -> str:
        """What the threads of this process do; its ranks are other processes."""
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return file.read()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()
