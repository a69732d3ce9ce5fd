"""LaProp against its formulas in float64."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from sweeper.training.laprop import LaProp, running_mean_weight

SETTINGS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.3}


def gradients(n_steps: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n_steps, 5, generator=rng, dtype=torch.float64)


def start() -> Tensor:
    return torch.linspace(-1, 1, 5, dtype=torch.float64)


def stepped(gradients_kp: Tensor, **changes: Any) -> tuple[Tensor, LaProp]:
    """Parameters after a step along each gradient, and the optimiser."""
    parameter = torch.nn.Parameter(start().to(gradients_kp.dtype))
    optimizer = LaProp([{"params": [parameter]}], **{**SETTINGS, **changes})
    take(optimizer, parameter, gradients_kp)
    return parameter.detach().clone(), optimizer


def take(optimizer: LaProp, parameter: torch.nn.Parameter, gradients_kp: Tensor) -> None:
    for gradient in gradients_kp:
        parameter.grad = gradient.clone()
        optimizer.step()


def test_the_first_step_is_the_gradient_over_its_size() -> None:
    g = gradients(1)
    after, _ = stepped(g, eps=0.1, weight_decay=0.0)
    torch.testing.assert_close(
        start() - after, 0.01 * g[0] / (g[0].abs() + 0.1), rtol=1e-12, atol=1e-14
    )


def test_running_means_equal_the_closed_form_of_debiasing() -> None:
    # A mean started at zero and divided by 1 − beta^k, as Adam debiases, at every step.
    beta1, beta2 = SETTINGS["betas"]
    g = gradients(30)
    normalised: list[Tensor] = []
    expected = start()
    for k in range(1, len(g) + 1):
        ages = torch.arange(k - 1, -1, -1, dtype=torch.float64)[:, None]
        nu = ((1 - beta2) * beta2**ages * g[:k] ** 2).sum(0) / (1 - beta2**k)
        normalised.append(g[k - 1] / (nu.sqrt() + SETTINGS["eps"]))
        mu = ((1 - beta1) * beta1**ages * torch.stack(normalised)).sum(0) / (1 - beta1**k)
        expected = expected - 0.01 * (mu + 0.3 * expected)
        after, _ = stepped(g[:k])
        torch.testing.assert_close(after, expected, rtol=1e-10, atol=1e-12)


def test_the_weight_of_the_old_mean_starts_at_zero_and_tends_to_beta() -> None:
    assert running_mean_weight(0.9, 1) == 0
    assert running_mean_weight(0.9, 2) == pytest.approx(0.9 / 1.9)
    assert running_mean_weight(0.9, 10_000) == 0.9
    assert running_mean_weight(0.0, 3) == 0


def test_the_scale_of_the_gradient_does_not_matter() -> None:
    g = gradients(20)
    # A power of two scales without rounding, so equal means equal bits.
    assert torch.equal(stepped(g, eps=0.0)[0], stepped(2.0**40 * g, eps=0.0)[0])
    assert not torch.equal(stepped(g, eps=1.0)[0], stepped(2.0**40 * g, eps=1.0)[0])


def test_decay_is_decoupled_from_the_gradient() -> None:
    after, _ = stepped(torch.zeros(3, 5, dtype=torch.float64))
    torch.testing.assert_close(after, start() * (1 - 0.01 * 0.3) ** 3, rtol=1e-12, atol=1e-14)


def test_no_update_is_much_larger_than_the_rate_after_a_spike() -> None:
    g = gradients(20)
    g[10] *= 1e6
    parameter = torch.nn.Parameter(start())
    optimizer = LaProp([{"params": [parameter]}], **{**SETTINGS, "weight_decay": 0.0})
    for gradient in g:
        before = parameter.detach().clone()
        take(optimizer, parameter, gradient[None])
        # |g| / sqrt(nu) is at most 1 / sqrt(1 − b_20(0.99)) = 4.3, and mu a mean of such.
        assert (parameter - before).abs().max() < 4.3 * 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_reloaded_state_goes_on_in_the_same_bits(dtype: torch.dtype) -> None:
    g = gradients(20).to(dtype)
    whole, _ = stepped(g)
    half, first = stepped(g[:8])
    parameter = torch.nn.Parameter(half)
    second = LaProp([{"params": [parameter]}], **SETTINGS)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    take(second, parameter, g[8:])
    assert torch.equal(parameter.detach(), whole)


def test_a_parameter_counts_its_own_gradients_and_none_is_no_step() -> None:
    g = gradients(4)
    late, early = torch.nn.Parameter(start()), torch.nn.Parameter(start())
    optimizer = LaProp([{"params": [late, early]}], **SETTINGS)
    take(optimizer, early, g[:2])
    assert torch.equal(late, start())
    late.grad = g[2].clone()
    take(optimizer, early, g[2:3])
    assert torch.equal(late.detach(), stepped(g[2:3])[0])
    assert torch.equal(early.detach(), stepped(g[:3])[0])
