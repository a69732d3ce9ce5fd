"""A project of Trackio, read back by its own API."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from client_exports import answer, exported, needs
from planted import planned_sweep
from planted_export import SERIES, grow, grown_store, runs

from sweeper.store.layout import Store

pytestmark = [needs("trackio"), pytest.mark.slow]  # a process for each export

READ = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
runs = [(run.id, run.name, run.config) for run in trackio.Api().runs("planted")]
logs = [SQLiteStorage.get_logs("planted", name, run_id=id) for id, name, _ in runs]
print(json.dumps([[*run, log] for run, log in zip(runs, logs)]))
"""


def read_back(folder: Path) -> dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    found = answer(READ, TRACKIO_DIR=str(folder))
    return {run_id: (name, config, log) for run_id, name, config, log in found}


def rows(folder: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(folder / "planted.db") as database:
        return {
            table: database.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
            for table in ("metrics", "configs")
        }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and its first export, to be copied."""
    folder = tmp_path_factory.mktemp("first")
    store = grown_store(folder)
    done = exported(store.folder, "--to", "trackio", "-o", folder / "out")
    assert "6 new runs, 0 changed, 0 as they were" in done.stdout, done.stderr
    return folder


@pytest.fixture
def place(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path / "place")
    return tmp_path / "place"


def test_trackio_reads_the_numbers_that_were_published(first: Path) -> None:
    found = read_back(first / "out")
    shown = runs(Store(first / "planted"))
    assert set(found) == {run.run_id for run in shown}
    for run in shown:
        name, config, log = found[run.run_id]
        assert name == run.name
        assert config["_Group"] == run.series
        assert config.items() >= {**run.settings, **run.summary}.items()
        assert [
            {key: value for key, value in row.items() if key != "timestamp"} for row in log
        ] == [
            {
                **point.values,
                "progress/tokens": point.tokens,
                "progress/flops": point.flops,
                "step": point.step,
            }
            for point in run.points
        ]


def test_exporting_twice_changes_no_row_and_a_grown_sweep_adds_what_is_new(place: Path) -> None:
    out, store = place / "out", Store(place / "planted")
    before = rows(out)
    again = exported(store.folder, "--to", "trackio", "-o", out)
    assert "0 new runs, 0 changed, 6 as they were" in again.stdout, again.stderr
    assert rows(out) == before
    grow(store, planned_sweep(SERIES, widths=(8, 16, 32)))
    more = exported(store.folder, "--to", "trackio", "-o", out)
    assert "3 new runs, 1 changed, 5 as they were" in more.stdout, more.stderr
    n_points = sum(len(run.points) for run in runs(store))
    assert len(rows(out)["metrics"]) == n_points
    assert len(rows(out)["configs"]) == 9


def test_runs_of_others_in_the_project_stay(place: Path) -> None:
    out, store = place / "out", Store(place / "planted")
    program = (
        "from trackio.sqlite_storage import SQLiteStorage as S; "
        "S.bulk_log('planted', 'mine', [{'loss': 1.5}], config={'a': 1}); print(1)"
    )
    answer(program, TRACKIO_DIR=str(out))
    grow(store, planned_sweep(SERIES, widths=(8, 16, 32)))
    exported(store.folder, "--to", "trackio", "-o", out)
    found = read_back(out)
    assert len(found) == 10
    assert found["mine"][1] == {"a": 1}


def test_an_export_that_was_killed_is_finished_by_the_next(place: Path) -> None:
    out, store = place / "killed", Store(place / "planted")
    program = (
        "import os, signal, sqlite3, sys\n"
        "from trackio.sqlite_storage import SQLiteStorage as S\n"
        "insert, seen = S._insert_trace_rows, []\n"
        "def insert_and_die(cursor, rows):\n"
        "    seen.append(1)\n"
        "    if len(seen) == 3:\n"  # its rows are there, its settings are not
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    insert(cursor, rows)\n"
        "S._insert_trace_rows = insert_and_die\n"
        "from sweeper.cli import main\n"
        "main()\n"
    )
    arguments = ["export", str(store.folder), "--to", "trackio", "-o", str(out)]
    died = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "TRACKIO_DIR": str(out)},
    )
    assert died.returncode == -9, died.stderr
    assert len(rows(out)["configs"]) == 2
    again = exported(store.folder, "--to", "trackio", "-o", out)
    assert "4 new runs, 0 changed, 2 as they were" in again.stdout, again.stderr
    assert read_back(out) == read_back(place / "out")


def test_the_project_has_the_name_it_is_given(place: Path) -> None:
    store = Store(place / "planted")
    done = exported(store.folder, "--to", "trackio", "-o", place / "out", "--project", "other")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (place / "out").glob("*.db")) == ["other.db", "planted.db"]
    bad = exported(store.folder, "--to", "trackio", "-o", place / "out", "--project", "x_configs")
    assert bad.returncode == 2
    assert "--project x_configs: " in bad.stderr
    assert "Traceback" not in bad.stderr


def test_a_folder_that_cannot_be_written_is_told(place: Path) -> None:
    (place / "file").write_text("mine")
    done = exported(place / "planted", "--to", "trackio", "-o", place / "file")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
