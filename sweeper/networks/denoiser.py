"""The backbone as families see it: in the arithmetic of its trial, with or without a cache."""

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sweeper.networks.attention import Cache
from sweeper.networks.backbone import Backbone
from sweeper.trials.trial import Precision


@dataclass(frozen=True)
class BackboneDenoiser:
    """A `CachingDenoiser`; float32 logits or wider."""

    backbone: Backbone
    precision: Precision
    wrapper: nn.Module | None = None
    """What is called in its place where something has to happen around each call."""

    def __call__(
        self,
        z_BL: Tensor,
        t_B: Tensor,
        /,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, L, V); see `Denoiser`."""
        network = self.wrapper or self.backbone
        with self.arithmetic(z_BL.device):
            logits_BLV: Tensor = network(
                z_BL, t_B, positions_BL=positions_BL, visible_BLL=visible_BLL
            )
        return logits_BLV

    def cached_reader(self, capacity: int) -> "CachedReader":
        """A reader that feeds the network every final input once."""
        # Elsewhere what an input makes of its left depends on its right, and no value is final.
        assert self.backbone.is_causal
        return CachedReader(self, Cache(self.backbone.rung.n_layers, capacity))

    def arithmetic(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """In which the network computes."""
        is_mixed = self.precision == "bfloat16"
        return torch.autocast(device.type, torch.bfloat16, enabled=is_mixed)


@dataclass(frozen=True)
class CachedReader:
    """A `Reader` whose network keeps keys and values of what it has read for good."""

    denoiser: BackboneDenoiser
    cache: Cache

    @torch.no_grad()
    def read(self, ids_BN: Tensor, positions_BN: Tensor, n_final: int) -> Tensor:
        """Logits (B, N, V) of the new inputs."""
        level_B = torch.zeros(ids_BN.shape[0], device=ids_BN.device)
        with self.denoiser.arithmetic(ids_BN.device):
            logits_BNV: Tensor = self.denoiser.backbone(
                ids_BN, level_B, positions_BL=positions_BN, cache=self.cache
            )
        self.cache.keep(n_final)
        return logits_BNV
