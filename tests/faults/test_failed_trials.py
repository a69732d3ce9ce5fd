"""Trials that run out of memory, raise one and the same error, or diverge."""

import re
from collections import Counter, defaultdict

import pandas as pd
import planted
import pytest
from disturbed import Sweep, Tables
from noted import run_and_diverge, run_noting_quick_steps, run_with_little_gpu_memory

from sweeper.orchestration.events import TrialFailed, TrialStarted
from sweeper.store.assignment import Attempt
from sweeper.store.attempts import attempts

pytestmark = pytest.mark.slow


def _attempts_by_size(sweep: Sweep) -> list[list[Attempt]]:
    found = defaultdict[int, list[Attempt]](list)
    for planned in planted.planned_sweep().trials:
        found[planned.trial.rung.width] += attempts(sweep.store, planned.trial_id)
    return list(found.values())


def _failures(sweep: Sweep) -> Counter[str]:
    return Counter(e.failure.kind for e in sweep.events if isinstance(e, TrialFailed))


def test_a_trial_that_outgrows_its_gpu_takes_half_as_much_at_a_time(
    sweep: Sweep, undisturbed: Tables
) -> None:
    assert sweep.run_here(run_with_little_gpu_memory).exit_code == 0
    assert _failures(sweep) == {"gpu_oom": 2 * 3}
    for history in _attempts_by_size(sweep):
        tried = Counter(each.micro_batch_sequences or planted.BATCH_SEQUENCES for each in history)
        # The first one tries 8, 4 and 2 sequences; the other one of its size starts at what is
        # known by then.
        assert tried == {8: 1, 4: 1, 2: 2}
        published = [each for each in history if each.outcome == "published"]
        assert [each.micro_batch_sequences for each in published] == [2, 2]
    sweep.assert_as(undisturbed)


@pytest.mark.ray
def test_a_trial_that_outgrows_its_machine_is_tried_once_more(sweep: Sweep) -> None:
    # Ray then finds the machine full whatever runs there, and ends the worker.
    sweep.add_to_environment(
        RAY_memory_usage_threshold="0.001", RAY_memory_monitor_refresh_ms="100"
    )
    driver = sweep.start("ray", "noted.run_noting_slow_steps", plan="noted.one_trial")
    output = sweep.end(driver, exit_code=1)
    assert output.count(" ran out of memory: ") == 2
    assert set(sweep.outcomes().values()) <= {("host_oom", "host_oom")}
    trials = pd.read_parquet(sweep.folder / "trials")
    assert trials.status.to_list() == ["failed"]
    assert trials.n_attempts.to_list() == [2]


def test_one_error_in_trial_after_trial_stops_the_sweep(sweep: Sweep, undisturbed: Tables) -> None:
    driver = sweep.start("inline", "noted.run_with_an_error")
    output = sweep.end(driver, exit_code=1)
    assert len(re.findall(r" failed: .*KeyError: 'no column [0-9a-f]{12}'", output)) >= 3
    assert "stopped, as one trial after another ends in the same error" in output
    assert len(list((sweep.folder / "attempts").iterdir())) == 3  # trials of six
    assert sweep.run_here(run_noting_quick_steps).exit_code == 0
    sweep.assert_as(undisturbed)


def test_a_trial_that_diverges_is_a_result(sweep: Sweep) -> None:
    outcome = sweep.run_here(run_and_diverge)
    assert (outcome.exit_code, outcome.n_done, outcome.n_diverged) == (0, 6, 6)
    trials = pd.read_parquet(sweep.folder / "trials")
    assert set(trials.status) == {"diverged"}
    assert set(trials.n_attempts) == {1}
    sweep.events.clear()
    assert sweep.run_here(run_noting_quick_steps).n_diverged == 6
    assert not [event for event in sweep.events if isinstance(event, TrialStarted)]
