"""The order in which a corpus is read, and its validation sequences."""

import numpy as np

from sweeper.corpus import Corpus, train_batch, validation_sequences


def corpus_of(n_train: int, n_validation: int = 100) -> Corpus:
    return Corpus(
        source="counting",
        train_tokens=np.arange(n_train, dtype=np.uint32),
        validation_tokens=np.arange(n_validation, dtype=np.uint32),
        vocab_size=n_train,
        bytes_per_token=None,
        fingerprint="0",
        entropy_nats_per_token=None,
    )


def test_an_epoch_visits_every_chunk_once() -> None:
    corpus = corpus_of(1000)
    batches = [
        train_batch(corpus, seq_len=10, n_sequences=20, seed=3, step=step) for step in range(5)
    ]
    assert sorted(np.concatenate(batches).ravel().tolist()) == list(range(1000))


def test_a_batch_is_a_function_of_its_arguments_alone() -> None:
    corpus = corpus_of(1000)
    first = train_batch(corpus, seq_len=7, n_sequences=16, seed=1, step=40)
    for step in (3, 0, 99):
        train_batch(corpus, seq_len=7, n_sequences=16, seed=2, step=step)
    assert np.array_equal(first, train_batch(corpus, seq_len=7, n_sequences=16, seed=1, step=40))


def test_validation_sequences_are_distinct_and_evenly_spread() -> None:
    sequences = validation_sequences(corpus_of(10, 1000), seq_len=10, n_sequences=30)
    assert len(np.unique(sequences)) == 300
    assert np.abs(np.diff(sequences[:, 0]) - 1000 / 30).max() <= 10
