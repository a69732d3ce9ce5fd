"""Clean prefixes: how long they are, who sees them, and that nothing else changes.

Shapes: B sequences, L positions, V tokens.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats
from small_trials import without_ngrams
from tiny_joint import PerfectDenoiser, TinyJoint, masked_share
from torch import Tensor

from sweeper.evaluation.bound import evaluate_given_prefixes
from sweeper.families import load_family
from sweeper.families._prefixes import (
    clean_prefixes,
    conditional_loss,
    prefix_lengths,
    prompt_visibility,
    with_prefixes,
)
from sweeper.networks.backbone import Backbone
from sweeper.trials.ladder import Rung

torch.set_num_threads(1)
V = 7
TWO_SIDED = pytest.mark.parametrize("name", ["masked", "uniform", "hybrid"])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(extra_input_ids: int) -> Backbone:
    backbone = Backbone(Rung(2, 16, 2), V, extra_input_ids, "bidirectional")
    backbone.initialize(seeded(0))
    rng = seeded(1)
    with torch.no_grad():  # leave the zeros of initialisation, so that everything matters
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return backbone


def test_lengths_follow_the_published_distribution() -> None:
    """P(fraction <= f) = (1 − cos(pi f)) / 2, mean 1/2, in a fifth of the sequences (G25)."""
    n, length = 20_000, 2000
    clean_BL = clean_prefixes(n, length, 0.2, seeded(0))
    is_conditional_B = clean_BL.any(dim=1)
    # A binomial share of 20,000 with p = 0.2 has standard deviation 0.28 %.
    assert is_conditional_B.double().mean().item() == pytest.approx(0.2, abs=0.012)
    fraction_B = clean_BL[is_conditional_B].double().mean(dim=1).numpy()
    p_value = stats.kstest(fraction_B, lambda f: (1 - np.cos(np.pi * f)) / 2)[1]
    assert p_value > 1e-3  # lengths are whole, 1/2000 apart, far below what 4,000 draws resolve
    assert fraction_B.mean() == pytest.approx(0.5, abs=0.02)  # sd 0.31 / sqrt(4,000) = 0.005


def test_a_prefix_is_one_piece_and_leaves_something_to_predict() -> None:
    clean_BL = clean_prefixes(5000, 4, 1.0, seeded(1))
    assert clean_BL[:, 0].all()
    assert not clean_BL[:, -1].any()
    assert (clean_BL[:, 1:] <= clean_BL[:, :-1]).all()
    assert not clean_prefixes(5000, 4, 0.0, seeded(1)).any()


@TWO_SIDED
def test_prompts_are_never_altered_and_carry_no_loss(name: str) -> None:
    family = load_family(name, vocab_size=V)
    x0_BL = torch.randint(V, (64, 12), generator=seeded(2))
    batch = with_prefixes(
        family.noisy_batch(x0_BL, seeded(3)), clean_prefixes(64, 12, 0.5, seeded(4))
    )
    assert batch.clean_BL is not None
    clean_BL = batch.clean_BL
    assert torch.equal(batch.zt_BL[clean_BL], x0_BL[clean_BL])
    assert (batch.zt_BL[~clean_BL] != x0_BL[~clean_BL]).any()
    loss_BL = conditional_loss(family, network(family.needs.extra_input_ids), batch)
    assert not loss_BL[clean_BL].any()
    assert loss_BL[~clean_BL].any()


@TWO_SIDED
def test_without_prefixes_the_loss_is_that_of_the_family(name: str) -> None:
    family = load_family(name, vocab_size=V)
    batch = family.noisy_batch(torch.randint(V, (16, 12), generator=seeded(2)), seeded(3))
    nowhere = with_prefixes(batch, torch.zeros(16, 12, dtype=torch.bool))
    backbone = network(family.needs.extra_input_ids)
    torch.testing.assert_close(
        conditional_loss(family, backbone, nowhere), family.loss(backbone, batch)
    )


def test_clean_queries_ignore_noisy_keys_and_noisy_ones_read_all() -> None:
    """(G16, G23)"""
    backbone, clean_BL = network(1), torch.tensor([[True, True, False, False, False]])
    z_BL = torch.tensor([[1, 2, 7, 7, 3]])

    def logits(z_BL: Tensor) -> Tensor:
        found: Tensor = backbone(z_BL, torch.zeros(1), visible_BLL=prompt_visibility(clean_BL))
        return found[0]

    before = logits(z_BL)
    for position in range(5):
        changed_BL = z_BL.clone()
        changed_BL[0, position] = 5
        same_L = (logits(changed_BL) == before).all(dim=-1)
        others = [i for i in range(5) if i != position]
        reads = [bool(~same_L[i]) for i in others]
        assert reads == [i >= 2 or position < 2 for i in others]


def test_rows_keep_their_prefixes() -> None:
    family = load_family("masked", vocab_size=V)
    x0_BL = torch.randint(V, (8, 6), generator=seeded(2))
    batch = with_prefixes(
        family.noisy_batch(x0_BL, seeded(3)), clean_prefixes(8, 6, 0.5, seeded(4))
    )
    rows = batch.rows(2, 5)
    assert batch.clean_BL is not None
    assert rows.clean_BL is not None
    assert torch.equal(rows.clean_BL, batch.clean_BL[2:5])
    assert dataclasses.replace(batch, clean_BL=None).rows(0, 2).clean_BL is None


def test_scored_lengths_are_quantiles_of_those_trained_on() -> None:
    lengths = prefix_lengths(1001, 8)
    fractions = [(length - 1) / 1000 for length in lengths]
    ranks = [(1 - np.cos(np.pi * fraction)) / 2 for fraction in fractions]
    expected = [(i + 0.5) / 8 for i in range(8)]
    assert ranks == pytest.approx(expected, abs=0.002)  # whole positions, 1/1000 apart
    assert prefix_lengths(2, 8) == [1] * 8


def test_bound_after_a_prefix_is_the_conditional_one() -> None:
    """−log p(second | first) with the perfect predictor: the family sees a sequence of one."""
    joint = TinyJoint.random(3, 2)
    perfect = PerfectDenoiser(joint, masked_share)

    def denoiser(z_BL: Tensor, t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        return perfect(z_BL, 0.5 * t_B)  # at level 1 it would take the prefix for impossible

    family, n = load_family("masked", vocab_size=3), 640
    validation = without_ngrams(joint.x_XL.repeat(n, 1))
    found = evaluate_given_prefixes(family, denoiser, validation, seed=0)
    first_V = joint.p_X.reshape(3, 3).sum(dim=1)
    exact_X = joint.nll_X + first_V[joint.x_XL[:, 0]].log()
    # One token, one mask: every draw is exact.
    assert found.nats_per_token == pytest.approx(exact_X.mean().item(), abs=1e-6)


@TWO_SIDED
def test_bound_of_a_blind_denoiser_after_a_prefix_is_its_cross_entropy(name: str) -> None:
    logits_V = torch.linspace(-2, 1.5, V)

    def blind(z_BL: Tensor, _t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        return logits_V.expand(*z_BL.shape, -1)

    x_NL = torch.randint(V, (4096, 32), generator=seeded(5))
    validation = without_ngrams(x_NL)
    found = evaluate_given_prefixes(load_family(name, vocab_size=V), blind, validation, seed=0)
    nll_V = -logits_V.log_softmax(-1)
    after = [
        nll_V[x_NL[i::8, n_prefix:]].flatten() for i, n_prefix in enumerate(prefix_lengths(32, 8))
    ]
    exact = torch.cat(after).mean().item()
    assert found.stderr < 0.05 * exact
    assert found.nats_per_token == pytest.approx(exact, abs=4 * found.stderr)


@pytest.mark.parametrize("n_sequences", [4, 9, 15])
def test_a_few_sequences_after_prefixes_have_a_standard_error(n_sequences: int) -> None:
    """As few as a sweep may ask for; eight lengths would leave some without a second one."""
    x_NL = torch.randint(V, (n_sequences, 6), generator=seeded(6))

    def blind(z_BL: Tensor, _t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        return torch.linspace(-2, 1.5, V).expand(*z_BL.shape, -1)

    family, validation = load_family("masked", vocab_size=V), without_ngrams(x_NL)
    found = evaluate_given_prefixes(family, blind, validation, seed=0)
    assert 0 < found.nats_per_token < math.inf
    assert 0 < found.stderr < math.inf
