"""Hybrid diffusion (GIDD, arXiv 2503.04482, in the log-SNR form of arXiv 2512.10858): the noise is
a mix of masks and random tokens whose shares change with the noise level.

    q(z_t | x)   x with probability alpha, otherwise (1 − alpha) · (s · uniform + (1 − s) · mask)

Masks come first in generation and random tokens last. With shift → −inf this is masked diffusion
and with shift → +inf uniform-state diffusion, at every point
(tests/families/test_families_exact.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sweeper.families._mixing import AbstractMixing, itakura_saito, softplus_drop
from sweeper.families._sampling import logits_at, rewritten
from sweeper.families._scores import softplus
from sweeper.families.base import (
    Denoiser,
    Needs,
    Sampler,
    Samples,
    SamplingPlan,
    per_token,
    uniform_draws,
)

SHIFT_LIMIT = 1000.0
"""At a larger shift s is 0 or 1 in float64 for every noise level in use; infinity means this."""


@dataclass(frozen=True)
class Family(AbstractMixing):
    """Masked-to-uniform diffusion, trained on its bound or on the bound without its weight."""

    shift: float = 0.0
    """Log-odds of uniform against mask noise at alpha = 1/2: −2 low-uniform, 0 balanced, 2
    high-uniform; −inf is masked, inf uniform."""
    scale: float = 1.0
    """How fast those log-odds grow with log-SNR; in (0, 1], beyond which a rate is negative."""
    objective: Literal["nelbo", "unweighted"] = "nelbo"
    """`unweighted` multiplies the density by alpha (1 − alpha) in training, as both papers do."""
    per_token_share: float = 0.0
    """Share of training sequences whose tokens have noise levels of their own; in [0, 1]."""

    def __post_init__(self) -> None:
        if math.isnan(self.shift):
            raise ValueError("shift nan: expected a number, -.inf or .inf")
        if not 0 < self.scale <= 1:
            raise ValueError(f"scale {self.scale}: expected 0 < scale <= 1 (a rate turns negative)")
        if self.objective not in ("nelbo", "unweighted"):
            raise ValueError(f"objective {self.objective!r}: expected nelbo or unweighted")
        if not 0 <= self.per_token_share <= 1:
            raise ValueError(f"per_token_share {self.per_token_share}: expected 0 to 1")

    @property
    def needs(self) -> Needs:
        return Needs(attention="bidirectional", extra_input_ids=1)

    def log_shares(self, t: Tensor) -> tuple[Tensor, Tensor]:
        # s = sigmoid(scale · lambda + shift), lambda = log(alpha / (1 − alpha)).
        log_odds = self.scale * (torch.log1p(-t) - t.log())
        log_odds = log_odds + min(max(self.shift, -SHIFT_LIMIT), SHIFT_LIMIT)
        return -softplus(-log_odds), -softplus(log_odds)

    def levels(self, n_sequences: int, seq_len: int, rng: torch.Generator) -> Tensor:
        # Overrides a method of the base: only this family trains on levels per token.
        t_B = super().levels(n_sequences, seq_len, rng)
        if self.per_token_share == 0:
            return t_B
        is_per_token_B1 = uniform_draws((n_sequences, 1), rng) < self.per_token_share
        own_BL = uniform_draws((n_sequences, seq_len), rng)
        own_BL = self.t_min + (self.t_max - self.t_min) * own_BL
        return torch.where(is_per_token_B1, own_BL, t_B[:, None])

    def nelbo_of(
        self, scores: tuple[Tensor, ...], x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        t_BL = per_token(t_B, x0_BL)
        # dlambda/dt = −1 / (alpha (1 − alpha)): from the density in lambda to that in t.
        return self._divergence(scores, x0_BL, zt_BL, t_BL) / (t_BL * (1 - t_BL))

    def loss_of(
        self, scores: tuple[Tensor, ...], x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        if self.objective == "unweighted":
            return self._divergence(scores, x0_BL, zt_BL, per_token(t_B, x0_BL))
        return self.nelbo_of(scores, x0_BL, zt_BL, t_B)

    def _divergence(
        self, scores: tuple[Tensor, ...], x0_BL: Tensor, zt_BL: Tensor, t_BL: Tensor
    ) -> Tensor:
        """W · (KL(q || q_theta) + IS(q(z), q_theta(z))), the density in lambda."""
        # Proposition 1 of arXiv 2512.10858; q_theta is q with x_theta in the place of x.
        log_s_BL = self.log_shares(t_BL)[0]
        log_one_noise_BL = log_s_BL - math.log(self.vocab_size)  # log(s / V)
        log_kappa_BL = self.log_kappa(t_BL)  # kappa = V e^lambda / s
        # h_j = log(1 + kappa x_theta(j)), h* = log(1 + kappa)
        log_p_x_BL, log_p_z_BL, h_sum_BL = scores
        is_mask_BL = zt_BL == self.vocab_size
        drop_BL = softplus_drop(log_kappa_BL, log_p_x_BL)  # h* − h_x
        one_noise_BL = t_BL * log_one_noise_BL.exp()  # (1 − alpha) s / V
        others_BL = h_sum_BL - softplus(log_kappa_BL + log_p_x_BL)  # sum over j != x of h_j
        # KL = (alpha + (1 − alpha) s / V) (h* − h_x) − (1 − alpha) s / V · sum over j != x of h_j
        kl_BL = (1 - t_BL + one_noise_BL) * drop_BL - one_noise_BL * others_BL
        # d = h* − h_x where z = x, −h_z elsewhere, and 0 at a mask.
        h_z_BL = softplus(log_kappa_BL + log_p_z_BL).masked_fill(is_mask_BL, 0.0)
        # The limit keeps e^d finite in float32. It can only be passed where kappa > e^80, and there
        # W < e^−80.
        log_ratio_BL = torch.where(zt_BL == x0_BL, drop_BL.clamp(max=80.0), -h_z_BL)
        is_BL = itakura_saito(log_ratio_BL)
        # W = 1 + scale · s at a mask, 1 − scale (1 − s) elsewhere; where z = x that over 1 + kappa,
        # and 1 / (1 + kappa) = sigmoid(−log kappa).
        s_BL = log_s_BL.exp()
        other_BL = (1 - self.scale) + self.scale * s_BL
        kept_BL = other_BL * torch.sigmoid(-log_kappa_BL)
        token_BL = torch.where(zt_BL == x0_BL, kept_BL, other_BL)
        weight_BL = torch.where(zt_BL == self.vocab_size, 1 + self.scale * s_BL, token_BL)
        return weight_BL * (kl_BL + is_BL)

    @property
    def samplers(self) -> Mapping[str, Sampler]:
        return {
            "ancestral": self._ancestral,
            "greedy_tail": self._greedy_tail,
            "adaptive": self._adaptive,
        }

    def _adaptive(self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator) -> Samples:
        """Rewrite, in each step, the positions that x_theta would most like to see changed."""
        z_BL = self._start(plan, rng)
        start_B = torch.full((plan.n_sequences,), self.t_max, dtype=torch.float64)
        for step in range(plan.n_steps):
            t = max(self.t_max - step / plan.n_steps, self.t_min)
            logits_BLV = logits_at(denoiser, z_BL, t)
            p_BLV = logits_BLV.double().softmax(dim=-1)
            seen_BL = (-self._nll_of_visible(logits_BLV.double(), z_BL)).exp()
            prior_BL = self._log_noise(z_BL, per_token(start_B, z_BL)).exp()
            # Masks come first, by largest probability, so that none is left. Then the score is
            # (max_j x_theta(j) − x_theta(z)) · pi(z) with the noise pi of the start: tokens may be
            # revised, if the start had random tokens. The steps share L rewrites, or make one each
            # if they are more than L. Exact for masked noise only; elsewhere it trades the right
            # distribution for likely tokens.
            score_BL = (p_BLV.amax(dim=-1) - seen_BL) * prior_BL
            # At a small scale random tokens are likely at the start, and would score as high.
            score_BL = score_BL + (z_BL == self.vocab_size)
            done, done_then = (plan.seq_len * (step + i) // plan.n_steps for i in (0, 1))
            positions_BN = score_BL.topk(max(done_then - done, 1), dim=1).indices
            changed_BL = rewritten(z_BL, positions_BN, logits_BLV, plan, rng)
            z_BL = torch.where(score_BL > 0, changed_BL, z_BL)
        return Samples(z_BL, plan.n_steps)
