"""Texts that come one after another, too many to keep or compare: split, encoded and written.

A text validates where the hash of its content, normalised as in `split.py`, falls into the lowest
5 %. So copies fall on one side, whatever comes before or after them; unlike in `split.py` they
are kept, and texts that share passages may be divided.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from sweeper.data.split import normalised
from sweeper.data.text_files import is_text
from sweeper.data.token_files import Document, Vocabulary, write_token_folder
from sweeper.data.tokenizer import Tokenizer, batches
from sweeper.data.tokens import VALIDATION_SHARE

logger = logging.getLogger(__name__)


def write_texts(
    name: str, folder: Path, texts: Iterable[str], tokenizer: Tokenizer, max_tokens: int
) -> bool:
    """Write a token folder from the first `max_tokens` tokens of texts, separators included.

    Returns False where the folder exists already. `name` is what errors call the corpus. Raises
    DataError where one side of the split would be empty.
    """
    vocabulary = Vocabulary(tokenizer.vocab_size, tokenizer.name, tokenizer.separator_id)
    documents = _capped(name, _documents(name, texts, tokenizer), vocabulary, max_tokens)
    return write_token_folder(folder, documents, vocabulary, name=name)


def validates(text: bytes) -> bool:
    """Whether a text is held out for validation."""
    digest = hashlib.blake2b(normalised(text), digest_size=8).digest()
    return int.from_bytes(digest) < VALIDATION_SHARE * 2**64


def _documents(name: str, texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[Document]:
    ends = tokenizer.separator_id is not None
    for batch in batches(_contents(name, texts)):
        for text, tokens in zip(batch, tokenizer.encode(batch), strict=True):
            yield Document(tokens, len(text) + ends, validates(text))


def _contents(name: str, texts: Iterable[str]) -> Iterator[bytes]:
    """Those texts that are not blank, as UTF-8."""
    n_not_text = 0
    for text in texts:
        content = text.encode(errors="surrogatepass")
        if not is_text(content):
            n_not_text += 1
        elif content.strip():
            yield content
    if n_not_text:
        logger.warning(
            "%s: left out %d documents with zero bytes or broken characters", name, n_not_text
        )


def _capped(
    name: str, documents: Iterable[Document], vocabulary: Vocabulary, max_tokens: int
) -> Iterator[Document]:
    """Documents up to the one that would exceed the cap."""
    n_tokens = 0
    for document in documents:
        n_tokens += len(document.tokens) + (vocabulary.separator_id is not None)
        if n_tokens > max_tokens:
            logger.warning("%s: read no further than max_tokens, %d tokens", name, max_tokens)
            return
        yield document
