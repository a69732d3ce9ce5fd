"""Read documents from JSONL and Parquet files: one text column, one document per row."""

import gzip
import json
import logging
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from sweeper.data.text_files import MAX_BYTES, ListedFile, is_text
from sweeper.errors import DataError

logger = logging.getLogger(__name__)


def holds_documents(file: ListedFile) -> bool:
    """Whether the rows of a file are documents, rather than the file itself."""
    suffixes = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".parquet")
    return file.path.name.lower().endswith(suffixes)


def read_documents(source: str, files: list[ListedFile], text_column: str) -> list[bytes]:
    """All documents as UTF-8, in order; empty ones and nulls are left out."""
    documents: list[bytes] = []
    n_bytes = 0
    texts = (text for file in files for text in _texts(source, file, text_column) if text.strip())
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


def encoded(name: str, texts: Iterable[str]) -> Iterator[bytes]:
    """Those texts that are not blank, as UTF-8."""
    n_kept = n_not_text = 0
    for text in texts:
        content = text.encode(errors="surrogatepass")
        if not is_text(content):
            n_not_text += 1
        elif content.strip():
            n_kept += 1
            yield content
    if n_not_text:
        logger.warning(
            "%s: left out %d of %d documents with zero bytes or broken characters",
            name,
            n_not_text,
            n_not_text + n_kept,
        )


def _texts(source: str, file: ListedFile, column: str) -> Iterator[str]:
    rows = _parquet if file.path.suffix.lower() == ".parquet" else _json_lines
    try:
        yield from rows(source, file, column)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"corpus {source!r}: cannot read {file.name!r}: {error}; expected a whole "
            f"{file.path.suffix} file: fetch or write it again"
        ) from error


def _json_lines(source: str, file: ListedFile, column: str) -> Iterator[str]:
    is_packed = file.path.suffix.lower() == ".gz"
    with gzip.open(file.path) if is_packed else file.path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"corpus {source!r}: {file.name!r}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{where}: not JSON ({error}); expected one object in UTF-8 per line, such as "
                    f'{{"{column}": "…"}}: mend or remove the line'
                ) from error
            if not isinstance(row, dict):
                raise _no_column(where, column, "no object")
            yield text_of(where, row, column, "keys")


def _parquet(source: str, file: ListedFile, column: str) -> Iterator[str]:
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
                yield from (text or "" for text in batch.column(0).to_pylist())
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: not readable as Parquet ({error}); expected a whole file with text in "
            "UTF-8: fetch or write it again"
        ) from error


def text_of(where: str, row: dict[str, Any], column: str, columns: str = "columns") -> str:
    """The text of a row, empty where it is null; `columns` is what errors call the keys."""
    if column not in row:
        raise _no_column(where, column, f"the {columns} {', '.join(row)}")
    text = row[column]
    if not isinstance(text, str | None):
        raise _no_text(where, column, type(text).__name__)
    return text or ""


def _no_column(where: str, column: str, found: str) -> DataError:
    return DataError(
        f"{where}: found {found}; expected {column!r}: set text_column to the one with the text"
    )


def _no_text(where: str, column: str, found: str) -> DataError:
    return DataError(
        f"{where}: {column!r} holds {found}; expected text: set text_column to the one with text"
    )
