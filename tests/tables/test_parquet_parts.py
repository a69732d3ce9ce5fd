"""Which files of a folder are a table, and that none of them is left out unsaid."""

import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from planted_observations import observations
from planted_tables import isoflop_rows
from unprivileged import folder_of_anyone, unprivileged

from analysis.errors import SourceError
from analysis.tables.load import load

ROWS = isoflop_rows("a")


def parts(folder: Path) -> Path:
    """A folder of two part files, one of them in a folder of its own."""
    (folder / "sub").mkdir(parents=True)
    ROWS[:20].to_parquet(folder / "part-0.parquet")
    ROWS[20:].to_parquet(folder / "sub" / "part-1.parquet")
    return folder


def plant(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ROWS.assign(loss=ROWS["loss"] - 1).to_parquet(path)
    return path


@pytest.mark.parametrize(
    "stray",
    [
        ".part-0.parquet",
        "._part-0.parquet",
        "_part-0.parquet",
        "_temporary/0/part-0.parquet",
        ".ipynb_checkpoints/part-0-checkpoint.parquet",
        "sub/.hidden/part-2.parquet",
        "sub/_delta_log/0.parquet",
        "sub/_metadata.parquet",
        "part-0.parquet.tmp",
        ".part-0.parquet.crc",
    ],
)
def test_hidden_and_temporary_files_are_no_data(tmp_path: Path, stray: str) -> None:
    folder = parts(tmp_path / "table")
    plant(folder / stray)
    assert len(load(folder).frame) == len(ROWS)


def test_the_folder_itself_may_have_any_name(tmp_path: Path) -> None:
    for name in ("_table", ".table"):
        assert len(load(parts(tmp_path / name)).frame) == len(ROWS)
    assert len(load(plant(tmp_path / "_one.parquet")).frame) == len(ROWS)
    plant(tmp_path / "only" / "_hidden" / "0.parquet")
    with pytest.raises(SourceError, match="neither a results folder"):
        load(tmp_path / "only")


def test_keys_in_the_names_of_folders_are_columns(tmp_path: Path) -> None:
    for seed in (0, 1):
        for family in ("masked", "a%20b"):
            folder = tmp_path / f"seed={seed}" / f"family={family}"
            folder.mkdir(parents=True)
            ROWS.drop(columns=["family", "seed"], errors="ignore").to_parquet(folder / "0.parquet")
    frame = load(tmp_path).frame
    assert len(frame) == 4 * len(ROWS)
    assert set(frame["family"]) == {"masked", "a b"}
    assert set(frame["seed"]) == {0, 1}
    assert (frame.groupby(["seed", "family"])["loss"].count() == len(ROWS)).all()


def test_numbers_in_the_names_of_folders_are_numbers(tmp_path: Path) -> None:
    for budget, rows in ROWS.groupby("budget_flops"):
        folder = tmp_path / f"budget_flops={budget:.6e}"
        folder.mkdir()
        rows.drop(columns="budget_flops").to_parquet(folder / "0.parquet")
    found = np.sort(load(tmp_path).frame["budget_flops"].unique())
    np.testing.assert_allclose(found, np.sort(ROWS["budget_flops"].unique()), rtol=1e-6)


def test_a_folder_that_contradicts_its_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "family=a").mkdir()
    (tmp_path / "family=b").mkdir()
    ROWS.to_parquet(tmp_path / "family=a" / "0.parquet")
    assert len(load(tmp_path).frame) == len(ROWS)
    ROWS.to_parquet(tmp_path / "family=b" / "0.parquet")
    with pytest.raises(SourceError, match=r"its folder says family=b, its column 'family' holds a"):
        load(tmp_path)


def results(folder: Path) -> Path:
    (folder / "observations").mkdir(parents=True)
    (folder / "plan.json").write_text("{}")
    observations().to_parquet(folder / "observations" / "part-0.parquet")
    return folder


@pytest.mark.parametrize(
    "stray",
    [
        "observations/part-1.parquet",
        "observations/part-0 (copy).parquet",
        "observations/old/part-0.parquet",
        "observations/.part.parquet",
        "observations.parquet",
    ],
)
def test_of_a_results_folder_only_what_the_store_wrote_is_read(tmp_path: Path, stray: str) -> None:
    folder = results(tmp_path / "sweep")
    expected = load(folder).frame
    better = observations().assign(trajectory_id="planted")
    better["bound_nats_per_token"] -= 1
    (folder / stray).parent.mkdir(exist_ok=True)
    better.to_parquet(folder / stray)
    pd.testing.assert_frame_equal(load(folder).frame, expected)
    pd.testing.assert_frame_equal(load(folder / "observations").frame, expected)


def test_several_results_folders_are_no_table(tmp_path: Path) -> None:
    for name in ("one", "two"):
        results(tmp_path / name)
    with pytest.raises(SourceError, match=r"several folders of results; did you mean .*(one|two)"):
        load(tmp_path)


@pytest.mark.parametrize("closed", ["sub", "sub/part-1.parquet", "."])
def test_what_cannot_be_read_is_named(closed: str) -> None:
    with folder_of_anyone() as folder:
        parts(folder / "table")
        assert len(load(folder / "table").frame) == len(ROWS)
        with (
            unprivileged(folder / "table" / closed),
            pytest.raises(SourceError, match=r"(?i)permission denied") as caught,
        ):
            load(folder / "table")
        assert str((folder / "table" / closed).resolve()) in str(caught.value)


@pytest.mark.parametrize("closed", ["observations", "observations/part-0.parquet", "."])
def test_observations_that_cannot_be_read_are_not_taken_for_absent(closed: str) -> None:
    with folder_of_anyone() as folder:
        results(folder / "sweep")
        with (
            unprivileged(folder / "sweep" / closed),
            pytest.raises(SourceError, match=r"(?i)permission denied") as caught,
        ):
            load(folder / "sweep")
        assert str((folder / "sweep" / closed).resolve()) in str(caught.value)


def test_links_are_followed_and_those_to_nowhere_are_named(tmp_path: Path) -> None:
    folder = parts(tmp_path / "table")
    shutil.move(folder / "sub", tmp_path / "elsewhere")
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    (folder / "up").symlink_to(folder)
    assert len(load(folder).frame) == len(ROWS)
    for name, target in (("gone", tmp_path / "nowhere"), ("loop.parquet", folder / "loop.parquet")):
        (folder / name).symlink_to(target)
        with pytest.raises(SourceError, match=rf"{name}: cannot be read"):
            load(folder)
        (folder / name).unlink()


class Shut(MemoryFileSystem):  # type: ignore[misc]
    """Object storage that refuses to list one prefix."""

    protocol = "shut"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("shut://", "memory://")))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        if path.rstrip("/").endswith("closed"):
            raise PermissionError(13, "Access Denied", path)
        found: list[Any] = super().ls(path, detail, **kwargs)
        return found


def test_a_prefix_that_a_store_does_not_list_is_named() -> None:
    fsspec.register_implementation("shut", Shut, clobber=True)
    store = fsspec.filesystem("shut")
    for name in ("part-0", "sub/part-1", "_temporary/part-2"):
        store.pipe_file(f"/table/{name}.parquet", ROWS.to_parquet())
    assert len(load("shut://table").frame) == len(ROWS)
    store.pipe_file("/table/closed/part-3.parquet", ROWS.to_parquet())
    with pytest.raises(SourceError, match=r"closed: cannot be read .Access Denied."):
        load("shut://table")
