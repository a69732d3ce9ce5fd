"""Find texts that share passages, so that near copies fall on the same side of the split.

A passage is the 256 bytes that follow the start of a line. A copy with another header, an
excerpt, or a file embedded in another one shares passages with its origin.
"""

import numpy as np

from sweeper.data.tokens import HASH_MULTIPLIER

PASSAGE_BYTES = 256

_WORDS = PASSAGE_BYTES // 8
_WEIGHTS = np.random.Philox(np.random.SeedSequence(0)).random_raw(_WORDS) | np.uint64(1)
_BLOCK = 1 << 16  # passages hashed at a time: 16 MiB
_NEWLINE = ord("\n")


def passages(text: bytes) -> np.ndarray:
    """One 64-bit hash per passage of a text; none if the text is shorter than a passage."""
    tokens = np.frombuffer(text, dtype=np.uint8)
    if len(tokens) < PASSAGE_BYTES:
        return np.empty(0, dtype=np.uint64)
    begins = np.concatenate(([True], tokens[:-1] == _NEWLINE)) & (tokens != _NEWLINE)
    starts = np.flatnonzero(begins[: len(tokens) - PASSAGE_BYTES + 1])
    windows = np.lib.stride_tricks.sliding_window_view(tokens, PASSAGE_BYTES)
    hashes = np.empty(len(starts), dtype=np.uint64)
    for first in range(0, len(starts), _BLOCK):
        block = slice(first, first + _BLOCK)
        hashes[block] = _hashed(windows[starts[block]].view(np.uint64))
    return hashes


def _hashed(words: np.ndarray) -> np.ndarray:
    # The sum over words is linear, so differences must not be confined to the high bits.
    words = (words ^ (words >> np.uint64(32))) * HASH_MULTIPLIER
    words ^= words >> np.uint64(29)
    return np.asarray((words * _WEIGHTS).sum(axis=1, dtype=np.uint64))


def group_texts(passages_per_text: list[np.ndarray]) -> list[list[int]]:
    """Indices of the texts in groups that share no passage; groups in order of first member."""
    parent = list(range(len(passages_per_text)))

    def root(text: int) -> int:
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for one, other in _sharing_pairs(passages_per_text):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for text in range(len(parent)):
        groups.setdefault(root(text), []).append(text)
    return list(groups.values())


def shared_share(text: bytes, others: bytes) -> float:
    """The share of the passages of `text` that also occur in `others`."""
    mine = passages(text)
    return float(np.isin(mine, passages(others)).mean()) if len(mine) else 0.0


def _sharing_pairs(passages_per_text: list[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs of texts with a passage in common: enough of them to connect all that share one."""
    owner = np.repeat(np.arange(len(passages_per_text)), [len(p) for p in passages_per_text])
    hashes = np.concatenate(passages_per_text)
    order = np.argsort(hashes, kind="stable")
    hashes, owner = hashes[order], owner[order]
    linked = (hashes[1:] == hashes[:-1]) & (owner[1:] != owner[:-1])
    pairs = np.unique(np.stack([owner[:-1][linked], owner[1:][linked]], axis=1), axis=0)
    return [(int(one), int(other)) for one, other in pairs]
