"""A trial of several ranks of which one is killed finds its cores free again."""

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
from processes import descendants, title

from sweeper.executors.machine import available_cores
from sweeper.executors.ray_executor import RayExecutor
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.events import Event, TrialFailed, TrialStarted
from sweeper.store.layout import Store
from sweeper.trials.plan import Plan
from sweeper.trials.resources import Resources


def _kill_a_rank_midway(store: Store, trial_id: str) -> None:
    while not (store.attempts(trial_id) / "progress.json").exists():
        time.sleep(0.05)
    # The title ends in the method that was called last.
    ranks = [pid for pid in descendants(os.getpid()) if title(pid) == "ray::Worker.run"]
    assert len(ranks) == available_cores()
    os.kill(ranks[-1], signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_that_lost_a_rank_is_tried_again_on_all_cores(tmp_path: Path) -> None:
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
    killer = threading.Thread(target=_kill_a_rank_midway, args=(store, trial.trial_id), daemon=True)
    killer.start()
    assert run_sweep(run).exit_code == 0
    failures = Counter(event.failure.kind for event in events if isinstance(event, TrialFailed))
    assert failures == {"crashed": 1}
    assert len([event for event in events if isinstance(event, TrialStarted)]) == 2
