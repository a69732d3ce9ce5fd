import dataclasses
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from planted import (
    KINDS,
    assignment_of,
    kind_of_store,
    planned_sweep,
    planned_trial,
    planted_result,
    refresh,
    submitted_store,
)

from sweeper.store.attempts import begin_attempt, end_attempt
from sweeper.store.layout import Store
from sweeper.store.results import publish
from sweeper.store.submission import submit
from sweeper.store.tables import read_table
from sweeper.trials.plan import Plan
from sweeper.trials.records import ROW_TYPES, TABLE_FILE, TableName, schema

N_ROWS: dict[TableName, int] = {"trials": 6, "losses": 24, "observations": 12, "samples": 0}
"""Of the planned sweep, all of it published."""


def _publish_all(store: Store, plan: Plan) -> None:
    for planned in plan.trials:
        assignment = assignment_of(store, planned)
        publish(assignment, planted_result(assignment))


def _frame(store: Store, name: TableName) -> pd.DataFrame:
    return pd.read_parquet(str(store.table(name)))


def _bytes(store: Store) -> dict[str, bytes]:
    return {name: (store.table(name) / TABLE_FILE).read_bytes() for name in N_ROWS}


@pytest.fixture(params=KINDS)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    folder = kind_of_store(request.param, tmp_path) / "planted"
    store = submitted_store(folder, planned_sweep())
    _publish_all(store, planned_sweep())
    refresh(store)
    return store


def test_every_reader_sees_the_same_rows(full: Store) -> None:
    for name, n_rows in N_ROWS.items():
        assert len(_frame(full, name)) == n_rows
        assert read_table(full, name).schema.equals(schema(name))


def test_tables_open_with_sql(tmp_path: Path) -> None:
    store = submitted_store(tmp_path / "planted", planned_sweep())
    _publish_all(store, planned_sweep())
    refresh(store)
    for name, n_rows in N_ROWS.items():
        query = f"SELECT count(*) FROM '{store.table(name)}/*.parquet'"
        assert duckdb.execute(query).fetchall() == [(n_rows,)]


def test_empty_sweep_has_all_four_tables(tmp_path: Path) -> None:
    store = submitted_store(tmp_path / "planted", planned_sweep())
    refresh(store)
    for name in ROW_TYPES:
        assert _frame(store, name).empty


def test_refreshing_changes_no_byte(full: Store) -> None:
    before = _bytes(full)
    refresh(full)
    assert _bytes(full) == before


def test_bytes_do_not_depend_on_the_order_of_publication(full: Store, tmp_path: Path) -> None:
    plan = planned_sweep()
    other = submitted_store(tmp_path / "other" / "planted", plan)
    for planned in reversed(plan.trials):
        assignment = assignment_of(other, planned)
        publish(assignment, planted_result(assignment))
        refresh(other)
    assert _bytes(other) == _bytes(full)


def test_labels_and_budgets_are_those_of_the_current_plan(full: Store) -> None:
    relabelled = tuple(
        dataclasses.replace(
            planned,
            series=f"new-{planned.series}",
            cells=tuple(dataclasses.replace(cell, budget_flops=1e9) for cell in planned.cells),
        )
        for planned in planned_sweep().trials
    )
    submit(full, Plan("planted", relabelled), "name: planted\n")
    refresh(full)
    names: tuple[TableName, ...] = ("trials", "losses", "observations")
    for name in names:
        assert set(_frame(full, name).series) == {"new-masked", "new-uniform"}
    assert set(_frame(full, "observations").budget_flops) == {1e9}


def test_point_observed_by_two_trials_is_one_row(tmp_path: Path) -> None:
    short, long = planned_trial(steps=(10, 20)), planned_trial(steps=(10, 20, 40))
    plan = Plan("planted", (long,))
    store = submitted_store(tmp_path / "planted", plan)
    _publish_all(store, Plan("planted", (short, long)))
    refresh(store)
    observations = _frame(store, "observations")
    assert sorted(observations.step) == [10, 20, 40]


def test_diverged_trial_is_kept_and_marked(tmp_path: Path) -> None:
    plan = planned_sweep(("masked",), widths=(16,))
    store = submitted_store(tmp_path / "planted", plan)
    assignment = assignment_of(store, plan.trials[0])
    publish(assignment, planted_result(assignment, until_step=15))
    refresh(store)
    assert list(_frame(store, "trials").status) == ["diverged"]
    observations = _frame(store, "observations")
    assert list(observations.status) == ["diverged"]
    assert list(observations.step) == [10]


def test_failed_trial_is_a_row_until_it_succeeds(tmp_path: Path) -> None:
    plan = planned_sweep(("masked",), widths=(16,))
    store = submitted_store(tmp_path / "planted", plan)
    planned = plan.trials[0]
    for number in (1, 2):
        begin_attempt(store, planned.trial_id, executor="inline", device="cpu", n_threads=1)
        error = ("RuntimeError", "planted", "Traceback")
        end_attempt(store, planned.trial_id, number, "error", error=error)
    refresh(store)
    (row,) = _frame(store, "trials").to_dict("records")
    assert (row["status"], row["error_class"]) == ("failed", "RuntimeError")
    assert row["error_message"] == "planted"
    assert row["n_attempts"] == 2
    assert row["params_trunk"] == planned.params.trunk
    assignment = assignment_of(store, planned, attempt=2)
    publish(assignment, planted_result(assignment))
    refresh(store)
    assert list(_frame(store, "trials").status) == ["done"]


def test_trial_that_left_the_plan_keeps_its_results(full: Store) -> None:
    submit(full, planned_sweep(("masked",)), "name: planted\n# fewer\n")
    refresh(full)
    assert set(_frame(full, "trials").series) == {"masked", "uniform"}
