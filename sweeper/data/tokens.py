"""The tokens of a corpus, split into training and validation, and their fingerprint."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

# Share of the tokens of every source that validates, as near as whole texts allow.
VALIDATION_SHARE = 0.05

# 2^64 over the golden ratio: odd, so that multiplying 64-bit integers by it loses nothing.
HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

# Of a part longer than N_BLOCKS such blocks, so many are looked at: 4M tokens of each part.
N_BLOCKS, BLOCK_TOKENS = 1024, 4096


@dataclass(frozen=True)
class SplitTokens:
    """Train and validation tokens of one source: unsigned integers, perhaps read-only maps."""

    train: np.ndarray
    validation: np.ndarray
    vocab_size: int
    bytes_per_token: float | None
    """Bytes of text per token; None where there is no text."""


def fingerprint(tokens: SplitTokens) -> str:
    """A hex digest of the vocabulary and both token arrays, and of nothing else."""
    return _digest(tokens, "", lambda part: [(0, part)])


def sampled_fingerprint(tokens: SplitTokens) -> str:
    """Like `fingerprint`, and equal to it for short parts; of long ones it looks at some blocks.

    It sees every change of length and of a stretch of more than 1/N_BLOCKS of a part.
    """
    is_whole = max(len(tokens.train), len(tokens.validation)) <= N_BLOCKS * BLOCK_TOKENS
    return _digest(tokens, "" if is_whole else "sampled, ", spread_blocks)


def _digest(
    tokens: SplitTokens,
    prefix: str,
    blocks: Callable[[np.ndarray], Iterable[tuple[int, np.ndarray]]],
) -> str:
    digest = hashlib.blake2b(f"{prefix}vocab {tokens.vocab_size}".encode(), digest_size=16)
    for name, part in (("train", tokens.train), ("validation", tokens.validation)):
        digest.update(f"\n{name} {len(part)}\n".encode())
        for _, block in blocks(part):
            # Little-endian, its width set by the vocabulary alone: same tokens, same digest.
            digest.update(np.ascontiguousarray(block, dtype=token_dtype(tokens.vocab_size)).data)
    return digest.hexdigest()


def spread_blocks(part: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks and where they start: all of a short part, N_BLOCKS of a long one with both ends."""
    if len(part) <= N_BLOCKS * BLOCK_TOKENS:
        starts = list(range(0, len(part), BLOCK_TOKENS))
    else:
        last = len(part) - BLOCK_TOKENS
        starts = [i * last // (N_BLOCKS - 1) for i in range(N_BLOCKS)]
    for start in starts:
        yield start, part[start : start + BLOCK_TOKENS]


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """The narrowest little-endian unsigned type that holds every token."""
    return np.dtype("<u1" if vocab_size <= 2**8 else "<u2" if vocab_size <= 2**16 else "<u4")
