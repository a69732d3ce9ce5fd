"""Conditional training: some sequences keep a clean prefix, and the rest is denoised given it.

As in arXiv 2512.10858. Clean tokens carry no loss and read clean tokens only, as the prompt of a
conversation is read once and kept; noisy ones read everything, so the family must read both sides.

Shapes: B sequences, L positions, of which the first P are a prefix, V vocabulary.
"""

import dataclasses
import functools
import math

import torch
from torch import Tensor

from sweeper.families.base import AbstractFamily, Denoiser, NoisyBatch, uniform_draws


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
    return dataclasses.replace(batch, zt_BL=zt_BL, clean_BL=clean_BL)


def conditional_loss(family: AbstractFamily, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
    """The family's loss given the clean tokens of a batch, if any, (B, L): 0 where they are."""
    if batch.clean_BL is None:
        return family.loss(denoiser, batch)
    reader = functools.partial(denoiser, visible_BLL=prompt_visibility(batch.clean_BL))
    return family.loss(reader, batch).masked_fill(batch.clean_BL, 0)


def prefix_lengths(seq_len: int, n_lengths: int) -> list[int]:
    """Lengths at even quantiles of those trained on, 1 … seq_len − 1."""
    ranks = [(i + 0.5) / n_lengths for i in range(n_lengths)]
    fractions = [math.acos(1 - 2 * rank) / math.pi for rank in ranks]
    return [min(int(fraction * (seq_len - 1)) + 1, seq_len - 1) for fraction in fractions]


def after_prefix(denoiser: Denoiser, prefix_BP: Tensor) -> Denoiser:
    """A denoiser of what follows: inputs (B, L − P) to logits (B, L − P, V)."""
    n_prefix = prefix_BP.shape[1]

    def read(z_BL: Tensor, t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        whole_BL = torch.cat([prefix_BP, z_BL], dim=1)
        clean_L = torch.arange(whole_BL.shape[1], device=z_BL.device) < n_prefix
        if t_B.dim() > 1:  # levels per token: none where there is no noise
            t_B = torch.cat([t_B.new_zeros(prefix_BP.shape), t_B], dim=1)
        logits_BLV = denoiser(whole_BL, t_B, visible_BLL=prompt_visibility(clean_L[None]))
        return logits_BLV[:, n_prefix:]

    return read


def prompt_visibility(clean_BL: Tensor) -> Tensor:
    """Which input reads which, (B, L, L): a clean query reads clean keys, a noisy one all."""
    return ~clean_BL[:, :, None] | clean_BL[:, None, :]
