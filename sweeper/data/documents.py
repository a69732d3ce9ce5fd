"""Read documents from rows of JSON, CSV and Parquet: one text column, one document per row."""

import csv
import json
import logging
import re
import zlib
from codecs import BOM_UTF8 as UTF8_BOM
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from sweeper.data.text_files import MAX_BYTES, ListedFile, is_text, opened, plain_name
from sweeper.errors import DataError

logger = logging.getLogger(__name__)

Kind = Literal["text", "object", "lines", "array", "csv", "parquet"]
"""What a file holds: text, one JSON object, or rows of which one column is the documents."""

SNIFFED_BYTES, SNIFFED_LINES = 1 << 20, 100
KIND_BY_NAME: dict[str, Kind] = {
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
}
ALWAYS_ROWS = (".jsonl", ".ndjson", ".parquet")
"""Names that stand for rows even as the smaller part of a folder."""
ARRAY_OF_OBJECTS = re.compile(rb'\s*\[\s*\{\s*"')
COLUMN_NAME = re.compile(r"[\w.-]+")
"""Prose with commas has words beside each other, a header has one name in each field."""
CSV_BLOCK_BYTES = 64 << 20
"""No row of CSV may be longer."""
DELIMITERS = (",", "\t", ";")


def kind_of(file: ListedFile, text_column: str) -> Kind:
    """What a file holds: by its name where that is meant for rows, else by how it begins.

    It holds JSON lines if each of its first lines is an object, and rows of CSV if the first line
    is a header that names the column. A single object counts only if it has the column, because
    settings and the like are often one.
    """
    suffix = Path(plain_name(file)).suffix
    if suffix in KIND_BY_NAME:
        return KIND_BY_NAME[suffix]
    try:
        with opened(file.path) as stream:
            start = stream.read(SNIFFED_BYTES)
    except (OSError, EOFError, zlib.error):
        return "text"  # whoever reads it says what is wrong
    kind = _sniffed(start, text_column)
    if suffix == ".json" and kind == "text" and start.lstrip().startswith(b"{"):
        return "object"
    return kind


def _sniffed(start: bytes, text_column: str) -> Kind:
    lines = [line for line in start.removeprefix(UTF8_BOM).splitlines() if line.strip()]
    if len(start) == SNIFFED_BYTES and len(lines) > 1:
        lines.pop()  # cut off
    if not lines:
        return "text"
    first = lines[0].lstrip()
    if first.startswith(b"{"):
        objects = [row for line in lines[:SNIFFED_LINES] if (row := _object(line)) is not None]
        if len(objects) == len(lines[:SNIFFED_LINES]) and (
            len(objects) > 1 or text_column in objects[0]
        ):
            return "lines"
        # One row may be longer than what is read of it here.
        if len(lines) == 1 and len(start) == SNIFFED_BYTES:
            return "lines" if f'"{text_column}"'.encode() in first else "text"
    elif ARRAY_OF_OBJECTS.match(start.removeprefix(UTF8_BOM)):
        return "array"
    elif _delimiter(lines[0], text_column):
        return "csv"
    return "text"


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _delimiter(header: bytes, text_column: str) -> str | None:
    """What parts the columns of a header that names the column; None where it does not."""
    text = header.decode(errors="replace")
    for delimiter in DELIMITERS:
        names = next(csv.reader([text], delimiter=delimiter), [])
        if len(names) > 1 and text_column in names and all(map(COLUMN_NAME.fullmatch, names)):
            return delimiter
    return None


def holds_rows(source: str, files: list[ListedFile], text_column: str) -> bool:
    """Whether files hold rows, rather than being the texts themselves.

    Raises DataError for a mixture. Rows that are the smaller part of a folder of text, as in a
    folder of code, are text like the rest.
    """
    kinds = {file: kind_of(file, text_column) for file in files}
    if set(kinds.values()) == {"object"}:
        raise DataError(
            f"corpus {source!r}: {files[0].name!r} is one JSON object; expected rows, as lines of "
            f'{{"{text_column}": "…"}} or an array of such objects: convert it'
        )
    rows = [file for file, kind in kinds.items() if kind not in ("text", "object")]
    others = [file for file in files if file not in rows]
    if not rows or not others:
        return bool(rows)
    is_by_name = any(plain_name(file).endswith(ALWAYS_ROWS) for file in rows)
    n_row_bytes, n_bytes = (sum(file.size_bytes for file in each) for each in (rows, files))
    if is_by_name or 2 * n_row_bytes > n_bytes:
        raise DataError(
            f"corpus {source!r}: {len(rows)} files of JSON, CSV or Parquet rows, the first "
            f"{rows[0].name!r}, beside {len(others)} others, the first {others[0].name!r}; "
            "expected one kind: name the file or folder that holds the data alone"
        )
    logger.warning(
        "corpus %s: %d of %d files hold rows of JSON or CSV and are read as text, the first is %r",
        source,
        len(rows),
        len(files),
        rows[0].name,
    )
    return False


def read_documents(source: str, files: list[ListedFile], text_column: str) -> list[bytes]:
    """All documents as UTF-8, in order; empty ones and nulls are left out."""
    documents: list[bytes] = []
    n_bytes = 0
    texts = (text for file in files for text in _texts(source, file, text_column))
    for document in encoded(f"corpus {source}", texts):
        documents.append(document)
        n_bytes += len(document)
        if n_bytes > MAX_BYTES:
            raise DataError(
                f"corpus {source!r}: more than {MAX_BYTES / 2**30:.0f} GiB of text; expected "
                "less, as it is split in memory: name a part of the files, or stream them with "
                "hf:/FOLDER"
            )
    if not documents:
        raise DataError(
            f"corpus {source!r}: no text in column {text_column!r} of {len(files)} files, the "
            f"first {files[0].name!r}; expected documents: name another path or text_column"
        )
    return documents


def encoded(name: str, texts: Iterable[str | None]) -> Iterator[bytes]:
    """Those texts that are neither null nor blank, as UTF-8."""
    n_texts = n_null = n_not_text = 0
    for text in texts:
        content = (text or "").encode(errors="surrogatepass")
        if text is not None and not content.strip():
            continue
        n_texts += 1
        if text is None:
            n_null += 1
        elif is_text(content):
            yield content
        else:
            n_not_text += 1
    for n_left_out, what in (
        (n_null, "that are null"),
        (n_not_text, "with zero bytes or broken characters"),
    ):
        if n_left_out:
            logger.warning("%s: left out %d of %d documents %s", name, n_left_out, n_texts, what)


def _texts(source: str, file: ListedFile, column: str) -> Iterator[str | None]:
    """The documents of a file; None where one is null."""
    rows = {"parquet": _parquet, "array": _json_array, "csv": _csv}.get(
        kind_of(file, column), _json_lines
    )
    try:
        yield from rows(source, file, column)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"corpus {source!r}: cannot read {file.name!r}: {error}; expected a whole "
            f"{file.path.suffix} file: fetch or write it again"
        ) from error


def _json_lines(source: str, file: ListedFile, column: str) -> Iterator[str | None]:
    with opened(file.path) as lines:
        for number, line in enumerate(lines, start=1):
            content = line.removeprefix(UTF8_BOM) if number == 1 else line
            if not content.strip():
                continue
            where = f"corpus {source!r}: {file.name!r}, line {number}"
            try:
                row = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{where}: not JSON ({error}); expected one object in UTF-8 per line, such as "
                    f'{{"{column}": "…"}}: mend or remove the line'
                ) from error
            yield _text_of_object(where, row, column)


def _json_array(source: str, file: ListedFile, column: str) -> Iterator[str | None]:
    where = f"corpus {source!r}: {file.name!r}"
    with opened(file.path) as stream:
        try:
            rows = json.load(stream)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where}: not JSON ({error}); expected an array of objects: fetch it again"
            ) from error
    for number, row in enumerate(rows, start=1):
        yield _text_of_object(f"{where}, entry {number}", row, column)


def _text_of_object(where: str, row: Any, column: str) -> str | None:
    if not isinstance(row, dict):
        raise _no_column(where, column, "no object")
    return text_of(where, row, column, "keys")


def _csv(source: str, file: ListedFile, column: str) -> Iterator[str | None]:
    # Local, as in `_parquet`.
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    where = f"corpus {source!r}: {file.name!r}"
    with opened(file.path) as stream:
        header = stream.readline().removeprefix(UTF8_BOM)
    # Of a header without the column, whatever parts it most often.
    delimiter = _delimiter(header, column) or max(
        DELIMITERS, key=header.decode(errors="replace").count
    )
    try:
        with (
            opened(file.path) as stream,
            arrow_csv.open_csv(
                pa.PythonFile(stream, mode="r"),
                read_options=arrow_csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
                parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(column_types={column: pa.string()}),
            ) as table,
        ):
            if column not in table.schema.names:
                raise _no_column(where, column, f"the columns {', '.join(table.schema.names)}")
            for batch in table:
                yield from batch.column(column).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: not readable as CSV ({error}); expected a header, quoted text and as many "
            "fields in each row: mend it, or convert it to .jsonl or .parquet"
        ) from error


def _parquet(source: str, file: ListedFile, column: str) -> Iterator[str | None]:
    # Local, as few corpora need it and it takes half a second.
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = f"corpus {source!r}: {file.name!r}"
    try:
        with pq.ParquetFile(file.path) as table:
            schema = table.schema_arrow
            if column not in schema.names:
                raise _no_column(where, column, f"the columns {', '.join(schema.names)}")
            kind = schema.field(column).type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            if not any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string)):
                raise _no_text(where, column, str(kind))
            for batch in table.iter_batches(1024, columns=[column]):
                yield from batch.column(0).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: not readable as Parquet ({error}); expected a whole file with text in "
            "UTF-8: fetch or write it again"
        ) from error


def text_of(where: str, row: dict[str, Any], column: str, columns: str = "columns") -> str | None:
    """The text of a row, None where it is null; `columns` is what errors call the keys."""
    if column not in row:
        raise _no_column(where, column, f"the {columns} {', '.join(row)}")
    text = row[column]
    if not isinstance(text, str | None):
        raise _no_text(where, column, type(text).__name__)
    return text


def _no_column(where: str, column: str, found: str) -> DataError:
    return DataError(
        f"{where}: found {found}; expected {column!r}: set text_column to the one with the text"
    )


def _no_text(where: str, column: str, found: str) -> DataError:
    return DataError(
        f"{where}: {column!r} holds {found}; expected text: set text_column to the one with text"
    )
