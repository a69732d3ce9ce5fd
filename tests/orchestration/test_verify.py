import json
from collections.abc import Callable
from pathlib import Path

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

from sweeper.errors import StoreError
from sweeper.orchestration.verify import to_json, verify
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.results import publish, record_paths
from sweeper.store.storage import StoragePath
from sweeper.trials.records import TABLE_FILE


@pytest.fixture(params=KINDS)
def sound(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    plan = planned_sweep()
    store = submitted_store(kind_of_store(request.param, tmp_path) / "planted", plan)
    for planned in plan.trials:
        assignment = assignment_of(store, planned)
        publish(assignment, planted_result(assignment))
    refresh(store)
    return store


def _record(store: Store) -> StoragePath:
    return record_paths(store)[0]


def _edit(path: StoragePath, change: Callable[[dict[str, object]], object]) -> None:
    fields = json.loads(path.read_text())
    change(fields)
    path.write_bytes(json.dumps(fields).encode())


def _truncate(path: StoragePath) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _rename_record(store: Store) -> None:
    record = _record(store)
    store.record("0123456789ab").write_bytes(record.read_bytes())
    record.unlink()


def _change_seed(store: Store) -> None:
    _edit(_record(store), lambda fields: fields["identity"].update(seed=7))  # type: ignore[attr-defined]


def _add_nan(store: Store) -> None:
    def change(fields: dict[str, object]) -> None:
        fields["losses"]["grad_norm"][0] = float("nan")  # type: ignore[index]

    _edit(_record(store), change)


def _drop_column(store: Store) -> None:
    _edit(_record(store), lambda fields: fields["trial"].pop("device"))  # type: ignore[attr-defined]


def _duplicate(store: Store) -> None:
    assignment = assignment_of(store, planned_trial("masked", width=8, steps=(20,)))
    publish(assignment, planted_result(assignment))
    refresh(store)


def _relabel(store: Store) -> None:
    _edit(store.plan, lambda fields: fields["trials"][0].update(series="other"))  # type: ignore[index]


def _begin_half_an_attempt(store: Store) -> None:
    files.replace(store.attempts("0123456789ab") / "1.json", b'{"number": 1, "exec')


DAMAGES: dict[str, Callable[[Store], object]] = {
    "torn-record": lambda store: _truncate(_record(store)),
    "foreign-record": _rename_record,
    "missing-trial": lambda store: _record(store).unlink(),
    "not-finite": _add_nan,
    "missing-column": _drop_column,
    "duplicate-observation": _duplicate,
    "torn-table": lambda store: _truncate(store.table("losses") / TABLE_FILE),
    "stale-table": _relabel,
    "foreign-file": lambda store: (store.table("trials") / "part-1.parquet").write_bytes(b"x"),
    "orphan-temporary": lambda store: (store.published / ".tmp-x.json-1").write_bytes(b"{"),
    "torn-attempt": _begin_half_an_attempt,
    "wrong-index": lambda store: _edit(
        store.record_index,
        lambda fields: next(iter(fields["heads"].values())).update(steps=7),  # type: ignore[attr-defined]
    ),
    "torn-manifest": lambda store: _truncate(store.manifest),
    "torn-plan": lambda store: _truncate(store.plan),
}


@pytest.mark.parametrize("table", ["trials", "losses", "observations", "samples"])
@pytest.mark.parametrize(
    "name",
    [
        "part-1.parquet",
        "part-0 (copy).parquet",
        "part-0.parquet.crc",
        "part-0.parquet.tmp",
        "._part-0.parquet",
        "_part.parquet",
        ".ipynb_checkpoints/part-0-checkpoint.parquet",
        "old/part-0.parquet",
    ],
)
def test_a_stranger_beside_a_table_is_named(sound: Store, table: str, name: str) -> None:
    folder = sound.folder / table
    files.replace(folder / name, (folder / TABLE_FILE).read_bytes())
    (finding,) = verify(sound.folder)
    assert finding.code == "foreign-file"
    assert finding.file == folder / name.split("/")[0]


def test_a_table_of_no_folder_is_named(sound: Store) -> None:
    files.replace(sound.folder / "observations.parquet", b"PAR1")
    assert [finding.code for finding in verify(sound.folder)] == ["foreign-file"]


def test_sound_store_has_no_findings(sound: Store) -> None:
    assert verify(sound.folder) == []
    assert json.loads(to_json([])) == []


@pytest.mark.parametrize("code", DAMAGES)
def test_damage_is_found_and_named(sound: Store, code: str) -> None:
    DAMAGES[code](sound)
    findings = verify(sound.folder)
    assert code in {finding.code for finding in findings}
    assert json.loads(to_json(findings))[0]["file"] == str(findings[0].file)
    for finding in findings:
        assert str(finding.file).startswith(f"{sound.folder}/")
        assert "delete" in finding.message or "run the sweep again" in finding.message


def test_edited_identity_is_found(sound: Store) -> None:
    _change_seed(sound)
    assert {finding.code for finding in verify(sound.folder)} == {"foreign-record"}


def test_deleted_tables_are_found_each(sound: Store) -> None:
    for name in ("trials", "losses", "observations", "samples"):
        (sound.folder / name / TABLE_FILE).unlink()
    assert [finding.code for finding in verify(sound.folder)] == ["torn-table"] * 4


def test_folder_that_is_no_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="sweeper run"):
        verify(tmp_path)
