"""Eso-LM (arXiv 2506.01928): masked diffusion in a random order, then the rest left to right.

    q(z_t | x)   each token is masked with probability m = 1 − alpha_0 (1 − t)
    NELBO        E over z_0 of (1/L) sum over masked l of −log x_theta(x_l | z_0, x before l)
               + E over t, z_t of (alpha_0 / m) (1/L) sum over masked l of −log x_theta(x_l | z_t)

alpha_0 = 1 leaves only the second, diffusion term: masked diffusion with causal attention.
alpha_0 = 0 leaves only the first, sequential one: autoregression.
The network is causal over an order of its own, so keys and values can be cached in generation.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

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
    per_token,
    stratified,
    uniform_draws,
)

T_MIN = 1e-3
"""Training draws t of the diffusion term above this, as the other families do; 0 means z_0."""


@dataclass(frozen=True)
class Family(AbstractFamily):
    """Masked diffusion down to a share alpha_0 of clean tokens, then autoregression."""

    alpha_0: float = 1.0
    """Share of tokens that the diffusion decides, in [0, 1]; 1 in the study."""
    batch_split: float = 0.5
    """Share of training sequences for the diffusion term where both terms exist, in (0, 1)."""
    objective: Literal["nelbo", "cross_entropy"] = "nelbo"
    """`cross_entropy` drops the weight alpha_0 / m in training, as the study does."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha_0 <= 1:
            raise ValueError(f"alpha_0 {self.alpha_0}: expected 0 to 1")
        if self.objective not in ("nelbo", "cross_entropy"):
            raise ValueError(f"objective {self.objective!r}: expected nelbo or cross_entropy")
        if not 0 < self.batch_split < 1:
            raise ValueError(
                f"batch_split {self.batch_split}: expected a number between 0 and 1 (0.5 in the "
                "paper); at alpha_0 of 0 or 1 there is one term, and every sequence trains it"
            )

    @property
    def needs(self) -> Needs:
        doubled_share = 1 - self.diffusion_share
        return Needs(attention="causal", extra_input_ids=1, doubled_share=doubled_share)

    @property
    def diffusion_share(self) -> float:
        """Share of training sequences for the diffusion term: all or none with one term only."""
        return self.alpha_0 if self.alpha_0 in (0, 1) else self.batch_split

    def corrupt(self, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator) -> Tensor:
        """Draw z_t given x_0; t = 0 masks a share 1 − alpha_0."""
        return self._mask(x0_BL, self._masked_share(t_B), rng)

    def noisy_batch(self, x0_BL: Tensor, rng: torch.Generator) -> NoisyBatch:
        """The first `diffusion_share` of the sequences at stratified t, the others at t = 0."""
        # Rounded up or down so that the mean is the share: one always rounded one way is another.
        n_exact = self.diffusion_share * x0_BL.shape[0]
        n_diffusion = round(n_exact)
        if n_diffusion != n_exact:
            n_diffusion = math.floor(n_exact + uniform_draws((), rng).item())
        t_B = torch.zeros(x0_BL.shape[0], device=rng.device)
        if n_diffusion:
            t_B[:n_diffusion] = T_MIN + (1 - T_MIN) * stratified(n_diffusion, rng)
        t_B = t_B.to(x0_BL.device)
        zt_BL = self.corrupt(x0_BL, t_B, rng)
        return self._batch(x0_BL, zt_BL, t_B, t_B == 0, rng)

    def loss(self, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
        """The sum of the averages of both terms, each over its own sequences."""
        # Each sequence trains one term, so each term is divided by its share of the sequences.
        is_sequential_B = batch.t_B == 0
        share_B = torch.where(is_sequential_B, 1 - self.diffusion_share, self.diffusion_share)
        weight_B = torch.ones_like(batch.t_B)
        if self.objective == "nelbo":  # −alpha'_t / (1 − alpha_t) = alpha_0 / m
            weight_B = self.alpha_0 / self._masked_share(batch.t_B)
        weight_B = torch.where(is_sequential_B, 1.0, weight_B)
        return (weight_B / share_B)[:, None] * self._masked_nll(denoiser, batch)

    def bound(
        self, denoiser: Denoiser, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator
    ) -> BoundDraw:
        """The diffusion term on the grid below alpha_0, the sequential term above."""
        u_B, lowest = t_B.to(x0_BL.device), math.sqrt(1 - self.alpha_0)
        is_sequential_B = u_B >= self.alpha_0
        # The diffusion term is the integral of 1/m over the masked share m, 1 − alpha_0 to 1. The
        # grid is even in r = sqrt(m): the variance grows like 1/m. dm/du = 2r / (1 + lowest).
        root_B = (lowest + u_B / (1 + lowest)).clamp(min=1e-6)  # at 0 the density is 0 / 0
        weight_B = torch.where(is_sequential_B, 1.0, 2 * root_B / (1 + lowest))
        m_B = torch.where(is_sequential_B, 1 - self.alpha_0, root_B.square())
        level_B = torch.where(is_sequential_B, 0.0, (m_B - (1 - self.alpha_0)) / self.alpha_0)
        zt_BL = self._mask(x0_BL, m_B, rng)
        batch = self._batch(x0_BL, zt_BL, level_B, is_sequential_B, rng)
        # In a batch the sequences of the diffusion term come first.
        first_B = is_sequential_B.long().argsort(stable=True)
        nll_BL = self._masked_nll(denoiser, batch.taken(first_B))[first_B.argsort()]
        token_weight_BL = (weight_B / m_B)[:, None] * (zt_BL == self.vocab_size)
        return BoundDraw(token_weight_BL * nll_BL, token_weight_BL[..., None])

    def _masked_share(self, t: Tensor) -> Tensor:
        return (1 - self.alpha_0) + self.alpha_0 * t

    def _mask(self, x0_BL: Tensor, m_B: Tensor, rng: torch.Generator) -> Tensor:
        u_BL = uniform_draws(tuple(x0_BL.shape), rng).to(x0_BL.device)
        return torch.where(u_BL < per_token(m_B, x0_BL), self.vocab_size, x0_BL)

    def _batch(
        self,
        x0_BL: Tensor,
        zt_BL: Tensor,
        t_B: Tensor,
        is_sequential_B: Tensor,
        rng: torch.Generator,
    ) -> NoisyBatch:
        order_BL = self._order(zt_BL, is_sequential_B, rng)
        is_masked_BL = zt_BL == self.vocab_size
        return NoisyBatch(
            x0_BL, zt_BL, t_B, order_BL, scored_BL=is_masked_BL, doubled_B=is_sequential_B
        )

    def _order(self, zt_BL: Tensor, is_sequential_B: Tensor, rng: torch.Generator) -> Tensor:
        """Positions as the network reads them: clean ones in random order, then masked ones."""
        random_BL = uniform_draws(tuple(zt_BL.shape), rng).to(zt_BL.device)
        ascending_L = torch.linspace(0, 1, zt_BL.shape[1], device=zt_BL.device)
        # Masked ones from left to right for the sequential term, else in random order, too.
        masked_BL = torch.where(is_sequential_B[:, None], ascending_L, random_BL)
        key_BL = torch.where(zt_BL == self.vocab_size, 2 + masked_BL, random_BL)
        return key_BL.argsort(dim=1, stable=True)

    def _masked_nll(self, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
        """−log x_theta at the masked positions, 0 elsewhere, (B, L), positions as they come."""
        is_masked_BL, is_sequential_B = batch.scored_BL, batch.doubled_B
        if is_masked_BL is None or is_sequential_B is None:
            is_masked_BL, is_sequential_B = batch.zt_BL == self.vocab_size, batch.t_B == 0
            batch = dataclasses.replace(batch, scored_BL=is_masked_BL)
        order_BL, masked_R = batch.order_BL, batch.scored_rows()
        assert order_BL is not None
        assert masked_R is not None
        x_BL, z_BL = (ids_BL.gather(1, order_BL) for ids_BL in (batch.x0_BL, batch.zt_BL))
        length = x_BL.shape[1]
        # Nothing waits for an accelerator here: in training these two masks are on the CPU.
        n_first = len(x_BL) - int(is_sequential_B.sum())
        assert not is_sequential_B[:n_first].any()
        first_R, second_R = masked_R.tensor_split((int(is_masked_BL[:n_first].sum()),))
        terms = [
            (slice(n_first), first_R, diffusion_reading),
            (slice(n_first, None), second_R - n_first * length, sequential_reading),
        ]
        log_p = []
        for part, rows_R, reading_of in terms:
            if len(x_BL[part]):
                reading = reading_of(x_BL[part], z_BL[part], order_BL[part])
                log_p.append(reading.log_p(denoiser, x_BL[part], batch.t_B[part], rows_R))
        log_p_BL = torch.cat(log_p)
        return torch.zeros_like(log_p_BL).scatter(1, order_BL, -log_p_BL)

    def given_prefix(self, denoiser: Denoiser, prefix_BP: Tensor) -> Denoiser:
        # Clean tokens come first in the order it is trained in, so a prefix is read as they are.
        return CausalAfterPrefix(denoiser, prefix_BP, n_before=0)

    @property
    def samplers(self) -> Mapping[str, Sampler]:
        return {"ancestral": self._ancestral, "block": self._block}

    def _ancestral(self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator) -> Samples:
        """Diffusion steps in a random order, then the rest one by one from left to right."""
        counts, n_left = [], plan.seq_len
        for steps_left in range(plan.n_steps, 0, -1):
            t, dt = steps_left / plan.n_steps, 1 / plan.n_steps
            # (alpha_s − alpha_t) / (1 − alpha_t) with alpha_t = alpha_0 (1 − t), s = t − dt.
            p_decided = self.alpha_0 * dt / (1 - self.alpha_0 * (1 - t))
            # How many tokens a step decides is drawn once for all sequences, as in masked
            # diffusion.
            counts.append(int((uniform_draws((n_left,), rng) < p_decided).sum()))
            n_left -= counts[-1]
        order_BL = uniform_draws((plan.n_sequences, plan.seq_len), rng).argsort(dim=1)
        n_diffused = plan.seq_len - n_left
        rest_BL = order_BL[:, n_diffused:].sort(dim=1).values
        order_BL = torch.cat([order_BL[:, :n_diffused], rest_BL], dim=1)
        return self._decode(denoiser, plan, order_BL, [*filter(None, counts), *[1] * n_left], rng)

    def _block(self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator) -> Samples:
        """In each step, tokens n_steps apart: far from each other, so nearly independent."""
        apart = min(plan.n_steps, plan.seq_len)
        offsets = torch.randperm(apart, generator=rng, device=rng.device).tolist()
        groups = [torch.arange(offset, plan.seq_len, apart) for offset in offsets]
        order_BL = torch.cat(groups).to(rng.device).expand(plan.n_sequences, -1)
        return self._decode(denoiser, plan, order_BL, [len(g) for g in groups], rng)

    def _decode(
        self,
        denoiser: Denoiser,
        plan: SamplingPlan,
        order_BL: Tensor,
        counts: list[int],
        rng: torch.Generator,
    ) -> Samples:
        """Decide tokens in the given order, `counts` at a time."""
        decoder, n_known = incremental_decoder(denoiser, plan), 0
        decided = [order_BL[:, :0]]
        for count in counts:
            # Each step reads the tokens that the last one decided, which are final, and then the
            # masks of those to decide (the cached sampler of arXiv 2506.01928).
            latest_BN = decided[-1]
            masks_BN = torch.full_like(order_BL[:, :count], self.vocab_size)
            positions_BN = order_BL[:, n_known - latest_BN.shape[1] : n_known + count]
            ids_BN = torch.cat([latest_BN, masks_BN], dim=1)
            logits_BNV = decoder.decode(ids_BN, positions_BN, n_final=latest_BN.shape[1])
            decided.append(draw(tempered(logits_BNV[:, -count:], plan), rng))
            n_known += count
        tokens_BL = torch.cat(decided, dim=1)
        return Samples(torch.zeros_like(tokens_BL).scatter(1, order_BL, tokens_BL), len(counts))


@dataclass(frozen=True)
class Reading:
    """What the network reads for a term: N inputs, the first L for the tokens to predict."""

    z_BN: Tensor
    positions_BN: Tensor
    visible_NN: Tensor | None

    def log_p(self, denoiser: Denoiser, x_BL: Tensor, t_B: Tensor, rows_R: Tensor) -> Tensor:
        """log x_theta(x) at flat positions b · L + l, 0 elsewhere, (B, L)."""
        length, n_inputs = x_BL.shape[1], self.z_BN.shape[1]
        query = Query(
            (x_BL.repeat(1, n_inputs // length),),
            rows_R=rows_R + rows_R // length * (n_inputs - length),
        )
        reading = {"positions_BL": self.positions_BN, "visible_BLL": self.visible_NN}
        (log_p_BN,) = score(denoiser, self.z_BN, t_B, query, **reading)
        return log_p_BN[:, :length]


def diffusion_reading(_x_BL: Tensor, z_BL: Tensor, order_BL: Tensor) -> Reading:
    """For x_theta(. | clean tokens), causal in the order given."""
    return Reading(z_BL, order_BL, visible_NN=None)


def sequential_reading(x_BL: Tensor, z_BL: Tensor, order_BL: Tensor) -> Reading:
    """For x_theta(. | true tokens earlier in the order): the doubled sequence [z ; x]."""
    return Reading(
        torch.cat([z_BL, x_BL], dim=1),
        torch.cat([order_BL, order_BL], dim=1),
        doubled_visibility(z_BL.shape[1], z_BL.device),
    )


def doubled_visibility(length: int, device: torch.device) -> Tensor:
    """Which input of [z ; x] reads which: z itself and earlier x; x itself and earlier x."""
    itself_LL = torch.eye(length, dtype=torch.bool, device=device)
    earlier_LL = torch.ones_like(itself_LL).tril(-1)
    nothing_LL = torch.zeros_like(itself_LL)
    z_rows = torch.cat([itself_LL, earlier_LL], dim=1)
    x_rows = torch.cat([nothing_LL, itself_LL | earlier_LL], dim=1)
    return torch.cat([z_rows, x_rows], dim=0)
