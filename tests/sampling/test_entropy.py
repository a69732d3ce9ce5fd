"""Estimates of entropy, against sources whose entropy is known."""

import numpy as np
import pytest

from sweeper.data.corpus import load_corpus, validation_sequences
from sweeper.sampling import entropy
from sweeper.sampling.truth import Truth


@pytest.mark.parametrize("order", [1, 2])
def test_ngram_entropy_is_a_little_above_the_truth(order: int) -> None:
    source = f"synthetic:markov?vocab=6&order={order}&tokens=400000"
    ids_NL = validation_sequences(load_corpus(source), seq_len=20, n_sequences=1000)
    found, truth = entropy.ngram_entropy(ids_NL, 6), Truth.of(source).entropy(20)
    # Above by what estimating 36 to 216 probabilities from 10,000 tokens costs; below only by luck:
    # four standard errors of 1,000 sequences.
    luck = 4 * (Truth.of(source).nats(ids_NL) / 20).std() / 1000**0.5
    assert truth - luck < found < truth + 0.05 + luck


def test_ngram_entropy_of_independent_tokens_never_exceeds_that_of_a_guess() -> None:
    """Even where runs of two and more are all new."""
    ids_NL = np.random.default_rng(0).integers(200, size=(10, 20))
    assert entropy.ngram_entropy(ids_NL, 200) <= np.log(200) + 1e-12


def test_ngram_entropy_of_a_constant_is_nearly_nothing() -> None:
    assert entropy.ngram_entropy(np.zeros((20, 50), dtype=int), 16) < 0.01


def test_unigram_entropy_does_not_know_order() -> None:
    ids_NL = np.tile(np.arange(4), (3, 5))
    assert entropy.unigram_entropy(ids_NL) == pytest.approx(np.log(4))
    assert entropy.unigram_entropy(np.sort(ids_NL, axis=1)) == pytest.approx(np.log(4))
    assert entropy.unigram_entropy(np.zeros((2, 5), dtype=int)) == 0


def test_distinct_counts_runs_within_sequences() -> None:
    ids_NL = np.array([[0, 1, 0, 1], [1, 0, 1, 0]])
    assert entropy.distinct(ids_NL, 2) == pytest.approx(2 / 6)  # 01 and 10
    assert entropy.distinct(ids_NL, 4) == 1
    assert entropy.distinct(ids_NL, 5) == 1  # there are none
