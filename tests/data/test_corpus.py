"""The order in which a corpus is read, and its validation sequences."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from sweeper.data import corpus as corpus_module
from sweeper.data.corpus import Corpus, train_batch, validation_sequences
from sweeper.data.tokens import SplitTokens
from sweeper.errors import DataError


@pytest.fixture(params=["sorted", "computed"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both ways to the order of the chunks."""
    corpus_module._epoch_order.cache_clear()
    if request.param == "computed":
        monkeypatch.setattr(corpus_module, "MAX_SORTED_CHUNKS", 0)
    yield
    corpus_module._epoch_order.cache_clear()


def corpus_of(n_train: int, n_validation: int = 100) -> Corpus:
    train, validation = (np.arange(n, dtype=np.uint32) for n in (n_train, n_validation))
    tokens = SplitTokens(train, validation, vocab_size=n_train, bytes_per_token=None)
    return Corpus(source="counting", tokens=tokens, fingerprint="0")


def batch(corpus: Corpus, *, seq_len: int, n_sequences: int, seed: int, step: int) -> list[int]:
    tokens = train_batch(corpus, seq_len=seq_len, n_sequences=n_sequences, seed=seed, step=step)
    assert tokens.shape == (n_sequences, seq_len)
    assert tokens.dtype == np.int64
    return [int(token) for token in tokens.ravel()]


@pytest.mark.usefixtures("order")
def test_an_epoch_visits_every_chunk_once() -> None:
    corpus = corpus_of(1000)
    for epoch in range(3):
        seen = [
            token
            for step in range(5 * epoch, 5 * epoch + 5)
            for token in batch(corpus, seq_len=10, n_sequences=20, seed=3, step=step)
        ]
        assert sorted(seen) == list(range(1000))


@pytest.mark.usefixtures("order")
def test_sequences_are_contiguous_tokens_of_the_ring() -> None:
    tokens = train_batch(corpus_of(1003), seq_len=10, n_sequences=100, seed=0, step=0)
    assert set(np.unique(np.diff(tokens) % 1003).tolist()) == {1}
    assert len(np.unique(tokens)) == 1000


@pytest.mark.usefixtures("order")
def test_epochs_and_seeds_have_their_own_grid_and_order() -> None:
    corpus = corpus_of(1000)
    starts = [
        train_batch(corpus, seq_len=10, n_sequences=100, seed=seed, step=step)[:, 0]
        for seed, step in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    assert len({tuple(start.tolist()) for start in starts}) == 4
    assert len({int(start[0]) % 10 for start in starts}) > 1


@pytest.mark.usefixtures("order")
def test_the_order_does_not_depend_on_the_batch_size() -> None:
    corpus = corpus_of(1000)
    large = batch(corpus, seq_len=7, n_sequences=90, seed=5, step=3)
    small = [batch(corpus, seq_len=7, n_sequences=30, seed=5, step=step) for step in (9, 10, 11)]
    assert large == [token for part in small for token in part]


@pytest.mark.usefixtures("order")
def test_a_batch_straddles_epochs_and_may_exceed_the_corpus() -> None:
    corpus = corpus_of(50)
    seen = batch(corpus, seq_len=10, n_sequences=15, seed=0, step=0)
    assert [seen.count(token) for token in range(50)] == [3] * 50


@pytest.mark.usefixtures("order")
def test_a_batch_is_a_function_of_its_arguments_alone() -> None:
    corpus = corpus_of(1000)
    first = batch(corpus, seq_len=7, n_sequences=16, seed=1, step=40)
    for step in (3, 0, 99):
        batch(corpus, seq_len=7, n_sequences=16, seed=2, step=step)
    assert first == batch(corpus, seq_len=7, n_sequences=16, seed=1, step=40)


def test_the_data_order_is_the_one_published_results_were_trained_in() -> None:
    # Written down once: a change of these numbers changes every trial without changing its id.
    starts = train_batch(corpus_of(1000), seq_len=10, n_sequences=8, seed=0, step=0)[:, 0]
    assert starts.tolist() == [846, 266, 476, 6, 436, 516, 466, 326]


def test_the_order_of_many_chunks_is_a_permutation_without_pattern() -> None:
    rng = np.random.Generator(np.random.Philox(0))
    for n in (1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097, 30_000):
        keys = rng.integers(0, 2**64, 8, dtype=np.uint64)
        order = corpus_module._permuted(np.arange(n), n, keys)
        assert np.array_equal(np.sort(order), np.arange(n))
    # Independent uniforms: correlations have a standard deviation of 1/sqrt(30000) = 0.006.
    assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 0.03
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.03
    # Neighbours stay neighbours as often as by chance: 2 in n pairs, on average.
    assert np.count_nonzero(np.abs(np.diff(order)) == 1) < 12


def test_the_order_of_a_trillion_tokens_is_the_one_it_is_and_costs_nothing() -> None:
    begin = time.perf_counter()
    offset, visited = corpus_module._epoch_order(10**12 // 2048, 0, 0)
    chunks = visited(np.arange(4))
    assert time.perf_counter() - begin < 0.1  # sorting half a billion chunks takes a minute
    # Written down once, like the starts above.
    assert [offset % 2048, *chunks.tolist()] == [910, 11738936, 257545625, 336646290, 284595066]


def test_a_batch_costs_less_than_a_third_of_a_millisecond() -> None:
    corpus = corpus_of(3_000_000)
    batch(corpus, seq_len=64, n_sequences=16, seed=0, step=0)
    seconds = []
    for step in range(50):
        begin = time.perf_counter()
        train_batch(corpus, seq_len=64, n_sequences=16, seed=0, step=step)
        seconds.append(time.perf_counter() - begin)
    assert np.median(seconds) < 3e-4


def test_validation_sequences_are_distinct_and_evenly_spread() -> None:
    sequences = validation_sequences(corpus_of(10, 1000), seq_len=10, n_sequences=30)
    assert sequences.dtype == np.int64
    assert sequences.shape == (30, 10)
    assert len(np.unique(sequences)) == 300
    assert np.abs(np.diff(sequences[:, 0]) - 1000 / 30).max() <= 10


def test_all_validation_tokens_can_be_used() -> None:
    sequences = validation_sequences(corpus_of(10, 1000), seq_len=10, n_sequences=100)
    assert sequences.ravel().tolist() == list(range(1000))


def test_more_validation_sequences_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match=r"'counting'.* 100 validation tokens hold 10 .*, not 11"):
        validation_sequences(corpus_of(10, 100), seq_len=10, n_sequences=11)


def test_a_sequence_longer_than_the_corpus_is_an_error() -> None:
    with pytest.raises(DataError, match=r"'counting'.* seq_len 51 exceeds its 50 training tokens"):
        train_batch(corpus_of(50), seq_len=51, n_sequences=1, seed=0, step=0)
