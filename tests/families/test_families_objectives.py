"""What training on another objective than the bound changes, and what it does not.

Shapes: X sequences of a joint, Z noised sequences, L positions, V tokens, Q nodes.
"""

import math

import pytest
import torch
from tiny_joint import TinyJoint, masked_share, mean_over_noise, quadrature
from torch import Tensor

from sweeper.families import load_family
from sweeper.families.base import AbstractDiffusion

torch.set_num_threads(1)


def masked(n_tokens: int, objective: str) -> AbstractDiffusion:
    family = load_family("masked", vocab_size=n_tokens, objective=objective)
    assert isinstance(family, AbstractDiffusion)
    return family


def trained_table(joint: TinyJoint, objective: str) -> Tensor:
    """Logits (Z, L, V) of the unconstrained predictor that minimises an objective's exact mean."""
    family, n_ids = masked(joint.n_tokens, objective), joint.n_tokens + 1
    t_Q, dt_Q = (a[::4] for a in quadrature(60, log_snr=8.0))  # any positive weights would do
    table = torch.zeros(n_ids**joint.seq_len, joint.seq_len, joint.n_tokens, dtype=torch.float64)
    table.requires_grad_()

    def mean_loss() -> Tensor:
        values_QX = torch.stack(
            [mean_over_noise(loss, joint, masked_share, t) for t in t_Q.tolist()]
        )
        return (dt_Q @ values_QX * joint.p_X).sum()

    def loss(x_BL: Tensor, z_BL: Tensor, t_B: Tensor) -> Tensor:
        return family.loss_density(table[row(z_BL, n_ids)], x_BL, z_BL, t_B)

    optimizer = torch.optim.LBFGS(
        [table],
        max_iter=400,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = mean_loss()
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return table.detach()


def row(z_BL: Tensor, n_ids: int) -> Tensor:
    return (z_BL * n_ids ** torch.arange(z_BL.shape[1])).sum(-1)


def nelbo(joint: TinyJoint, table: Tensor) -> float:
    family, n_ids = masked(joint.n_tokens, "nelbo"), joint.n_tokens + 1
    t_Q, dt_Q = quadrature()

    def density(x_BL: Tensor, z_BL: Tensor, t_B: Tensor) -> Tensor:
        return family.nelbo_density(table[row(z_BL, n_ids)], x_BL, z_BL, t_B)

    values_QX = torch.stack(
        [mean_over_noise(density, joint, masked_share, t) for t in t_Q.tolist()]
    )
    return (dt_Q @ values_QX * joint.p_X).sum().item()


@pytest.mark.slow
def test_cross_entropy_and_nelbo_have_the_same_minimiser() -> None:
    """An unconstrained predictor trained on either reaches the entropy (T26)."""
    joint = TinyJoint.random(3, 2)
    entropy = (joint.p_X * joint.nll_X).sum().item()
    reached = {kind: trained_table(joint, kind) for kind in ("nelbo", "cross_entropy")}
    for table in reached.values():
        # Bounds are quadratic around the minimum: gradients of 1e-7 leave far less than 1e-6.
        assert nelbo(joint, table) == pytest.approx(entropy, abs=1e-6)
    # Both are p(x | the revealed token) wherever there is a mask to predict.
    revealed = row(torch.tensor([[3, 1]]), 4)
    first, second = (table[revealed, 0].log_softmax(-1) for table in reached.values())
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


def test_a_zero_head_starts_cross_entropy_at_half_of_log_v() -> None:
    """Its mean over t is the masked share: (1 + t_min) / 2 · ln V (T3)."""
    n_tokens, family = 32, masked(32, "cross_entropy")
    x0_BL = torch.zeros(4096, 64, dtype=torch.int64)
    batch = family.noisy_batch(x0_BL, torch.Generator().manual_seed(0))

    def zero_head(z_BL: Tensor, _t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        return torch.zeros(*z_BL.shape, n_tokens)

    loss_BL = family.loss(zero_head, batch)
    expected = (1 + family.t_min) / 2 * math.log(n_tokens)
    # Levels are stratified, so what is left is which of 262,144 tokens are masked: at most
    # 0.5 / sqrt(262,144) = 0.1 % of ln V, 0.2 % of the mean; 1 % is 5 of those.
    assert loss_BL.mean().item() == pytest.approx(expected, rel=0.01)
