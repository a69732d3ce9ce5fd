"""Synthetic sources have the entropy they state."""

import itertools
import math

import numpy as np
import pytest
from synthetic_entropy import entropy_rate

from sweeper.data.corpus import load_corpus
from sweeper.data.synthetic import (
    SyntheticSource,
    parse_synthetic,
    stationary_distribution,
    transition_slots,
)
from sweeper.errors import DataError


def test_defaults_are_those_of_the_documentation() -> None:
    assert parse_synthetic("synthetic:markov") == parse_synthetic(
        "synthetic:markov?vocab=16&order=1&concentration=0.3&tokens=2000000&seed=0"
    )
    assert parse_synthetic("synthetic:iid?vocab=4") == SyntheticSource(kind="iid", vocab=4)


def test_the_same_string_gives_the_same_tokens_and_another_seed_others() -> None:
    first, again, other = (
        load_corpus(f"synthetic:markov?tokens=5000&seed={seed}").fingerprint for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("source", ["markov?vocab=3&order=2", "markov?vocab=5", "iid?vocab=4"])
def test_entropy_rate_equals_the_growth_of_block_entropies(source: str) -> None:
    # Brute force: the probability of every block of n tokens from the stationary start;
    # H(n + 1) - H(n) is the rate exactly once n reaches the order.
    spec = parse_synthetic(f"synthetic:{source}")
    slots_CV = transition_slots(spec)
    pi_C = stationary_distribution(slots_CV)
    contexts = list(itertools.product(range(spec.vocab), repeat=spec.order))

    def block_entropy(n: int) -> float:
        entropy = 0.0
        for block in itertools.product(range(spec.vocab), repeat=n):
            p = float(pi_C[contexts.index(block[: spec.order])])
            for i in range(spec.order, n):
                p *= slots_CV[contexts.index(block[i - spec.order : i]), block[i]] / 4096
            entropy -= p * math.log(p)
        return entropy

    rate = block_entropy(spec.order + 2) - block_entropy(spec.order + 1)
    assert entropy_rate(f"synthetic:{source}") == pytest.approx(rate, rel=1e-9)


def test_the_stationary_distribution_stays() -> None:
    spec = SyntheticSource(vocab=4, order=3)
    slots_CV = transition_slots(spec)
    pi_C = stationary_distribution(slots_CV)
    after_C = np.zeros_like(pi_C)
    for context, token in itertools.product(range(64), range(4)):
        after_C[(context * 4 + token) % 64] += pi_C[context] * slots_CV[context, token] / 4096
    assert after_C == pytest.approx(pi_C, abs=1e-12)
    assert pi_C.sum() == pytest.approx(1)
    assert pi_C.min() > 0


@pytest.mark.parametrize("source", ["markov?vocab=8", "markov?vocab=4&order=3", "iid?vocab=8"])
def test_tokens_cost_the_stated_entropy_under_the_true_chain(source: str) -> None:
    spec = parse_synthetic(f"synthetic:{source}&tokens=200000")
    corpus = load_corpus(f"synthetic:{source}&tokens=200000")
    slots_CV = transition_slots(spec)
    tokens = corpus.tokens.train.astype(np.int64)
    context = np.zeros(len(tokens) - spec.order, dtype=np.int64)
    for lag in range(spec.order):
        context = context * spec.vocab + tokens[lag : len(tokens) - spec.order + lag]
    nats = -np.log(slots_CV[context, tokens[spec.order :]] / 4096)
    # 5 standard errors; the surprisals are correlated, so blocks of 1000 estimate their spread.
    blocks = nats[: len(nats) // 1000 * 1000].reshape(-1, 1000).mean(axis=1)
    stderr = blocks.std() / math.sqrt(len(blocks))
    assert nats.mean() == pytest.approx(entropy_rate(corpus.source), abs=5 * stderr)


def test_counted_transitions_estimate_the_stated_entropy() -> None:
    # Independent of the table: conditional entropy of the pairs that occur. Its bias is about
    # -V (V - 1) / 2n = -1.4e-4 nats, its standard error 1e-3.
    corpus = load_corpus("synthetic:markov?vocab=8&tokens=200000&concentration=0.5")
    tokens = corpus.tokens.train.astype(np.int64)
    pairs = np.bincount(tokens[:-1] * 8 + tokens[1:], minlength=64).reshape(8, 8) / len(tokens)
    conditional = pairs / pairs.sum(axis=1, keepdims=True)
    seen = pairs > 0
    estimate = -(pairs[seen] * np.log(conditional[seen])).sum()
    assert estimate == pytest.approx(entropy_rate(corpus.source), abs=5e-3)


def test_independent_tokens_have_no_memory() -> None:
    slots_CV = transition_slots(parse_synthetic("synthetic:iid?vocab=8"))
    assert (slots_CV == slots_CV[0]).all()


def test_concentration_moves_entropy_between_zero_and_that_of_dice() -> None:
    low, middle, high = (
        entropy_rate(f"synthetic:markov?tokens=100&concentration={c}") for c in (0.01, 0.3, 1000)
    )
    assert 0 < low < middle < high < math.log(16)
    assert high == pytest.approx(math.log(16), rel=0.01)


def test_the_end_of_the_tokens_validates() -> None:
    corpus = load_corpus("synthetic:markov?vocab=32&tokens=10000")
    assert (len(corpus.tokens.train), len(corpus.tokens.validation)) == (9500, 500)
    assert corpus.tokens.vocab_size == 32
    assert corpus.tokens.bytes_per_token is None
    assert corpus.tokens.train.max() < 32


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("markv", r"unknown synthetic source 'markv' \(did you mean 'markov'\?\)"),
        ("markov?vocb=3", r"cannot use 'vocb=3' \(did you mean 'vocab'\?\); expected name=value"),
        ("markov?vocab", "cannot use 'vocab'"),
        ("markov?kind=iid", "cannot use 'kind=iid'"),
        ("markov?vocab=x", "vocab is 'x', expected a whole number such as 2000000"),
        ("markov?vocab=2.5", "vocab is '2.5', expected a whole number"),
        ("markov?concentration=much", "concentration is 'much', expected a number such as 0.3"),
        ("markov?concentration=nan", "concentration is nan, expected"),
        ("markov?concentration=0", "concentration is 0.0, expected 0.001 to 1e\\+06"),
        ("markov?vocab=1", "vocab is 1, expected 2 to 256"),
        ("markov?vocab=257", "vocab is 257, expected 2 to 256"),
        ("markov?order=0", "order is 0, expected 1 to 10"),
        ("markov?vocab=64&order=2", "4096 contexts, expected at most 1024: lower vocab or order"),
        ("markov?tokens=10", "tokens is 10, expected 100 to"),
        ("markov?tokens=10000000000", "expected 100 to 1e\\+08"),
        ("markov?seed=-1", "seed is -1, expected 0 to"),
        ("markov?seed=1&seed=2", "seed is given twice; keep one"),
        ("iid?order=2", "order applies to markov only: leave it out"),
    ],
)
def test_a_source_that_cannot_be_is_refused(query: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_corpus(f"synthetic:{query}")
    assert str(caught.value).startswith(f"corpus 'synthetic:{query}': ")
