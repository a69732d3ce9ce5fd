"""Parquet as others write it: a file, part files in folders, keys in the names of folders.

Names that start with "." or "_" are passed over at any depth, as pandas, pyarrow and Spark do:
they are what a copy, a crash or a notebook left behind. Of a results folder of ours only the file
that the store writes is read.
"""

import re
import typing
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import SourceError
from sweeper.store.files import walk
from sweeper.store.storage import StoragePath
from sweeper.trials.records import TABLE_FILE, TableName

PARQUET_SUFFIXES = (".parquet", ".pq")

_PLAN, _SWEEP = "plan.json", "sweep.yaml"  # of a results folder
_KEY = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def is_parquet(path: StoragePath) -> bool:
    """Whether a name says that the file is Parquet, and does not ask to be passed over."""
    return path.suffix.lower() in PARQUET_SUFFIXES and _is_shown(path.name)


def is_results_folder(folder: StoragePath) -> bool:
    """Whether `sweeper run` has written there."""
    return (folder / _PLAN).is_file() or (folder / _SWEEP).is_file()


def parts_below(folder: StoragePath) -> list[StoragePath]:
    """The part files of a folder in the order of their names.

    Raises SourceError where a part of the folder cannot be looked at.
    """
    if folder.name in typing.get_args(TableName) and is_results_folder(folder.parent):
        part = folder / TABLE_FILE
        return [part] if part.exists() else []
    try:
        found = list(_files_below(folder))
    except OSError as error:
        raise unreadable(folder, error) from error
    results = [path.parent for path in found if path.name == _PLAN]
    if results:
        raise SourceError(f"{folder}: holds several folders of results; did you mean {results[0]}?")
    return sorted(filter(is_parquet, found), key=lambda file: str(file).split("/"))


def read_parquet(path: StoragePath) -> pd.DataFrame:
    """One file, or a folder of part files with the keys of its folders as columns."""
    parts = parts_below(path) if path.is_dir() else [path]
    if not parts:
        raise SourceError(
            f"{path}: an empty folder, expected Parquet files (names that start with . or _ are "
            "passed over)"
        )
    tables = [_with_keys(_read(part), part, _keys(path, part)) for part in parts]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        message = f"{path}: part files of different columns ({_one_line(error)})"
        raise SourceError(message) from error
    # What pandas took for an index when it wrote the file is a column like any other.
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    for name in {key for part in parts for key in _keys(path, part)}:
        frame[name] = _typed(frame[name])
    return frame


def unreadable(path: StoragePath, error: OSError) -> SourceError:
    """What is said of a file or folder that the operating system, or a store, does not show."""
    where = error.filename or path
    return SourceError(
        f"{where}: cannot be read ({error.strerror or error}); expected a readable table or "
        "folder, and nothing is fitted without it: mend its permissions, or move it away"
    )


def _files_below(folder: StoragePath) -> Iterator[StoragePath]:
    if isinstance(folder, Path):
        yield from (path for path, _ in walk(folder, _is_shown, _broken))
        return
    # One request for each folder: a listing of all keys leaves out what it may not see.
    for child in folder.iterdir():
        if not _is_shown(child.name):
            continue
        if child.is_dir():
            yield from _files_below(child)
        else:
            yield child


def _broken(error: OSError) -> NoReturn:
    raise error  # it may have been a part of the table


def _is_shown(name: str) -> bool:
    return not name.startswith((".", "_"))


def _read(part: StoragePath) -> pa.Table:
    try:
        file = part if isinstance(part, Path) else pa.BufferReader(part.read_bytes())
        return pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        message = f"{part}: not a readable Parquet file ({_one_line(error)})"
        raise SourceError(message) from error


def _keys(folder: StoragePath, part: StoragePath) -> dict[str, str]:
    """Keys and values of the folders between: `seed=0/lr=1e-3/0.parquet` has two."""
    below = PurePosixPath(str(part)[len(str(folder)) :].lstrip("/")).parts[:-1]
    found = (_KEY.fullmatch(name) for name in below)
    return {unquote(match[1]): unquote(match[2]) for match in found if match}


def _with_keys(table: pa.Table, part: StoragePath, keys: dict[str, str]) -> pa.Table:
    for name, value in keys.items():
        if name in table.column_names:
            inside = {str(each) for each in table[name].to_pylist()}
            if any(not _same(each, value) for each in inside):
                raise SourceError(
                    f"{part}: its folder says {name}={value}, its column {name!r} holds "
                    f"{min(inside)}; expected the same: rename the folder or the column"
                )
            table = table.drop_columns([name])
        column = pa.array([None if value == _NULL else value] * len(table), pa.string())
        table = table.append_column(name, column)
    return table


def _same(one: str, other: str) -> bool:
    if _NUMBER.fullmatch(one) and _NUMBER.fullmatch(other):
        return float(one) == float(other)
    return one == other or (one == "None" and other == _NULL)


def _typed(values: pd.Series) -> pd.Series:
    """Numbers where all values are written as numbers: names of folders have no types."""
    present = values.dropna()
    if len(present) and present.map(lambda text: bool(_NUMBER.fullmatch(text))).all():
        return pd.to_numeric(values)
    return values


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
