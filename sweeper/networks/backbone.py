"""The transformer every family trains: input table, blocks and head, with the layers of a preset.

`presets/` holds what differs between the two published networks and how layers read their inputs.

Shapes: B batch, N new inputs, M inputs read, L sequence length (N = M = L without a cache),
D width, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sweeper.families.base import Needs
from sweeper.networks import dit, gidd
from sweeper.networks.attention import (
    Cache,
    Reading,
    at_least_float32,
    causal_visibility,
    rotary_angles,
    visibility_bias,
)
from sweeper.trials.ladder import BackboneName, Rung
from sweeper.trials.trial import Trial

PRESETS = {"gidd": gidd.PRESET, "dit": dit.PRESET}


class Backbone(nn.Module):
    """Ids (B, N) to logits (B, N, V), float32 or wider."""

    recomputes = False
    """Whether the backward pass computes what is inside the blocks again, to save its memory."""

    def __init__(
        self,
        rung: Rung,
        vocab_size: int,
        extra_input_ids: int,
        attention: Literal["causal", "bidirectional"],
        preset: BackboneName = "gidd",
        *,
        is_told_level: bool = False,
    ) -> None:
        super().__init__()
        self.rung, self.is_causal = rung, attention == "causal"
        self.is_told_level = is_told_level
        self._preset = layers = PRESETS[preset]
        self.parametrization = layers.parametrization
        self.embedding = nn.Parameter(torch.empty(vocab_size + extra_input_ids, rung.width))
        self.conditioner = layers.conditioner() if layers.conditioner else None
        self.blocks = nn.ModuleList(layers.block(rung) for _ in range(rung.n_layers))
        self.final = layers.final(rung)
        self.head = nn.Parameter(torch.zeros(vocab_size, rung.width))
        self.head_bias = nn.Parameter(torch.zeros(vocab_size)) if layers.has_head_bias else None

    def initialize(
        self, rng: torch.Generator, after_block: Callable[[nn.Module], object] = lambda _: None
    ) -> None:
        """Draw the weights; the head starts at zero, and so do the logits.

        Memory of a block is not touched before it is drawn. `after_block` may move or cut it then,
        so that no machine ever holds the whole of a large network.
        """
        with torch.no_grad():
            self._preset.embedding_init(self.embedding, rng)
            for block in self.blocks:
                self._preset.init(block, rng)
                after_block(block)
            if self.conditioner is not None:
                self._preset.init(self.conditioner, rng)

    def forward(
        self,
        z_BN: Tensor,
        t_B: Tensor,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Logits of every new input; `positions_BL` and `visible_BLL` are those of `Denoiser`.

        With a cache the inputs follow those it keeps, and read them too; the caller says
        afterwards which of the new ones to keep.
        """
        reading = self._reading(z_BN, positions_BL, visible_BLL, cache)
        if self.conditioner is not None:
            # One level of 0 per sequence, even where each token has its own: as `flops.py` counts.
            level_B = t_B if self.is_told_level else t_B.new_zeros(t_B.shape[0])
            reading = dataclasses.replace(reading, condition_BNC=self.conditioner(level_B))
        h_BND = functional.embedding(z_BN, self.embedding)
        for i, block in enumerate(self.blocks):
            if cache is not None:
                reading = dataclasses.replace(reading, memory=cache.layers[i])
            h_BND = self._through(block, h_BND, reading)
        h_BND = self.final(h_BND, reading)
        return at_least_float32(functional.linear(h_BND, self.head, self.head_bias))

    def _through(self, block: nn.Module, h_BND: Tensor, reading: Reading) -> Tensor:
        if not (self.recomputes and torch.is_grad_enabled()):
            output_BND: Tensor = block(h_BND, reading)
            return output_BND
        # No layer draws random numbers, so there is no state of theirs to keep.
        again_BND: Tensor = checkpoint(
            block, h_BND, reading, use_reentrant=False, preserve_rng_state=False
        )
        return again_BND

    def _reading(
        self,
        z_BN: Tensor,
        positions_BN: Tensor | None,
        visible_BNM: Tensor | None,
        cache: Cache | None,
    ) -> Reading:
        n_new, n_kept = z_BN.shape[1], cache.n_kept if cache else 0
        if positions_BN is None:
            positions_BN = torch.arange(n_kept, n_kept + n_new, device=z_BN.device)
        is_causal = visible_BNM is None and self.is_causal
        if is_causal:
            visible_BNM = causal_visibility(n_new, n_kept, z_BN.device)
        bias_BHNM = None
        if visible_BNM is not None:
            bias_BHNM = visibility_bias(visible_BNM, self.embedding.dtype)
        rotation = rotary_angles(positions_BN, self.rung.head_width)
        return Reading(rotation, bias_BHNM, is_causal=is_causal and not n_kept)


def backbone_of(trial: Trial, needs: Needs) -> Backbone:
    """The network that a trial trains, its weights not yet drawn."""
    return Backbone(
        trial.rung,
        trial.data.vocab_size,
        needs.extra_input_ids,
        needs.attention,
        trial.backbone,
        is_told_level=needs.time_conditioning,
    )
