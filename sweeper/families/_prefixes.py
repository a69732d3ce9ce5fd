"""Conditional training: some sequences keep a clean prefix, and the rest is denoised given it.

As in arXiv 2512.10858. Clean tokens carry no loss and read clean tokens only, as the prompt of a
conversation is read once and kept; noisy ones read everything, so the family must read both sides.

Shapes: B sequences, L positions, of which the first P are a prefix, V vocabulary.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sweeper.families._scores import Query, score
from sweeper.families.base import (
    AbstractFamily,
    Denoiser,
    NoisyBatch,
    uniform_draws,
)


def clean_prefixes(n_sequences: int, seq_len: int, share: float, rng: torch.Generator) -> Tensor:
    """Which positions stay clean, (B, L) bool; at least the first of a conditional sequence."""
    is_conditional_B = uniform_draws((n_sequences,), rng) < share
    # A prefix covers arccos(1 − 2r) / pi of the positions, r uniform.
    fraction_B = torch.arccos(1 - 2 * uniform_draws((n_sequences,), rng)) / math.pi
    position_L = torch.arange(seq_len, device=rng.device)
    is_prefix_BL = position_L <= fraction_B[:, None] * (seq_len - 1)
    # A fraction that rounds to one would leave nothing to predict.
    is_prefix_BL[:, -1] = False
    return is_prefix_BL & is_conditional_B[:, None]


def with_prefixes(batch: NoisyBatch, clean_BL: Tensor) -> NoisyBatch:
    """The batch with those positions clean again."""
    clean_BL = clean_BL.to(batch.x0_BL.device)
    zt_BL = torch.where(clean_BL, batch.x0_BL, batch.zt_BL)
    scored_BL = ~clean_BL if batch.scored_BL is None else batch.scored_BL & ~clean_BL
    return dataclasses.replace(batch, zt_BL=zt_BL, clean_BL=clean_BL, scored_BL=scored_BL)


def conditional_loss(family: AbstractFamily, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
    """The family's loss given the clean tokens of a batch, if any, (B, L): 0 where they are."""
    if batch.clean_BL is None:
        return family.loss(denoiser, batch)
    reader = _PromptReader(denoiser, prompt_visibility(batch.clean_BL))
    return family.loss(reader, batch).masked_fill(batch.clean_BL, 0)


@dataclass(frozen=True)
class _PromptReader:
    """A denoiser that reads clean tokens as a prompt."""

    denoiser: Denoiser
    visible_BLL: Tensor

    def __call__(self, z_BL: Tensor, t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        return self.denoiser(z_BL, t_B, visible_BLL=self.visible_BLL)

    def score(
        self, z_BL: Tensor, t_B: Tensor, query: Query, /, **_: Tensor | None
    ) -> tuple[Tensor, ...]:
        return score(self.denoiser, z_BL, t_B, query, visible_BLL=self.visible_BLL)


def prefix_lengths(seq_len: int, n_lengths: int) -> list[int]:
    """Lengths at even quantiles of those trained on, 1 … seq_len − 1."""
    ranks = [(i + 0.5) / n_lengths for i in range(n_lengths)]
    fractions = [math.acos(1 - 2 * rank) / math.pi for rank in ranks]
    return [min(int(fraction * (seq_len - 1)) + 1, seq_len - 1) for fraction in fractions]


@dataclass(frozen=True)
class AfterPrefix:
    """A denoiser of what follows a prefix: inputs (B, L − P) to logits (B, L − P, V)."""

    denoiser: Denoiser
    prefix_BP: Tensor

    def __call__(self, z_BN: Tensor, t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        whole_BL, level_B, visible_BLL = self._whole(z_BN, t_B)
        logits_BLV = self.denoiser(whole_BL, level_B, visible_BLL=visible_BLL)
        return logits_BLV[:, self.prefix_BP.shape[1] :]

    def score(
        self, z_BN: Tensor, t_B: Tensor, query: Query, /, **_: Tensor | None
    ) -> tuple[Tensor, ...]:
        whole_BL, level_B, visible_BLL = self._whole(z_BN, t_B)
        n_prefix, n_rest = self.prefix_BP.shape[1], z_BN.shape[1]
        rows_R, log_kappa_BL = query.rows_R, query.log_kappa_BN
        if rows_R is None:
            rows_R = torch.arange(z_BN.numel(), device=z_BN.device)
        if log_kappa_BL is not None and log_kappa_BL.shape[1] > 1:
            log_kappa_BL = functional.pad(log_kappa_BL, (n_prefix, 0))
        whole = Query(
            tuple(torch.cat([self.prefix_BP, ids_BN], dim=1) for ids_BN in query.ids),
            log_kappa_BL,
            rows_R + (rows_R // n_rest + 1) * n_prefix,
        )
        scores = score(self.denoiser, whole_BL, level_B, whole, visible_BLL=visible_BLL)
        return tuple(values_BL[:, n_prefix:] for values_BL in scores)

    def _whole(self, z_BN: Tensor, t_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and levels of prefix and rest, and what reads what."""
        whole_BL = torch.cat([self.prefix_BP, z_BN], dim=1)
        clean_L = torch.arange(whole_BL.shape[1], device=z_BN.device) < self.prefix_BP.shape[1]
        if t_B.dim() > 1:  # levels per token: none where there is no noise
            t_B = torch.cat([t_B.new_zeros(self.prefix_BP.shape), t_B], dim=1)
        return whole_BL, t_B, prompt_visibility(clean_L[None])


def prompt_visibility(clean_BL: Tensor) -> Tensor:
    """Which input reads which, (B, L, L): a clean query reads clean keys, a noisy one all."""
    return ~clean_BL[:, :, None] | clean_BL[:, None, :]
