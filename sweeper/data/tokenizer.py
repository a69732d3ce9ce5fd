"""Turn text into token ids: byte by byte, or with any Hugging Face tokenizer."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sweeper.data.split import SEPARATOR, SplitTexts
from sweeper.data.tokens import SplitTokens, token_dtype
from sweeper.errors import DataError, MissingPackage, UnavailableData
from sweeper.trials.text_options import BYTES
from sweeper.trials.trial import MAX_VOCAB_SIZE

# End-of-document tokens of the tokenizers in use; the first that a tokenizer has is taken.
SEPARATORS = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",  # noqa: RUF001 (DeepSeek writes it so)
    "</s>",
    "<eos>",
    "[EOS]",
    "[SEP]",
)

# Longer texts are encoded in pieces that end with a line: encoding takes 100 times their memory.
PIECE_BYTES = 1 << 20


class Tokenizer(Protocol):
    """What turns texts into ids."""

    name: str
    """As named in the sweep file."""
    vocab_size: int
    """Every id is below it."""
    separator_id: int | None
    """Id that ends every document; None where the tokenizer has none."""

    def encode(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """The ids of each text, (n,) unsigned integers, without a separator."""


@dataclass
class ByteTokenizer:
    """Every byte is a token; text holds no zero byte, which therefore separates."""

    name: str = BYTES
    vocab_size: int = 256
    separator_id: int | None = SEPARATOR[0]

    def encode(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """The bytes of each text, as read-only views of it."""
        return [np.frombuffer(text, dtype=np.uint8) for text in texts]


class HuggingFaceTokenizer:
    """A tokenizer of the `tokenizers` library."""

    def __init__(self, source: str, name: str, tokenizer: Any) -> None:
        # A tokenizer file may carry the limits of the model it was trained for.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # text that spells a special token stays text
        ids = tokenizer.get_vocab(with_added_tokens=True).values()
        if not ids or max(ids) >= MAX_VOCAB_SIZE:
            found = f"ids up to {max(ids)}" if ids else "no ids"
            raise DataError(
                f"corpus {source!r}: tokenizer {name!r} has {found}; expected 1 to "
                f"{MAX_VOCAB_SIZE:,} of them: take a trained tokenizer"
            )
        self.name, self.tokenizer = name, tokenizer
        self.vocab_size = max(2, max(ids) + 1)
        known = [tokenizer.token_to_id(separator) for separator in SEPARATORS]
        self.separator_id = next((id_ for id_ in known if id_ is not None), None)

    def encode(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """The ids of each text."""
        pieces = [list(_pieces(text)) for text in texts]
        flat = [piece for of_text in pieces for piece in of_text]
        # No special token is added but the separator that ends a document.
        encodings = iter(self.tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        dtype = token_dtype(self.vocab_size)
        return [
            np.concatenate([np.array(next(encodings).ids, dtype=dtype) for _ in of_text])
            for of_text in pieces
        ]


def load_tokenizer(source: str, name: str) -> Tokenizer:
    """The tokenizer a sweep file names; raises DataError where it is none."""
    if name == BYTES:
        return ByteTokenizer()
    try:
        import tokenizers  # optional
    except ImportError as error:
        raise MissingPackage(
            f"corpus {source!r}: tokenizer {name!r} needs the package tokenizers, which is not "
            "installed: pip install 'sweeper[data]'"
        ) from error
    path = _file(name)
    if path is None:
        try:
            tokenizer = tokenizers.Tokenizer.from_pretrained(name)
        except Exception as error:
            raise UnavailableData(
                f"corpus {source!r}: cannot fetch the tokenizer {name!r} from the hub "
                f"({type(error).__name__}: {error}); expected a name such as gpt2, and a network: "
                "check both, or give the path of a tokenizer.json"
            ) from error
    else:
        content = _content(source, name, path)
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:
            raise DataError(
                f"corpus {source!r}: {str(path)!r} is no Hugging Face tokenizer ({error}); "
                "expected a tokenizer.json, as `tokenizer.save` of the tokenizers library writes it"
            ) from error
    return HuggingFaceTokenizer(source, name, tokenizer)


def tokenizer_identity(source: str, name: str) -> str:
    """What changes whenever a tokenizer file does; a name on the hub is taken at its word."""
    path = None if name == BYTES else _file(name)
    if path is None:
        return name
    return hashlib.blake2b(_content(source, name, path), digest_size=16).hexdigest()


def encode_split(split: SplitTexts, tokenizer: Tokenizer) -> SplitTokens:
    """The tokens of both parts; bytes per token are those of validation, which is evaluated."""
    train = _encoded(split.train, tokenizer, ends_open=split.is_cut)
    validation = _encoded(split.validation, tokenizer, ends_open=split.is_cut)
    # A separator counts as one byte, so that bits per byte of all tokenizers can be compared.
    n_bytes = sum(map(len, split.validation))
    if tokenizer.separator_id is not None and not split.is_cut:
        n_bytes += len(split.validation)
    bytes_per_token = n_bytes / len(validation) if len(validation) else None
    return SplitTokens(train, validation, tokenizer.vocab_size, bytes_per_token)


def batches(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The texts in lists of 4 MiB, to be encoded at once."""
    batch: list[bytes] = []
    n_bytes = 0
    for text in texts:
        batch.append(text)
        n_bytes += len(text)
        if n_bytes >= 4 << 20:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _encoded(texts: Sequence[bytes], tokenizer: Tokenizer, *, ends_open: bool) -> np.ndarray:
    dtype = token_dtype(tokenizer.vocab_size)
    end = [] if tokenizer.separator_id is None else [tokenizer.separator_id]
    parts = [np.empty(0, dtype=dtype)]
    for batch in batches(texts):
        for ids in tokenizer.encode(batch):
            parts += [ids, np.array(end, dtype=dtype)]
    if ends_open:
        parts.pop()
    return np.concatenate(parts)


def _pieces(text: bytes) -> Iterator[str]:
    start = 0
    while len(text) - start > PIECE_BYTES:
        end = text.rfind(b"\n", start, start + PIECE_BYTES) + 1
        if end == 0:  # no line ends here: end before a byte that does not continue a character
            end = start + PIECE_BYTES
            while text[end] & 0b1100_0000 == 0b1000_0000:
                end -= 1
        yield text[start:end].decode(errors="ignore")
        start = end
    # A text that was cut for the split may begin or end within a character, which is left out.
    yield text[start:].decode(errors="ignore")


def _file(name: str) -> Path | None:
    """The file a tokenizer's name means; None for a name on the hub."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path / "tokenizer.json"
    if path.exists() or path.suffix == ".json" or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return path
    return None


def _content(source: str, name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnavailableData(
            f"corpus {source!r}: cannot read the tokenizer {name!r}: {error.strerror}; expected "
            "bytes, the path of a tokenizer.json, or a name on the hub: check the path"
        ) from error
