"""Drivers that are killed, frozen, raced or superseded, and workers that they leave behind."""

import os
import random
import signal
import sys
import time

import pytest
from disturbed import Sweep, Tables, wait_until
from noted import run_noting_quick_steps

from sweeper.store.results import read_head

pytestmark = pytest.mark.slow

N_KILLS = 10


@pytest.mark.parametrize(
    ("executor", "starting_s"), [("inline", 1.0), pytest.param("ray", 4.0, marks=pytest.mark.ray)]
)
def test_a_driver_killed_again_and_again_is_resumed_to_the_end(
    sweep: Sweep, undisturbed: Tables, executor: str, starting_s: float
) -> None:
    moments = random.Random(0)
    for number in range(N_KILLS):
        n_steps = sweep.n_steps()
        driver = sweep.start(executor, "noted.run_noting_slow_steps")
        if number % 2 == 0:
            wait_until(lambda n=n_steps: sweep.n_steps() > n)  # type: ignore[misc]
            time.sleep(moments.uniform(0.0, 1.0))
        else:
            time.sleep(moments.uniform(0.0, starting_s))
        assert driver.poll() is None, "nothing is left to disturb"
        sweep.kill(driver)
    sweep.end(sweep.start(executor, "noted.run_noting_steps"))
    assert sweep.n_published_by_attempt() != {1: 6}  # some were in the middle of a trial
    sweep.assert_as(undisturbed)


@pytest.mark.ray
def test_a_driver_with_workers_is_killed_and_resumed_within_seconds(
    sweep: Sweep, undisturbed: Tables
) -> None:
    driver = sweep.start("ray", "noted.run_noting_slow_steps")
    sweep.wait_for_step(2, n_trials=2)
    pids, killed_s = sweep.pids(), time.monotonic()
    sweep.kill(driver)
    driver = sweep.start("ray", "noted.run_noting_steps")
    wait_until(lambda: sweep.pids() > pids)
    delay_s = time.monotonic() - killed_s
    sweep.end(driver)
    sweep.assert_as(undisturbed)
    sys.stdout.write(f"resumed {delay_s:.1f} s after kill -9\n")
    # Ten seconds on a machine of its own; this one may be doing anything else as well.
    assert delay_s < 30


def test_of_two_drivers_that_start_together_one_is_refused(
    sweep: Sweep, undisturbed: Tables
) -> None:
    drivers = [sweep.start("inline", "noted.run_noting_steps") for _ in range(2)]
    said = {driver: driver.communicate(timeout=90) for driver in drivers}
    (winner,) = (driver for driver in drivers if driver.returncode == 0)
    (loser,) = (driver for driver in drivers if driver is not winner)
    assert "StoreError" in said[loser][1]
    assert "driver" in said[loser][1]
    assert said[loser][0] == ""
    assert set(sweep.outcomes().values()) == {("published",)}
    sweep.assert_as(undisturbed)


@pytest.mark.ray
def test_a_driver_takes_over_while_trials_run(sweep: Sweep, undisturbed: Tables) -> None:
    old = sweep.start("ray", "noted.run_noting_slow_steps")
    sweep.wait_for_step(6, n_trials=2)
    new = sweep.start("inline", "noted.run_noting_steps", takeover=True)
    output = sweep.end(old, exit_code=3)
    assert "left to another driver" in output
    sweep.end(new)
    assert max(sweep.n_published_by_attempt()) == 2
    sweep.assert_as(undisturbed)


def test_a_superseded_worker_that_publishes_late_does_no_harm(
    sweep: Sweep, undisturbed: Tables
) -> None:
    old = sweep.start("inline", "noted.run_noting_steps")
    ((trial_id, step),) = sweep.wait_for_step(17).items()
    os.kill(old.pid, signal.SIGSTOP)  # frozen a few steps before it would publish
    assert not sweep.store.record(trial_id).exists()
    new = sweep.start("inline", "noted.run_noting_slow_steps", takeover=True)
    sweep.wait_for_step(step.step - 3, attempt=2)
    os.kill(old.pid, signal.SIGCONT)  # ends its trial before the new one does
    assert "left to another driver" in sweep.end(old, exit_code=3)
    wait_until(lambda: sweep.store.record(trial_id).exists())
    assert read_head(sweep.store.record(trial_id)).attempt == 2
    new.terminate()
    sweep.end(new, exit_code=3)
    assert sweep.run_here(run_noting_quick_steps).exit_code == 0
    sweep.assert_as(undisturbed)


def test_a_worker_that_publishes_after_another_has_done_so_does_no_harm(
    sweep: Sweep, undisturbed: Tables
) -> None:
    old = sweep.start("inline", "noted.run_noting_steps")
    ((trial_id, _),) = sweep.wait_for_step(17).items()
    os.kill(old.pid, signal.SIGSTOP)
    sweep.end(sweep.start("inline", "noted.run_noting_steps", takeover=True))
    record = sweep.store.record(trial_id)
    published = record.read_bytes()
    os.kill(old.pid, signal.SIGCONT)
    assert "left to another driver" in sweep.end(old, exit_code=3)
    assert record.read_bytes() == published
    sweep.assert_as(undisturbed)
