"""What samplers share: calls of the denoiser, and drawing tokens from its logits.

Shapes: B sequences, L positions, N of them, V ids.
"""

import torch
from torch import Tensor

from sweeper.families.base import CachingDenoiser, Denoiser, IncrementalDecoder, SamplingPlan


def logits_at(denoiser: Denoiser, z_BL: Tensor, t: float) -> Tensor:
    """Logits with every sequence at noise level t."""
    return denoiser(z_BL, torch.full((z_BL.shape[0],), t, device=z_BL.device))


class UncachedDecoder:
    """An `IncrementalDecoder` over any denoiser: it feeds it all final inputs in every call."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self._final: tuple[Tensor, Tensor] | None = None
        """Final ids and their positions."""

    def decode(self, ids_BN: Tensor, positions_BN: Tensor, n_final: int) -> Tensor:
        """Logits (B, N, V) of the new inputs."""
        n_new, n_known = ids_BN.shape[1], 0
        if self._final is not None:
            n_known = self._final[0].shape[1]
            ids_BN = torch.cat([self._final[0], ids_BN], dim=1)
            positions_BN = torch.cat([self._final[1], positions_BN], dim=1)
        self._final = ids_BN[:, : n_known + n_final], positions_BN[:, : n_known + n_final]
        level_B = torch.zeros(ids_BN.shape[0], device=ids_BN.device)
        return self.denoiser(ids_BN, level_B, positions_BL=positions_BN)[:, -n_new:]


def incremental_decoder(denoiser: Denoiser, plan: SamplingPlan) -> IncrementalDecoder:
    """One with a cache where the plan wants it and the denoiser has one."""
    if plan.keeps_cache and isinstance(denoiser, CachingDenoiser):
        return denoiser.incremental_decoder(plan.seq_len)
    return UncachedDecoder(denoiser)


def tempered(logits_BLV: Tensor, plan: SamplingPlan) -> Tensor:
    """x_theta at the plan's temperature, cut to its nucleus, (B, L, V) float64."""
    # Float32 Gumbel noise would cut off the tail of every distribution and so lower the effective
    # temperature (arXiv 2409.02908): we draw by inversion, in float64.
    if plan.temperature == 0:
        best_BL = logits_BLV.argmax(dim=-1)
        return torch.nn.functional.one_hot(best_BL, logits_BLV.shape[-1]).double()
    return nucleus((logits_BLV.double() / plan.temperature).softmax(dim=-1), plan.top_p)


def nucleus(p_BLV: Tensor, top_p: float) -> Tensor:
    """The fewest, most probable tokens whose mass reaches top_p, renormalised."""
    if top_p == 1:
        return p_BLV
    sorted_BLV, ids_BLV = p_BLV.sort(dim=-1, descending=True)
    is_out_BLV = sorted_BLV.cumsum(dim=-1) - sorted_BLV >= top_p
    kept_BLV = torch.zeros_like(p_BLV).scatter(-1, ids_BLV, sorted_BLV.masked_fill(is_out_BLV, 0))
    return kept_BLV / kept_BLV.sum(dim=-1, keepdim=True)


def draw(p_BLV: Tensor, rng: torch.Generator) -> Tensor:
    """One id per position, (B, L), by inverting the cumulative distribution of float64 weights."""
    u_BL = torch.rand(p_BLV.shape[:-1], generator=rng, device=rng.device, dtype=torch.float64)
    cumulative_BLV = p_BLV.cumsum(dim=-1)
    total_BL1 = cumulative_BLV[..., -1:]
    # A product rounded up to the total would point past the last id.
    level_BL1 = (u_BL.to(p_BLV.device)[..., None] * total_BL1).clamp(
        max=total_BL1.nextafter(torch.zeros_like(total_BL1))
    )
    return torch.searchsorted(cumulative_BLV, level_BL1, right=True)[..., 0]


def rewritten(
    z_BL: Tensor, positions_BN: Tensor, logits_BLV: Tensor, plan: SamplingPlan, rng: torch.Generator
) -> Tensor:
    """z with tokens drawn from x_theta at N positions of each sequence."""
    there_BNV = positions_BN[..., None].expand(-1, -1, logits_BLV.shape[-1])
    tokens_BN = draw(tempered(logits_BLV.gather(1, there_BNV), plan), rng)
    return z_BL.scatter(1, positions_BN, tokens_BN)
