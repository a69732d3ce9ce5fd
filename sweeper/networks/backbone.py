"""The transformer every family trains, and the denoiser that families see of it.

Shapes: B batch, N new inputs, M inputs read, L sequence length (N = M = L without a cache),
D width, V vocabulary.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sweeper.families._scores import Query
from sweeper.families.base import Needs, at_least_float32
from sweeper.networks import dit, gidd
from sweeper.networks.attention import (
    AttentionContext,
    KVCache,
    rotary_angles,
    visibility_bias,
)
from sweeper.networks.head import head_scores
from sweeper.trials.ladder import BackboneName, Rung
from sweeper.trials.trial import Precision, Trial

EVALUATION_BYTES = 2**30

ARCHITECTURES = {"gidd": gidd.ARCHITECTURE, "dit": dit.ARCHITECTURE}


class Backbone(nn.Module):
    """Ids (B, N) to logits (B, N, V) or to what is asked of them, float32 or wider."""

    recomputes = False
    """Whether the backward pass computes what is inside the blocks again, to save its memory."""

    def __init__(
        self,
        rung: Rung,
        vocab_size: int,
        extra_input_ids: int,
        attention: Literal["causal", "bidirectional"],
        architecture: BackboneName = "gidd",
        *,
        is_time_conditioned: bool = False,
    ) -> None:
        super().__init__()
        self.rung, self.is_causal = rung, attention == "causal"
        self.is_time_conditioned = is_time_conditioned
        self._architecture = layers = ARCHITECTURES[architecture]
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

        Memory of a block is not touched before it is drawn. `after_block` may move or shard it
        then, so that no machine ever holds the whole of a large network.
        """
        with torch.no_grad():
            self._architecture.embedding_init(self.embedding, rng)
            for block in self.blocks:
                self._architecture.init(block, rng)
                after_block(block)
            if self.conditioner is not None:
                self._architecture.init(self.conditioner, rng)

    def forward(
        self,
        z_BN: Tensor,
        t_B: Tensor,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
        cache: KVCache | None = None,
        query: Query | None = None,
    ) -> Tensor:
        """Logits of every new input; `positions_BL` and `visible_BLL` are those of `Denoiser`.

        With a query, the S numbers it asks for in their place, (S, B, N).

        With a cache the inputs follow those it keeps, and read them too; the caller says
        afterwards which of the new ones to keep.
        """
        context = self._context(z_BN, positions_BL, visible_BLL, cache)
        if self.conditioner is not None:
            # One level of 0 per sequence, even where each token has its own: as `flops.py` counts.
            level_B = t_B if self.is_time_conditioned else t_B.new_zeros(t_B.shape[0])
            context = dataclasses.replace(context, condition_BNC=self.conditioner(level_B))
        h_BND = functional.embedding(z_BN, self.embedding)
        for i, block in enumerate(self.blocks):
            if cache is not None:
                context = dataclasses.replace(context, cache=cache.layers[i])
            if self.recomputes and torch.is_grad_enabled():
                # No layer draws random numbers, so there is no random state to preserve.
                h_BND = checkpoint(
                    block, h_BND, context, use_reentrant=False, preserve_rng_state=False
                )
            else:
                h_BND = block(h_BND, context)
        h_BND = self.final(h_BND, context)
        if query is not None:
            return head_scores(h_BND, self.head, self.head_bias, query)
        return at_least_float32(functional.linear(h_BND, self.head, self.head_bias))

    def _context(
        self,
        z_BN: Tensor,
        positions_BN: Tensor | None,
        visible_BNM: Tensor | None,
        cache: KVCache | None,
    ) -> AttentionContext:
        n_new, n_kept = z_BN.shape[1], cache.n_kept if cache else 0
        is_causal = visible_BNM is None and self.is_causal
        if is_causal and n_kept:  # all cached inputs, the new ones before it, and itself
            every_NM = torch.ones(n_new, n_kept + n_new, dtype=torch.bool, device=z_BN.device)
            visible_BNM = every_NM.tril(n_kept)
        dtype = self.embedding.dtype
        bias_BNM = None if visible_BNM is None else visibility_bias(visible_BNM, dtype)
        if positions_BN is None:
            positions_BN = torch.arange(n_kept, n_kept + n_new, device=z_BN.device)
        rotation = rotary_angles(positions_BN, self.rung.head_width)
        return AttentionContext(rotation, bias_BNM, is_causal=is_causal and not n_kept)

    def sequences_at_once(self, seq_len: int) -> int:
        """As many as a pass without gradients reads in about EVALUATION_BYTES."""
        # What one layer holds at its widest, in float32: a few copies of its attention logits, or
        # of its hidden layers. The head has a limit of its own.
        width, n_heads = self.rung.width, self.rung.n_heads
        n_numbers = 4 * n_heads * seq_len**2 + 20 * width * seq_len
        return max(1, EVALUATION_BYTES // (4 * n_numbers))


def backbone_of(trial: Trial, needs: Needs) -> Backbone:
    """The network that a trial trains, its weights not yet drawn."""
    return Backbone(
        trial.rung,
        trial.data.vocab_size,
        needs.extra_input_ids,
        needs.attention,
        trial.backbone,
        is_time_conditioned=needs.time_conditioning,
    )


@dataclass(frozen=True)
class BackboneDenoiser:
    """A `CachingDenoiser` that answers queries, in the arithmetic of a trial."""

    backbone: Backbone
    precision: Precision
    wrapper: nn.Module | None = None
    """Called in place of the backbone where something has to happen around each call (DDP)."""

    def __call__(self, z_BL: Tensor, t_B: Tensor, /, **reading: Tensor | None) -> Tensor:
        """Logits (B, L, V); the keywords are those of `Denoiser`."""
        with self.autocast(z_BL.device):
            logits_BLV: Tensor = (self.wrapper or self.backbone)(z_BL, t_B, **reading)
        return logits_BLV

    def score(
        self, z_BN: Tensor, t_B: Tensor, query: Query, /, **reading: Tensor | None
    ) -> tuple[Tensor, ...]:
        """What the query asks for, (B, N) each."""
        # The head is inside the call of the wrapper, which gathers or reduces its weights, too.
        with self.autocast(z_BN.device):
            scores_SBN: Tensor = (self.wrapper or self.backbone)(z_BN, t_B, query=query, **reading)
        return scores_SBN.unbind()

    def incremental_decoder(self, capacity: int) -> "CachedDecoder":
        """A decoder that feeds the network every final input once."""
        # In a bidirectional network what an input makes of its left depends on its right.
        assert self.backbone.is_causal
        return CachedDecoder(self, KVCache(self.backbone.rung.n_layers, capacity))

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """The arithmetic of the network."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


@dataclass(frozen=True)
class CachedDecoder:
    """An `IncrementalDecoder` whose network caches keys and values of final inputs."""

    denoiser: BackboneDenoiser
    cache: KVCache

    @torch.no_grad()
    def decode(self, ids_BN: Tensor, positions_BN: Tensor, n_final: int) -> Tensor:
        """Logits (B, N, V) of the new inputs."""
        level_B = torch.zeros(ids_BN.shape[0], device=ids_BN.device)
        with self.denoiser.autocast(ids_BN.device):
            logits_BNV: Tensor = self.denoiser.backbone(
                ids_BN, level_B, positions_BL=positions_BN, cache=self.cache
            )
        self.cache.keep(n_final)
        return logits_BNV
