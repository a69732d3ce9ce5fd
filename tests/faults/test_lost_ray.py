"""Embedded Ray whose own processes die: it is started again, or the sweep ends and can resume."""

import os
import signal
import subprocess
import time

import pytest
from disturbed import Sweep, Tables
from processes import descendants, title

from sweeper.executors.ray_executor import MAX_RESTARTS

pytestmark = [pytest.mark.ray, pytest.mark.slow]

VITAL = ["gcs/gcs_server", "raylet/raylet", "ray::DashboardAgent", "ray::RuntimeEnvAgent"]
"""In the titles of processes; a raylet ends with its agents."""

OTHERS = ["_private/log_monitor.py", "dashboard/dashboard.py", "autoscaler/_private/monitor.py"]


def _pid(driver: subprocess.Popen[str], name: str) -> int | None:
    return next((pid for pid in descendants(driver.pid) if name in title(pid)), None)


def _kill(driver: subprocess.Popen[str], name: str) -> None:
    pid = _pid(driver, name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("name", VITAL)
def test_embedded_ray_that_has_died_is_started_again(
    sweep: Sweep, undisturbed: Tables, name: str
) -> None:
    driver = sweep.start("ray", "noted.run_noting_slow_steps")
    lost = sweep.wait_for_step(5, n_trials=2)
    _kill(driver, name)
    output = sweep.end(driver)
    assert output.count(" was preempted: ") == 2
    outcomes = sweep.outcomes()
    assert {outcomes.pop(trial_id) for trial_id in lost} == {("preempted", "published")}
    assert set(outcomes.values()) == {("published",)}
    sweep.assert_as(undisturbed)


def test_embedded_ray_does_without_what_only_shows_and_logs(
    sweep: Sweep, undisturbed: Tables
) -> None:
    driver = sweep.start()
    sweep.wait_for_step(2, n_trials=2)
    for name in OTHERS:
        _kill(driver, name)
    sweep.end(driver)
    assert set(sweep.outcomes().values()) == {("published",)}
    sweep.assert_as(undisturbed)


def test_a_sweep_ends_resumable_where_ray_dies_again_and_again(
    sweep: Sweep, undisturbed: Tables
) -> None:
    driver = sweep.start("ray", "noted.run_noting_slow_steps")
    for number in range(1 + MAX_RESTARTS):
        sweep.wait_for_step(1, attempt=1 + number)
        _kill(driver, "raylet/raylet")
    killed_s = time.monotonic()
    output = sweep.end(driver, exit_code=3)
    assert time.monotonic() - killed_s < 30
    assert "nothing can run any more: Ray's raylet on this machine died, as it did" in output
    assert "sweep planted stopped, as nothing can run any more: 0 done" in output
    sweep.end(sweep.start("inline", "noted.run_noting_quick_steps"))
    sweep.assert_as(undisturbed)


def test_a_sweep_stops_by_a_signal_where_ray_has_died(sweep: Sweep, undisturbed: Tables) -> None:
    driver = sweep.start("ray", "noted.run_noting_slow_steps")
    sweep.wait_for_step(5, n_trials=2)
    _kill(driver, "gcs/gcs_server")
    driver.terminate()
    assert "sweep planted interrupted" in sweep.end(driver, exit_code=3)
    sweep.end(sweep.start("inline", "noted.run_noting_quick_steps"))
    sweep.assert_as(undisturbed)
