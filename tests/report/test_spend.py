"""What a page says of FLOPs, device time and money, spent and planned."""

import dataclasses
from pathlib import Path

import pytest
from planted import assignment_of, planned_trial, planted_result, refresh, submitted_store

from analysis.report.page.training import training_of
from sweeper.orchestration.cost import STARTUP_S, device_s_left
from sweeper.store.results import publish, published
from sweeper.trials.plan import Plan

PRICE = 3.0


def _in_all(folder: Path, plan: Plan, n_done: int) -> tuple[dict[str, str], dict[str, float]]:
    """The last row of the table, and the expected seconds of what is missing."""
    store = submitted_store(folder, plan)
    for planned in plan.trials[:n_done]:
        assignment = assignment_of(store, planned)
        result = planted_result(assignment)
        row = dataclasses.replace(result.trial, train_time_s=7200.0, eval_time_s=3600.0)
        publish(assignment, dataclasses.replace(result, trial=row))
    refresh(store)
    left = device_s_left(plan, published(store))
    spend = training_of(store.folder, plan, left).spend
    return dict(zip(spend.columns, spend.rows[-1], strict=True)), left


def test_what_is_missing_takes_what_trials_like_it_took_and_costs_as_much(tmp_path: Path) -> None:
    plan = Plan("planted", tuple(planned_trial(seed=seed) for seed in range(4)), PRICE)
    row, left = _in_all(tmp_path / "planted", plan, 1)
    assert (row["trials done"], row["to do"]) == ("1", "3")
    assert set(left) == {each.trial_id for each in plan.trials[1:]}
    assert list(left.values()) == pytest.approx(3 * [3 * 3600 + STARTUP_S])
    assert float(row["core-hours spent"]) == pytest.approx(3.0)
    assert float(row["core-hours planned yet"]) == pytest.approx(9.0, rel=0.005)
    assert row["money spent at 3 an hour"] == "9.00"
    assert row["money planned yet at 3 an hour"] == "27.00"


def test_a_complete_sweep_has_nothing_planned_yet(tmp_path: Path) -> None:
    plan = Plan("planted", (planned_trial(),))
    row, left = _in_all(tmp_path / "planted", plan, 1)
    assert left == {}
    assert row["core-hours planned yet"] == "0"


def test_device_time_is_unknown_where_nothing_was_timed(tmp_path: Path) -> None:
    plan = Plan("planted", tuple(planned_trial(seed=seed) for seed in range(2)))
    _in_all(tmp_path / "planted", plan, 1)
    spend = training_of(tmp_path / "planted", plan, {}).spend
    row = dict(zip(spend.columns, spend.rows[-1], strict=True))
    assert row["core-hours planned yet"] == "unknown"
