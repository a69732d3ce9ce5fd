"""The layout of a safetensors file, read and checked without torch; nothing in it is executed.

    8 bytes                    length of the header, little-endian
    header                     JSON: name → {"dtype", "shape", "data_offsets": [start, stop]}
    data                       raw little-endian numbers, without gaps

https://github.com/huggingface/safetensors#format. Own code, because a model must load where there
is nothing but torch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from sweeper.errors import StoreError

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # what the safetensors library allows
METADATA = "__metadata__"

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1}
"""Bytes of a number, by the name of its type."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the file."""

    name: str
    dtype: str
    """One of `ITEM_BYTES`."""
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of its data."""
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


def header_of(entries: tuple[TensorEntry, ...]) -> bytes:
    """The length and the header of a file that holds these tensors one after another."""
    fields, start = {}, 0
    for entry in entries:
        stop = start + entry.n_bytes
        offsets = [start, stop]
        fields[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": offsets,
        }
        start = stop
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data start at a multiple of 8 bytes
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def read_header(file: BinaryIO, where: object) -> tuple[TensorEntry, ...]:
    """The tensors in the order of their data, `file` left where these start.

    Raises StoreError, which begins with `where`, for whatever is not a whole safetensors file.
    """
    n_file_bytes = file.seek(0, 2)
    file.seek(0)
    n_header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
    n_possible = min(MAX_HEADER_BYTES, n_file_bytes - LENGTH_BYTES)
    if not 2 <= n_header_bytes <= n_possible:
        _refuse(
            where,
            f"it has {n_file_bytes:,} bytes and gives its header {n_header_bytes:,}",
            f"2 to {max(2, n_possible):,}",
        )
    entries = _entries(file.read(n_header_bytes), where)
    found = n_file_bytes - LENGTH_BYTES - n_header_bytes
    expected = sum(entry.n_bytes for entry in entries)
    if found != expected:
        _refuse(where, f"{found:,} bytes of data", f"{expected:,}, as its header says")
    return entries


def _entries(text: bytes, where: object) -> tuple[TensorEntry, ...]:
    try:
        fields = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        _refuse(where, f"its header is no JSON object ({error})", "names and places of tensors")
    if not isinstance(fields, dict):
        _refuse(where, "its header is no JSON object", "names and places of tensors")
    placed = [
        _placed_entry(name, entry, where) for name, entry in fields.items() if name != METADATA
    ]
    placed.sort(key=lambda each: each[1:])
    at = 0
    for entry, start, stop in placed:
        if start != at:
            problem = "overlap" if start < at else "leave a gap"
            _refuse(
                where, f"data of tensors {problem} before {entry.name!r}", f"it to start at {at:,}"
            )
        at = stop
    return tuple(entry for entry, _, _ in placed)


def _placed_entry(name: str, fields: object, where: object) -> tuple[TensorEntry, int, int]:
    """A tensor with start and stop of its data."""
    tensor = f"tensor {name!r}"
    if not isinstance(fields, Mapping) or set(fields) != {"dtype", "shape", "data_offsets"}:
        _refuse(where, f"{tensor} has other keys", "dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        _refuse(where, f"{tensor} has dtype {dtype!r}", f"one of {', '.join(ITEM_BYTES)}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        _refuse(where, f"{tensor} has shape {shape!r} at {offsets!r}", "lists of whole numbers")
    entry, (start, stop) = TensorEntry(name, dtype, tuple(shape)), offsets
    if stop - start != entry.n_bytes:
        _refuse(where, f"{tensor} has {stop - start:,} bytes", f"{entry.n_bytes:,} for {shape}")
    return entry, start, stop


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**63
        for each in values
    )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name occurs twice")
    return fields


def _refuse(where: object, found: str, expected: str) -> NoReturn:
    raise StoreError(
        f"{where}: not a whole safetensors file: {found}; expected {expected}: export or copy the "
        "model again"
    )
