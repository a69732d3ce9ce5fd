"""Tables in text files: delimited as people and spreadsheets write them, or JSON as pandas does.

What a file holds decides how it is read, its name does not.
"""

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from typing import Any

import pandas as pd

from analysis.errors import SourceError
from analysis.tables.columns import RawTable
from sweeper.store.storage import StoragePath

_GZIP = b"\x1f\x8b"
_SEPARATORS = ",\t;"
# Longest first: the mark of UTF-16 begins that of UTF-32.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text_table(path: StoragePath) -> RawTable:
    """A text file, gzipped or not, as a raw table: cells as text, of JSON as its values.

    Raises `SourceError` for what is neither.
    """
    text = _text(path)
    if not text.strip():
        raise SourceError(f"{path}: empty file, expected a CSV with a header line")
    if "\0" in text:
        raise SourceError(f"{path}: binary content, expected a CSV or a .parquet file")
    if text.lstrip()[0] in "[{":
        return _read_json(path, text)
    return _read_delimited(path, text)


def _text(path: StoragePath) -> str:
    """The decoded content: UTF-8, or what a byte order mark says."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(_GZIP) else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: not a readable gzip file ({error})") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        message = f"{path}: not text in UTF-8; expected a CSV or a .parquet file"
        raise SourceError(message) from error


def _read_delimited(path: StoragePath, text: str) -> RawTable:
    """Blank lines and lines that begin with # separate nothing and are passed over."""
    # Passed over as empty lines, so that row numbers stay those of the file.
    written = text.split("\n")
    lines = ["" if line.lstrip().startswith("#") else line for line in written]
    first = next((n for n, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise SourceError(f"{path}: nothing but comments, expected a CSV with a header line")
    # The line by which spreadsheets are told the separator.
    if told := re.fullmatch(r'"?sep=(.)"?[,;\t ]*', lines[first], re.IGNORECASE):
        lines[first] = ""
        return _parse_rows(path, "\n".join(lines), told[1])
    separator = max(_SEPARATORS, key=lines[first].count)
    if lines[first].count(separator) == 0:
        raise SourceError(f"{path}: the first line has no commas or tabs, expected a CSV header")
    # The names of the columns may themselves be a comment, as numpy.savetxt writes them.
    above = written[first - 1].lstrip("# ") if first else ""
    cells = lines[first].split(separator)
    if above.count(separator) == len(cells) - 1 and any(map(_is_number, cells)):
        lines[first - 1] = above
    return _parse_rows(path, "\n".join(lines), separator)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse_rows(path: StoragePath, text: str, separator: str) -> RawTable:
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        numbered = [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise SourceError(f"{path}, row {reader.line_num}: not a readable CSV ({error})") from error
    if not numbered:
        raise SourceError(f"{path}: no header line, expected the names of the columns")
    header = [name.strip() for name in numbered.pop(0)[1]]
    for number, cells in numbered:
        if len(cells) != len(header):
            raise SourceError(
                f"{path}, row {number}: {len(cells)} cells, expected {len(header)} as in the header"
            )
    frame = pd.DataFrame([cells for _, cells in numbered], columns=header, dtype=object)
    return RawTable(frame, path.name, tuple(number for number, _ in numbered))


def _read_json(path: StoragePath, text: str) -> RawTable:
    """Rows as objects, in a list or one a line, or any of the layouts of `DataFrame.to_json`."""
    try:
        content, numbers = json.loads(text), None
    except json.JSONDecodeError as error:
        content, numbers = _json_lines(path, text, error)
    if isinstance(content, dict):
        content = _rows_of_layout(content)
    rows = content if isinstance(content, list) else []
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise SourceError(
            f"{path}: JSON, but no table; expected a list of objects, one a row, or an object of "
            "columns"
        )
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name) for name in columns] for row in rows]
    frame = pd.DataFrame(cells, columns=columns, dtype=object)
    return RawTable(frame, path.name, tuple(numbers or range(1, len(rows) + 1)))


def _json_lines(
    path: StoragePath, text: str, error: json.JSONDecodeError
) -> tuple[list[Any], list[int]]:
    """One object a line, with the numbers of the lines."""
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    rows: list[Any] = []
    for number, line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as of_line:
            # After a line that is an object by itself lines are meant, else the whole text is.
            where, said = (number, of_line.msg) if rows else (error.lineno, error.msg)
            raise SourceError(f"{path}, row {where}: not readable JSON ({said})") from error
    return rows, [number for number, _ in lines]


def _rows_of_layout(content: dict[str, Any]) -> list[Any]:
    """The rows of an object: {columns, data}, {any name: rows}, {column: cells}, {row: cells}."""
    names, data = content.get("columns"), content.get("data")
    if isinstance(names, list) and isinstance(data, list):
        return [dict(zip(names, cells, strict=False)) for cells in data]
    parts = list(content.values())
    for part in parts:
        if isinstance(part, list) and part and all(isinstance(row, dict) for row in part):
            return part
    if parts and all(isinstance(part, list) for part in parts):
        content = {name: dict(enumerate(part)) for name, part in content.items()}
        parts = list(content.values())
    if not parts or not all(isinstance(part, dict) for part in parts):
        return [content]
    if all(name.isdigit() for name in content):  # rows by number, each with its columns
        return parts
    rows = dict.fromkeys(row for part in parts for row in part)
    return [{name: part.get(row) for name, part in content.items()} for row in rows]
