"""Find texts that share passages: the 256 bytes that follow the start of a line."""

import numpy as np

from sweeper.data.tokens import HASH_MULTIPLIER

# A copy with another header, an excerpt, or a file within another one shares some with its origin.
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
        words = windows[starts[block]].view(np.uint64)
        # The sum over words is linear, so differences must not be confined to the high bits.
        words = (words ^ (words >> np.uint64(32))) * HASH_MULTIPLIER
        words ^= words >> np.uint64(29)
        hashes[block] = (words * _WEIGHTS).sum(axis=1, dtype=np.uint64)
    return hashes


def group_texts(passages_per_text: list[np.ndarray]) -> list[list[int]]:
    """Indices of the texts in groups that share no passage; groups in order of first member."""
    # Late: workers, which find their tokens in the cache, should not wait for it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_texts = len(passages_per_text)
    owner = np.repeat(np.arange(n_texts), [len(p) for p in passages_per_text])
    hashes = np.concatenate(passages_per_text)
    order = np.argsort(hashes, kind="stable")
    hashes, owner = hashes[order], owner[order]
    # Neighbours in this order: enough pairs to connect all texts that have a passage in common.
    shared = hashes[1:] == hashes[:-1]
    pairs = (owner[:-1][shared], owner[1:][shared])
    graph = coo_array((np.ones(len(pairs[0]), dtype=bool), pairs), shape=(n_texts, n_texts))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = {}
    for text, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(text)
    return list(groups.values())
