"""A sweep in processes of its own, to be disturbed from outside and looked at afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import planted
from noted import CHECKPOINT_EVERY, STEP_NOTES, Step, notes
from processes import marked, ray_folders, title

from sweeper.executors.inline import InlineExecutor
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.events import Event, SweepOutcome
from sweeper.orchestration.verify import verify
from sweeper.store.assignment import AttemptOutcome, RunTrial
from sweeper.store.attempts import attempts
from sweeper.store.layout import Store
from sweeper.store.results import published, record_paths
from sweeper.store.storage import TEMPORARY_PREFIX

SUPPORT = Path(__file__).parent

SWEEPER = (sys.executable, "-c", "from sweeper.cli import main; main()")
"""The command line."""

VOLATILE = ["n_attempts", "started_at", "finished_at", "train_time_s", "eval_time_s"]
"""Columns of `trials` that say when, how long and how often, not what."""

WAIT_S = 90.0
"""Longest wait for anything on a busy machine; a test that passes waits far less."""

GONE_WITHIN_S = 30.0
"""Until the last worker of a killed driver has noticed: 3 s on a machine of its own."""

IMPATIENT = {"silent_s": 4.0, "starting_s": 60.0, "look_every_s": 0.5}
"""A driver's patience: twice as long as a trial that is well is silent for."""

Tables = list[pd.DataFrame]


class Sweep:
    """The planted sweep in `folder`, whose trials note their steps."""

    def __init__(self, folder: Path, notes_folder: Path) -> None:
        self.notes_folder = notes_folder
        self.place(folder)
        self.events: list[Event] = []
        """Of drivers in this process."""
        self.prefix: list[str] = []
        """What to put before each command."""
        self.added: dict[str, str] = {}
        self.paths = [SUPPORT, SUPPORT.parents[1]]
        self.drivers: list[subprocess.Popen[str]] = []
        self.ray_folders: set[str] = set()
        """Of Ray that is killed."""
        notes_folder.mkdir(parents=True)

    def place(self, folder: Path, seen_from_here: Path | None = None) -> None:
        """Keep the results elsewhere."""
        self.folder, self.store = folder, Store(seen_from_here or folder)

    def start(
        self, executor: str = "ray", run_trial: str = "noted.run_noting_steps", **options: Any
    ) -> subprocess.Popen[str]:
        """Start a driver."""
        arguments = [str(self.folder), executor, run_trial, json.dumps(options)]
        return self.popen([sys.executable, str(SUPPORT / "planted_driver.py"), *arguments])

    def run_here(self, run_trial: RunTrial, stop: StopSignal | None = None) -> SweepOutcome:
        """Drive it in this process, one trial at a time."""
        plan, stop = planted.planned_sweep(), stop or StopSignal()
        run = SweepRun(
            store=planted.submitted_store(self.folder, plan),
            plan=plan,
            executor=InlineExecutor(run_trial, stop.is_requested),
            stop=stop,
            on_event=self.events.append,
        )
        return run_sweep(run)

    def environment(self) -> dict[str, str]:
        """What all processes of this sweep find set."""
        return {
            "PYTHONPATH": os.pathsep.join(map(str, self.paths)),
            STEP_NOTES: str(self.notes_folder),
            **self.added,
        }

    def add_to_environment(self, *paths: Path, **added: str) -> None:
        """Let all processes of this sweep find more set, and import from these folders first."""
        self.paths = [*paths, *self.paths]
        self.added |= added

    def popen(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a process of this sweep, in a process group of its own."""
        process = subprocess.Popen(
            [*self.prefix, *command],
            env={**os.environ, **self.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.drivers.append(process)
        return process

    def end(self, driver: subprocess.Popen[str], *, exit_code: int = 0) -> str:
        """Wait for a driver to end as it should; returns what it said."""
        output, errors = driver.communicate(timeout=WAIT_S)
        assert driver.returncode == exit_code, f"{output}\n{errors}"
        assert "Traceback" not in errors
        return output

    def kill(self, driver: subprocess.Popen[str]) -> None:
        """Kill a driver as a power cut would, its Ray left to itself."""
        self.ray_folders |= ray_folders(self._processes())
        driver.kill()
        driver.communicate(timeout=WAIT_S)

    def steps(self) -> dict[str, list[Step]]:
        """All steps taken so far, by trial."""
        return notes(self.notes_folder)

    def running(self) -> dict[str, Step]:
        """The latest step of each trial that is not published."""
        return {
            trial_id: steps[-1]
            for trial_id, steps in self.steps().items()
            if steps and not self.store.record(trial_id).exists()
        }

    def wait_for_step(self, step: int, *, attempt: int = 1, n_trials: int = 1) -> dict[str, Step]:
        """Wait until so many trials are at this step of that attempt, or beyond, unpublished."""

        def there() -> dict[str, Step]:
            return {
                trial_id: latest
                for trial_id, latest in self.running().items()
                if latest.attempt >= attempt and latest.step >= step
            }

        wait_until(lambda: len(there()) >= n_trials)
        return there()

    def wait_until_published(self, n_trials: int) -> None:
        """Wait until so many trials are published."""
        wait_until(lambda: len(record_paths(self.store)) >= n_trials)

    def n_steps(self) -> int:
        """How many steps all attempts together have taken so far."""
        return sum(map(len, self.steps().values()))

    def started_s(self, trial_id: str, attempt: int) -> float:
        """When an attempt had taken its first step."""
        return next(step.at_s for step in self.steps()[trial_id] if step.attempt == attempt)

    def pids(self) -> set[int]:
        """All processes that have taken a step so far."""
        return {step.pid for steps in self.steps().values() for step in steps}

    def outcomes(self) -> dict[str, tuple[AttemptOutcome | None, ...]]:
        """How the attempts at each trial ended, oldest first."""
        return {
            trial_id: tuple(each.outcome for each in attempts(self.store, trial_id))
            for trial_id in self.steps()
        }

    def n_published_by_attempt(self) -> Counter[int]:
        """How many trials were published by their first, second, … attempt."""
        return Counter(record.attempt for record in published(self.store))

    def n_steps_repeated(self) -> dict[tuple[str, int], int]:
        """Steps that an attempt took once more, by trial and number of the attempt.

        What an earlier one took after it had begun is not lost by it.
        """
        repeated = {}
        for trial_id, steps in self.steps().items():
            for number in sorted({step.attempt for step in steps}):
                first = next(step for step in steps if step.attempt == number)
                before = [step.step for step in steps if step.at_s < first.at_s]
                repeated[trial_id, number] = max(0, [0, *before][-1] + 1 - first.step)
        return repeated

    def assert_as(self, undisturbed: Tables, *, n_lost: int = CHECKPOINT_EVERY) -> None:
        """Everything is published once and as without disturbance, and nothing is left over."""
        for table, expected in zip(tables(self.folder), undisturbed, strict=True):
            pd.testing.assert_frame_equal(table, expected, check_exact=True)
        findings = verify(self.folder)
        assert not findings, findings
        assert len(record_paths(self.store)) == len(undisturbed[0])
        assert not list(self.folder.rglob(f"{TEMPORARY_PREFIX}*"))
        checkpoints = self.folder / "checkpoints"
        assert not checkpoints.exists() or not list(checkpoints.iterdir())
        assert max(self.n_steps_repeated().values(), default=0) <= n_lost
        self.assert_no_process_is_left()

    def assert_no_process_is_left(self) -> None:
        """All processes of all drivers end, of those that were killed, too."""
        if self.drivers:
            wait_until(lambda: not self._processes(), GONE_WITHIN_S, self._titles)

    def _processes(self) -> list[int]:
        return marked(f"{STEP_NOTES}={self.notes_folder}", self.ray_folders)

    def _titles(self) -> str:
        return ", ".join(map(title, self._processes()))


def tables(folder: Path) -> Tables:
    """The tables, less what differs from run to run."""
    trials = pd.read_parquet(folder / "trials").drop(columns=VOLATILE)
    return [trials, *(pd.read_parquet(folder / name) for name in ("losses", "observations"))]


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float = WAIT_S,
    state: Callable[[], str] = lambda: "waited in vain",
) -> None:
    """Wait for something to become true; fails, telling the state, when it does not."""
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, state()
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a worker has ended; its number may be another process's by now."""
    return not title(pid).startswith("ray::")


def kill_group(process: subprocess.Popen[str]) -> None:
    """End a driver and what it started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdout and not process.stdout.closed:
        process.communicate()
