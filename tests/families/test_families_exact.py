"""The mathematics of the diffusion families, against enumeration, quadrature and dense formulas.

Everything here is float64 and deterministic unless a tolerance says otherwise. T-numbers are the
invariants of the first study's specification, G-numbers those of the second's.

Not tested, because they do not apply: T15 (truncation bias: the bound is not truncated); G9's
importance-weighted estimator (there is one estimator, tested for its mean); G16 (no prompts yet).

Deliberate errors, each made once by hand, and what catches them (blind = the blind denoiser of
test_families.py; enumeration = minus_log_p; estimate = estimated_bound; joint = tiny_joint):

    masked   weight 1/t dropped; every token counted                    enumeration, blind
             bound's weight 2 sqrt(n/L); never all L masked; wrong id    estimate, blind
    ar       input not shifted                                          do_not_look_ahead
    uniform  V − 1 in kappa; W of kept tokens 1; sign of d; h* left out  enumeration, blind
    hybrid   W of masks 1; scale ignored; x in the KL sum; weight 1/t    enumeration, blind
             shift with the other sign                                  enumeration
    mixing   weight 1 for 2u                                            estimate, blind
             noise never equal to x, in corruption or in token weights  blind, token_weights
             reconstruction, prior or the cut at t_max left out;         estimated_end_terms
             prior subtracted
             evidence left out of the reconstruction                     blind
    sampler  noise between levels not scaled; alpha_s left out           joint
             reveal probability; nucleus off by one                      reveals_as_many, nucleus
    levels   drawn independently                                        stratified
    esolm    masks in random order; z reads its own x; weight, share,    test_families_esolm.py
             or order of the terms
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from tiny_joint import (
    PerfectDenoiser,
    Share,
    TinyJoint,
    hybrid_share,
    kernel,
    masked_share,
    mean_over_noise,
    quadrature,
    uniform_share,
)
from torch import Tensor

from sweeper.errors import ConfigError
from sweeper.families import load_family
from sweeper.families._mixing import AbstractMixing, itakura_saito, softplus_drop
from sweeper.families.base import AbstractDiffusion, stratified

torch.set_num_threads(1)


@dataclass(frozen=True)
class Noise:
    """A family with its options, and the uniform share of its noise written out."""

    name: str
    share: Share
    options: tuple[tuple[str, object], ...] = ()

    def family(self, n_tokens: int, **more: object) -> AbstractDiffusion:
        family = load_family(self.name, vocab_size=n_tokens, **dict(self.options), **more)
        assert isinstance(family, AbstractDiffusion)
        return family


def hybrid(shift: float, scale: float = 1.0) -> Noise:
    limit = {-math.inf: masked_share, math.inf: uniform_share}.get(shift)
    options = (("shift", shift), ("scale", scale))
    return Noise("hybrid", limit or hybrid_share(shift, scale), options)


MASKED, UNIFORM = Noise("masked", masked_share), Noise("uniform", uniform_share)
MIXING = [UNIFORM, *(hybrid(b) for b in (-2.0, 0.0, 2.0)), hybrid(0.0, 0.5), hybrid(1.0, 0.2)]
every_noise = pytest.mark.parametrize(
    "noise",
    [MASKED, *MIXING, hybrid(-math.inf), hybrid(math.inf)],
    ids=lambda n: "-".join([n.name, *(f"{k}={v}" for k, v in n.options)]),
)
every_mixing = pytest.mark.parametrize(
    "noise", MIXING, ids=lambda n: "-".join([n.name, *(f"{k}={v}" for k, v in n.options)])
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def integral(noise: Noise, denoiser: PerfectDenoiser, power: float = 1.0) -> Tensor:
    """The density over all of (0, 1), for every x of the joint, (X,)."""
    joint, family = denoiser.joint, noise.family(denoiser.joint.n_tokens)

    def density(x_BL: Tensor, z_BL: Tensor, t_B: Tensor) -> Tensor:
        return family.nelbo_density(denoiser(z_BL, t_B), x_BL, z_BL, t_B)

    u_Q, du_Q = quadrature()
    t_Q, dt_Q = u_Q**power, du_Q * power * u_Q ** (power - 1)
    values = [mean_over_noise(density, joint, noise.share, t) for t in t_Q.tolist()]
    return dt_Q @ torch.stack(values)


@every_noise
@pytest.mark.parametrize(("n_tokens", "seq_len"), [(5, 1), (3, 2), (2, 3)])
def test_nelbo_with_the_leave_one_out_predictor_is_minus_log_p(
    noise: Noise, n_tokens: int, seq_len: int
) -> None:
    """For every x, not only on average (T5, T9, T14, G8, G11)."""
    joint = TinyJoint.random(n_tokens, seq_len)
    nelbo_X = integral(noise, PerfectDenoiser(joint, noise.share))
    # The quadrature cuts off 4e-9 of the mass; 1e-6 leaves room for its values near the ends.
    torch.testing.assert_close(nelbo_X, joint.nll_X, rtol=0, atol=1e-6)


@every_noise
def test_nelbo_does_not_depend_on_the_schedule(noise: Noise) -> None:
    """Levels traversed as t = u^2 give the same number (T6, T13, G9)."""
    denoiser = PerfectDenoiser(TinyJoint.random(3, 2, seed=1), noise.share)
    torch.testing.assert_close(
        integral(noise, denoiser, power=2), integral(noise, denoiser), rtol=0, atol=1e-6
    )


@every_noise
def test_no_predictor_beats_the_entropy(noise: Noise) -> None:
    """Also not p(x_l | z), which is best for the eye; only masks make it equal (T10, G8)."""
    joint = TinyJoint.random(3, 2)
    entropy = (joint.p_X * joint.nll_X).sum().item()
    sees_all = integral(noise, PerfectDenoiser(joint, noise.share, sees_own_position=True))
    nelbo = (joint.p_X * sees_all).sum().item()
    if noise.share is masked_share:
        assert nelbo == pytest.approx(entropy, abs=1e-6)
    else:
        assert nelbo > entropy + 0.3
    other = TinyJoint.random(3, 2, seed=9)
    wrong = integral(noise, PerfectDenoiser(other, noise.share))
    kl = (joint.p_X * (other.nll_X - joint.nll_X)).sum().item()
    assert (joint.p_X * wrong).sum().item() == pytest.approx(entropy + kl, abs=1e-6)


def prior_kl(noise: Noise, n_tokens: int, t: float) -> float:
    """KL(q_t(. | x) || corruption of uniformly random tokens), from the kernel."""
    q_EV = kernel(noise.share, torch.tensor(t, dtype=torch.float64), n_tokens)
    prior_E1 = q_EV.mean(dim=1, keepdim=True)
    return torch.where(q_EV > 0, q_EV * (q_EV / prior_E1).log(), 0.0).sum(dim=0)[0].item()


def cut_bound(noise: Noise, family: AbstractMixing, joint: TinyJoint) -> Tensor:
    """Integral over [t_min, t_max] + reconstruction + prior, by enumeration, (X,)."""
    denoiser = PerfectDenoiser(joint, noise.share)

    def density(x_BL: Tensor, z_BL: Tensor, t_B: Tensor) -> Tensor:
        return family.nelbo_density(denoiser(z_BL, t_B), x_BL, z_BL, t_B)

    def reconstruction(x_BL: Tensor, z_BL: Tensor, t_B: Tensor) -> Tensor:
        """−log p(x | z), with Bayes' rule written out."""
        q_BLEV = kernel(noise.share, t_B, joint.n_tokens)[:, None].expand(*z_BL.shape, -1, -1)
        at_z = z_BL[..., None, None].expand(-1, -1, 1, joint.n_tokens)
        joint_BLV = denoiser(z_BL, t_B).softmax(-1) * q_BLEV.gather(2, at_z)[:, :, 0]
        log_p_BLV = (joint_BLV / joint_BLV.sum(-1, keepdim=True)).log()
        return -log_p_BLV.gather(-1, x_BL[..., None])[..., 0]

    ends = [math.log(t / (1 - t)) for t in (family.t_min, family.t_max)]
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t_Q = torch.sigmoid(torch.from_numpy(ends[0] + (nodes + 1) / 2 * (ends[1] - ends[0])))
    dt_Q = torch.from_numpy(weights) / 2 * (ends[1] - ends[0]) * t_Q * (1 - t_Q)
    inside = [mean_over_noise(density, joint, noise.share, t) for t in t_Q.tolist()]
    start_X = mean_over_noise(reconstruction, joint, noise.share, family.t_min)
    prior = joint.seq_len * prior_kl(noise, joint.n_tokens, family.t_max)
    return dt_Q @ torch.stack(inside) + start_X + prior


@every_mixing
def test_end_terms_make_the_cut_bound_a_bound(noise: Noise) -> None:
    """Above the entropy, by almost nothing; without reconstruction it would be 0.009 too low."""
    joint, family = TinyJoint.random(3, 2), noise.family(3)
    assert isinstance(family, AbstractMixing)
    gap = (joint.p_X * (cut_bound(noise, family, joint) - joint.nll_X)).sum().item()
    assert 0 <= gap < 5e-6


def z_scores(family: AbstractDiffusion, denoiser: PerfectDenoiser, target_X: Tensor) -> Tensor:
    """Errors of the estimated bound of every x, in standard errors, (X,)."""
    joint, n = denoiser.joint, 30_000
    x_BL = joint.x_XL.repeat(n, 1)
    t_B = stratified(len(x_BL), seeded(0))[torch.randperm(len(x_BL), generator=seeded(1))]
    nats_BL = family.bound(denoiser, x_BL, t_B.double(), seeded(2)).nats_BL
    nats_NX = nats_BL.sum(dim=1).reshape(n, -1)
    stderr_X = nats_NX.std(dim=0) / math.sqrt(n)
    assert stderr_X.max().item() < 0.06  # so that a z-score means something
    return (nats_NX.mean(dim=0) - target_X) / stderr_X


@every_noise
def test_estimated_bound_is_minus_log_p_on_average(noise: Noise) -> None:
    """What the evaluator calls: grid, corruption, weights, control variate and end terms."""
    joint = TinyJoint.random(3, 2)
    z_X = z_scores(noise.family(3), PerfectDenoiser(joint, noise.share), joint.nll_X)
    # Nine z-scores of a correct estimator stay below 3.5 with probability 0.996; the seed is fixed.
    assert z_X.abs().max().item() < 3.5


@every_mixing
def test_estimated_end_terms_are_those_of_the_cut(noise: Noise) -> None:
    """With the cuts far inside, where each end term is a large part of the bound."""
    family = noise.family(3)
    assert isinstance(family, AbstractMixing)
    coarse_type = type("Coarse", (type(family),), {"t_min": 0.2, "t_max": 0.7})
    coarse = coarse_type(vocab_size=3, **dict(noise.options))
    joint = TinyJoint.random(3, 2)
    target_X = cut_bound(noise, coarse, joint)
    assert (joint.p_X * (target_X - joint.nll_X)).sum() > 0.02  # a looser bound, but a bound
    assert prior_kl(noise, 3, 0.7) > 0.05
    z_X = z_scores(coarse, PerfectDenoiser(joint, noise.share), target_X)
    assert z_X.abs().max().item() < 3.5  # as above


@pytest.mark.parametrize("seq_len", [1, 2, 3])
def test_masked_losses_are_sums_over_the_number_of_masked_tokens(seq_len: int) -> None:
    """L · NELBO = sum c_n, L · cross-entropy = sum n c_n / (L + 1) (T8); only the second depends
    on the schedule (T7)."""
    joint = TinyJoint.random(2, seq_len)
    denoiser, n_tokens = PerfectDenoiser(joint, masked_share), joint.n_tokens
    c_NX = torch.zeros(seq_len + 1, len(joint.p_X), dtype=torch.float64)
    for pattern in torch.cartesian_prod(*[torch.tensor([False, True])] * seq_len).reshape(
        -1, seq_len
    )[1:]:
        z_XL = torch.where(pattern, n_tokens, joint.x_XL)
        log_p_XLV = denoiser(z_XL, torch.full((len(z_XL),), 0.5)).log_softmax(-1)
        nll_XL = -log_p_XLV.gather(-1, joint.x_XL[..., None])[..., 0]
        n = int(pattern.sum())
        c_NX[n] += nll_XL[:, pattern].mean(dim=1) / math.comb(seq_len, n)
    family = MASKED.family(n_tokens, objective="cross_entropy")

    def loss(x_BL: Tensor, z_BL: Tensor, t_B: Tensor) -> Tensor:
        return family.loss_density(denoiser(z_BL, t_B), x_BL, z_BL, t_B)

    t_Q, dt_Q = quadrature()
    values_QX = torch.stack([mean_over_noise(loss, joint, masked_share, t) for t in t_Q.tolist()])
    n_N1 = torch.arange(seq_len + 1)[:, None]
    torch.testing.assert_close(integral(MASKED, denoiser), c_NX.sum(0), rtol=0, atol=1e-6)
    weighted_X = (n_N1 * c_NX).sum(0) / (seq_len + 1)
    torch.testing.assert_close(dt_Q @ values_QX, weighted_X, rtol=0, atol=1e-6)
    other_schedule_X = (dt_Q * 2 * (1 - t_Q)) @ values_QX  # as if t = 1 − sqrt(1 − u)
    assert (other_schedule_X - weighted_X).abs().max() > 0.05


def random_case(n_tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, x0, any z below `n_tokens` and t from near 0 to near 1, float64, 200 tokens."""
    rng = seeded(seed)
    logits_BLV = 2 * torch.randn(20, 10, n_tokens, generator=rng, dtype=torch.float64)
    x0_BL, z_BL = (torch.randint(n_tokens, (20, 10), generator=rng) for _ in range(2))
    z_BL = torch.where(torch.rand(20, 10, generator=rng) < 0.5, x0_BL, z_BL)
    return logits_BLV, x0_BL, z_BL, torch.linspace(0.001, 0.999, 20, dtype=torch.float64)


def dense_duo(logits_BLV: Tensor, x0_BL: Tensor, z_BL: Tensor, t_B: Tensor) -> Tensor:
    """Score entropy summed over V, with one-hots, as the paper has it."""
    n_tokens, alpha = logits_BLV.shape[-1], (1 - t_B)[:, None, None]
    x_BLV = torch.nn.functional.one_hot(x0_BL, n_tokens).double()
    clean, guess = (
        n_tokens * alpha * p + 1 - alpha for p in (x_BLV, logits_BLV.double().softmax(-1))
    )
    s, s_theta = (a / a.gather(-1, z_BL[..., None]) for a in (clean, guess))
    terms = s_theta - s + s * (s / s_theta).log()
    return terms.sum(-1) / (n_tokens * alpha[..., 0])


def test_uniform_density_is_the_score_entropy() -> None:
    """The two-case form against the sum over V (T11)."""
    case = random_case(7)
    found = UNIFORM.family(7).nelbo_density(*case)
    torch.testing.assert_close(found, dense_duo(*case), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("t", [1e-3, 0.5, 1 - 1e-3, 1 - 1e-6])
def test_uniform_density_holds_in_float32_at_a_large_vocabulary(t: float) -> None:
    """V = 32,000, near both ends (T11)."""
    n_tokens, rng = 32_000, seeded(3)
    logits_BLV = 3 * torch.randn(4, 8, n_tokens, generator=rng)
    x0_BL = torch.randint(n_tokens, (4, 8), generator=rng)
    z_BL = torch.where(torch.arange(8) < 4, x0_BL, torch.randint(n_tokens, (4, 8), generator=rng))
    family, t_B = UNIFORM.family(n_tokens), torch.full((4,), t)
    found = family.nelbo_density(logits_BLV, x0_BL, z_BL, t_B)
    exact = family.nelbo_density(logits_BLV.double(), x0_BL, z_BL, t_B.double())
    # Sums of 32,000 float32 terms; 1e-4 is what the specification asks at t = 1e-3. Where the
    # density itself vanishes, near t = 1, the absolute error is what counts.
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)


def dense_gidd(
    noise: Noise, logits_BLV: Tensor, x0_BL: Tensor, z_BL: Tensor, t_B: Tensor
) -> Tensor:
    """W (KL + IS) / (alpha (1 − alpha)) from its definition; d pi / d lambda by autograd."""
    n_tokens = logits_BLV.shape[-1]
    log_snr_B11 = torch.log((1 - t_B) / t_B)[:, None, None].requires_grad_()
    s_B11 = noise.share(torch.sigmoid(-log_snr_B11))
    (slope_B11,) = torch.autograd.grad(s_B11.sum(), log_snr_B11)
    to_tokens_E = torch.tensor([1 / n_tokens] * n_tokens + [-1.0], dtype=torch.float64)
    mask_E = torch.tensor([0.0] * n_tokens + [1.0], dtype=torch.float64)
    pi_BLE, slope_BLE = mask_E + s_B11.detach() * to_tokens_E, slope_B11 * to_tokens_E
    alpha, t = (1 - t_B)[:, None, None], t_B[:, None, None]
    x_BLE = torch.nn.functional.one_hot(x0_BL, n_tokens + 1).double()
    guess_BLE = torch.nn.functional.pad(logits_BLV.softmax(-1), (0, 1))
    q, q_theta = (alpha * p + t * pi_BLE for p in (x_BLE, guess_BLE))
    at_z = z_BL[..., None]
    kl = (q * (q / q_theta).log()).sum(-1)
    ratio = (q / q_theta).gather(-1, at_z)[..., 0]
    numerator = (t * (pi_BLE - slope_BLE)).expand_as(q).gather(-1, at_z)[..., 0]
    weight = numerator / q.gather(-1, at_z)[..., 0]
    return weight * (kl + ratio - ratio.log() - 1) / (alpha * t)[..., 0]


@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
def test_hybrid_density_is_its_definition(shift: float, scale: float) -> None:
    """Closed-form weights, sparse KL and IS against the dense formula (G2, G4, G6)."""
    logits_BLV, x0_BL, z_BL, t_B = random_case(6)
    z_BL = torch.where(torch.rand(z_BL.shape, generator=seeded(4)) < 0.3, 6, z_BL)
    noise = hybrid(shift, scale)
    found = noise.family(6).nelbo_density(logits_BLV, x0_BL, z_BL, t_B)
    expected = dense_gidd(noise, logits_BLV, x0_BL, z_BL, t_B)
    # The dense formula cancels near both ends, where its terms are 1e3 times their sum.
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shift", [-1000.0, -math.inf])
def test_hybrid_is_masked_diffusion_in_the_limit(shift: float) -> None:
    logits_BLV, x0_BL, z_BL, t_B = random_case(6)
    z_BL = torch.where(z_BL == x0_BL, x0_BL, 6)
    found = hybrid(shift).family(6).nelbo_density(logits_BLV, x0_BL, z_BL, t_B)
    expected = MASKED.family(6).nelbo_density(logits_BLV, x0_BL, z_BL, t_B)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    unweighted = hybrid(shift).family(6, objective="unweighted")
    scaled = unweighted.loss_density(logits_BLV, x0_BL, z_BL, t_B)  # alpha · CE (G7)
    torch.testing.assert_close(scaled, expected * (t_B * (1 - t_B))[:, None], rtol=1e-11, atol=0)


@pytest.mark.parametrize("shift", [1000.0, math.inf])
def test_hybrid_is_uniform_diffusion_in_the_limit(shift: float) -> None:
    case = random_case(6)
    found = hybrid(shift).family(6).nelbo_density(*case)
    expected = UNIFORM.family(6).nelbo_density(*case)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    trained, trained_as = (
        noise.family(6, objective="unweighted") for noise in (hybrid(shift), UNIFORM)
    )
    unweighted = trained_as.loss_density(*case)
    torch.testing.assert_close(trained.loss_density(*case), unweighted, rtol=1e-9, atol=1e-10)
    assert not torch.allclose(unweighted, expected)


@pytest.mark.parametrize("shift", [-1000.0, -2.0, 0.0, 2.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_densities_are_positive_finite_and_zero_at_the_truth(
    shift: float, dtype: torch.dtype
) -> None:
    """(T12, G1, G4, G6, G10), with log-SNR from −14 to 14 and logits up to 1e4."""
    noise, (logits_BLV, x0_BL, z_BL, _) = hybrid(shift), random_case(6)
    family = noise.family(6)
    t_B = torch.sigmoid(torch.linspace(-14, 14, 20, dtype=torch.float64)).to(dtype)
    z_BL = z_BL if shift > 0 else torch.where(z_BL == x0_BL, x0_BL, 6)
    for size in (1.0, 1e4):
        density_BL = family.nelbo_density((size * logits_BLV).to(dtype), x0_BL, z_BL, t_B)
        assert torch.isfinite(density_BL).all()
        # Rounding may go below zero by a few units in the last place of terms of order 1.
        assert density_BL.min() > -20 * torch.finfo(dtype).eps
    truth_BLV = 2000.0 * torch.nn.functional.one_hot(x0_BL, 6).to(dtype)
    truth_BLV.requires_grad_()
    density_BL = family.nelbo_density(truth_BLV, x0_BL, z_BL, t_B)
    assert density_BL.abs().max() == 0
    (gradient,) = torch.autograd.grad(density_BL.sum(), truth_BLV)
    assert gradient.abs().max() < 1e-3  # the largest terms, 1e6 at t = 1e-6, cancel to rounding


@every_noise
def test_gradients_are_those_of_finite_differences(noise: Noise) -> None:
    """(G12)"""
    logits_BLV, x0_BL, z_BL, t_B = (a[2:18:3, :4] if a.dim() > 1 else a for a in random_case(4))
    t_B, family = t_B[2:18:3], noise.family(4)
    if noise.share is masked_share:
        z_BL = torch.where(z_BL == x0_BL, x0_BL, 4)
    logits_BLV = logits_BLV.clone().requires_grad_()

    def loss(values: Tensor) -> Tensor:
        return family.loss_density(values, x0_BL, z_BL, t_B)

    assert torch.autograd.gradcheck(loss, (logits_BLV,))


@every_noise
def test_corrupted_tokens_follow_the_kernel(noise: Noise) -> None:
    """Chi-square over 2e5 tokens per level; per-token levels too (G5)."""
    family, n = noise.family(5), 200_000
    for t, x in ((0.05, 3), (0.5, 0), (0.9, 4)):
        x0_BL = torch.full((n // 100, 100), x)
        for t_B in (torch.full((n // 100,), t), torch.full((n // 100, 100), t)):
            z_BL = family.corrupt(x0_BL, t_B, seeded(5))
            expected_E = n * kernel(noise.share, torch.tensor(t), 5)[:, x]
            found_E = torch.bincount(z_BL.flatten(), minlength=6).double()
            assert found_E[expected_E == 0].sum() == 0
            possible = expected_E > 0
            _, p_value = stats.chisquare(found_E[possible], expected_E[possible])
            assert p_value > 1e-3  # 54 tests with fixed seeds: a 5 % chance, drawn once


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
def test_noise_added_between_levels_is_never_negative(shift: float, scale: float) -> None:
    """q_t = alpha_t|s q_s + added, added >= 0; scale = 2 breaks it and is refused (G3)."""
    s_T, t_T = torch.linspace(0.01, 0.98, 98), torch.linspace(0.02, 0.99, 98)

    def smallest_added(share: Share) -> float:
        q_s, q_t = (kernel(share, level, 5) for level in (s_T, t_T))
        added = q_t - ((1 - t_T) / (1 - s_T)).double()[:, None, None] * q_s
        return added.min().item()

    assert smallest_added(hybrid_share(shift, scale)) > -1e-15
    assert smallest_added(hybrid_share(shift, 2.0)) < -1e-4
    with pytest.raises(ConfigError, match=r"scale 2\.0"):
        load_family("hybrid", vocab_size=5, shift=shift, scale=2.0)


@pytest.mark.parametrize(
    ("shift", "share"),
    [(-1000.0, 0.0), (-2.0, 1.7e-5), (0.0, 1.2e-4), (2.0, 9.1e-4), (1000.0, 1.0)],
)
def test_generation_starts_from_the_published_prior(shift: float, share: float) -> None:
    """The uniform share at log-SNR −9 (G13)."""
    family = hybrid(shift).family(5)
    assert isinstance(family, AbstractMixing)
    log_s, _ = family.log_shares(torch.sigmoid(torch.tensor(9.0, dtype=torch.float64)))
    assert log_s.exp().item() == pytest.approx(share, rel=0.05)  # two digits are published


def test_some_sequences_have_noise_levels_per_token() -> None:
    family = load_family("hybrid", vocab_size=5, per_token_share=0.25)
    batch = family.noisy_batch(torch.zeros(4000, 8, dtype=torch.int64), seeded(6))
    assert batch.t_B.shape == (4000, 8)
    is_own = (batch.t_B != batch.t_B[:, :1]).any(dim=1)
    # A binomial share of 4,000 with p = 1/4 has standard deviation 0.7 %.
    assert is_own.double().mean().item() == pytest.approx(0.25, abs=0.025)
    assert batch.t_B.mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("a", [-700.0, -5.0, -1e-3, 0.0, 1e-3, 5.0, 700.0, 1e6])
def test_softplus_drop_is_accurate_at_any_size(a: float) -> None:
    log_p = -torch.logspace(-6, 3, 40, dtype=torch.float64)
    exact = [np.logaddexp(0, a) - np.logaddexp(0, a + x) for x in log_p.tolist()]
    found = softplus_drop(torch.tensor(a, dtype=torch.float64), log_p)
    # The reference itself cancels at a = 1e6, to 1e-10.
    assert found.tolist() == pytest.approx(exact, rel=1e-9, abs=3e-10)


def test_itakura_saito_is_accurate_near_zero() -> None:
    d = torch.tensor([-2.0, -0.02, -1e-2, -1e-4, 0.0, 1e-6, 9.99e-3, 0.5], dtype=torch.float64)
    exact = [sum(x**k / math.factorial(k) for k in range(2, 30)) for x in d.tolist()]
    assert itakura_saito(d).tolist() == pytest.approx(exact, rel=1e-10)
