"""The bound is evaluated on fixed data and noise, with a standard error that means it."""

import math

import pytest
import torch
from torch import Tensor

from sweeper.evaluation import evaluate_bound, stratified_stderr
from sweeper.families import family_names, load_family

VOCAB_SIZE = 7
SEQUENCES_NL = torch.randint(VOCAB_SIZE, (512, 12), generator=torch.Generator().manual_seed(0))
PROBABILITIES = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])


def blind(z_BL: Tensor, t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
    """Predicts the same distribution everywhere."""
    return PROBABILITIES.log().expand(*z_BL.shape, VOCAB_SIZE)


def by_neighbour(z_BL: Tensor, t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
    """Predicts something that depends on the input, so that noise matters."""
    left_BL = z_BL.roll(1, dims=1) % VOCAB_SIZE
    return torch.nn.functional.one_hot(left_BL, VOCAB_SIZE) * 1.5


@pytest.mark.parametrize("name", family_names())
def test_bound_of_a_blind_denoiser_is_its_cross_entropy(name: str) -> None:
    family = load_family(name, vocab_size=VOCAB_SIZE)
    estimate = evaluate_bound(family, blind, SEQUENCES_NL, seed=0)
    exact = -PROBABILITIES.log()[SEQUENCES_NL].mean().item()
    # Four standard errors; for `ar`, whose bound has no noise, rounding is all that is left.
    tolerance = 1e-6 if name == "ar" else 4 * estimate.stderr
    assert estimate.nats_per_token == pytest.approx(exact, abs=tolerance)
    assert estimate.n_tokens == SEQUENCES_NL.numel()


@pytest.mark.parametrize("name", family_names())
def test_evaluation_is_a_function_of_its_arguments(name: str) -> None:
    family = load_family(name, vocab_size=VOCAB_SIZE)
    torch.manual_seed(3)
    one = evaluate_bound(family, by_neighbour, SEQUENCES_NL, seed=0)
    torch.manual_seed(4)
    assert one == evaluate_bound(family, by_neighbour, SEQUENCES_NL, seed=0)
    if name != "ar":
        assert one != evaluate_bound(family, by_neighbour, SEQUENCES_NL, seed=1)


@pytest.mark.parametrize("name", [name for name in family_names() if name != "ar"])
def test_standard_error_covers_the_scatter_over_seeds(name: str) -> None:
    # The reported error includes the validation data's own scatter, so it must not be smaller
    # than the scatter over noise alone, nor larger than a plain standard error would be.
    family = load_family(name, vocab_size=VOCAB_SIZE)
    estimates = [
        evaluate_bound(family, by_neighbour, SEQUENCES_NL, seed=seed) for seed in range(40)
    ]
    scatter = torch.tensor([e.nats_per_token for e in estimates]).std().item()
    reported = sum(e.stderr for e in estimates) / len(estimates)
    # The scatter of 40 draws is itself known to 11 %: three of those above the reported error.
    assert scatter < 1.34 * reported


def test_standard_error_of_independent_scores_is_the_textbook_one() -> None:
    score_N = torch.randn(20_000, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    # Estimated from 20,000 differences: known to about 0.7 %, here within four of that.
    assert stratified_stderr(3 * score_N) == pytest.approx(3 / math.sqrt(20_000), rel=0.03)


def test_a_trend_over_noise_levels_does_not_count_as_error() -> None:
    trend_N = torch.linspace(0, 100, 10_000, dtype=torch.float64)
    plain = trend_N.std().item() / 100
    assert stratified_stderr(trend_N) < plain / 1000
