"""Masked diffusion (MDLM, arXiv 2406.07524): tokens turn into a mask, id V, and stay so.

    q(z_t | x)   each token is masked with probability t
    NELBO        E_t E_z [ (1/t) (1/L) sum over masked l of −log x_theta(x_l | z) ]     (density)
               = E_n E_z [ (1/n) sum over the n masked l of −log x_theta(x_l | z) ]     (bound)

with n ~ U{1 … L} and the n masked positions drawn without replacement. The bound is the density
summed over t for each number of masked tokens (the average over generation orders, arXiv
2110.02037).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sweeper.families._prefixes import BesidePrefix
from sweeper.families._sampling import logits_at, rewritten
from sweeper.families._scores import Query, score
from sweeper.families.base import (
    AbstractDiffusion,
    BoundDraw,
    Denoiser,
    Needs,
    NoisyBatch,
    Sampler,
    Samples,
    SamplingPlan,
    flat_positions,
    per_token,
    token_nll,
    uniform_draws,
)


@dataclass(frozen=True)
class Family(AbstractDiffusion):
    """Masked diffusion, trained on its bound or on plain cross-entropy."""

    objective: Literal["nelbo", "cross_entropy"] = "nelbo"
    """`cross_entropy` drops the weight 1/t in training: less variance, same minimiser, no bound."""

    def __post_init__(self) -> None:
        if self.objective not in ("nelbo", "cross_entropy"):
            raise ValueError(f"objective {self.objective!r}: expected nelbo or cross_entropy")

    @property
    def needs(self) -> Needs:
        return Needs(attention="bidirectional", extra_input_ids=1)

    def corrupt(self, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator) -> Tensor:
        u_BL = uniform_draws(tuple(x0_BL.shape), rng).to(x0_BL.device)
        return torch.where(u_BL < per_token(t_B, x0_BL), self.vocab_size, x0_BL)

    def nelbo_density(
        self, logits_BLV: Tensor, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        # −alpha' / (1 − alpha) = 1/t: NELBO of arXiv 2406.07524 with alpha_t = 1 − t.
        return self._masked_nll(logits_BLV, x0_BL, zt_BL) / per_token(t_B, x0_BL)

    def loss_density(self, logits_BLV: Tensor, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor) -> Tensor:
        return self._loss_of(self._masked_nll(logits_BLV, x0_BL, zt_BL), t_B)

    def noisy_batch(self, x0_BL: Tensor, rng: torch.Generator) -> NoisyBatch:
        batch = super().noisy_batch(x0_BL, rng)
        return dataclasses.replace(batch, scored_BL=batch.zt_BL == self.vocab_size)

    def loss(self, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
        # Overrides the base: the network's head is read where there are masks only.
        rows_R = batch.scored_rows()
        if rows_R is None:
            rows_R = flat_positions(batch.zt_BL == self.vocab_size)
        query = Query((batch.x0_BL,), rows_R=rows_R)
        (log_p_BL,) = score(denoiser, batch.zt_BL, batch.t_B, query)
        return self._loss_of(-log_p_BL, batch.t_B)

    def bound(
        self, denoiser: Denoiser, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator
    ) -> BoundDraw:
        """The bound as an average over the number n of masked tokens, at the noise level n/L."""
        length = x0_BL.shape[1]
        # It needs no cut near t = 0, where the weight 1/t has infinite variance, and no end terms.
        # On a Markov source with its exact predictor its standard error is 0.38 (L = 64) and 0.31
        # (L = 128) of that of one independent t in [1e-3, 1] per sequence, before control variates.
        # n is the ceiling of t² L, which has probability P(n) = (sqrt(n) − sqrt(n − 1)) / sqrt(L),
        # and is weighted by 1 / (L P(n)), because few masked tokens make a noisy mean.
        n_masked_B = (t_B.to(x0_BL.device).square() * length).long().clamp(max=length - 1) + 1
        rank_BL = uniform_draws(tuple(x0_BL.shape), rng).argsort(dim=1).argsort(dim=1)
        is_masked_BL = rank_BL.to(x0_BL.device) < n_masked_B[:, None]
        z_BL = torch.where(is_masked_BL, self.vocab_size, x0_BL)
        share_B = n_masked_B / length
        weight_B = share_B.sqrt() + (share_B - 1 / length).clamp(min=0).sqrt()  # 1 / (L P)
        weights_BL1 = self.token_weights(x0_BL, z_BL, share_B, weight_B)
        query = Query((x0_BL,), rows_R=flat_positions(is_masked_BL))
        (log_p_BL,) = score(denoiser, z_BL, share_B, query)
        return BoundDraw(weights_BL1[..., 0] * -log_p_BL, weights_BL1)

    def _masked_nll(self, logits_BLV: Tensor, x0_BL: Tensor, zt_BL: Tensor) -> Tensor:
        return token_nll(logits_BLV, x0_BL) * (zt_BL == self.vocab_size)

    def given_prefix(self, denoiser: Denoiser, prefix_BP: Tensor) -> Denoiser:
        # A prefix is one of the sets of visible tokens that it is trained to read.
        return BesidePrefix(denoiser, prefix_BP)

    def _loss_of(self, masked_nll_BL: Tensor, t_B: Tensor) -> Tensor:
        if self.objective == "cross_entropy":  # Eq. 8 of arXiv 2602.15014
            return masked_nll_BL
        return masked_nll_BL / per_token(t_B, masked_nll_BL)

    @property
    def samplers(self) -> Mapping[str, Sampler]:
        return {"ancestral": self._ancestral, "confidence": self._confidence}

    def _ancestral(self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator) -> Samples:
        """Reveal each masked token with probability (t − s) / t in the step from t to s."""
        shape, length = (plan.n_sequences, plan.seq_len), plan.seq_len
        z_BL = torch.full(shape, self.vocab_size, dtype=torch.int64, device=rng.device)
        order_BL = uniform_draws(shape, rng).argsort(dim=1)
        n_known, n_calls = 0, 0
        for steps_left in range(plan.n_steps, 0, -1):
            # How many are revealed in a step is drawn once for all sequences, and which ones for
            # each: so each sequence has the law it would have alone.
            is_revealed = uniform_draws((length - n_known,), rng) * steps_left < 1
            n_known_then = n_known + int(is_revealed.sum())
            if n_known_then > n_known:  # else the network would read the same input again
                positions_BN = order_BL[:, n_known:n_known_then]
                logits_BLV = logits_at(denoiser, z_BL, 1 - n_known / length)
                z_BL = rewritten(z_BL, positions_BN, logits_BLV, plan, rng)
                n_known, n_calls = n_known_then, n_calls + 1
        return Samples(z_BL, n_calls)

    def _confidence(self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator) -> Samples:
        """Reveal equally many tokens per step, where the largest probability is largest."""
        shape, length = (plan.n_sequences, plan.seq_len), plan.seq_len
        z_BL = torch.full(shape, self.vocab_size, dtype=torch.int64, device=rng.device)
        n_calls = min(plan.n_steps, length)
        for step in range(n_calls):
            n_known, n_known_then = (length * (step + i) // n_calls for i in (0, 1))
            logits_BLV = logits_at(denoiser, z_BL, 1 - n_known / length)
            largest_BL = logits_BLV.double().softmax(dim=-1).amax(dim=-1)
            largest_BL = largest_BL.masked_fill(z_BL != self.vocab_size, -1.0)
            # The position is chosen before the token is drawn, so one token per step samples
            # exactly.
            positions_BN = largest_BL.topk(n_known_then - n_known, dim=1).indices
            z_BL = rewritten(z_BL, positions_BN, logits_BLV, plan, rng)
        return Samples(z_BL, n_calls)
