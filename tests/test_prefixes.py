"""Clean prefixes: how long they are, who sees them, and that nothing else changes.

Shapes: B sequences, L positions, V tokens.
"""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from sweeper.backbone import Backbone
from sweeper.families import load_family
from sweeper.ladder import Rung
from sweeper.prefixes import clean_prefixes, conditional_loss, prompt_visibility, with_prefixes

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
