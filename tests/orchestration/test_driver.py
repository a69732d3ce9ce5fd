"""What the driver makes of attempts that fail and of a disk that is full."""

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import planted
import pytest
from planted import planned_sweep, planned_trial, submitted_store

from sweeper.executors.base import Executor, Finished
from sweeper.executors.inline import InlineExecutor
from sweeper.executors.placement import Demand, Node, Placement
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.device_time import DeviceTime
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.events import (
    Event,
    SweepOutcome,
    SweepStarted,
    TrialFailed,
    TrialPublished,
    TrialRefused,
    TrialStarted,
)
from sweeper.orchestration.verify import verify
from sweeper.store.assignment import Assignment, Outcome, RunTrial, StopRequested
from sweeper.store.attempts import attempts
from sweeper.store.layout import Store
from sweeper.store.results import published
from sweeper.trials.plan import Plan
from sweeper.trials.resources import Limits, Resources


def _run(
    store: Store,
    plan: Plan,
    run_trial: RunTrial = planted.run_planted,
    next_round: Callable[[], Plan | None] = lambda: None,
    limits: Limits | None = None,
) -> tuple[SweepOutcome, list[Event]]:
    stop, events = StopSignal(), list[Event]()
    run = SweepRun(
        store=store,
        plan=plan,
        executor=InlineExecutor(run_trial, stop.is_requested),
        stop=stop,
        on_event=events.append,
        next_round=next_round,
        limits=limits or Limits(),
    )
    return run_sweep(run), events


def _started(events: list[Event]) -> list[Assignment]:
    return [event.assignment for event in events if isinstance(event, TrialStarted)]


class Endless(Executor):
    """Two cores on which no trial ever ends by itself; a poll takes a second."""

    name = "endless"

    def __init__(self) -> None:
        self._now_s = self.stopped_at_s = 0.0
        self._running: list[Assignment] = []

    def clock(self) -> float:
        return self._now_s

    def nodes(self) -> tuple[Node, ...]:
        return (Node("here", cpus=2),)

    def start(self, assignment: Assignment, demand: Demand, placement: Placement) -> None:
        self._running.append(assignment)

    def poll(self, timeout_s: float) -> list[Finished]:
        self._now_s += 1.0
        if not self.stopped_at_s:
            return []
        stopped, self._running = self._running, []
        return [Finished(assignment, "interrupted") for assignment in stopped]

    def stop(self) -> None:
        self.stopped_at_s = self._now_s

    def kill(self, trial_id: str) -> str:
        raise AssertionError("nothing stalls")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert error or not self._running


class TestDeviceTime:
    """Planted trials record 1.5 s each, whatever they take."""

    PLAN = Plan(
        "planted", tuple(planned_trial(seed=seed) for seed in range(4)), price_per_hour=3600.0
    )

    def _n_done(self, store: Store, limits: Limits) -> tuple[int, int]:
        outcome, _ = _run(store, self.PLAN, limits=limits)
        return outcome.n_done, outcome.exit_code

    def test_no_trial_starts_that_would_pass_the_limit(self, tmp_path: Path) -> None:
        store = submitted_store(tmp_path / "planted", self.PLAN)
        assert self._n_done(store, Limits(device_hours=4 / 3600)) == (2, 4)
        assert self._n_done(store, Limits(device_hours=4 / 3600)) == (2, 4)
        assert self._n_done(store, Limits(device_hours=5 / 3600)) == (3, 4)
        assert self._n_done(store, Limits()) == (4, 0)

    def test_money_is_device_time_at_its_price(self, tmp_path: Path) -> None:
        store = submitted_store(tmp_path / "planted", self.PLAN)
        assert self._n_done(store, Limits(cost=4.0)) == (2, 4)

    def test_running_trials_stop_when_the_time_is_up(self, tmp_path: Path) -> None:
        store, executor = submitted_store(tmp_path / "planted", self.PLAN), Endless()
        run = SweepRun(
            store=store,
            plan=self.PLAN,
            executor=executor,
            stop=StopSignal(),
            on_event=lambda _: None,
            limits=Limits(device_hours=10 / 3600),
            clock=executor.clock,
        )
        outcome = run_sweep(run)
        assert (outcome.exit_code, outcome.n_left) == (4, 4)
        # Two cores are used up in 5 s, which is noticed a poll later.
        assert executor.stopped_at_s == pytest.approx(5.0, abs=1.0)

    def test_time_of_running_trials_counts_until_it_is_recorded(self) -> None:
        planned = planned_trial()
        time = DeviceTime({"before": 10.0, planned.trial_id: 5.0})
        time.begin(planned.trial_id, 2.0, now_s=100.0)
        assert time.spent_s(103.0) == 10 + 5 + 2 * 3
        time.end(planned.trial_id, 104.0)
        assert time.spent_s(200.0) == 10 + 5 + 2 * 4
        time.begin(planned.trial_id, 2.0, now_s=300.0)
        time.end(planned.trial_id, 304.0, recorded_s=12.0)
        assert time.spent_s(400.0) == 10 + 12


class OutOfMemoryError(RuntimeError):
    __module__ = "torch"


def _fits_two(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Run out of memory unless at most two sequences are trained on at a time."""
    if (assignment.planned.resources.micro_batch_sequences or planted.BATCH_SEQUENCES) > 2:
        raise OutOfMemoryError("CUDA out of memory")
    return planted.run_planted(assignment, stop=stop)


def _fits_nothing(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    raise OutOfMemoryError("CUDA out of memory")


class TestGpuMemory:
    PLAN = Plan("planted", tuple(planned_trial(seed=seed) for seed in range(2)))

    def test_micro_batch_is_halved_and_others_of_the_size_start_with_it(
        self, tmp_path: Path
    ) -> None:
        store = submitted_store(tmp_path / "planted", self.PLAN)
        outcome, events = _run(store, self.PLAN, _fits_two)
        assert outcome.exit_code == 0
        tried = [
            (each.trial.trial_id, each.planned.resources.micro_batch_sequences)
            for each in _started(events)
        ]
        one, other = tried[0][0], tried[-1][0]
        assert tried == [(one, None), (one, 4), (one, 2), (other, 2)]
        assert {one, other} == {planned.trial_id for planned in self.PLAN.trials}

    def test_next_driver_remembers(self, tmp_path: Path) -> None:
        store = submitted_store(tmp_path / "planted", self.PLAN)
        outcome, _ = _run(store, self.PLAN, _fits_nothing)
        assert outcome.exit_code == 1
        _, events = _run(store, self.PLAN, _fits_two)
        assert {each.planned.resources.micro_batch_sequences for each in _started(events)} == {1}

    def test_trial_that_never_fits_is_given_up(self, tmp_path: Path) -> None:
        store = submitted_store(tmp_path / "planted", self.PLAN)
        _, events = _run(store, self.PLAN, _fits_nothing)
        first = self.PLAN.trials[0].trial_id
        failures = [
            event.will_retry
            for event in events
            if isinstance(event, TrialFailed) and event.assignment.trial.trial_id == first
        ]
        assert failures[-1] is False
        tried = [attempt.micro_batch_sequences for attempt in attempts(store, first)]
        assert tried[-1] == 1


def test_several_ranks_are_refused_where_there_is_one(tmp_path: Path) -> None:
    single = planned_trial()
    pair = dataclasses.replace(planned_trial(width=32), resources=Resources(gpus=0, n_ranks=2))
    plan = Plan("planted", (single, pair))
    outcome, events = _run(submitted_store(tmp_path / "planted", plan), plan)
    assert (outcome.exit_code, outcome.n_done, outcome.n_failed) == (1, 1, 1)
    (refused,) = [event for event in events if isinstance(event, TrialRefused)]
    assert refused.planned.trial_id == pair.trial_id
    assert "--executor ray" in refused.reason


def test_full_disk_stops_the_sweep_and_the_next_run_completes_it(tmp_path: Path) -> None:
    plan, n_trials = planned_sweep(), 0

    def fill_up(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        nonlocal n_trials
        n_trials += 1
        if n_trials == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return planted.run_planted(assignment, stop=stop)

    store = submitted_store(tmp_path / "planted", plan)
    outcome, events = _run(store, plan, fill_up)
    assert (outcome.reason, outcome.exit_code, outcome.n_done) == ("disk_full", 3, 2)
    assert len([event for event in events if isinstance(event, TrialPublished)]) == 2
    outcome, _ = _run(store, plan)
    assert outcome.exit_code == 0
    assert verify(store.folder) == []


def test_one_error_in_trial_after_trial_stops_the_sweep(tmp_path: Path) -> None:
    plan = planned_sweep(("broken",), widths=(8, 12, 16, 24, 32))
    store = submitted_store(tmp_path / "planted", plan)
    outcome, events = _run(store, plan, planted.run_or_raise)
    assert (outcome.reason, outcome.exit_code) == ("same_error", 1)
    failures = [event for event in events if isinstance(event, TrialFailed)]
    assert len({event.assignment.trial.trial_id for event in failures}) == 3
    assert len({event.failure.fingerprint for event in failures}) == 1
    assert outcome.n_left + outcome.n_failed == 5


def test_a_sweep_whose_trials_are_all_refused_says_that_none_is_done(tmp_path: Path) -> None:
    pair = dataclasses.replace(planned_trial(), resources=Resources(gpus=0, n_ranks=2))
    plan = Plan("planted", (pair,))
    outcome, events = _run(submitted_store(tmp_path / "planted", plan), plan)
    (start,) = [event for event in events if isinstance(event, SweepStarted)]
    assert (start.n_planned, start.n_done, start.n_waiting) == (1, 0, 0)
    assert (outcome.exit_code, outcome.n_failed, outcome.n_left) == (1, 1, 0)


def test_when_all_is_published_the_next_round_follows_until_there_is_none(tmp_path: Path) -> None:
    first, longer = planned_sweep(), planned_sweep(widths=(8, 16, 32, 48))
    store = submitted_store(tmp_path / "results" / "planted", first)
    rounds, n_published = iter([longer, None]), []

    def next_round() -> Plan | None:
        n_published.append(len(published(store)))
        return next(rounds)

    outcome, _ = _run(store, first, next_round=next_round)
    assert n_published == [6, 8]
    assert (outcome.reason, outcome.n_done) == ("complete", 8)


def test_rounds_follow_where_other_sweeps_have_trained_all_before_them(tmp_path: Path) -> None:
    first, longer = planned_sweep(), planned_sweep(widths=(8, 16, 32, 48))
    _run(submitted_store(tmp_path / "results" / "earlier", first), first)
    rounds = iter([longer, None])
    outcome, events = _run(
        submitted_store(tmp_path / "results" / "planted", first),
        first,
        next_round=lambda: next(rounds),
    )
    assert (outcome.n_done, len(_started(events))) == (8, 2)


def test_no_round_is_decided_on_results_of_which_some_are_missing(tmp_path: Path) -> None:
    def fails(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        raise RuntimeError("as planted")

    def next_round() -> Plan | None:
        raise AssertionError("asked although trials have failed")

    plan = planned_sweep(series=("masked",), widths=(8,))
    outcome, _ = _run(
        submitted_store(tmp_path / "results" / "planted", plan), plan, fails, next_round=next_round
    )
    assert outcome.n_failed == 1
