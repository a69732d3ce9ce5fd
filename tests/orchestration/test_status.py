import dataclasses
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from planted import (
    KINDS,
    assignment_of,
    kind_of_store,
    planned_sweep,
    planned_trial,
    planted_result,
    submitted_store,
)

from sweeper.orchestration.lease import held
from sweeper.orchestration.status import State, TrialStatus, status, to_json
from sweeper.store import files
from sweeper.store.attempts import Progress, begin_attempt, end_attempt, progress_reporter
from sweeper.store.layout import Store
from sweeper.store.results import publish
from sweeper.trials.plan import Plan, PlannedTrial


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    folder = kind_of_store(request.param, tmp_path) / "planted"
    return submitted_store(folder, planned_sweep(("masked",)))


def _planned() -> PlannedTrial:
    return planned_sweep(("masked",)).trials[0]


def _begin(store: Store) -> int:
    trial_id = _planned().trial_id
    return begin_attempt(store, trial_id, executor="ray", device="cpu", n_threads=1).number


def _report(store: Store, *, step: int = 5, age_s: float = 0.0) -> None:
    assignment = assignment_of(store, _planned())
    progress_reporter(assignment)(
        Progress(
            step=step,
            n_steps=20,
            flops_done=0.25 * assignment.planned.train_flops,
            loss_nats_per_token=float("nan"),
            train_time_s=8.0,
            eval_time_s=2.0,
        )
    )
    path = store.attempts(_planned().trial_id) / "progress.json"
    then = time.time() - age_s
    if isinstance(path, Path):
        os.utime(path, (then, then))
    else:
        written_at = datetime.datetime.fromtimestamp(then, datetime.UTC).isoformat()
        fields = {**files.read_json(path), "updated_at": written_at}
        files.replace(path, files.to_json(fields))


def _first(store: Store) -> TrialStatus:
    return status(store).trials[0]


def test_nothing_begun_is_pending(store: Store) -> None:
    now = status(store)
    assert now.counts == dict.fromkeys(now.counts, 0) | {"pending": 3}
    assert now.flops_done == 0
    assert now.time_left is None
    assert (now.cost.device_hours_spent, now.cost.device_hours_left) == (0.0, None)
    assert not now.is_driver_alive


def test_published_trial_is_done_and_counts_in_full(store: Store) -> None:
    assignment = assignment_of(store, _planned())
    result = planted_result(assignment)
    publish(assignment, result)
    trial = _first(store)
    assert (trial.state, trial.share_done) == ("done", 1.0)
    assert trial.bound_nats_per_token == result.observations[-1].bound_nats_per_token
    assert status(store).flops_done == trial.train_flops


def test_diverged_trial_is_told_apart(store: Store) -> None:
    assignment = assignment_of(store, _planned())
    publish(assignment, planted_result(assignment, until_step=15))
    assert _first(store).state == "diverged"


def test_trial_that_reports_is_running_without_any_driver(store: Store) -> None:
    _begin(store)
    _report(store)
    now = status(store)
    assert (now.trials[0].state, now.trials[0].share_done) == ("running", 0.25)
    assert not now.is_driver_alive
    # 10 s bought a quarter of one trial; one worker has the rest and two larger trials to do.
    assert now.time_left is not None
    assert 30 < now.time_left.p50_s <= now.time_left.p90_s
    assert now.cost.device_hours_spent == 10 / 3600
    assert now.cost.device_hours_left is not None
    assert now.cost.device_hours_left > 30 / 3600


def test_a_slot_between_two_trials_is_a_slot(tmp_path: Path) -> None:
    """One of two workers has just ended a trial, or ended it long ago and was taken away."""
    plan = Plan("planted", tuple(planned_trial(seed=seed) for seed in range(3)))
    ended, runs, _ = plan.trials
    left_s = []
    for ago_s in (0.0, 100.0):
        store = submitted_store(tmp_path / f"{ago_s:g}", plan)
        begin_attempt(store, runs.trial_id, executor="ray", device="cpu", n_threads=1)
        path = store.attempts(runs.trial_id) / "1.json"
        files.replace(path, files.to_json({**files.read_json(path), "started_at": _utc(-30.0)}))
        progress_reporter(assignment_of(store, runs))(
            Progress(
                step=5,
                n_steps=20,
                flops_done=1.0,
                loss_nats_per_token=None,
                train_time_s=8.0,
                eval_time_s=2.0,
            )
        )
        assignment = assignment_of(store, ended)
        result = planted_result(assignment, started_at=_utc(-ago_s - 40.0))
        row = dataclasses.replace(
            result.trial, finished_at=_utc(-ago_s), train_time_s=32.0, eval_time_s=8.0
        )
        publish(assignment, dataclasses.replace(result, trial=row))
        now = status(store)
        assert [trial.state for trial in now.trials] == ["done", "running", "pending"]
        assert now.time_left is not None
        left_s.append(now.time_left.p50_s)
    # A whole trial beside three quarters of one, or after them.
    assert left_s[0] == pytest.approx(left_s[1] / 1.75, rel=0.15)


def _utc(after_s: float) -> str:
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=after_s)
    return then.isoformat(timespec="seconds")


def test_what_other_sweeps_trained_was_not_spent_here(tmp_path: Path) -> None:
    store = submitted_store(tmp_path / "other", Plan("other", (_planned(),), price_per_hour=2.0))
    assignment = assignment_of(store, _planned())
    publish(assignment, planted_result(assignment))  # by the sweep "planted"
    cost = status(store).cost
    assert (cost.device_hours_spent, cost.device_hours_left, cost.price_per_hour) == (0, 0, 2)


def test_trial_that_fell_silent_is_not_running(store: Store) -> None:
    _begin(store)
    _report(store, age_s=60)
    assert _first(store).state == "interrupted"


def test_silent_trial_of_a_living_driver_is_running(store: Store) -> None:
    with held(store):
        _begin(store)
        assert _first(store).state == "running"
        assert status(store).is_driver_alive
    assert _first(store).state == "interrupted"


def test_attempt_of_an_earlier_driver_is_not_running(store: Store) -> None:
    _begin(store)
    path = store.attempts(_planned().trial_id) / "1.json"
    fields = json.loads(path.read_text())
    fields["started_at"] = "2020-01-01T00:00:00+00:00"
    files.replace(path, files.to_json(fields))
    with held(store):
        assert _first(store).state == "interrupted"


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("error", "failed"),
        ("crashed", "failed"),
        ("preempted", "interrupted"),
        ("interrupted", "interrupted"),
    ],
)
def test_end_of_the_last_attempt_tells_the_state(store: Store, outcome: str, state: State) -> None:
    number = _begin(store)
    error = ("RuntimeError", "planted", "Traceback")
    end_attempt(store, _planned().trial_id, number, outcome, error=error)  # type: ignore[arg-type]
    trial = _first(store)
    assert trial.state == state
    assert trial.error == ("RuntimeError: planted" if state == "failed" else None)


def test_added_budget_is_pending_again(tmp_path: Path) -> None:
    store = submitted_store(tmp_path / "x", Plan("x", (planned_trial(steps=(10, 20, 40)),)))
    assignment = assignment_of(store, planned_trial(steps=(10, 20)))
    publish(assignment, planted_result(assignment))
    assert _first(store).state == "pending"


def test_torn_progress_is_no_progress(store: Store) -> None:
    _begin(store)
    path = store.attempts(_planned().trial_id) / "progress.json"
    files.replace(path, b'{"attempt": 1, "st')
    assert _first(store).share_done == 0.0


def test_json_has_the_counts(store: Store) -> None:
    fields = to_json(status(store))
    assert fields["counts"]["pending"] == 3
    assert fields["trials"][0]["series"] == "masked"


def test_asking_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, sweeper.orchestration.status, sweeper.orchestration.verify; "
        "sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
