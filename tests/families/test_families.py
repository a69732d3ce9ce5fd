"""The contract every family meets, whatever it is: parametrised over `family_names()`.

A family that needs options to show all its branches adds rows to VARIANTS; one that needs none is
picked up by its file alone.
"""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sweeper.errors import ConfigError
from sweeper.families import family_names, load_family
from sweeper.families.base import AbstractDiffusion, AbstractFamily, stratified

torch.set_num_threads(1)
V = 11
OPTIONS: dict[str, list[dict[str, object]]] = {
    "esolm": [{}, {"alpha_0": 0.0}, {"alpha_0": 0.5}, {"objective": "cross_entropy"}],
    "masked": [{}, {"objective": "cross_entropy"}],
    "uniform": [{}, {"objective": "unweighted"}],
    "hybrid": [
        {"shift": -math.inf, "objective": "unweighted"},
        {"shift": -2.0},
        {"per_token_share": 0.5},
        {"shift": 2.0, "scale": 0.5},
        {"shift": 1000.0},
    ],
}
VARIANTS = [(name, options) for name in family_names() for options in OPTIONS.get(name, [{}])]


def label(name: str, options: dict[str, object]) -> str:
    return "-".join([name, *(f"{k}={v}" for k, v in options.items())])


every_family = pytest.mark.parametrize(
    "family",
    [pytest.param(load_family(n, vocab_size=V, **o), id=label(n, o)) for n, o in VARIANTS],
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_tokens(n_sequences: int, seq_len: int, seed: int = 0) -> Tensor:
    return torch.randint(V, (n_sequences, seq_len), generator=seeded(seed))


@dataclass(frozen=True)
class Blind:
    """Predicts the same distribution everywhere, whatever it reads."""

    logits_V: Tensor

    def __call__(self, z_BL: Tensor, _t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
        return self.logits_V.expand(*z_BL.shape, -1)

    def cross_entropy(self, x0_BL: Tensor) -> float:
        return -self.logits_V.log_softmax(-1)[x0_BL].mean().item()


@dataclass(frozen=True)
class Fixed:
    """Answers the same logits to every call, as many as it reads inputs."""

    logits_BLV: Tensor

    def __call__(self, z_BL: Tensor, _t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
        n_sequences, n_inputs = z_BL.shape  # a family may read a doubled sequence, or call twice
        return self.logits_BLV.repeat(1, 2, 1)[:n_sequences, :n_inputs]


@dataclass(frozen=True)
class Causal:
    """Reads every earlier input and its own, in order, and none after it."""

    table_EV: Tensor

    def __call__(self, z_BL: Tensor, _t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
        seen_BLV = torch.zeros(*z_BL.shape, self.table_EV.shape[1])
        state_BV = torch.zeros_like(seen_BLV[:, 0])
        for position in range(z_BL.shape[1]):
            state_BV = torch.tanh(1.3 * state_BV.roll(1, -1) + self.table_EV[z_BL[:, position]])
            seen_BLV[:, position] = 2 * state_BV
        return seen_BLV


def tilted() -> Blind:
    """A blind denoiser far from uniform."""
    return Blind(torch.linspace(-2, 1.5, V))


@every_family
def test_bound_of_a_blind_denoiser_is_its_cross_entropy(family: AbstractFamily) -> None:
    x0_BL, blind = some_tokens(16_384, 32), tilted()
    t_B = stratified(16_384, seeded(1))
    nats = family.bound(blind, x0_BL, t_B, seeded(2)).nats_BL.mean().item()
    # 524,288 tokens: the standard deviation over seeds is below 0.3 % (measured), so 1.5 % is
    # 5 of them, and a weight wrong by 2 % fails.
    assert nats == pytest.approx(blind.cross_entropy(x0_BL), rel=0.015)


@every_family
def test_every_token_of_a_blind_denoiser_is_scored(family: AbstractFamily) -> None:
    """Position by position, so that a skipped first token cannot hide in the mean."""
    x0_BL, blind = some_tokens(16_384, 1).expand(-1, 8).contiguous(), tilted()
    t_B = stratified(16_384, seeded(1))
    nats_L = family.bound(blind, x0_BL, t_B, seeded(2)).nats_BL.mean(dim=0)
    # 16,384 tokens per position: the standard deviation is below 2.5 % (measured).
    assert nats_L.tolist() == pytest.approx([blind.cross_entropy(x0_BL)] * 8, rel=0.1)


@every_family
def test_token_weights_are_one_on_average_at_every_position(family: AbstractFamily) -> None:
    """The evaluator takes this mean for granted when it makes control variates of them."""
    x0_BL, t_B = some_tokens(16_384, 8), stratified(16_384, seeded(1))
    weights_BLX = family.bound(tilted(), x0_BL, t_B, seeded(2)).token_weights_BLX
    if weights_BLX is None:
        pytest.skip("depends on all tokens alike")
    mean_LX = weights_BLX.mean(dim=0)
    # The standard deviation of 16,384 weights is at most 2: five standard errors.
    torch.testing.assert_close(mean_LX, torch.ones_like(mean_LX), rtol=0, atol=0.08)


@every_family
def test_a_zero_head_scores_log_v(family: AbstractFamily) -> None:
    """A backbone whose head starts at zero starts at ln V in every family (T1–T4 of the spec)."""
    x0_BL = some_tokens(16_384, 32)
    blind = Blind(torch.zeros(V))
    nats = (
        family.bound(blind, x0_BL, stratified(16_384, seeded(1)), seeded(2)).nats_BL.mean().item()
    )
    assert nats == pytest.approx(math.log(V), rel=0.015)  # as above


@every_family
def test_same_generator_same_loss(family: AbstractFamily) -> None:
    x0_BL, blind = some_tokens(8, 16), tilted()
    t_B = stratified(8, seeded(3))
    first, second = (family.noisy_batch(x0_BL, seeded(4)) for _ in range(2))
    assert torch.equal(family.loss(blind, first), family.loss(blind, second))
    bounds = [family.bound(blind, x0_BL, t_B, seeded(5)).nats_BL for _ in range(2)]
    assert torch.equal(*bounds)


@every_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_loss_and_gradients_are_finite_and_wide(
    family: AbstractFamily, dtype: torch.dtype, size: float
) -> None:
    batch = family.noisy_batch(some_tokens(64, 16), seeded(6))
    logits_BLV = size * torch.randn(64, 16, V, generator=seeded(7))
    logits_BLV = logits_BLV.to(dtype).requires_grad_()
    loss_BL = family.loss(Fixed(logits_BLV), batch)
    (gradient_BLV,) = torch.autograd.grad(loss_BL.sum(), logits_BLV)
    assert torch.isfinite(loss_BL).all()
    assert torch.isfinite(gradient_BLV).all()
    assert gradient_BLV.any()
    assert loss_BL.dtype in (torch.float32, torch.float64)


@every_family
def test_bfloat16_logits_give_the_float32_bound(family: AbstractFamily) -> None:
    x0_BL, t_B = some_tokens(256, 16), stratified(256, seeded(8))
    coarse = Blind(tilted().logits_V.bfloat16())
    exact = Blind(coarse.logits_V.float())
    coarse_BL, exact_BL = (family.bound(d, x0_BL, t_B, seeded(9)).nats_BL for d in (coarse, exact))
    assert torch.equal(coarse_BL, exact_BL)  # the cast comes first, so nothing is lost


@every_family
def test_rows_of_a_batch_have_the_losses_of_the_batch(family: AbstractFamily) -> None:
    """Micro-batches and ranks change nothing: noise belongs to the sequence (T23)."""
    batch = family.noisy_batch(some_tokens(12, 16), seeded(10))
    denoiser = Causal(torch.randn(V + 1, V, generator=seeded(11)))
    whole_BL = family.loss(denoiser, batch)
    cut_BL = torch.cat([family.loss(denoiser, batch.rows(i, i + 4)) for i in (0, 4, 8)])
    torch.testing.assert_close(cut_BL, whole_BL, rtol=1e-5, atol=1e-6)  # float32 rounding


@every_family
def test_network_inputs_stay_legal(family: AbstractFamily) -> None:
    batch = family.noisy_batch(some_tokens(256, 32), seeded(12))
    assert batch.zt_BL.min() >= 0
    assert batch.zt_BL.max() < V + family.needs.extra_input_ids
    assert batch.zt_BL.dtype == torch.int64
    assert batch.zt_BL.shape == (256, 32)


@every_family
def test_noise_levels_are_stratified_over_the_global_batch(family: AbstractFamily) -> None:
    """One level per stratum (T22), in (t_min, t_max); levels per token are drawn freely."""
    if not isinstance(family, AbstractDiffusion):
        pytest.skip("has no noise levels")
    t_BL = family.noisy_batch(some_tokens(64, 2), seeded(13)).t_B.reshape(64, -1)
    strata_BL = ((t_BL - family.t_min) / (family.t_max - family.t_min) * 64).long()
    is_shared_B = (t_BL == t_BL[:, :1]).all(dim=1)
    assert is_shared_B.sum() > 16
    assert strata_BL[is_shared_B, 0].tolist() == torch.arange(64)[is_shared_B].tolist()


@every_family
def test_causal_families_do_not_look_ahead(family: AbstractFamily) -> None:
    """What a causal network scores sums to one over each next token: no token saw itself."""
    has_own_order = family.noisy_batch(some_tokens(1, 6), seeded(16)).order_BL is not None
    if family.needs.attention != "causal" or has_own_order:
        pytest.skip("reads both sides, or in an order of its own")
    denoiser = Causal(torch.randn(V + 1, V, generator=seeded(14)))
    x0_BL = some_tokens(1, 6, seed=15)
    rng = seeded(16)
    for position in range(6):
        changed_VL = x0_BL.repeat(V, 1)
        changed_VL[:, position] = torch.arange(V)
        nll_VL = family.bound(denoiser, changed_VL, torch.full((V,), 0.5), rng).nats_BL
        assert nll_VL[:, position].neg().exp().sum().item() == pytest.approx(1, abs=1e-5)
        earlier_VL = nll_VL[:, :position]
        assert torch.equal(earlier_VL, earlier_VL[:1].expand_as(earlier_VL))


@every_family
def test_noise_depends_on_the_generator_alone_and_not_on_the_batch_before(
    family: AbstractFamily,
) -> None:
    """The global random state is neither read nor moved."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = family.noisy_batch(some_tokens(8, 16), seeded(17))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(first.zt_BL, family.noisy_batch(some_tokens(8, 16), seeded(17)).zt_BL)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maskd", {}, "did you mean 'masked'"),
        ("masked", {"objektive": "nelbo"}, "did you mean 'objective'"),
        ("masked", {"objective": "elbo"}, "expected nelbo or cross_entropy"),
        ("uniform", {"shift": 0}, "no option"),
        ("uniform", {"objective": "cross_entropy"}, "expected nelbo or unweighted"),
        ("hybrid", {"scale": 2}, "expected 0 < scale <= 1"),
        ("hybrid", {"scale": 0}, "expected 0 < scale <= 1"),
        ("hybrid", {"shift": math.nan}, "expected a number"),
        ("hybrid", {"shift": "low"}, "hybrid"),
        ("hybrid", {"objective": "cross_entropy"}, "expected nelbo or unweighted"),
        ("hybrid", {"per_token_share": 20}, "expected 0 to 1"),
    ],
)
def test_what_a_user_gets_wrong_is_named(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_family(name, vocab_size=V, **options)


@every_family
def test_ids_may_be_32_bit(family: AbstractFamily) -> None:
    """Half the memory; whoever holds them so gets the same numbers."""
    x0_BL, t_B = some_tokens(4, 6), stratified(4, seeded(1))
    narrow = family.noisy_batch(x0_BL.int(), seeded(3))
    assert narrow.zt_BL.dtype == torch.int32
    wide = family.noisy_batch(x0_BL, seeded(3))
    assert torch.equal(family.loss(tilted(), narrow), family.loss(tilted(), wide))
    narrow_BL = family.bound(tilted(), x0_BL.int(), t_B, seeded(4)).nats_BL
    assert torch.equal(narrow_BL, family.bound(tilted(), x0_BL, t_B, seeded(4)).nats_BL)
