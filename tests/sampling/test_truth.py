"""What a synthetic source says of samples, against enumeration."""

import itertools

import numpy as np
import pytest
from synthetic_entropy import entropy_rate

from sweeper.data.corpus import load_corpus, validation_sequences
from sweeper.sampling.truth import Truth

every_order = pytest.mark.parametrize("order", [1, 2, 3])


def source_of(order: int, tokens: int = 400_000) -> str:
    return f"synthetic:markov?vocab=3&order={order}&tokens={tokens}"


@every_order
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_probabilities_of_all_sequences_sum_to_one_and_give_the_entropy(
    order: int, length: int
) -> None:
    truth = Truth.of(source_of(order))
    ids_XL = np.array([*itertools.product(range(3), repeat=length)])
    nats_X = truth.nats(ids_XL)
    assert np.exp(-nats_X).sum() == pytest.approx(1)
    assert truth.entropy(length) == pytest.approx((np.exp(-nats_X) * nats_X).sum() / length)
    assert truth.entropy_rate == pytest.approx(entropy_rate(source_of(order)))


def test_nats_given_a_prefix_are_those_of_the_rest() -> None:
    truth = Truth.of(source_of(2))
    ids_NL = np.array([[0, 1, 2, 1, 0], [2, 2, 2, 0, 1]])
    expected_N = truth.nats(ids_NL) - truth.nats(ids_NL[:, :3])
    assert truth.nats(ids_NL, 3) == pytest.approx(expected_N)


@every_order
def test_real_sequences_do_not_diverge(order: int) -> None:
    truth = Truth.of(source_of(order))
    corpus = load_corpus(source_of(order))
    ids_NL = validation_sequences(corpus, seq_len=20, n_sequences=1000)
    # Twice n times the plug-in is chi-squared with 2 · 3^order degrees of freedom.
    n, freedom = truth.run_counts(ids_NL).sum(), 2 * 3**order
    assert abs(truth.run_divergence(ids_NL)) < 4 * np.sqrt(2 * freedom) / (2 * n)
    assert truth.run_js(ids_NL) < 4 * freedom / n


def test_divergence_of_another_chain_is_its_kl_rate() -> None:
    truth, other = Truth.of(source_of(1)), Truth.of(source_of(1) + "&seed=1")
    ids_NL = validation_sequences(
        load_corpus(source_of(1) + "&seed=1"), seq_len=20, n_sequences=1000
    )
    expected = (other.runs_CV * np.log(other.p_CV / truth.p_CV)).sum()
    assert expected > 0.1
    # Four standard deviations of a mean over 19,000 pairs, most of them correlated in twos.
    noise = 4 * np.log(other.p_CV / truth.p_CV).std() * np.sqrt(2 / 19_000)
    assert truth.run_divergence(ids_NL) == pytest.approx(expected, abs=noise)
    assert 0.01 < truth.run_js(ids_NL) < np.log(2)
