"""Corpora: tokens to train on, tokens to validate on, and the order in which they are read.

There is no loader state: a batch is a function of (corpus, seed, step), and the validation
sequences are a function of the corpus.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from sweeper.data.sources import find_source
from sweeper.data.tokens import HASH_MULTIPLIER
from sweeper.errors import DataError
from sweeper.store.storage import StorePath
from sweeper.trials.text_options import AS_BYTES, TextOptions

CACHE = ".corpora"
"""Folder next to the sweeps' results where tokens are kept between runs."""

MAX_SORTED_CHUNKS = 2**24
"""Of more chunks, the order is computed where it is needed: sorting a billion takes 20 GB."""

_N_ROUNDS = 8

_DATA_ORDER = 0x0DA7A
"""Separates the stream of the data order from other uses of the same seed."""


@dataclass(frozen=True)
class Corpus:
    """A fingerprinted source of train and validation tokens."""

    source: str
    """As named in the sweep file."""
    train_tokens: np.ndarray
    """(n_train,) unsigned integers; may be a read-only memory map."""
    validation_tokens: np.ndarray
    """(n_validation,) unsigned integers; may be a read-only memory map."""
    vocab_size: int
    bytes_per_token: float | None
    """Bytes of text per token; None where there is no text."""
    fingerprint: str
    """Hex digest of the tokens (of a sample, where they are many) and the vocabulary alone."""


def load_corpus(
    source: str, cache_folder: Path | None = None, options: TextOptions = AS_BYTES
) -> Corpus:
    """The corpus a sweep file names, kept in `cache_folder` where one is given.

    Raises DataError where the source is unknown, missing, unreadable or not text, and
    MissingPackage where reading it takes a package that is not installed.
    """
    tokens, digest = find_source(source, options).load(cache_folder)
    return Corpus(
        source=source,
        train_tokens=tokens.train,
        validation_tokens=tokens.validation,
        vocab_size=tokens.vocab_size,
        bytes_per_token=tokens.bytes_per_token,
        fingerprint=digest,
    )


def cache_beside(results: StorePath) -> Path:
    """The local folder where runs that write to `results` keep tokens between them.

    Tokens are memory maps, so what belongs to an object store is kept in the user's cache.
    """
    if isinstance(results, Path):
        return results / CACHE
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user_cache) / "sweeper" / "corpora"


def train_batch(
    corpus: Corpus, *, seq_len: int, n_sequences: int, seed: int, step: int
) -> np.ndarray:
    """Batch `step` of the data order `seed`: (n_sequences, seq_len) int64.

    An epoch cuts the tokens, as a ring, into chunks at an offset of its own and visits each chunk
    once in a random order. A batch may end in the next epoch.
    """
    n_chunks = len(corpus.train_tokens) // seq_len
    if n_chunks < 1:
        raise DataError(
            f"corpus {corpus.source!r}: seq_len {seq_len} exceeds its {len(corpus.train_tokens)} "
            "training tokens: shorten seq_len or take a larger corpus"
        )
    position = step * n_sequences + np.arange(n_sequences)
    epoch, rank = position // n_chunks, position % n_chunks
    starts = np.empty(n_sequences, dtype=np.int64)
    for this_epoch in range(epoch[0], epoch[-1] + 1):
        here = epoch == this_epoch
        offset, chunks = _visited(n_chunks, seed, this_epoch, rank[here])
        starts[here] = offset % seq_len + chunks * seq_len
    tokens = np.take(corpus.train_tokens, starts[:, None] + np.arange(seq_len), mode="wrap")
    return np.asarray(tokens, dtype=np.int64)


def validation_sequences(corpus: Corpus, *, seq_len: int, n_sequences: int) -> np.ndarray:
    """The same evenly spread validation sequences for every trial: (n_sequences, seq_len) int64."""
    n_chunks = len(corpus.validation_tokens) // seq_len
    if n_chunks < n_sequences:
        raise DataError(
            f"corpus {corpus.source!r}: its {len(corpus.validation_tokens)} validation tokens "
            f"hold {n_chunks} sequences of seq_len {seq_len}, not {n_sequences}: evaluate fewer, "
            "shorten seq_len or take a larger corpus"
        )
    starts = np.arange(n_sequences) * n_chunks // n_sequences * seq_len
    tokens = corpus.validation_tokens[starts[:, None] + np.arange(seq_len)]
    return np.asarray(tokens, dtype=np.int64)


def _visited(n_chunks: int, seed: int, epoch: int, ranks: np.ndarray) -> tuple[int, np.ndarray]:
    """The offset of the chunk grid (before modulo seq_len) and the chunks at ranks of the order."""
    if n_chunks <= MAX_SORTED_CHUNKS:
        offset, order = _epoch_order(n_chunks, seed, epoch)
        return offset, order[ranks].astype(np.int64)
    bits = np.random.Philox(np.random.SeedSequence([_DATA_ORDER, seed, epoch]))
    offset = int(bits.random_raw())
    return offset, _permuted(ranks, n_chunks, bits.random_raw(_N_ROUNDS))


def _permuted(ranks: np.ndarray, n: int, keys: np.ndarray) -> np.ndarray:
    """A keyed permutation of range(n) at some of its places, without the rest of it.

    A Feistel network permutes the next power of four; what leaves the range is permuted again until
    it is back (cycle walking: Black & Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
    """
    half = np.uint64(((n - 1).bit_length() + 1) // 2)
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


@lru_cache(maxsize=4)
def _epoch_order(n_chunks: int, seed: int, epoch: int) -> tuple[int, np.ndarray]:
    """The offset of the chunk grid (before modulo seq_len) and the order of the chunks.

    Sorting raw bits, unlike `Generator.permutation`, is the same in every version of numpy.
    """
    bits = np.random.Philox(np.random.SeedSequence([_DATA_ORDER, seed, epoch]))
    offset = int(bits.random_raw())
    order = np.argsort(bits.random_raw(n_chunks), kind="stable")
    narrow = order.astype(np.uint32)
    narrow.flags.writeable = False
    return offset, narrow
