"""Hugging Face datasets, streamed through the optional package `datasets` into a token folder.

hf:OWNER/NAME[/CONFIG][:SPLIT]      on the hub; the split is `train` where none is named
hf:/FOLDER[:SPLIT]                  a local folder that `datasets` can read (or ./ or ~/)
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.data.documents import encoded, text_of
from sweeper.data.split import normalised
from sweeper.data.token_files import EncodedDocument, write_token_folder
from sweeper.data.tokenizer import Tokenizer, batches
from sweeper.data.tokens import VALIDATION_SHARE
from sweeper.errors import DataError, MissingPackage, UnavailableData

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubDataset:
    """One split of a dataset."""

    name: str
    """OWNER/NAME, or the absolute path of a folder."""
    config: str
    """Empty: the dataset's default."""
    split: str


def parse_hub(source: str) -> HubDataset:
    """The dataset that a string `hf:…` names; raises DataError."""
    name, colon, split = source.removeprefix("hf:").partition(":")
    parts = name.split("/")
    if name.startswith(("/", "./", "../", "~/")):
        name, config = str(Path(name).expanduser().absolute()), ""
    elif all(parts) and len(parts) <= 3:
        name, config = "/".join(parts[:2]), "".join(parts[2:])
    else:
        name = ""
    if not name or (colon and not split):
        raise DataError(
            f"corpus {source!r}: no dataset; expected hf:OWNER/NAME, hf:OWNER/NAME/CONFIG or "
            "hf:/FOLDER, each with :SPLIT behind it or without"
        )
    return HubDataset(name, config, split or "train")


def stream_texts(source: str, dataset: HubDataset, text_column: str) -> Iterator[str | None]:
    """The texts of a dataset in its order; None where one is null.

    Raises MissingPackage, UnavailableData where hub or folder cannot be reached, and DataError
    where the dataset has no such split, configuration or column of text.
    """
    where = f"corpus {source!r}"
    try:
        for row in _rows(source, dataset):
            yield text_of(where, row, text_column)
    except ImportError as error:
        raise MissingPackage(
            f"corpus {source!r}: {error}; expected the packages that this dataset needs: install "
            "them"
        ) from error
    except ValueError as error:
        raise DataError(
            f"corpus {source!r}: {error}; expected a dataset with the split {dataset.split!r} and "
            "whole files: name another split or configuration, or mend the files"
        ) from error
    except OSError as error:
        raise UnavailableData(
            f"corpus {source!r}: {error} ({type(error).__name__}); expected a dataset on the hub, "
            "and a network, or a local folder: check name, network and access"
        ) from error


def _rows(source: str, dataset: HubDataset) -> Iterator[dict[str, Any]]:
    try:
        import datasets  # optional, and slow to import
    except ImportError as error:
        raise MissingPackage(
            f"corpus {source!r}: needs the package datasets, which is not installed: "
            "pip install 'sweeper[data]'"
        ) from error
    stream = datasets.load_dataset(
        dataset.name, dataset.config or None, split=dataset.split, streaming=True
    )
    yield from stream


def write_texts(
    name: str, folder: Path, texts: Iterable[str | None], tokenizer: Tokenizer, max_tokens: int
) -> bool:
    """`write_token_folder` with the first `max_tokens` tokens of texts, separators included."""

    def documents() -> Iterator[EncodedDocument]:
        n_tokens, n_ends = 0, int(tokenizer.separator_id is not None)
        for batch in batches(encoded(name, texts)):
            for text, tokens in zip(batch, tokenizer.encode(batch), strict=True):
                n_tokens += len(tokens) + n_ends
                if n_tokens > max_tokens:
                    logger.warning(
                        "%s: read no further than max_tokens, %d tokens", name, max_tokens
                    )
                    return
                yield EncodedDocument(tokens, len(text) + n_ends, validates(text))

    return write_token_folder(folder, documents(), tokenizer, name=name)


def validates(text: bytes) -> bool:
    """Whether a text is held out for validation."""
    # By its content alone: copies fall on one side, whatever comes before or after them. Unlike in
    # `split.py` they are kept, and texts that share passages may be divided.
    digest = hashlib.blake2b(normalised(text), digest_size=8).digest()
    return int.from_bytes(digest) < VALIDATION_SHARE * 2**64
