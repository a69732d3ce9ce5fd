"""Watching attempts by their reports, on a clock that only the test moves."""

import time
from pathlib import Path

import pytest
from planted import assignment_of, planned_sweep, submitted_store

from sweeper.orchestration.monitor import Monitor, Patience
from sweeper.store.attempts import Progress, begin_attempt, progress_reporter
from sweeper.store.layout import Store

PLANNED = planned_sweep().trials[0]
PATIENCE = Patience(silent_s=300.0, starting_s=1800.0, look_every_s=5.0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = submitted_store(tmp_path / "planted", planned_sweep())
    begin_attempt(store, PLANNED.trial_id, executor="ray", device="cpu", n_threads=1)
    return store


def _report(store: Store, step: int, *, train_time_s: float = 0.0, attempt: int = 1) -> None:
    progress = Progress(
        step=step,
        n_steps=20,
        flops_done=0.0,
        loss_nats_per_token=None,
        train_time_s=train_time_s,
        eval_time_s=0.0,
    )
    progress_reporter(assignment_of(store, PLANNED, attempt))(progress)


def _watched(store: Store) -> tuple[Monitor, Clock]:
    clock = Clock()
    monitor = Monitor(store, PATIENCE, clock)
    monitor.begin(PLANNED.trial_id, 1)
    return monitor, clock


def _pass(monitor: Monitor, clock: Clock, seconds: float) -> None:
    clock.now_s += seconds
    monitor.look()


def test_silence_after_a_step_means_stalled(store: Store) -> None:
    monitor, clock = _watched(store)
    _report(store, 5)
    _pass(monitor, clock, 0)
    _pass(monitor, clock, 299)
    assert monitor.stalled() == []
    _pass(monitor, clock, 2)
    assert monitor.stalled() == [PLANNED.trial_id]
    monitor.end(PLANNED.trial_id)
    assert monitor.stalled() == []


def test_a_report_ends_the_silence(store: Store) -> None:
    monitor, clock = _watched(store)
    for step in range(5):
        _report(store, step)
        _pass(monitor, clock, 200)
    assert monitor.stalled() == []


def test_starting_may_take_longer(store: Store) -> None:
    monitor, clock = _watched(store)
    _pass(monitor, clock, 1700)
    assert monitor.stalled() == []
    _pass(monitor, clock, 200)
    assert monitor.stalled() == [PLANNED.trial_id]


def test_reports_of_earlier_attempts_say_nothing(store: Store) -> None:
    _report(store, 7)
    begin_attempt(store, PLANNED.trial_id, executor="ray", device="cpu", n_threads=1)
    clock = Clock()
    monitor = Monitor(store, PATIENCE, clock)
    monitor.begin(PLANNED.trial_id, 2)
    _pass(monitor, clock, 1000)
    assert monitor.stalled() == []


def test_long_steps_are_waited_for(store: Store) -> None:
    monitor, clock = _watched(store)
    _report(store, 2, train_time_s=200.0)
    _pass(monitor, clock, 0)
    _pass(monitor, clock, 900)
    assert monitor.stalled() == []
    _pass(monitor, clock, 200)
    assert monitor.stalled() == [PLANNED.trial_id]


def test_pace_is_what_was_gained_between_two_reports(store: Store) -> None:
    monitor, clock = _watched(store)
    _report(store, 2, train_time_s=4.0)
    assert monitor.look() == []
    clock.now_s += 6
    _report(store, 12, train_time_s=24.0)
    (pace,) = monitor.look()
    assert (pace.share_gained, pace.time_s, pace.share_done) == (0.5, 20.0, 0.6)
    assert monitor.look() == []  # it is not time to look again


@pytest.mark.parametrize("jump_s", [-1e7, 1e7])
def test_a_wall_clock_that_jumps_harms_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    monitor, clock = _watched(store)
    _report(store, 1)
    _pass(monitor, clock, 0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    _report(store, 2)
    _pass(monitor, clock, 10)
    assert monitor.stalled() == []
