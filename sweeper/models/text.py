"""Between text and the ids of a model: prompts in, samples out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from sweeper.errors import ConfigError, MissingPackage, StoreError
from sweeper.models.config import TOKENIZER_FILE, ModelConfig

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class ModelTokenizer(Protocol):
    """What a model's ids mean."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; what none stands for is shown as U+FFFD."""


class ByteText:
    """Every byte is a token."""

    def encode(self, text: str) -> list[int]:
        """The bytes of its UTF-8."""
        return [*text.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of bytes; a mask is no byte."""
        # 0xFF never occurs in UTF-8, so each becomes one U+FFFD.
        return bytes(id_ if id_ < 256 else 0xFF for id_ in ids).decode(errors="replace")


class IdText:
    """Ids as they are: `3 1 4`; for synthetic corpora, and where nobody knows the text."""

    def encode(self, text: str) -> list[int]:
        """Ids from numbers with spaces between them; raises ConfigError for anything else."""
        try:
            return [int(word) for word in text.split()]
        except ValueError as error:
            raise ConfigError(
                f"{text!r}: this model reads ids; expected whole numbers, such as '3 1 4'"
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        """Numbers with spaces between them."""
        return " ".join(str(id_) for id_ in ids)


class FileText:
    """As a Hugging Face `tokenizer.json` says; needs the package `tokenizers` once it is used."""

    def __init__(self, path: Path) -> None:
        self._path, self._loaded = path, None

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""
        return [*self._tokenizer().encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        tokenizer = self._tokenizer()
        n_known = tokenizer.get_vocab_size(with_added_tokens=True)
        known = [id_ for id_ in ids if id_ < n_known]
        text: str = tokenizer.decode(known, skip_special_tokens=False)
        return text if len(known) == len(ids) else text + UNKNOWN * (len(ids) - len(known))

    def _tokenizer(self) -> Any:
        if self._loaded is None:
            self._loaded = _loaded_tokenizer(self._path)
        return self._loaded


def tokenizer_of(folder: Path, config: ModelConfig) -> ModelTokenizer:
    """What the ids of the model in a folder mean."""
    match config.tokenizer:
        case "bytes":
            return ByteText()
        case "ids":
            return IdText()
        case "file":
            path = folder / TOKENIZER_FILE
            if not path.is_file():
                raise StoreError(
                    f"{path}: missing; expected the tokenizer {config.tokenizer_name!r}: export or "
                    "copy the model again"
                )
            return FileText(path)


def _loaded_tokenizer(path: Path) -> Any:
    try:
        import tokenizers  # optional, and not needed to load a model
    except ImportError as error:
        raise MissingPackage(
            f"{path}: reading it needs the package tokenizers, which is not installed: "
            "pip install tokenizers"
        ) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise StoreError(
            f"{path}: no Hugging Face tokenizer ({error}); export or copy the model again"
        ) from error
    # As in data/tokenizer.py.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer
