"""N-gram NLLs are what counts of training tokens say, and need no large table."""

import dataclasses

import numpy as np
import pytest

from sweeper.data.corpus import Corpus, load_corpus
from sweeper.evaluation.control_variates import COUNTED_TOKENS, count_ngrams


def corpus_of(train: np.ndarray, vocab_size: int) -> Corpus:
    corpus = load_corpus("synthetic:iid?vocab=4&tokens=100")
    tokens = dataclasses.replace(corpus.tokens, train=train, vocab_size=vocab_size)
    return dataclasses.replace(corpus, tokens=tokens)


def test_tokens_are_measured_alone_and_by_either_neighbour() -> None:
    rng = np.random.default_rng(0)
    step_VV = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
    train = [0]
    for u in rng.random(50_000):
        train.append(int((step_VV[train[-1]].cumsum() < u).sum()))
    p_V = np.bincount(train) / len(train)
    ngrams = count_ngrams(corpus_of(np.array(train, dtype=np.uint8), 3))
    (measured_LK,) = ngrams.nll(np.array([[2, 0, 1]]))
    alone = p_V[[2, 0, 1]]
    after_left = [p_V[2], step_VV[2, 0], step_VV[0, 1]]
    back_VV = p_V[:, None] * step_VV / p_V  # (left, right): p(left | right)
    before_right = [back_VV[2, 0], back_VV[0, 1], p_V[1]]
    expected_LK = -np.log(np.array([alone, after_left, before_right])).T
    # The rarest step is counted 1,400 times, so known to 2.7 %: within three of those.
    np.testing.assert_allclose(measured_LK, expected_LK, atol=0.08)


def test_pairs_are_not_tabulated_in_a_large_vocabulary() -> None:
    train = np.arange(50_000, dtype=np.uint32) % 40_000
    ngrams = count_ngrams(corpus_of(train, 50_000))
    assert ngrams.pair_VV is None
    measured_NLK = ngrams.nll(np.array([[0, 39_999, 49_999]]))
    assert measured_NLK.shape == (1, 3, 1)
    # 3, 2 and 1 out of 100,000, one count of each added.
    expected = -np.log(np.array([3, 2, 1]) / 100_000)
    np.testing.assert_allclose(measured_NLK[0, :, 0], expected, rtol=1e-6)


def test_a_long_text_is_counted_in_pieces_from_all_over() -> None:
    halves = np.repeat(np.array([0, 1], dtype=np.uint8), COUNTED_TOKENS)
    ngrams = count_ngrams(corpus_of(halves, 2))
    assert ngrams.token_V == pytest.approx(np.log(2), rel=1e-5)
