import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from planted import (
    assignment_of,
    planned_sweep,
    planned_trial,
    planted_result,
    refresh,
    submitted_store,
)

from sweeper.errors import StoreError
from sweeper.store import files
from sweeper.store.attempts import begin_attempt, end_attempt
from sweeper.store.layout import Store
from sweeper.store.pending import pending_trials
from sweeper.store.results import (
    INDEX_VERSION,
    RecordIndex,
    publish,
    published,
    read_head,
    read_index,
    record_paths,
    record_stamps,
    write_index,
)
from sweeper.store.storage import ObjectPath, StoragePath
from sweeper.store.submission import read_plan, submit
from sweeper.store.tables import build_tables, read_table
from sweeper.trials.plan import Plan, PlannedTrial
from sweeper.trials.records import ROW_TYPES, TABLE_FILE

LONG_AGO_NS = 10**18


def _publish(store: Store, *trials: PlannedTrial) -> None:
    for planned in trials:
        assignment = assignment_of(store, planned)
        publish(assignment, planted_result(assignment))


@pytest.fixture
def indexed(tmp_path: Path) -> Store:
    """A store of six trials, with tables and index."""
    store = submitted_store(tmp_path / "planted", planned_sweep())
    _publish(store, *planned_sweep().trials)
    refresh(store)
    return store


def _file(path: StoragePath) -> Path:
    assert isinstance(path, Path)
    return path


def _first(store: Store) -> Path:
    return _file(record_paths(store)[0])


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _assert_heads_are_those_of_the_records(store: Store) -> None:
    assert published(store) == tuple(map(read_head, record_paths(store)))


def _assert_tables_are_as_if_built_anew(store: Store) -> None:
    refreshed = {name: (store.table(name) / TABLE_FILE).read_bytes() for name in ROW_TYPES}
    for name, table in build_tables(store, read_plan(store)).items():
        assert read_table(store, name).equals(table)
    store.record_index.unlink()
    refresh(store)
    anew = {name: (store.table(name) / TABLE_FILE).read_bytes() for name in ROW_TYPES}
    assert refreshed == anew


def test_heads_come_from_the_index_while_it_is_up_to_date(indexed: Store) -> None:
    index = read_index(indexed)
    assert index.stamps == record_stamps(indexed)
    _assert_heads_are_those_of_the_records(indexed)
    # Marked heads come back, so no record was opened.
    marked = {
        trial_id: dataclasses.replace(head, work_time_s=7.0)
        for trial_id, head in index.heads.items()
    }
    write_index(indexed, dataclasses.replace(index, heads=marked))
    assert {head.work_time_s for head in published(indexed)} == {7.0}


DAMAGES: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "other version": lambda path: _edit(path, f'"version": {INDEX_VERSION}', '"version": 0'),
    "other fields": lambda path: _edit(path, '"is_diverged"', '"has_diverged"'),
    "without stamps": lambda path: _edit(path, '"stamps"', '"stumps"'),
    "a list": lambda path: path.write_text("[]"),
    "heads in a list": lambda path: path.write_text(
        json.dumps(
            {
                "version": INDEX_VERSION,
                "basis": "",
                "stamps": {},
                "heads": [1],
            }
        )
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_index_is_no_index_and_is_renewed(indexed: Store, damage: str) -> None:
    before = read_index(indexed)
    DAMAGES[damage](_file(indexed.record_index))
    assert read_index(indexed) == RecordIndex()
    _assert_heads_are_those_of_the_records(indexed)
    refresh(indexed)
    # The tables are written anew, and so have other times.
    assert read_index(indexed).heads == before.heads
    assert read_index(indexed).stamps == before.stamps


def test_deleted_record_is_missing_at_once_and_trained_anew(indexed: Store) -> None:
    gone = _first(indexed)
    gone.unlink()
    assert len(published(indexed)) == 5
    (pending,) = pending_trials(read_plan(indexed).trials, published(indexed))
    assert pending.trial_id == gone.stem
    refresh(indexed)
    assert gone.stem not in read_index(indexed).heads
    _assert_tables_are_as_if_built_anew(indexed)


def test_replaced_record_is_read_again(indexed: Store) -> None:
    _edit(_first(indexed), '"attempt": 1', '"attempt": 12')
    assert published(indexed)[0].attempt == 12
    _edit(_first(indexed), '"eval_time_s": 0.5', '"eval_time_s": 9.5')
    refresh(indexed)
    _assert_tables_are_as_if_built_anew(indexed)
    assert 9.5 in read_table(indexed, "trials")["eval_time_s"].to_pylist()


def test_record_replaced_by_one_of_the_same_size_is_read_again(indexed: Store) -> None:
    _edit(_first(indexed), '"attempt": 1', '"attempt": 3')
    os.utime(_first(indexed), ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert published(indexed)[0].attempt == 3


def test_torn_record_is_an_error_although_it_is_in_the_index(indexed: Store) -> None:
    _first(indexed).write_text("{")
    with pytest.raises(StoreError, match="delete it"):
        published(indexed)
    with pytest.raises(StoreError, match="delete it"):
        refresh(indexed)


def test_temporary_and_foreign_names_are_no_records(indexed: Store) -> None:
    (indexed.published / ".tmp-x.json-1").write_bytes(b"{")
    (indexed.published / "note.txt").write_bytes(b"mine")
    assert len(published(indexed)) == 6


def test_index_serves_a_store_below_a_prefix(tmp_path: Path) -> None:
    plan = planned_sweep(("masked",))
    store = submitted_store(ObjectPath(f"bucket://{tmp_path}") / "planted", plan)
    _publish(store, *plan.trials[:2])
    refresh(store)
    assert read_index(store).unchanged(record_stamps(store)).keys() == record_stamps(store).keys()
    _publish(store, *plan.trials[2:])
    refresh(store)
    record_paths(store)[0].unlink()
    assert len(published(store)) == 2
    path = record_paths(store)[0]
    files.replace(path, path.read_bytes().replace(b'"attempt": 1', b'"attempt": 3'))
    assert sorted(head.attempt for head in published(store)) == [1, 3]
    refresh(store)
    _assert_tables_are_as_if_built_anew(store)


class TestRefreshing:
    def test_reads_only_what_is_new(self, tmp_path: Path) -> None:
        *others, last = planned_sweep().trials
        store = submitted_store(tmp_path / "planted", planned_sweep())
        _publish(store, *others)
        refresh(store)
        # With the time and size it had, an unreadable record goes unnoticed: it is not opened.
        path = _file(store.record(others[0].trial_id))
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        _publish(store, last)
        refresh(store)
        assert read_table(store, "trials").num_rows == 6

    def test_one_by_one_gives_the_bytes_of_building_anew(self, tmp_path: Path) -> None:
        store = submitted_store(tmp_path / "planted", planned_sweep())
        for planned in reversed(planned_sweep().trials):
            _publish(store, planned)
            refresh(store)
        _assert_tables_are_as_if_built_anew(store)

    def test_relabelled_plan_relabels_all_rows(self, indexed: Store) -> None:
        relabelled = tuple(
            dataclasses.replace(planned, series=f"new-{planned.series}")
            for planned in planned_sweep().trials
        )
        submit(indexed, Plan("planted", relabelled), "name: planted\n# 2\n")
        refresh(indexed)
        assert set(read_table(indexed, "losses")["series"].to_pylist()) == {
            "new-masked",
            "new-uniform",
        }
        _assert_tables_are_as_if_built_anew(indexed)
        # Trials that leave the plan get back the labels they were trained under.
        submit(indexed, planned_sweep(("masked",)), "name: planted\n# 3\n")
        refresh(indexed)
        assert set(read_table(indexed, "losses")["series"].to_pylist()) == {"masked", "uniform"}
        _assert_tables_are_as_if_built_anew(indexed)

    def test_a_point_of_two_records_outlives_either(self, tmp_path: Path) -> None:
        short, long = planned_trial(steps=(10, 20)), planned_trial(steps=(20, 40))
        store = submitted_store(tmp_path / "planted", Plan("planted", (short,)))
        _publish(store, short)
        refresh(store)
        _publish(store, long)
        refresh(store)
        _assert_tables_are_as_if_built_anew(store)
        for gone in (short, long):
            _publish(store, short, long)
            refresh(store)
            store.record(gone.trial_id).unlink()
            refresh(store)
            assert 20 in read_table(store, "observations")["step"].to_pylist()
            _assert_tables_are_as_if_built_anew(store)

    def test_failed_trial_is_a_row_until_it_succeeds(self, indexed: Store) -> None:
        path = _first(indexed)
        record = path.read_bytes()
        path.unlink()
        begin_attempt(indexed, path.stem, executor="inline", device="cpu", n_threads=1)
        end_attempt(indexed, path.stem, 1, "error", error=("E", "planted", "Traceback"))
        refresh(indexed)
        assert read_table(indexed, "trials")["status"].to_pylist().count("failed") == 1
        _assert_tables_are_as_if_built_anew(indexed)
        path.write_bytes(record)
        refresh(indexed)
        assert "failed" not in read_table(indexed, "trials")["status"].to_pylist()
        _assert_tables_are_as_if_built_anew(indexed)

    @pytest.mark.parametrize("name", ROW_TYPES)
    def test_table_that_was_changed_by_hand_is_rebuilt(self, indexed: Store, name: str) -> None:
        path = _file(indexed.folder / name / TABLE_FILE)
        before = path.read_bytes()
        path.unlink()
        refresh(indexed)
        assert path.read_bytes() == before
        path.write_bytes(before[:-20])
        refresh(indexed)
        assert path.read_bytes() == before

    def test_nothing_new_writes_nothing(self, indexed: Store) -> None:
        paths = [indexed.record_index, *(indexed.table(name) / TABLE_FILE for name in ROW_TYPES)]
        before = [_file(path).stat().st_mtime_ns for path in paths]
        refresh(indexed)
        assert [_file(path).stat().st_mtime_ns for path in paths] == before
