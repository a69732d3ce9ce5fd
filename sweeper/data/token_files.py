"""Folders of tokens that were made elsewhere or streamed: read as memory maps, written.

FOLDER/train.bin, FOLDER/validation.bin    token ids, little-endian, nothing else
FOLDER/meta.json                           see `Meta`
"""

import contextlib
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic
from pydantic import ConfigDict, Field, model_validator

from sweeper.data.token_checks import overlap_problem, storage_problem
from sweeper.data.tokenizer import Tokenizer
from sweeper.data.tokens import SplitTokens, token_dtype
from sweeper.errors import DataError, UnavailableData
from sweeper.store import files
from sweeper.trials.trial import MAX_VOCAB_SIZE

META = "meta.json"
PARTS = {"train": "train.bin", "validation": "validation.bin"}


class Meta(pydantic.BaseModel):
    """What the token files do not say themselves; ids as in `Tokenizer`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    vocab_size: Annotated[int, Field(ge=2, le=MAX_VOCAB_SIZE)]
    dtype: Literal["uint8", "uint16", "uint32"]
    tokenizer: Annotated[str, Field(min_length=1)]
    """What made the tokens, for people: a name, a file, `bytes`."""
    bytes_per_token: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Bytes of text per validation token; None where there is no text."""
    separator_id: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Meta":
        if self.vocab_size - 1 > np.iinfo(self.dtype).max:
            raise ValueError(f"vocab_size {self.vocab_size} does not fit into {self.dtype}")
        if self.separator_id is not None and self.separator_id >= self.vocab_size:
            raise ValueError(
                f"separator_id is {self.separator_id}, expected less than vocab_size "
                f"{self.vocab_size}"
            )
        return self

    @property
    def file_dtype(self) -> np.dtype[np.unsignedinteger]:
        """Type of the ids on disk."""
        return np.dtype(self.dtype).newbyteorder("<")


@dataclass(frozen=True)
class EncodedDocument:
    """One document to be written."""

    tokens: np.ndarray
    """(n,) ids, without a separator."""
    n_bytes: int
    """Of its text, a separator counted as one (`tokenizer.py`); 0 where there is none."""
    validates: bool


def read_token_folder(source: str, folder: Path) -> SplitTokens:
    """The tokens of a folder as read-only memory maps; raises DataError at any defect."""
    meta = _read_meta(source, folder / META)
    parts = {part: _mapped(source, folder / name, meta) for part, name in PARTS.items()}
    is_one_file = (folder / PARTS["train"]).samefile(folder / PARTS["validation"])
    problem = "both are one file" if is_one_file else overlap_problem(**parts)
    if problem:
        raise DataError(
            f"corpus {source!r}: {' and '.join(PARTS.values())} in {str(folder)!r} overlap: "
            f"{problem}; expected text to validate on that is not trained on: hold some back"
        )
    return SplitTokens(**parts, vocab_size=meta.vocab_size, bytes_per_token=meta.bytes_per_token)


def write_token_folder(
    folder: Path, documents: Iterable[EncodedDocument], tokenizer: Tokenizer, name: str = ""
) -> bool:
    """Write documents as they come, in this order; False where the folder exists already.

    A crash leaves no folder of this name. Raises DataError, which calls the corpus `name`, where
    a part would be empty or an id is outside the vocabulary, and whatever `documents` raises.
    """
    if folder.exists() and any(folder.iterdir()):
        return False
    write = partial(_write_into, documents=documents, tokenizer=tokenizer, name=name or str(folder))
    return files.create_folder_with(folder, write)


def _read_meta(source: str, path: Path) -> Meta:
    try:
        return Meta.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UnavailableData(
            f"corpus {source!r}: cannot read {str(path)!r}: {error.strerror}; expected a folder "
            f"with {META}, {' and '.join(PARTS.values())}: check the path"
        ) from error
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise DataError(
            f"corpus {source!r}: {str(path)!r}: {where}: {first['msg']}; expected a JSON object "
            f"with the keys {', '.join(Meta.model_fields)}: mend the file"
        ) from error


def _mapped(source: str, path: Path, meta: Meta) -> np.ndarray:
    item_bytes = meta.file_dtype.itemsize
    try:
        n_bytes = path.stat().st_size
        if n_bytes == 0 or n_bytes % item_bytes:
            raise DataError(
                f"corpus {source!r}: {str(path)!r} has {n_bytes} bytes; expected a whole number of "
                f"{meta.dtype} ids of {item_bytes} bytes, at least one: it is cut short, or "
                f"{META} names another dtype"
            )
        tokens = np.memmap(path, dtype=meta.file_dtype, mode="r")
    except OSError as error:
        raise UnavailableData(
            f"corpus {source!r}: cannot read {str(path)!r}: {error.strerror}; expected a file of "
            f"{meta.dtype} ids: check the path and its permissions"
        ) from error
    # Sequences are read in random order: reading ahead, up to megabytes at each, only delays.
    if isinstance(tokens.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        tokens.base.madvise(mmap.MADV_RANDOM)
    if problem := storage_problem(path, tokens, meta.vocab_size):
        raise DataError(f"corpus {source!r}: {str(path)!r} {problem}")
    return tokens


def _write_into(
    folder: Path, *, documents: Iterable[EncodedDocument], tokenizer: Tokenizer, name: str
) -> None:
    vocab_size, separator_id = tokenizer.vocab_size, tokenizer.separator_id
    dtype = token_dtype(vocab_size)
    end = np.array([] if separator_id is None else [separator_id], dtype=dtype)
    n_tokens, n_bytes = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0)
    with contextlib.ExitStack() as stack:
        opened = {
            part: stack.enter_context((folder / file).open("xb")) for part, file in PARTS.items()
        }
        for document in documents:
            part, ids = "validation" if document.validates else "train", document.tokens
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
                raise DataError(
                    f"a document holds ids from {ids.min()} to {ids.max()}; expected 0 to "
                    f"{vocab_size - 1}: the tokenizer and its vocabulary size do not fit"
                )
            for first in range(0, len(ids), 1 << 20):  # a copy in memory of at most 4 MiB
                block = np.ascontiguousarray(ids[first : first + (1 << 20)], dtype=dtype)
                opened[part].write(block.data)
            opened[part].write(end.data)
            n_tokens[part] += len(ids) + len(end)
            n_bytes[part] += document.n_bytes
    for part, file_name in PARTS.items():
        if not n_tokens[part]:
            raise DataError(
                f"{name}: no tokens for {file_name}, from {sum(n_tokens.values())} in all; "
                "expected documents on both sides: give more of them, or raise max_tokens"
            )
    meta = Meta(
        vocab_size=vocab_size,
        dtype=dtype.name,  # type: ignore[arg-type]
        tokenizer=tokenizer.name,
        bytes_per_token=n_bytes["validation"] / n_tokens["validation"] or None,
        separator_id=separator_id,
    )
    (folder / META).write_text(meta.model_dump_json(indent=1) + "\n")
