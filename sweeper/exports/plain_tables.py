"""The four published tables as plain files, with a page on their columns."""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.csv
import pyarrow.parquet as pq

from sweeper.exports.destination import Change
from sweeper.exports.folder import claimed
from sweeper.exports.source import ROWS_AT_ONCE, Tables
from sweeper.store import files
from sweeper.trials.records import ROW_TYPES, TableName, schema
from sweeper.trials.results_page import columns_of

README = "README.md"


@dataclass(frozen=True)
class PlainTables:
    """A folder with `trials`, `losses`, `observations` and `samples` as CSV or Parquet."""

    folder: Path
    kind: Literal["csv", "parquet"]
    what = "files"

    @property
    def next_step(self) -> str:
        """How pandas reads one of them."""
        return f"pandas.read_{self.kind}('{self.folder / f'observations.{self.kind}'}')"

    def write(self, tables: Tables) -> Counter[Change]:
        """Write the files that have changed."""
        write = write_csv if self.kind == "csv" else write_parquet
        with claimed(self.folder, self.kind, tables.sweep):
            changes = [
                files.replace_if_changed(
                    self.folder / f"{name}.{self.kind}", functools.partial(write, tables, name)
                )
                for name in ROW_TYPES
            ]
            changes.append(write_text(self.folder / README, _readme(tables, self.kind)))
        return Counter(changes)


def write_csv(tables: Tables, name: TableName, path: Path) -> None:
    """Write a table as CSV, a part at a time; null is nothing, an empty text is `""`."""
    with pyarrow.csv.CSVWriter(path, schema(name)) as writer:
        for batch in tables.batches(name):
            writer.write_batch(batch.select(schema(name).names).cast(schema(name)))


def write_parquet(tables: Tables, name: TableName, path: Path) -> None:
    """Write a table as Parquet, a part at a time."""
    with pq.ParquetWriter(path, schema(name), compression="zstd") as writer:
        for batch in tables.batches(name):
            columns = batch.select(schema(name).names).cast(schema(name))
            writer.write_batch(columns, row_group_size=ROWS_AT_ONCE)


def write_text(path: Path, text: str) -> Change:
    """Write a text, unless it is there."""
    write: Callable[[Path], object] = functools.partial(
        Path.write_text, data=text, encoding="utf-8"
    )
    return files.replace_if_changed(path, write)


def described_columns() -> str:
    """The columns of all tables as Markdown."""
    return "\n".join(columns_of(name) for name in ROW_TYPES)


def _readme(tables: Tables, kind: str) -> str:
    return (
        f"# Results of the sweep {tables.sweep}\n\n"
        f"Four tables, `trials.{kind}` and so on, as `sweeper export --to {kind}` writes them. "
        "Rows belong together by `trial_id`.\n\n" + described_columns()
    )
