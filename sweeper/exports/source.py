"""The published tables of a sweep, copied so that a driver at work does not change them meanwhile.

`losses` is read a trial at a time: nothing here holds the curves of all of them.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweeper.errors import StoreError
from sweeper.store.layout import Store
from sweeper.store.storage import StoragePath
from sweeper.store.submission import read_plan
from sweeper.trials.records import ROW_TYPES, TABLE_FILE, TableName, schema

Row = dict[str, Any]

ROWS_AT_ONCE = 1 << 14
_PAUSES_S = (0.0, 0.5, 1.0, 2.0)
"""Before each copy: a driver replaces its tables one after another, and that takes a moment."""


@dataclass(frozen=True)
class Tables:
    """The four tables as they were at one time."""

    sweep: str
    folder: Path
    """Of the copies."""
    without_losses: frozenset[str]
    """Finished trials of which `losses` has no row yet."""

    def file(self, name: TableName) -> Path:
        """The Parquet file of one table."""
        return self.folder / f"{name}.parquet"

    def n_rows(self, name: TableName) -> int:
        """How long a table is."""
        n_rows: int = pq.read_metadata(self.file(name)).num_rows
        return n_rows

    def read(self, name: TableName) -> pa.Table:
        """One whole table."""
        return pq.read_table(self.file(name))

    def batches(self, name: TableName) -> Iterator[pa.RecordBatch]:
        """One table, a part at a time."""
        with pq.ParquetFile(self.file(name)) as file:
            yield from file.iter_batches(batch_size=ROWS_AT_ONCE)

    def trials(self) -> Iterator[tuple[Row, pa.Table]]:
        """Each row of `trials` with its rows of `losses`, in the order of the tables.

        Raises StoreError for losses that are in another order, or of trials that are not there.
        """
        curves = _by_trial(self.batches("losses"))
        following = next(curves, None)
        for row in self.read("trials").to_pylist():
            curve = schema("losses").empty_table()
            if following is not None and following[0] == row["trial_id"]:
                curve, following = following[1], next(curves, None)
            yield row, curve
        if following is not None:
            raise StoreError(
                f"losses: trial {following[0]} is not in the order of the table `trials`; expected "
                "tables as `sweeper run` writes them: run the sweep again, which mends them"
            )


@contextlib.contextmanager
def published_tables(store: Store) -> Iterator[Tables]:
    """The tables of a store, copied for as long as the context lasts.

    Raises StoreError where a table is missing, torn or of another version.
    """
    sweep = read_plan(store).name
    with tempfile.TemporaryDirectory(prefix="sweeper-export-") as name:
        for pause_s in _PAUSES_S:
            time.sleep(pause_s)
            tables = _copied(store, sweep, Path(name))
            if not tables.without_losses:
                break
        yield tables


def _copied(store: Store, sweep: str, folder: Path) -> Tables:
    tables = Tables(sweep, folder, frozenset())
    for name in ROW_TYPES:
        path = store.table(name) / TABLE_FILE
        try:
            _copy(path, tables.file(name))
            missing = set(schema(name).names) - set(pq.read_schema(tables.file(name)).names)
        except FileNotFoundError as error:
            raise StoreError(
                f"{path}: is missing; tables are written while `sweeper run` is at work and when "
                "it ends: run the sweep, then export"
            ) from error
        except pa.ArrowInvalid as error:
            raise StoreError(
                f"{path}: is no whole Parquet file ({error}); delete it and run the sweep again, "
                "which writes it anew"
            ) from error
        if missing:
            raise StoreError(
                f"{path}: lacks the columns {', '.join(sorted(missing))}, so another version has "
                "written it; run the sweep again with this one, which writes it anew"
            )
    trials = tables.read("trials").select(["trial_id", "status"]).to_pylist()
    done = {row["trial_id"] for row in trials if row["status"] == "done"}
    seen = {each for batch in tables.batches("losses") for each in _ids(batch)}
    return Tables(sweep, folder, frozenset(done - seen))


def _copy(path: StoragePath, to: Path) -> None:
    if isinstance(path, Path):
        shutil.copyfile(path, to)
    else:
        path.download(to)


def _ids(batch: pa.RecordBatch) -> list[str]:
    ids: list[str] = pc.unique(batch["trial_id"]).to_pylist()
    return ids


def _by_trial(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, pa.Table]]:
    """Neighbouring rows of one trial after another."""
    current, parts = "", list[pa.RecordBatch]()
    for batch in batches:
        runs = pc.run_end_encode(batch["trial_id"])
        start = 0
        for trial_id, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            if trial_id != current and parts:
                yield current, pa.Table.from_batches(parts)
                parts = []
            current = trial_id
            parts.append(batch.slice(start, end - start))
            start = end
    if parts:
        yield current, pa.Table.from_batches(parts)
