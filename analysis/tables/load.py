"""Reads a results folder of ours, or anyone's table (text, Parquet), into a checked tidy table."""

from analysis.errors import SettingsError, SourceError
from analysis.tables.columns import RawTable
from analysis.tables.parquet_parts import (
    PARQUET_SUFFIXES,
    is_results_folder,
    parts_below,
    read_parquet,
    unreadable,
)
from analysis.tables.store_table import from_observations, is_observations, with_batch_and_rate
from analysis.tables.text_files import read_text_table
from analysis.tables.tidy import Reading, TidyTable, tidy
from sweeper.store.storage import StoragePath, place


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
    try:
        if not path.exists():
            message = f"{path}: no such file or folder; expected a results folder or a table"
            raise SourceError(message)
        table = _table_in(path) if path.is_dir() else path
        is_text = not table.is_dir() and table.suffix.lower() not in PARQUET_SUFFIXES
        raw = read_text_table(table) if is_text else _read_binary(table)
    except OSError as error:
        raise unreadable(path, error) from error
    if not is_text and is_observations(raw.frame):
        return from_observations(raw.frame, raw.name, params, flops, reading)
    for option, value in (("params", params), ("flops", flops)):
        if value is not None:
            raise SettingsError(
                f"--{option} {value}: {path.name} has no ingredients to recount {option} from; "
                f"only results folders have them. Leave --{option} out to use the column as it is"
            )
    return tidy(raw, reading)


def _read_binary(path: StoragePath) -> RawTable:
    """Parquet; observations of ours with what their trials say."""
    frame = read_parquet(path)
    trials = path.parent / "trials"
    if is_observations(frame) and trials.is_dir():
        frame = with_batch_and_rate(frame, read_parquet(trials))
    return RawTable(frame, path.name, tuple(range(1, len(frame) + 1)))


def _table_in(folder: StoragePath) -> StoragePath:
    """The observations of a results folder, or the folder itself when it holds Parquet files."""
    children = sorted(child.name for child in folder.iterdir())
    is_ours = is_results_folder(folder)
    for name in ("observations",) if is_ours else ("observations.parquet", "observations"):
        if name in children:
            return folder / name
    if is_ours or "sweep.yaml" in children:
        message = f"{folder}: a results folder without observations: no trial has finished yet"
        raise SourceError(f"{message}; `sweeper status {folder}` shows how far it is")
    if parts_below(folder):
        return folder
    tables = [name for name in children if name.endswith(".csv")]
    hint = f"; did you mean {folder / tables[0]}?" if tables else ""
    raise SourceError(
        f"{folder}: neither a results folder (no observations) nor Parquet files in it{hint}"
    )
