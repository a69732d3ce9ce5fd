"""Corpora, and the order in which they are read: a batch is a function of (corpus, seed, step)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from sweeper.data.sources import load_tokens
from sweeper.data.tokens import HASH_MULTIPLIER, SplitTokens
from sweeper.errors import DataError
from sweeper.store.layout import local_caches
from sweeper.store.storage import StoragePath
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.text_options import AS_BYTES, TextOptions

# Of more chunks, the order is computed where it is needed: sorting a billion takes 20 GB.
MAX_SORTED_CHUNKS = 2**24
_DATA_ORDER = 0x0DA7A  # separates the stream of the data order from other uses of the same seed
_N_ROUNDS = 8


@dataclass(frozen=True)
class Corpus:
    """A fingerprinted source of train and validation tokens."""

    source: str
    """As named in the sweep file."""
    tokens: SplitTokens
    fingerprint: str
    """Hex digest of the tokens (of a sample, where they are many) and the vocabulary alone."""


def load_corpus(
    source: str, cache_folder: Path | None = None, options: TextOptions = AS_BYTES
) -> Corpus:
    """The corpus a sweep file names, kept in `cache_folder` where one is given.

    Raises DataError where the source is unknown, missing, unreadable or not text, and
    MissingPackage where reading it takes a package that is not installed.
    """
    return Corpus(source, *load_tokens(source, cache_folder, options))


_last_corpus = lru_cache(maxsize=1)(load_corpus)
"""Trials of a process follow each other, mostly on the same corpus."""


def planned_corpus(planned: PlannedTrial, results: StoragePath) -> Corpus:
    """The corpus of a trial with its results below `results`; DataError if it has changed."""
    corpus = _last_corpus(planned.source, cache_beside(results), planned.reading)
    expected = planned.trial.data.fingerprint
    if corpus.fingerprint != expected:
        raise DataError(
            f"corpus {planned.source!r} has fingerprint {corpus.fingerprint}, but the plan was "
            f"made for {expected}: its files changed, or this worker sees others; restore them or "
            "run the sweep again to plan anew"
        )
    return corpus


def cache_beside(results: StoragePath) -> Path:
    """The local folder where runs that write to `results` keep tokens between them."""
    # Memory maps need a local file: for an object store, one in the user's cache.
    return local_caches(results) / (".corpora" if isinstance(results, Path) else "corpora")


def train_batch(
    corpus: Corpus, *, seq_len: int, n_sequences: int, seed: int, step: int
) -> np.ndarray:
    """Batch `step` of the data order `seed`: (n_sequences, seq_len) int64.

    An epoch cuts the tokens, as a ring, into chunks at an offset of its own and visits each chunk
    once in a random order. A batch may end in the next epoch.
    """
    train_tokens = corpus.tokens.train
    n_chunks = len(train_tokens) // seq_len
    if n_chunks < 1:
        raise DataError(
            f"corpus {corpus.source!r}: seq_len {seq_len} exceeds its {len(train_tokens)} "
            "training tokens: shorten seq_len or take a larger corpus"
        )
    position = step * n_sequences + np.arange(n_sequences)
    epoch, rank = position // n_chunks, position % n_chunks
    starts = np.empty(n_sequences, dtype=np.int64)
    for this_epoch in range(epoch[0], epoch[-1] + 1):
        here = epoch == this_epoch
        offset, visited = _epoch_order(n_chunks, seed, this_epoch)
        starts[here] = offset % seq_len + visited(rank[here]) * seq_len
    tokens = np.take(train_tokens, starts[:, None] + np.arange(seq_len), mode="wrap")
    return np.asarray(tokens, dtype=np.int64)


def validation_sequences(corpus: Corpus, *, seq_len: int, n_sequences: int) -> np.ndarray:
    """The same evenly spread validation sequences for every trial: (n_sequences, seq_len) int64."""
    validation_tokens = corpus.tokens.validation
    n_chunks = len(validation_tokens) // seq_len
    if n_chunks < n_sequences:
        raise DataError(
            f"corpus {corpus.source!r}: its {len(validation_tokens)} validation tokens "
            f"hold {n_chunks} sequences of seq_len {seq_len}, not {n_sequences}: evaluate fewer, "
            "shorten seq_len or take a larger corpus"
        )
    starts = np.arange(n_sequences) * n_chunks // n_sequences * seq_len
    tokens = validation_tokens[starts[:, None] + np.arange(seq_len)]
    return np.asarray(tokens, dtype=np.int64)


@lru_cache(maxsize=4)
def _epoch_order(
    n_chunks: int, seed: int, epoch: int
) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """The offset of the chunk grid (before modulo seq_len), and the chunks at given ranks."""
    bits = np.random.Philox(np.random.SeedSequence([_DATA_ORDER, seed, epoch]))
    offset = int(bits.random_raw())
    if n_chunks > MAX_SORTED_CHUNKS:
        return offset, partial(_permuted, n=n_chunks, keys=bits.random_raw(_N_ROUNDS))
    # Sorting raw bits, unlike `Generator.permutation`, is the same in every version of numpy.
    order = np.argsort(bits.random_raw(n_chunks), kind="stable").astype(np.uint32)
    return offset, lambda ranks: order[ranks].astype(np.int64)


def _permuted(ranks: np.ndarray, n: int, keys: np.ndarray) -> np.ndarray:
    """A keyed permutation of range(n) at some of its places, without the rest of it."""
    # A Feistel network permutes the next power of four; what leaves the range is permuted again
    # until it is back (cycle walking: Black & Rogaway 2002, "Ciphers with Arbitrary Finite
    # Domains").
    half = np.uint64(((n - 1).bit_length() + 1) // 2)  # bits of each half of a place
    places = ranks.astype(np.uint64)
    outside = np.ones(len(places), dtype=bool)
    while outside.any():
        places[outside] = _feistel(places[outside], half, keys)
        outside = places >= n
    return places.astype(np.int64)


def _feistel(places: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = places >> half, places & mask
    for key in keys:
        mixed = (right ^ key) * HASH_MULTIPLIER
        mixed = (mixed ^ (mixed >> np.uint64(32))) * HASH_MULTIPLIER
        left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
    return np.asarray((left << half) | right)
