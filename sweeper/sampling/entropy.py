"""Entropy and variety of samples, from the samples alone.

Shapes: N sequences, L tokens.
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

MAX_ORDER = 4
"""Longest run of tokens that the entropy estimate counts."""


def unigram_entropy(ids_NL: np.ndarray) -> float:
    """Mean over sequences of the entropy of their own token histogram, nats.

    The published diversity check (arXiv 2602.15014). It is at most log L and biased down by about
    (distinct tokens − 1) / (2 L); it knows nothing of order, so that shuffled text passes.
    """
    entropies = []
    for ids_L in ids_NL:
        p = np.unique(ids_L, return_counts=True)[1] / len(ids_L)
        entropies.append(-(p * np.log(p)).sum())
    return float(np.mean(entropies))


def ngram_entropy(ids_NL: np.ndarray, vocab_size: int) -> float:
    """Cross-entropy of each half of the sequences under n-grams of the other, nats per token.

    Any prediction codes the samples at no less than their entropy rate, so the estimate is biased
    up; by how much depends on the number of tokens, which rows to be compared have in common.
    Runs of 1 … MAX_ORDER tokens are mixed as Witten and Bell do (1991, method C): the weight of a
    context is n / (n + its distinct followers). Of the orders the one that codes best is taken.
    """
    halves = ids_NL[0::2], ids_NL[1::2]
    if not len(halves[1]):
        halves = ids_NL[:, : ids_NL.shape[1] // 2], ids_NL[:, ids_NL.shape[1] // 2 :]
    by_order = [_total_nlls(here, other, vocab_size) for here, other in (halves, halves[::-1])]
    return min(map(sum, zip(*by_order, strict=True))) / ids_NL.size


def distinct(ids_NL: np.ndarray, n: int) -> float:
    """Share of distinct ones among all runs of n tokens within a sequence."""
    if ids_NL.shape[1] < n:
        return 1.0
    runs = np.lib.stride_tricks.sliding_window_view(ids_NL, n, axis=1).reshape(-1, n)
    return len(np.unique(runs, axis=0)) / len(runs)


def _total_nlls(here_NL: np.ndarray, other_NL: np.ndarray, vocab_size: int) -> list[float]:
    """Nats of all tokens of `here_NL` under runs of up to 0, 1 … tokens counted in `other_NL`."""
    p_NL = np.full(here_NL.shape, 1 / vocab_size)
    nats = [here_NL.size * float(np.log(vocab_size))]
    for order in range(1, MAX_ORDER + 1):
        if here_NL.shape[1] < order:
            break
        followers: defaultdict[tuple[int, ...], defaultdict[int, int]]
        followers = defaultdict(lambda: defaultdict(int))
        for run in _runs(other_NL, order).tolist():
            followers[tuple(run[:-1])][run[-1]] += 1
        mixed = []
        shorter = p_NL[:, order - 1 :].ravel().tolist()
        for run, p in zip(_runs(here_NL, order).tolist(), shorter, strict=True):
            counts: Mapping[int, int] = followers.get(tuple(run[:-1]), {})
            n, n_distinct = sum(counts.values()), len(counts)
            share = (counts.get(run[-1], 0) + n_distinct * p) / (n + n_distinct) if n else p
            mixed.append(share)
        p_NL[:, order - 1 :] = np.reshape(mixed, (len(here_NL), -1))
        nats.append(float(-np.log(p_NL).sum()))
    return nats


def _runs(ids_NL: np.ndarray, n: int) -> np.ndarray:
    """All runs of n tokens, in the order of sequences and places, (…, n)."""
    return np.lib.stride_tricks.sliding_window_view(ids_NL, n, axis=1).reshape(-1, n)
