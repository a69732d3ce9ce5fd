"""Conditional training: some sequences keep a clean prefix, and the rest is denoised given it.

arXiv 2512.10858 (§3.4 of our specification): a sequence is conditional with probability `share`;
its prefix then covers a fraction arccos(1 − 2r) / pi of the positions, r uniform. Clean tokens
carry no loss and read clean tokens only, as the prompt of a conversation is read once and kept;
noisy ones read everything. So it asks for a family that reads both sides.

Shapes: B sequences, L positions.
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
    """The family's loss given the clean tokens of a batch, (B, L): 0 where they are."""
    assert batch.clean_BL is not None
    reader = functools.partial(denoiser, visible_BLL=prompt_visibility(batch.clean_BL))
    return family.loss(reader, batch).masked_fill(batch.clean_BL, 0)


def prompt_visibility(clean_BL: Tensor) -> Tensor:
    """Which input reads which, (B, L, L): a clean query reads clean keys, a noisy one all."""
    return ~clean_BL[:, :, None] | clean_BL[:, None, :]
