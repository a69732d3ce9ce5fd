"""Reads a results folder of ours, or anyone's table (text, Parquet), into a checked tidy table."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import SettingsError, SourceError
from analysis.tables.columns import RawTable
from analysis.tables.store_table import from_observations, is_observations, with_batch_and_rate
from analysis.tables.text_files import read_text_table
from analysis.tables.tidy import Reading, TidyTable, tidy
from sweeper.store.storage import StoragePath, place

PARQUET_SUFFIXES = (".parquet", ".pq")


def load(
    source: StoragePath | str,
    params: str | None = None,
    flops: str | None = None,
    reading: Reading | None = None,
) -> TidyTable:
    """Read and check a source; `params` and `flops` name conventions, None is the source's own.

    Raises `SourceError` for what cannot be read, `TableError` for what cannot be used, and
    `SettingsError` for a convention that this source cannot be expressed in.
    """
    path = place(source)
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder; expected a results folder or a table")
    if path.is_dir():
        path = _table_in(path)
    if path.is_dir() or path.suffix.lower() in PARQUET_SUFFIXES:
        frame = read_parquet(path)
        if is_observations(frame):
            trials = path.parent / "trials"
            if trials.is_dir():
                frame = with_batch_and_rate(frame, read_parquet(trials))
            return from_observations(frame, path.name, params, flops, reading)
        raw = RawTable(frame, path.name, tuple(range(1, len(frame) + 1)))
    else:
        raw = read_text_table(path)
    for option, value in (("params", params), ("flops", flops)):
        if value is not None:
            raise SettingsError(
                f"--{option} {value}: {path.name} has no ingredients to recount {option} from; "
                f"only results folders have them. Leave --{option} out to use the column as it is"
            )
    return tidy(raw, reading)


def _table_in(folder: StoragePath) -> StoragePath:
    """The observations of a results folder, or the folder itself when it holds Parquet files."""
    for name in ("observations.parquet", "observations"):
        if (folder / name).exists():
            return folder / name
    if any(child.suffix.lower() in PARQUET_SUFFIXES for child in folder.iterdir()):
        return folder
    if (folder / "sweep.yaml").exists():
        message = f"{folder}: a results folder without observations: no trial has finished yet"
        raise SourceError(f"{message}; `sweeper status {folder}` shows how far it is")
    tables = sorted(child.name for child in folder.glob("*.csv"))
    hint = f"; did you mean {folder / tables[0]}?" if tables else ""
    raise SourceError(
        f"{folder}: neither a results folder (no observations) nor Parquet files in it{hint}"
    )


def read_parquet(path: StoragePath) -> pd.DataFrame:
    """One file or a folder of part files, in the order of their names."""
    parts = [path]
    if path.is_dir():
        files = [p for p in path.rglob("*") if p.suffix.lower() in PARQUET_SUFFIXES]
        parts = sorted(files, key=lambda file: str(file).split("/"))
    if not parts:
        raise SourceError(f"{path}: an empty folder, expected Parquet files")
    tables = []
    for part in parts:
        try:
            file = part if isinstance(part, Path) else pa.BufferReader(part.read_bytes())
            tables.append(pq.ParquetFile(file).read())
        except (pa.ArrowException, OSError) as error:
            message = f"{part}: not a readable Parquet file ({_one_line(error)})"
            raise SourceError(message) from error
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        message = f"{path}: part files of different columns ({_one_line(error)})"
        raise SourceError(message) from error
    # What pandas took for an index when it wrote the file is a column like any other.
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
