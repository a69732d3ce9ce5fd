"""How a source of text becomes tokens: what a sweep file may say besides the source's name."""

import dataclasses
from dataclasses import dataclass

BYTES = "bytes"  # the tokenizer that needs no file: every byte is a token

# Kinds of sources, and the fields of `TextOptions` that each knows.
KEYS: dict[str, tuple[str, ...]] = {
    "stdlib": (),
    "installed": (),
    "path": ("tokenizer", "text_column"),
    "tokens": (),
    "hf": ("tokenizer", "text_column", "max_tokens"),
    "synthetic": (),
}


@dataclass(frozen=True)
class TextOptions:
    """How text becomes tokens; the defaults hold unless a sweep file says otherwise."""

    tokenizer: str = BYTES
    """`bytes`, a Hugging Face `tokenizer.json` or its folder, or a name on the hub."""
    text_column: str = "text"
    """Column of JSONL and Parquet files, or of a dataset, that holds the documents."""
    max_tokens: int = 10_000_000_000
    """Where to stop reading a dataset, which may be larger than any disk; both sides together."""


AS_BYTES = TextOptions()
TEXT_OPTION_KEYS = tuple(field.name for field in dataclasses.fields(TextOptions))
