"""Diffusion that mixes a token with noise: what uniform and hybrid diffusion share.

    q_t(z | x) = alpha_t 1[z = x] + (1 − alpha_t) pi_t(z)
    pi_t       = s_t · uniform over V tokens + (1 − s_t) · mask

Unlike under masked diffusion a visible token may be noise, so a prediction of x_l is best when it
ignores z_l (the leave-one-out posterior), and Bayes' rule joins the two.

Shapes: B sequences, L positions, V real tokens.
"""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sweeper.families._sampling import draw, logits_at, tempered
from sweeper.families._scores import Query, score, scores_of_logits
from sweeper.families.base import (
    AbstractDiffusion,
    BoundDraw,
    Denoiser,
    NoisyBatch,
    Samples,
    SamplingPlan,
    per_token,
    token_nll,
    uniform_draws,
)


@dataclass(frozen=True)
class AbstractMixing(AbstractDiffusion):
    """A family with such a mix of token and noise."""

    t_max = 1 - 1e-6  # at 1 the density is 0 / 0

    @abc.abstractmethod
    def log_shares(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the uniform and the mask share of the noise, (log s, log(1 − s))."""

    def corrupt(self, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator) -> Tensor:
        shape, t_BL = tuple(x0_BL.shape), per_token(t_B, x0_BL)
        is_noise_BL = uniform_draws(shape, rng).to(x0_BL.device) < t_BL
        is_token_BL = uniform_draws(shape, rng).to(x0_BL.device) < self.log_shares(t_BL)[0].exp()
        token_BL = torch.randint(self.vocab_size, shape, generator=rng, device=rng.device)
        noise_BL = torch.where(is_token_BL, token_BL.to(x0_BL), self.vocab_size)
        return torch.where(is_noise_BL, noise_BL, x0_BL)

    @abc.abstractmethod
    def nelbo_of(
        self, scores: tuple[Tensor, ...], x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        """`nelbo_density` from the numbers that `query` asks for."""

    @abc.abstractmethod
    def loss_of(
        self, scores: tuple[Tensor, ...], x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        """`loss_density` from the same."""

    def query(
        self, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor, rows_R: Tensor | None = None
    ) -> Query:
        """log x_theta at x and at z (at any id where z is the mask), and the sum of all h_j."""
        # Where the mask is no input id there is nothing to replace.
        if self.needs.extra_input_ids:
            zt_BL = zt_BL.masked_fill(zt_BL == self.vocab_size, 0)
        log_kappa_BL = self.log_kappa(per_token(t_B, x0_BL))
        return Query((x0_BL, zt_BL), log_kappa_BL, rows_R)

    def log_kappa(self, t_BL: Tensor) -> Tensor:
        """log of kappa = V alpha / ((1 − alpha) s), which makes h_j = log(1 + kappa x_theta(j))."""
        log_one_noise_BL = self.log_shares(t_BL)[0] - math.log(self.vocab_size)  # log(s / V)
        return torch.log1p(-t_BL) - t_BL.log() - log_one_noise_BL

    def nelbo_density(
        self, logits_BLV: Tensor, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        scores = scores_of_logits(logits_BLV, self.query(x0_BL, zt_BL, t_B))
        return self.nelbo_of(scores, x0_BL, zt_BL, t_B)

    def loss_density(self, logits_BLV: Tensor, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor) -> Tensor:
        scores = scores_of_logits(logits_BLV, self.query(x0_BL, zt_BL, t_B))
        return self.loss_of(scores, x0_BL, zt_BL, t_B)

    def loss(self, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
        # Overrides the base: a few numbers of the logits suffice.
        noise = batch.x0_BL, batch.zt_BL, batch.t_B
        query = self.query(*noise, batch.scored_rows())
        return self.loss_of(score(denoiser, batch.zt_BL, batch.t_B, query), *noise)

    def bound(
        self, denoiser: Denoiser, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator
    ) -> BoundDraw:
        # The integral over [t_min, t_max], the reconstruction below it and the prior above it.
        # The grid is even in u with t = u²: the density's variance grows like 1 / t, which the
        # weight dt/du = 2u evens out.
        u_B, u_min = t_B.to(x0_BL.device), math.sqrt(self.t_min)
        level_B = u_B.square().clamp(self.t_min, self.t_max)
        zt_BL = self.corrupt(x0_BL, level_B, rng)
        noise = x0_BL, zt_BL, level_B
        scores = score(denoiser, zt_BL, level_B, self.query(*noise))
        is_start_B, is_end_B = u_B < u_min, u_B.square() > self.t_max
        # The share u_min of the grid is below t_min. There the draw is the reconstruction term, so
        # that it costs no second call: share u_min · weight u_min / t_min = 1.
        # Cutting at 1e-3 loosens the bound by about 2e-6 nats on a strongly dependent toy.
        start_BL = self.reconstruction_of(scores, *noise) / self.t_min
        nats_BL = torch.where(is_start_B[:, None], start_BL, self.nelbo_of(scores, *noise))
        weight_B = torch.where(is_start_B, u_min, 2 * u_B).masked_fill(is_end_B, 0.0)
        nats_BL = weight_B[:, None] * nats_BL + self.prior()
        return BoundDraw(nats_BL, self.token_weights(x0_BL, zt_BL, level_B, 2 * u_B))

    def changed_share(self, t_B: Tensor) -> Tensor:
        return t_B * (1 - self.log_shares(t_B)[0].exp() / self.vocab_size)

    def token_weights(
        self, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor, level_weight_B: Tensor
    ) -> Tensor:
        """For all changed tokens; more for those at high levels; more for tokens than for masks."""
        # Overrides the base: changed tokens bear most of the density where it varies most, and
        # their level and what they show have known means, too.
        changed_BL1 = super().token_weights(x0_BL, zt_BL, t_B, level_weight_B)
        share_B = self.log_shares(t_B)[0].exp()
        p_token_B = t_B * share_B * (1 - 1 / self.vocab_size) / self.changed_share(t_B)
        is_token_BL = (zt_BL != self.vocab_size).to(t_B.dtype)
        # level_weight = 2u, and the integral of 2u · 1.5u over u is 1.
        noisy_BL1 = changed_BL1 * (0.75 * level_weight_B)[:, None, None]
        shown_BL1 = changed_BL1 * (1 + is_token_BL - p_token_B[:, None])[..., None]
        return torch.cat([changed_BL1, noisy_BL1, shown_BL1], dim=-1)

    def reconstruction_of(
        self, scores: tuple[Tensor, ...], x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        """−log p(x | z) by Bayes' rule, nats, (B, L)."""
        # p(x_l = j | z) = x_theta(j) q_t(z_l | j) / sum over i of x_theta(i) q_t(z_l | i)
        t_BL = per_token(t_B, x0_BL)
        log_alpha_BL, log_noise_BL = torch.log1p(-t_BL), self._log_noise(zt_BL, t_BL)
        log_kept_BL = torch.where(zt_BL == x0_BL, log_alpha_BL, -math.inf)
        log_x_theta_x_BL, log_x_theta_z_BL, _ = scores
        log_x_theta_z_BL = log_x_theta_z_BL.masked_fill(zt_BL == self.vocab_size, -math.inf)
        log_seen_BL = log_alpha_BL + log_x_theta_z_BL
        log_likelihood_BL = torch.logaddexp(log_kept_BL, log_noise_BL)
        log_evidence_BL = torch.logaddexp(log_seen_BL, log_noise_BL)
        return -log_x_theta_x_BL - log_likelihood_BL + log_evidence_BL

    def prior(self) -> float:
        """KL(q(. | x) || p) at t_max, nats per token, the same for every x."""
        # q(. | x) has alpha + uniform / V on x and uniform / V on each other token; p, the
        # corruption of random tokens, spreads both evenly. The mask has the same mass in both, and
        # no part in the sum.
        t = torch.tensor(self.t_max, dtype=torch.float64)
        alpha, uniform = 1 - t, t * self.log_shares(t)[0].exp()
        on_x, elsewhere = alpha + uniform / self.vocab_size, uniform * (1 - 1 / self.vocab_size)
        kl = torch.xlogy(on_x, self.vocab_size * on_x / (alpha + uniform))
        return float(kl + torch.xlogy(elsewhere, uniform / (alpha + uniform)))

    def _log_noise(self, z_BL: Tensor, t_BL: Tensor) -> Tensor:
        """log((1 − alpha_t) pi_t(z)), (B, L)."""
        log_s_BL, log_mask_BL = self.log_shares(t_BL)
        log_token_BL = log_s_BL - math.log(self.vocab_size)
        return t_BL.log() + torch.where(z_BL == self.vocab_size, log_mask_BL, log_token_BL)

    def _nll_of_visible(self, logits_BLV: Tensor, z_BL: Tensor) -> Tensor:
        """−log x_theta(z), infinite where z is the mask, (B, L)."""
        is_mask_BL = z_BL == self.vocab_size
        nll_BL = token_nll(logits_BLV, z_BL.masked_fill(is_mask_BL, 0))
        return nll_BL.masked_fill(is_mask_BL, math.inf)

    def posterior(self, x_theta_BLV: Tensor, z_BL: Tensor, t_B: Tensor, s_B: Tensor) -> Tensor:
        """q(z_s | z_t, x_theta) over all input ids E for a level s < t, (B, L, E)."""
        # q_s(z_s | x_theta) q(z_t | z_s) / q_t(z_t | x_theta)
        t_BL, s_BL = per_token(t_B, z_BL), per_token(s_B, z_BL)
        # alpha_t / alpha_s: z_t keeps z_s
        stays_BL = (1 - t_BL) / (1 - s_BL)
        # q(z_t | z_s) = stays · 1[z_t = z_s] + added(z_t), added = noise_t − stays · noise_s
        noise_BL, earlier_noise_BL = (self._log_noise(z_BL, level).exp() for level in (t_BL, s_BL))
        added_BL = (noise_BL - stays_BL * earlier_noise_BL).clamp(min=0)
        guess_BLE = functional.pad(x_theta_BLV, (0, self.needs.extra_input_ids))
        # pi_s over all input ids
        token_BL1, mask_BL1 = (p[..., None].exp() for p in self.log_shares(s_BL))
        n_masks = self.needs.extra_input_ids
        tokens_BLV = (token_BL1 / self.vocab_size).expand(*s_BL.shape, self.vocab_size)
        pi_BLE = torch.cat([tokens_BLV, mask_BL1.expand(*s_BL.shape, n_masks)], dim=-1)
        # q_s(z_s | x_theta) is alpha_s x_theta + (1 − alpha_s) pi_s
        before_BLE = (1 - s_BL)[..., None] * guess_BLE + s_BL[..., None] * pi_BLE
        kept_BL = stays_BL * before_BLE.gather(-1, z_BL[..., None])[..., 0]
        joint_BLE = before_BLE * added_BL[..., None]
        is_impossible_BL = joint_BLE.sum(dim=-1) + kept_BL == 0
        # z_t that x_theta cannot give (cut by a nucleus, and no noise that made it) stays.
        kept_BL = torch.where(is_impossible_BL, 1.0, kept_BL)
        joint_BLE = joint_BLE.scatter_add(-1, z_BL[..., None], kept_BL[..., None])
        return joint_BLE / joint_BLE.sum(dim=-1, keepdim=True)

    def _start(self, plan: SamplingPlan, rng: torch.Generator) -> Tensor:
        """Sequences at t_max: uniformly random tokens, corrupted."""
        shape = (plan.n_sequences, plan.seq_len)
        x_BL = torch.randint(self.vocab_size, shape, generator=rng, device=rng.device)
        return self.corrupt(x_BL, torch.full(shape[:1], self.t_max, device=rng.device), rng)

    def _ancestral(self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator) -> Samples:
        """Draw z_s from q(z_s | z_t, x_theta) down an even grid of levels, to s = 0."""
        return Samples(draw(self._last_step(denoiser, plan, rng), rng), plan.n_steps)

    def _greedy_tail(self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator) -> Samples:
        """As `ancestral`, with the most probable token in the last step: no noise is left."""
        # Published code takes the argmax of x_theta there, which ignores what the position shows.
        return Samples(self._last_step(denoiser, plan, rng).argmax(dim=-1), plan.n_steps)

    def _last_step(self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator) -> Tensor:
        """All ancestral steps but the last draw: the distribution of each token at s = 0."""
        z_BL = self._start(plan, rng)
        levels_S = torch.linspace(self.t_max, 0, plan.n_steps + 1, dtype=torch.float64)
        levels_SB = levels_S[:, None].expand(-1, plan.n_sequences)
        for step in range(plan.n_steps):
            x_theta_BLV = tempered(logits_at(denoiser, z_BL, levels_S[step].item()), plan)
            p_BLE = self.posterior(x_theta_BLV, z_BL, levels_SB[step], levels_SB[step + 1])
            if step < plan.n_steps - 1:
                z_BL = draw(p_BLE, rng)
        return p_BLE


def softplus_drop(a: Tensor, log_p: Tensor) -> Tensor:
    """softplus(a) − softplus(a + log p), log p ≤ 0, without cancellation when a is large."""
    fine = torch.log1p(torch.exp(-a.abs())) - torch.log1p(torch.exp(-(a + log_p).abs()))
    return torch.minimum(a.relu(), -log_p) + fine


def itakura_saito(d: Tensor) -> Tensor:
    """e^d − 1 − d, the Itakura–Saito divergence of a ratio e^d, without cancellation near 0."""
    series = d.square() / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5)))
    return torch.where(d.abs() < 1e-2, series, torch.expm1(d) - d)
