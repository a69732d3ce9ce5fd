"""The tokens of a corpus before anyone asks for sequences, and their fingerprint."""

import hashlib
from dataclasses import dataclass

import numpy as np

VALIDATION_SHARE = 0.05
"""Share of the tokens of every source that validates, as near as whole texts allow."""


@dataclass(frozen=True)
class SplitTokens:
    """Train and validation tokens of one source, and what is known about them."""

    train: np.ndarray
    """(n_train,) unsigned integers; may be a read-only memory map."""
    validation: np.ndarray
    """(n_validation,) unsigned integers; may be a read-only memory map."""
    vocab_size: int
    bytes_per_token: float | None
    """Bytes of text per token; None where there is no text."""
    entropy_nats_per_token: float | None
    """Entropy rate, where the source is synthetic."""


def fingerprint(tokens: SplitTokens) -> str:
    """A hex digest of the vocabulary and both token arrays, and of nothing else."""
    digest = hashlib.blake2b(f"vocab {tokens.vocab_size}".encode(), digest_size=16)
    for name, part in (("train", tokens.train), ("validation", tokens.validation)):
        # Little-endian at a width set by the vocabulary alone: the same tokens, the same digest.
        canonical = np.ascontiguousarray(part, dtype=token_dtype(tokens.vocab_size))
        digest.update(f"\n{name} {len(canonical)}\n".encode())
        digest.update(canonical.data)
    return digest.hexdigest()


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """The narrowest little-endian unsigned type that holds every token."""
    return np.dtype("<u1" if vocab_size <= 2**8 else "<u2" if vocab_size <= 2**16 else "<u4")
