"""Split texts into train and validation so that no validation text occurs in training.

A text is known by the digest of its content, normalised for line endings and trailing white
space. Copies beyond the first are dropped, and whole texts fall on one side, in the order of their
digests: names, times and the order of the folder have no say.
"""

import hashlib
import logging

import numpy as np

from sweeper.corpora.tokens import SplitTokens

logger = logging.getLogger(__name__)

VALIDATION_SHARE = 0.05
BYTE_VOCAB_SIZE = 256
SEPARATOR = b"\0"
"""Ends every text. Text holds no zero byte, so boundaries stay visible to the model."""


def split_texts(source: str, texts: list[bytes]) -> SplitTokens:
    """Byte tokens of the texts: about 5 % of the bytes, whole texts, go to validation."""
    unique = _without_copies(texts)
    n_copies = len(texts) - len(unique)
    if n_copies:
        logger.info("corpus %s: dropped %d copies of other files", source, n_copies)
    if len(unique) == 1:
        return _split_one(source, unique[0])
    held_out = _held_out([len(text) for text in unique])
    train = [text for text, is_out in zip(unique, held_out, strict=True) if not is_out]
    validation = [text for text, is_out in zip(unique, held_out, strict=True) if is_out]
    return _byte_tokens(_joined(train), _joined(validation))


def _without_copies(texts: list[bytes]) -> list[bytes]:
    """One text per normalised content, in the order of the digests."""
    kept: dict[bytes, bytes] = {}
    for text in texts:
        digest = _content_digest(text)
        # Of copies that differ in white space keep the least, whichever was read first.
        kept[digest] = min(kept.get(digest, text), text)
    return [kept[digest] for digest in sorted(kept)]


def _content_digest(text: bytes) -> bytes:
    lines = [line.rstrip() for line in text.splitlines()]
    return hashlib.blake2b(b"\n".join(lines).rstrip(), digest_size=16).digest()


def _held_out(sizes: list[int]) -> list[bool]:
    """Take sizes in order while they fit into the validation share; the smallest if none does."""
    room = VALIDATION_SHARE * sum(sizes)
    held_out = [False] * len(sizes)
    for index, size in enumerate(sizes):
        if size <= room:
            held_out[index] = True
            room -= size
    if not any(held_out):
        held_out[sizes.index(min(sizes))] = True
    return held_out


def _split_one(source: str, text: bytes) -> SplitTokens:
    cut = len(text) - max(1, round(VALIDATION_SHARE * len(text)))
    logger.info("corpus %s: one text, its last %d bytes validate", source, len(text) - cut)
    return _byte_tokens(text[:cut], text[cut:])


def _joined(texts: list[bytes]) -> bytes:
    return b"".join(text + SEPARATOR for text in texts)


def _byte_tokens(train: bytes, validation: bytes) -> SplitTokens:
    return SplitTokens(
        train=np.frombuffer(train, dtype=np.uint8),
        validation=np.frombuffer(validation, dtype=np.uint8),
        vocab_size=BYTE_VOCAB_SIZE,
        bytes_per_token=1.0,
        entropy_nats_per_token=None,
    )
