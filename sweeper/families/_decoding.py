"""How samplers of causal families read: each input once where the denoiser keeps what it read.

Shapes: B sequences, N new inputs, V vocabulary.
"""

import torch
from torch import Tensor

from sweeper.families.base import CachingDenoiser, Denoiser, Reader, SamplingPlan


class Rereader:
    """A Reader on any denoiser: it feeds it everything anew in every call."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self._final: tuple[Tensor, Tensor] | None = None
        """Final ids and their positions."""

    def read(self, ids_BN: Tensor, positions_BN: Tensor, n_final: int) -> Tensor:
        """Logits (B, N, V) of the new inputs."""
        n_new, n_known = ids_BN.shape[1], 0
        if self._final is not None:
            n_known = self._final[0].shape[1]
            ids_BN = torch.cat([self._final[0], ids_BN], dim=1)
            positions_BN = torch.cat([self._final[1], positions_BN], dim=1)
        self._final = ids_BN[:, : n_known + n_final], positions_BN[:, : n_known + n_final]
        level_B = torch.zeros(ids_BN.shape[0], device=ids_BN.device)
        return self.denoiser(ids_BN, level_B, positions_BL=positions_BN)[:, -n_new:]


def reader_of(denoiser: Denoiser, plan: SamplingPlan) -> Reader:
    """How a plan reads through a denoiser."""
    if plan.keeps_cache and isinstance(denoiser, CachingDenoiser):
        return denoiser.cached_reader(plan.seq_len)
    return Rereader(denoiser)
