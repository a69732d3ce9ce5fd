"""CSV, Parquet and data sets: whole tables, written once."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pyarrow.parquet as pq
import pytest
from planted import planned_sweep
from planted_export import SERIES, contents, grow, grown_store

from sweeper.errors import OutputError
from sweeper.exports.destination import Change
from sweeper.exports.folder import MARK_FILE, claimed, file_name
from sweeper.exports.source import published_tables
from sweeper.exports.targets import Place, Target, destination
from sweeper.store.layout import Store
from sweeper.store.tables import read_table
from sweeper.trials.records import ROW_TYPES, schema

PLAIN: tuple[Target, ...] = ("csv", "parquet", "hf")


def exported(store: Store, target: Target, folder: Path) -> dict[Change, int]:
    with published_tables(store) as tables:
        return dict(destination(Place(target, folder, None, False), tables.sweep).write(tables))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return grown_store(tmp_path)


def test_csv_has_every_value_of_the_tables(store: Store, tmp_path: Path) -> None:
    exported(store, "csv", tmp_path / "out")
    for name in ROW_TYPES:
        read = pd.read_csv(tmp_path / "out" / f"{name}.csv", keep_default_na=False, na_values={})
        rows = read_table(store, name).to_pylist()
        assert list(read.columns) == schema(name).names
        assert len(read) == len(rows)
        for row, shown in zip(rows, read.to_dict("records"), strict=True):
            for column, value in row.items():
                if value is None:
                    assert shown[column] == ""
                elif isinstance(value, str):
                    assert str(shown[column]) == value
                else:
                    assert float(shown[column]) == value


def test_parquet_has_the_tables_with_what_each_column_means(store: Store, tmp_path: Path) -> None:
    exported(store, "parquet", tmp_path / "out")
    for name in ROW_TYPES:
        table = pq.read_table(tmp_path / "out" / f"{name}.parquet")
        assert table.equals(read_table(store, name))
        assert table.schema.field("series").metadata[b"doc"].startswith(b"Label of the series")


def test_a_data_set_is_loaded_by_the_library_of_that_name(store: Store, tmp_path: Path) -> None:
    exported(store, "hf", tmp_path / "out")
    where, cache = str(tmp_path / "out"), str(tmp_path / "cache")
    names = [name for name in ROW_TYPES if read_table(store, name).num_rows]
    assert sorted(datasets.get_dataset_config_names(where)) == sorted(names) != []
    for name in names:
        loaded = datasets.load_dataset(where, name, split="train", cache_dir=cache)
        assert loaded.to_list() == read_table(store, name).to_pylist()
    by_default = datasets.load_dataset(where, split="train", cache_dir=cache)
    assert by_default.column_names == schema("observations").names


@pytest.mark.parametrize("target", PLAIN)
def test_every_column_is_described(target: Target, store: Store, tmp_path: Path) -> None:
    exported(store, target, tmp_path / "out")
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for name in ROW_TYPES:
        for column in schema(name):
            assert f"| `{column.name}` | {column.type}" in page


@pytest.mark.parametrize("target", PLAIN)
def test_exporting_twice_changes_nothing_and_a_grown_sweep_what_is_new(
    target: Target, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert exported(store, target, out) == {"new": 5}
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    assert exported(store, target, out) == {"same": 5}
    assert contents(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == times
    grow(store, planned_sweep(SERIES, widths=(8, 16, 32)))
    assert exported(store, target, out) == {"changed": 3, "same": 2}  # not samples, not the page
    exported(store, target, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_an_export_that_was_killed_is_finished_by_the_next(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        "import os, signal, sys\n"
        "import pyarrow.parquet as pq\n"
        "from sweeper.cli import main\n"
        "write = pq.ParquetWriter.write_batch\n"
        "def write_and_die(self, batch, **more):\n"
        "    write(self, batch, **more)\n"
        "    if 'grad_norm' in batch.schema.names:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "pq.ParquetWriter.write_batch = write_and_die\n"
        "main()\n"
    )
    arguments = ["export", str(store.folder), "--to", "parquet", "-o", str(out)]
    command = [sys.executable, "-c", program, *arguments]
    died = subprocess.run(command, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    left = contents(out)
    assert "trials.parquet" in left
    assert "losses.parquet" not in left
    assert any(name.startswith(".tmp-losses") for name in left)
    assert exported(store, "parquet", out) == {"same": 1, "new": 4}
    exported(store, "parquet", tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_file_that_was_damaged_is_written_again(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(store, "csv", out)
    before = contents(out)
    (out / "losses.csv").write_text("torn")
    assert exported(store, "csv", out) == {"changed": 1, "same": 4}
    assert contents(out) == before


def _somebodys_files(folder: Path) -> None:
    (folder / "thesis.tex").write_text("mine")


def _another_kind(folder: Path) -> None:
    (folder / MARK_FILE).write_text(json.dumps({"export": "hf", "sweep": "planted"}))


def _another_sweep(folder: Path) -> None:
    (folder / MARK_FILE).write_text(json.dumps({"export": "csv", "sweep": "other"}))


def _no_mark(folder: Path) -> None:
    (folder / MARK_FILE).write_text("[1, 2")


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (_somebodys_files, "holds files that no export has written"),
        (_another_kind, "holds an export of 'planted' to hf, and this is one of 'planted' to csv"),
        (_another_sweep, "holds an export of 'other' to csv"),
        (_no_mark, "is not what an export writes"),
    ],
)
def test_folders_of_others_stay_as_they_are(
    fill: Callable[[Path], None], message: str, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    fill(out)
    before = contents(out)
    with pytest.raises(OutputError, match=message):
        exported(store, "csv", out)
    assert contents(out) == before


def test_a_file_in_the_place_of_the_folder_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="is a file; expected a folder"):
        exported(store, "csv", tmp_path / "out")
    with pytest.raises(OutputError, match="cannot be written"):
        exported(store, "csv", tmp_path / "out" / "deeper")


def test_two_exports_do_not_write_to_one_folder_at_once(store: Store, tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "out", "csv", "planted"),
        pytest.raises(OutputError, match="another export writes to it now"),
    ):
        exported(store, "csv", tmp_path / "out")
    assert exported(store, "csv", tmp_path / "out") == {"new": 5}


def test_any_label_has_a_file_name_of_its_own() -> None:
    labels = ["masked", "a/b", "a_b", "a:b", "..", "", ".hidden", "x" * 300, "x" * 301, "ü", "a b"]
    names = [file_name(label) for label in labels]
    assert names[0] == "masked"
    assert len(set(names)) == len(labels)
    for name in names:
        assert name == Path(name).name
        assert name.isascii()
        assert not name.startswith(".")
        assert len(name) < 80
