"""Documents of Hugging Face datasets, one after another, through the optional package `datasets`.

hf:OWNER/NAME[/CONFIG][:SPLIT]      on the hub; the split is `train` where none is named
hf:/FOLDER[:SPLIT]                  a local folder that `datasets` can read (or ./ or ~/)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import DataError, MissingPackage, UnavailableData

DEFAULT_SPLIT = "train"


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
    return HubDataset(name, config, split or DEFAULT_SPLIT)


def stream_texts(source: str, dataset: HubDataset, text_column: str) -> Iterator[str]:
    """The texts of a dataset in its order; a null is an empty text.

    Raises MissingPackage, UnavailableData where hub or folder cannot be reached, and DataError
    where the dataset has no such split, configuration or column of text.
    """
    try:
        for row in _rows(source, dataset):
            if text_column not in row:
                raise DataError(
                    f"corpus {source!r}: found the columns {', '.join(row)}; expected "
                    f"{text_column!r}: set text_column to the one with the text"
                )
            text = row[text_column]
            if not isinstance(text, str | None):
                raise DataError(
                    f"corpus {source!r}: {text_column!r} holds {type(text).__name__}; expected "
                    "text: set text_column to the one with text"
                )
            yield text or ""
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
