"""A trial of several ranks whose gang is killed finds its cores free again."""

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import planted
import pytest
from planted import planned_trial, submitted_store

from sweeper.executors.machine import available_cores
from sweeper.executors.ray_executor import RayExecutor
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.events import Event, TrialFailed, TrialStarted
from sweeper.store.layout import Store
from sweeper.trials.plan import Plan
from sweeper.trials.resources import Resources


def _process_of_gang() -> int | None:
    """The process below this one that started the ranks."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (folder / "cmdline").read_bytes()
            # Followed by the method that was called last.
            if name.startswith(b"ray::Gang") and _is_below(int(folder.name), os.getpid()):
                return int(folder.name)
    return None


def _is_below(process: int, ancestor: int) -> bool:
    while process > 1 and process != ancestor:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
        process = int(after_name.split()[1])
    return process == ancestor


def _kill_gang_midway(store: Store, trial_id: str) -> None:
    while not (store.attempts(trial_id) / "progress.json").exists():
        time.sleep(0.05)
    process = _process_of_gang()
    assert process is not None
    os.kill(process, signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_gang_is_tried_again_on_all_cores(tmp_path: Path) -> None:
    # On all cores, so that the second attempt starts only if the first has left them.
    resources = Resources(gpus=0, n_ranks=available_cores())
    trial = dataclasses.replace(planned_trial(steps=(10, 300)), resources=resources)
    plan = Plan("planted", (trial,))
    store = submitted_store(tmp_path / "planted", plan)
    events: list[Event] = []
    run = SweepRun(
        store=store,
        plan=plan,
        executor=RayExecutor(planted.run_planted_slowly),
        stop=StopSignal(),
        on_event=events.append,
    )
    killer = threading.Thread(target=_kill_gang_midway, args=(store, trial.trial_id), daemon=True)
    killer.start()
    assert run_sweep(run).exit_code == 0
    failures = Counter(event.failure.kind for event in events if isinstance(event, TrialFailed))
    assert failures == {"crashed": 1}
    assert len([event for event in events if isinstance(event, TrialStarted)]) == 2
