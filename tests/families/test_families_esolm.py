"""Eso-LM against enumeration, with toy networks that read tokens in a given order."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from scipy import stats
from tiny_joint import PerfectReader, TinyJoint
from torch import Tensor

from sweeper.families.base import NoisyBatch, SamplingPlan, stratified
from sweeper.families.esolm import Family, doubled_visibility

torch.set_num_threads(1)
ALPHAS = [0.0, 0.125, 0.5, 0.9, 1.0]


def esolm(n_tokens: int, alpha_0: float, **options: Any) -> Family:
    return Family(n_tokens, alpha_0=alpha_0, **options)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Blind:
    """The same distribution everywhere."""

    logits_V: Tensor

    def __call__(
        self,
        z_BL: Tensor,
        _t_B: Tensor,
        /,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
    ) -> Tensor:
        assert positions_BL is not None
        assert positions_BL.shape == z_BL.shape
        return self.logits_V.expand(*z_BL.shape, -1)


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_bound_of_a_perfect_reader_is_minus_log_p(alpha_0: float) -> None:
    """For every x and any alpha_0 (T14); both terms, orders, the doubled sequence."""
    joint, n = TinyJoint.random(2, 3), 20_000 if alpha_0 else 10
    x_BL = joint.x_XL.repeat(n, 1)
    t_B = stratified(len(x_BL), seeded(0))[torch.randperm(len(x_BL), generator=seeded(1))]
    nats_BL = esolm(2, alpha_0).bound(PerfectReader(joint), x_BL, t_B.double(), seeded(2)).nats_BL
    nats_NX = nats_BL.sum(dim=1).reshape(n, -1)
    if alpha_0 == 0:  # autoregression: every estimate is exact
        torch.testing.assert_close(nats_NX, joint.nll_X.expand(n, -1))
        return
    stderr_X = nats_NX.std(dim=0) / math.sqrt(n)
    z_X = (nats_NX.mean(dim=0) - joint.nll_X) / stderr_X
    # Eight z-scores of a correct estimator stay below 3.5 with probability 0.996; seeds are fixed.
    assert z_X.abs().max().item() < 3.5
    assert (stderr_X / joint.nll_X).max().item() < 0.02


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_blind_denoiser_scores_its_cross_entropy(alpha_0: float) -> None:
    family, blind = esolm(11, alpha_0), Blind(torch.linspace(-2, 1.5, 11))
    x0_BL = torch.randint(11, (16_384, 32), generator=seeded(3))
    exact = -blind.logits_V.log_softmax(-1)[x0_BL].mean().item()
    t_B = stratified(16_384, seeded(4))
    found = family.bound(blind, x0_BL, t_B, seeded(5)).nats_BL.mean().item()
    assert found == pytest.approx(exact, rel=0.015)  # 524,288 tokens, as for the other families
    loss = family.loss(blind, family.noisy_batch(x0_BL, seeded(6))).mean().item()
    assert loss == pytest.approx(exact, rel=0.015)  # the training loss is the bound


@pytest.mark.parametrize("alpha_0", [0.125, 0.5, 1.0])
@pytest.mark.parametrize("t", [0.2, 0.8])
def test_diffusion_density_of_a_blind_denoiser_is_its_share_of_the_cross_entropy(
    alpha_0: float, t: float
) -> None:
    """The masked share m cancels against the weight alpha_0 / m at every t."""
    family, blind = esolm(11, alpha_0), Blind(torch.linspace(-2, 1.5, 11))
    x0_BL = torch.randint(11, (8192, 32), generator=seeded(7))
    t_B = torch.full((8192,), t)
    zt_BL = family.corrupt(x0_BL, t_B, seeded(8))
    batch = NoisyBatch(x0_BL, zt_BL, t_B, torch.arange(32).expand(8192, -1))
    density_BL = family.diffusion_share * family.loss(blind, batch)
    exact = -blind.logits_V.log_softmax(-1)[x0_BL].mean().item()
    # 262,144 tokens, of which at least a fifth are masked: 0.5 %; 2 % is 4 of those.
    assert density_BL.mean().item() == pytest.approx(alpha_0 * exact, rel=0.02)


def test_cross_entropy_drops_the_weight_of_the_diffusion_term() -> None:
    family = esolm(11, 1.0, objective="cross_entropy")
    blind = Blind(torch.zeros(11))
    x0_BL = torch.randint(11, (4096, 32), generator=seeded(3))
    loss = family.loss(blind, family.noisy_batch(x0_BL, seeded(6))).mean().item()
    assert loss == pytest.approx(math.log(11) / 2, rel=0.015)  # half of the tokens are masked (T3)


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_rows_have_the_losses_of_the_batch(alpha_0: float) -> None:
    """Also where a micro-batch holds sequences of both terms, or of one."""
    joint, family = TinyJoint.random(2, 3), esolm(2, alpha_0)
    batch = family.noisy_batch(joint.x_XL.repeat(2, 1), seeded(7))
    reader = PerfectReader(joint)
    whole_BL = family.loss(reader, batch)
    cut_BL = torch.cat([family.loss(reader, batch.rows(i, i + 4)) for i in range(0, 16, 4)])
    torch.testing.assert_close(cut_BL, whole_BL)
    assert batch.zt_BL.max() <= 2
    same = family.noisy_batch(joint.x_XL.repeat(2, 1), seeded(7)).to(torch.device("cpu"))
    assert torch.equal(family.loss(reader, same), whole_BL)


def test_gradients_reach_both_terms_and_are_finite() -> None:
    logits_V = torch.zeros(5, requires_grad=True)
    family = esolm(5, 0.5)
    batch = family.noisy_batch(torch.randint(5, (8, 16), generator=seeded(8)), seeded(9))
    for rows in (batch.rows(0, 4), batch.rows(4, 8)):
        (gradient,) = torch.autograd.grad(family.loss(Blind(logits_V), rows).sum(), logits_V)
        assert torch.isfinite(gradient).all()
        assert gradient.any()


def test_sequential_term_does_not_look_ahead() -> None:
    """At alpha_0 = 0 what is scored sums to one over each next token, and ignores later ones."""
    joint, family = TinyJoint.random(3, 3), esolm(3, 0.0)
    for position in range(3):
        changed_VL = torch.tensor([[2, 0, 1]]).repeat(3, 1)
        changed_VL[:, position] = torch.arange(3)
        nats_VL = family.bound(
            PerfectReader(joint), changed_VL, torch.full((3,), 0.5), seeded(10)
        ).nats_BL
        assert nats_VL[:, position].neg().exp().sum().item() == pytest.approx(1, abs=1e-12)
        assert torch.equal(nats_VL[:, :position], nats_VL[:1, :position].expand(3, -1))


def test_doubled_sequence_is_seen_as_the_paper_says() -> None:
    """Inputs z1 z2 z3 x1 x2 x3; a 1 where the row may read the column."""
    expected = [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
    ]
    assert doubled_visibility(3, torch.device("cpu")).int().tolist() == expected


def test_clean_tokens_are_read_first() -> None:
    """Diffusion: masks in random order after the clean ones; sequential: from left to right."""
    x0_BL = torch.randint(5, (400, 12), generator=seeded(11))
    batch = esolm(5, 0.5).noisy_batch(x0_BL, seeded(12))
    assert batch.order_BL is not None
    assert torch.equal(batch.order_BL.sort(dim=1).values, torch.arange(12).expand(400, -1))
    is_masked_BL = batch.zt_BL.gather(1, batch.order_BL) == 5
    assert (is_masked_BL.int().diff(dim=1) >= 0).all()
    falls_BL = (batch.order_BL.diff(dim=1) < 0) & is_masked_BL[:, :-1]
    assert not falls_BL[200:].any()
    assert falls_BL[:200].any()


@pytest.mark.parametrize("alpha_0", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sampler", ["ancestral", "block"])
def test_samplers_reproduce_a_tiny_joint(alpha_0: float, sampler: str) -> None:
    joint = TinyJoint.random(2, 3, seed=3)
    # One token per step in `block`; two in the same step of `ancestral` are too rare to see.
    plan = SamplingPlan(4000, 3, n_steps=256, sampler=sampler)
    samples = esolm(2, alpha_0).sample(PerfectReader(joint), plan, seeded(13))
    counts_X = torch.bincount(joint.index(samples.ids_BL), minlength=8)
    _, p_value = stats.chisquare(counts_X, joint.p_X * 4000)
    assert p_value > 1e-3  # six fixed seeds: a 0.6 % chance that a correct sampler fails
    assert samples.network_evaluations <= 3


def test_diffusion_share_of_generation_is_alpha_0() -> None:
    """Network calls: one per token of the sequential phase, and few for the diffusion phase."""
    blind, plan = Blind(torch.zeros(5)), SamplingPlan(1, 400, n_steps=4)
    calls = [
        esolm(5, alpha_0).sample(blind, plan, seeded(14)).network_evaluations
        for alpha_0 in (0.0, 0.25, 1.0)
    ]
    assert calls[0] == 400
    # Binomial(400, 3/4) sequential tokens: standard deviation 8.7, three of them.
    assert calls[1] == pytest.approx(4 + 300, abs=26)
    assert calls[2] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha_0": 1.5}, "expected 0 to 1"),
        ({"alpha_0": 0.5, "batch_split": 1.0}, r"0\.5 in the paper"),
        ({"batch_split": 0.0}, "every sequence trains it"),
        ({"objective": "low_var"}, "expected nelbo or cross_entropy"),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Family(5, **options)


@pytest.mark.parametrize(("n_sequences", "split"), [(1, 0.5), (3, 0.5), (8, 0.1)])
def test_a_split_of_no_whole_number_of_sequences_is_met_on_average(
    n_sequences: int, split: float
) -> None:
    """Terms are weighted by the split, so rounding it always one way would bias their sum."""
    family, rng = esolm(5, 0.5, batch_split=split), seeded(7)
    x_BL = torch.zeros(n_sequences, 2, dtype=torch.int64)
    counts = [int((family.noisy_batch(x_BL, rng).t_B > 0).sum()) for _ in range(2000)]
    expected = split * n_sequences
    assert set(counts) == {math.floor(expected), math.ceil(expected)}
    # A count is one of two neighbours: 4 standard deviations of a mean of 2000 are 0.045.
    assert sum(counts) / 2000 == pytest.approx(expected, abs=0.045)
