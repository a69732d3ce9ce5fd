"""The bound is evaluated on fixed data and noise, with a standard error that means it."""

import math

import pytest
import torch
from small_trials import without_ngrams
from torch import Tensor

from sweeper.data.corpus import load_corpus
from sweeper.evaluation.bound import (
    ValidationSet,
    evaluate_bound,
    stratified_stderr,
    validation_set,
)
from sweeper.families import family_names, load_family
from sweeper.families.base import stratified

torch.set_num_threads(1)
VOCAB_SIZE = 7
PROBABILITIES = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
NLL = -PROBABILITIES.log()


def drawn(n_sequences: int, seed: int) -> ValidationSet:
    """Independent tokens, as hard as they are rare, of a text whose mean NLL is known."""
    rng = torch.Generator().manual_seed(seed)
    ids_NL = torch.multinomial(PROBABILITIES, n_sequences * 12, True, generator=rng).view(-1, 12)
    return ValidationSet(ids_NL, NLL[ids_NL][..., None], (PROBABILITIES @ NLL)[None])


VALIDATION = without_ngrams(drawn(512, 0).sequences_NL)


def blind(z_BL: Tensor, t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
    """Predicts the same distribution everywhere."""
    return PROBABILITIES.log().expand(*z_BL.shape, VOCAB_SIZE)


def by_neighbour(z_BL: Tensor, t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
    """Predicts something that depends on the input, so that noise matters."""
    left_BL = z_BL.roll(1, dims=1) % VOCAB_SIZE
    return torch.nn.functional.one_hot(left_BL, VOCAB_SIZE) * 1.5 - NLL


def scatter(values: list[float]) -> float:
    return torch.tensor(values, dtype=torch.float64).std().item()


every_family = pytest.mark.parametrize("name", family_names())
every_noisy_family = pytest.mark.parametrize("name", [n for n in family_names() if n != "ar"])


@every_family
def test_bound_of_a_blind_denoiser_is_its_cross_entropy(name: str) -> None:
    family = load_family(name, vocab_size=VOCAB_SIZE)
    estimate = evaluate_bound(family, blind, VALIDATION, seed=0)
    exact = NLL[VALIDATION.sequences_NL].mean().item()
    # Four standard errors; for `ar`, whose bound has no noise, rounding is all that is left.
    tolerance = 1e-6 if name == "ar" else 4 * estimate.stderr
    assert estimate.nats_per_token == pytest.approx(exact, abs=tolerance)
    assert estimate.n_tokens == VALIDATION.sequences_NL.numel()


@every_family
def test_evaluation_is_a_function_of_its_arguments(name: str) -> None:
    family = load_family(name, vocab_size=VOCAB_SIZE)
    torch.manual_seed(3)
    one = evaluate_bound(family, by_neighbour, VALIDATION, seed=0)
    torch.manual_seed(4)
    assert one == evaluate_bound(family, by_neighbour, VALIDATION, seed=0)
    if name != "ar":
        assert one != evaluate_bound(family, by_neighbour, VALIDATION, seed=1)


@pytest.mark.slow
@every_noisy_family
def test_corrections_average_to_zero(name: str) -> None:
    """Both halves hold the same sequences, whose own mean NLL is given: then exactly."""
    family = load_family(name, vocab_size=VOCAB_SIZE)
    ids_NL = drawn(64, 1).sequences_NL.repeat_interleave(2, dim=0)
    own = ValidationSet(ids_NL, NLL[ids_NL][..., None], NLL[ids_NL].mean()[None])
    corrected = [
        evaluate_bound(family, by_neighbour, own, seed).nats_per_token for seed in range(100)
    ]
    rng = torch.Generator().manual_seed(2)
    plain = [
        family.bound(by_neighbour, ids_NL, stratified(128, rng), rng).nats_BL.mean().item()
        for _ in range(400)
    ]
    gap = sum(corrected) / 100 - sum(plain) / 400
    stderr = math.hypot(scatter(corrected) / 100**0.5, scatter(plain) / 400**0.5)
    assert abs(gap) < 3.5 * stderr
    assert stderr < 0.03  # a slope off by half would show: the NLL itself is worth 1.8 nats


@pytest.mark.slow
@every_family
def test_standard_error_is_the_scatter_over_data_and_noise(name: str) -> None:
    family = load_family(name, vocab_size=VOCAB_SIZE)
    estimates = [evaluate_bound(family, by_neighbour, drawn(512, s), s) for s in range(40)]
    found = scatter([e.nats_per_token for e in estimates])
    reported = (sum(e.stderr**2 for e in estimates) / 40) ** 0.5
    # The scatter of 40 draws is itself known to 11 %: three of those.
    assert found == pytest.approx(reported, rel=0.34)


@pytest.mark.parametrize("name", ["ar", "masked"])
def test_what_ngram_nlls_explain_is_no_error(name: str) -> None:
    """A blind denoiser whose tokens are exactly as hard as stated."""
    family, known = load_family(name, vocab_size=VOCAB_SIZE), drawn(512, 3)
    plain = evaluate_bound(family, blind, without_ngrams(known.sequences_NL), seed=0)
    estimate = evaluate_bound(family, blind, known, seed=0)
    assert estimate.stderr < 0.5 * plain.stderr
    entropy = (PROBABILITIES @ NLL).item()
    assert estimate.nats_per_token == pytest.approx(entropy, abs=4 * estimate.stderr + 1e-6)


def test_few_sequences_are_not_fitted() -> None:
    few, family = drawn(8, 4), load_family("masked", vocab_size=VOCAB_SIZE)
    alone = without_ngrams(few.sequences_NL)
    assert evaluate_bound(family, blind, few, 0) == evaluate_bound(family, blind, alone, 0)


def test_a_bound_that_is_not_finite_stays_so() -> None:
    def broken(z_BL: Tensor, t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
        return torch.full((*z_BL.shape, VOCAB_SIZE), math.nan)

    family = load_family("masked", vocab_size=VOCAB_SIZE)
    assert math.isnan(evaluate_bound(family, broken, drawn(512, 5), seed=0).nats_per_token)


def test_validation_set_stands_for_the_whole_validation_text() -> None:
    corpus = load_corpus("synthetic:markov?vocab=8&tokens=20000")
    part = validation_set(corpus, seq_len=10, n_sequences=20)
    whole = validation_set(corpus, seq_len=10, n_sequences=len(corpus.validation_tokens) // 10)
    assert part.ngram_nll_NLK.shape == (20, 10, 3)
    torch.testing.assert_close(part.mean_ngram_nll_K, whole.mean_ngram_nll_K)
    mean_K = whole.ngram_nll_NLK.double().mean((0, 1))
    torch.testing.assert_close(part.mean_ngram_nll_K, mean_K, rtol=1e-5, atol=0)  # float32


def test_standard_error_of_independent_scores_is_the_textbook_one() -> None:
    score_N = torch.randn(20_000, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    # Estimated from 20,000 differences: known to about 0.7 %, here within four of that.
    assert stratified_stderr(3 * score_N) == pytest.approx(3 / math.sqrt(20_000), rel=0.03)


def test_a_trend_over_noise_levels_does_not_count_as_error() -> None:
    trend_N = torch.linspace(0, 100, 10_000, dtype=torch.float64)
    plain = trend_N.std().item() / 100
    assert stratified_stderr(trend_N) < plain / 1000
