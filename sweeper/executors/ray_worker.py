"""The actor that runs attempts, and hears and answers meanwhile. Imports neither Ray nor torch."""

import faulthandler
import os
import signal
import tempfile
import threading
from types import FrameType

from sweeper.executors.base import Failure
from sweeper.store.assignment import Assignment, Outcome, RunTrial

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Set in each worker before it imports torch."""


class Listener:
    """What an actor hears and answers in its other threads while one of them trains."""

    def __init__(self, environment: dict[str, str]) -> None:
        """SIGTERM is heeded from now on. Ray makes actors in the main thread, which can do that."""
        os.environ.update(environment)
        self._stop = threading.Event()
        self._result: Outcome | Failure | None = None
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def stop(self) -> None:
        """Ask the attempt to write a checkpoint and end."""
        self._stop.set()

    def result(self) -> Outcome | Failure | None:
        """What `run` returned last, for callers that could not be reached then."""
        return self._result

    def stacks(self) -> str:
        """What the threads of this process do."""
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return file.read()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()


class Worker(Listener):
    """Runs attempts at trials of one rank, one at a time."""

    def run(self, run_trial: RunTrial, assignment: Assignment) -> Outcome | Failure:
        """Run an attempt. The first one imports the function to run, and with it torch."""
        self._result = None
        try:
            self._result = run_trial(assignment, stop=self._stop.is_set)
        except Exception as error:  # noqa: BLE001 (recorded with the attempt; the sweep goes on)
            self._result = Failure.of(error)
        return self._result
