"""Workers that are killed, asked to stop, frozen or merely slow."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from disturbed import IMPATIENT, Sweep, Tables, is_gone, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LAST_STEP_TO_DISTURB = 16
"""Of 20, so that a trial does not end before the signal has come."""


def _signal_at_random_steps(
    sweep: Sweep, driver: subprocess.Popen[str], numbers: tuple[signal.Signals, ...]
) -> list[dict[str, float]]:
    """Signal the workers of the first attempts at each trial; when that was, by attempt and trial.

    Each worker is the one of that very attempt: the attempt has noted its own process.
    """
    random_step, at_step = random.Random(0), dict[tuple[str, int], int]()
    signalled: list[dict[str, float]] = [{} for _ in numbers]
    while driver.poll() is None:
        for trial_id, latest in sweep.running().items():
            if latest.attempt > len(numbers) or trial_id in signalled[latest.attempt - 1]:
                continue
            attempt = trial_id, latest.attempt
            if attempt not in at_step:
                first = min(sweep.steps()[trial_id][-1].step, LAST_STEP_TO_DISTURB)
                at_step[attempt] = random_step.randint(first, LAST_STEP_TO_DISTURB)
            if latest.step >= at_step[attempt]:
                os.kill(latest.pid, numbers[latest.attempt - 1])
                signalled[latest.attempt - 1][trial_id] = time.monotonic()
        time.sleep(0.01)
    return signalled


def test_workers_that_are_killed_or_told_to_end_are_replaced(
    sweep: Sweep, undisturbed: Tables
) -> None:
    driver = sweep.start()
    killed, told = _signal_at_random_steps(sweep, driver, (signal.SIGKILL, signal.SIGTERM))
    output = sweep.end(driver)
    assert len(killed) == output.count(" crashed: ") == 6
    assert len(told) == output.count(" was preempted: ") == 6
    assert set(sweep.outcomes().values()) == {("crashed", "preempted", "published")}
    sweep.assert_as(undisturbed)
    # Who is told to end writes a checkpoint first.
    assert {n for (_, attempt), n in sweep.n_steps_repeated().items() if attempt == 3} == {0}
    delays_s = sorted(sweep.started_s(trial_id, 2) - at_s for trial_id, at_s in killed.items())
    sys.stdout.write(f"trains again {delays_s[0]:.1f} to {delays_s[-1]:.1f} s after kill -9\n")
    # Three seconds on a machine of its own; this one may be doing anything else as well.
    assert delays_s[0] < 10


def test_a_frozen_worker_is_replaced_and_a_slow_one_is_waited_for(
    sweep: Sweep, undisturbed: Tables
) -> None:
    driver = sweep.start(patience=IMPATIENT)
    (frozen, step), (slow, other) = sweep.wait_for_step(6, n_trials=2).items()
    os.kill(step.pid, signal.SIGSTOP)
    os.kill(other.pid, signal.SIGSTOP)
    time.sleep(0.5 * IMPATIENT["silent_s"])
    os.kill(other.pid, signal.SIGCONT)
    wait_until(lambda: is_gone(step.pid))
    assert driver.poll() is None  # so it was not the end of all that ended it
    output = sweep.end(driver)
    assert output.count(" stalled: ") == 1
    outcomes = sweep.outcomes()
    assert outcomes.pop(frozen) == ("stalled", "published")
    assert outcomes[slow] == ("published",)
    assert set(outcomes.values()) == {("published",)}
    sweep.assert_as(undisturbed)
