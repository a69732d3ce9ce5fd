"""Autoregression: the exact baseline every diffusion family is compared with."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeper.families._prefixes import CausalAfterPrefix
from sweeper.families._sampling import draw, incremental_decoder, tempered
from sweeper.families._scores import Query, score
from sweeper.families.base import (
    AbstractFamily,
    BoundDraw,
    Denoiser,
    Needs,
    NoisyBatch,
    Sampler,
    Samples,
    SamplingPlan,
)


@dataclass(frozen=True)
class Family(AbstractFamily):
    """Left-to-right prediction, without noise levels (t is 0)."""

    is_exact = True

    @property
    def needs(self) -> Needs:
        return Needs(attention="causal", extra_input_ids=1)

    def noisy_batch(self, x0_BL: Tensor, rng: torch.Generator) -> NoisyBatch:
        """No noise; a start token, so that the first token is scored too, then all but the last."""
        start_B1 = torch.full_like(x0_BL[:, :1], self.vocab_size)
        shifted_BL = torch.cat([start_B1, x0_BL[:, :-1]], dim=1)
        return NoisyBatch(x0_BL, shifted_BL, torch.zeros(x0_BL.shape[0], device=x0_BL.device))

    def loss(self, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
        # −log p(x) = − sum_l log p(x_l | x_1 … x_{l−1})
        query = Query((batch.x0_BL,), rows_R=batch.scored_rows())
        (log_p_BL,) = score(denoiser, batch.zt_BL, batch.t_B, query)
        return -log_p_BL

    def bound(
        self, denoiser: Denoiser, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator
    ) -> BoundDraw:
        return BoundDraw(self.loss(denoiser, self.noisy_batch(x0_BL, rng)))  # exact

    def given_prefix(self, denoiser: Denoiser, prefix_BP: Tensor) -> Denoiser:
        return CausalAfterPrefix(denoiser, prefix_BP, n_before=1)

    def own_nll(self, denoiser: Denoiser, plan: SamplingPlan, ids_BL: Tensor) -> Tensor | None:
        if plan.temperature == 0:  # one sequence has all the mass
            return torch.zeros(ids_BL.shape, dtype=torch.float64, device=ids_BL.device)
        batch = self.noisy_batch(ids_BL, torch.Generator())
        logits_BLV = denoiser(batch.zt_BL, batch.t_B)
        p_BL, whole_BL = (
            tempered(logits_BLV, cut).gather(-1, ids_BL[..., None])[..., 0]
            for cut in (plan, dataclasses.replace(plan, top_p=1.0))
        )
        # Rounding may put the last token of a nucleus outside when all positions are read at once.
        return -torch.where(p_BL > 0, p_BL, whole_BL).log()

    @property
    def samplers(self) -> Mapping[str, Sampler]:
        return {"ancestral": self._left_to_right}

    def _left_to_right(
        self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator
    ) -> Samples:
        """Token by token, each read once."""
        decoder = incremental_decoder(denoiser, plan)
        shape = (plan.n_sequences, 1)
        token_B1 = torch.full(shape, self.vocab_size, dtype=torch.int64, device=rng.device)
        drawn = []
        for position in range(plan.seq_len):
            next_B1V = decoder.decode(token_B1, torch.full_like(token_B1, position), n_final=1)
            token_B1 = draw(tempered(next_B1V, plan), rng)
            drawn.append(token_B1)
        return Samples(torch.cat(drawn, dim=1), plan.seq_len)
