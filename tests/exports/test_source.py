"""What is exported: whole, of one time, and a trial at a time."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import KINDS, kind_of_store, on_disk, planned_sweep
from planted_export import SERIES, grow, grown_store

from sweeper.errors import StoreError
from sweeper.exports import source
from sweeper.exports.runs import runs_of
from sweeper.exports.source import Tables, published_tables
from sweeper.store.layout import Store
from sweeper.store.tables import read_table
from sweeper.trials.records import ROW_TYPES, TABLE_FILE, schema


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_has_all_that_is_known_of_its_trial(kind: str, tmp_path: Path) -> None:
    store = grown_store(kind_of_store(kind, tmp_path))
    with published_tables(store) as tables:
        runs = list(runs_of(tables))
    trials = read_table(store, "trials").to_pylist()
    assert [run.run_id for run in runs] == [row["trial_id"] for row in trials]
    assert {run.series for run in runs} == set(SERIES)
    losses = read_table(store, "losses").to_pylist()
    observations = read_table(store, "observations").to_pylist()
    for run, row in zip(runs, trials, strict=True):
        logged = {
            point.step: (
                point.tokens, point.flops, point.values["train/loss_nats_per_token"]
            )
            for point in run.points if point.values
        }  # fmt: skip
        assert logged == {
            each["step"]: (each["tokens"], each["flops"], each["loss_nats_per_token"])
            for each in losses
            if each["trial_id"] == run.run_id
        }
        evaluated = {
            point.step: point.values["eval/bound_nats_per_token"]
            for point in run.points
            if "eval/bound_nats_per_token" in point.values
        }
        assert evaluated == {
            each["step"]: each["bound_nats_per_token"]
            for each in observations
            if each["trial_id"] == run.run_id
        }
        assert run.settings["seed"] == row["seed"]
        assert run.settings["optimizer.schedule"] == "constant"
        assert run.summary["status"] == row["status"]


def test_a_failed_trial_is_a_run_that_says_how_far_it_came(tmp_path: Path) -> None:
    with published_tables(grown_store(tmp_path)) as tables:
        (failed,) = (run for run in runs_of(tables) if run.summary["status"] == "failed")
    (point,) = failed.points
    assert (point.step, point.tokens, point.values) == (0, 0, {})
    assert failed.summary["error_class"] == "RuntimeError"


def test_evaluations_of_one_run_belong_to_all_trials_that_are_part_of_it(tmp_path: Path) -> None:
    store = grown_store(tmp_path)
    grow(store, planned_sweep(SERIES, widths=(8, 16), steps=(10, 20, 40)))
    with published_tables(store) as tables:
        by_steps = {run.settings["tokens"]: run for run in runs_of(tables)}
    for run in by_steps.values():
        assert [p.step for p in run.points if "eval/bound_nats_per_token" in p.values][:1] == [10]


def test_a_name_is_of_one_run_alone(tmp_path: Path) -> None:
    with published_tables(grown_store(tmp_path)) as tables:
        names = [run.name for run in runs_of(tables)]
    assert len(set(names)) == len(names) == 6


def test_trials_without_their_losses_yet_wait_for_the_next_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_PAUSES_S", (0.0, 0.0))
    store = grown_store(tmp_path)
    path = on_disk(store.table("losses")) / TABLE_FILE
    before = path.read_bytes()
    grow(store, planned_sweep(SERIES, widths=(8, 16, 32), steps=(10, 20)))
    path.write_bytes(before)  # as while a driver replaces one table after another
    with published_tables(store) as tables:
        ids = {run.run_id for run in runs_of(tables)}
        trials = tables.read("trials")["trial_id"].to_pylist()
    assert len(ids) == 5
    assert tables.without_losses == set(trials) - ids


def test_what_a_driver_replaces_meanwhile_is_not_seen(tmp_path: Path) -> None:
    store = grown_store(tmp_path)
    with published_tables(store) as tables:
        rows = tables.trials()
        n_seen = len([next(rows)])
        grow(store, planned_sweep(SERIES, widths=(8, 16, 32), steps=(10, 20)))
        n_seen += len(list(rows))
    assert n_seen == 6
    assert read_table(store, "trials").num_rows == 9


def test_curves_are_read_a_trial_at_a_time(tmp_path: Path) -> None:
    n_trials, n_steps = 1000, 200
    store = grown_store(tmp_path)
    for name in ROW_TYPES:
        shutil.copyfile(on_disk(store.table(name)) / TABLE_FILE, tmp_path / f"{name}.parquet")
    row = read_table(store, "trials").slice(0, 1).to_pylist()[0]
    ids = [f"{n:012x}" for n in range(n_trials)]
    trials = pa.Table.from_pylist([{**row, "trial_id": each} for each in ids], schema("trials"))
    pq.write_table(trials, tmp_path / "trials.parquet")
    n = n_trials * n_steps
    columns = {name: pa.array([0.5] * n) for name in ("flops", "loss_nats_per_token", "grad_norm")}
    columns |= {
        "trial_id": pa.array([each for each in ids for _ in range(n_steps)]),
        "series": pa.array(["masked"] * n),
        "step": pa.array([*range(1, n_steps + 1)] * n_trials),
        "tokens": pa.array([1] * n),
        "learning_rate": pa.array([0.1] * n),
    }
    losses = pa.table({name: columns[name] for name in schema("losses").names})
    pq.write_table(losses, tmp_path / "losses.parquet")
    size = losses.nbytes
    del losses, columns
    before, most = pa.total_allocated_bytes(), 0
    for _, curve in Tables("planted", tmp_path, frozenset()).trials():
        assert curve["step"].to_pylist() == [*range(1, n_steps + 1)]
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < size / 4


def _without_table(store: Store) -> None:
    (on_disk(store.table("losses")) / TABLE_FILE).unlink()


def _torn_table(store: Store) -> None:
    path = on_disk(store.table("losses")) / TABLE_FILE
    path.write_bytes(path.read_bytes()[:-9])


def _older_table(store: Store) -> None:
    table = read_table(store, "losses").drop_columns(["grad_norm"])
    pq.write_table(table, on_disk(store.table("losses")) / TABLE_FILE)


def _foreign_losses(store: Store) -> None:
    table = read_table(store, "losses")
    order = list(range(table.num_rows))
    pq.write_table(table.take(order[::-1]), on_disk(store.table("losses")) / TABLE_FILE)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_table, "is missing; tables are written while"),
        (_torn_table, "is no whole Parquet file"),
        (_older_table, "lacks the columns grad_norm"),
        (_foreign_losses, "is not in the order of the table `trials`"),
    ],
)
def test_tables_that_cannot_be_read_are_told(
    tmp_path: Path, damage: Callable[[Store], None], message: str
) -> None:
    store = grown_store(tmp_path)
    damage(store)
    with pytest.raises(StoreError, match=message), published_tables(store) as tables:
        list(tables.trials())
