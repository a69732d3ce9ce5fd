"""The loss without the network before it: hidden rows that are given, and a head."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sweeper.families._scores import Query
from sweeper.families.base import AbstractDiffusion, AbstractFamily, NoisyBatch
from sweeper.networks.head import head_scores


@dataclass(frozen=True)
class HeadAlone:
    """A denoiser in bfloat16 that does not read its input."""

    h_BND: Tensor
    head_VD: Tensor

    @classmethod
    def drawn(cls, vocab_size: int, width: int, seq_len: int) -> "HeadAlone":
        rng = torch.Generator().manual_seed(0)
        h_BND, head_VD = (
            torch.randn(shape, generator=rng).requires_grad_()
            for shape in ((1, seq_len, width), (vocab_size, width))
        )
        return cls(h_BND, head_VD)

    def all_logits(self, _z_BN: Tensor, _t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        """Without an answer to queries."""
        with torch.autocast(self.h_BND.device.type, torch.bfloat16):
            return functional.linear(self.h_BND, self.head_VD).float()

    def __call__(self, z_BN: Tensor, t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        return self.all_logits(z_BN, t_B)

    def score(
        self, _z_BN: Tensor, _t_B: Tensor, query: Query, /, **_: Tensor | None
    ) -> tuple[Tensor, ...]:
        with torch.autocast(self.h_BND.device.type, torch.bfloat16):
            return head_scores(self.h_BND, self.head_VD, None, query).unbind()


def half_noisy(family: AbstractFamily, vocab_size: int, seq_len: int) -> NoisyBatch:
    """One sequence at noise level 1/2; without levels, as the family has it."""
    rng = torch.Generator().manual_seed(1)
    x0_BL = torch.randint(vocab_size, (1, seq_len), generator=rng)
    batch = family.noisy_batch(x0_BL, rng)
    if not isinstance(family, AbstractDiffusion):
        return batch
    t_B = torch.full((1,), 0.5)
    zt_BL = family.corrupt(x0_BL, t_B, rng)
    scored_BL = None if batch.scored_BL is None else zt_BL == vocab_size
    return dataclasses.replace(batch, zt_BL=zt_BL, t_B=t_B, scored_BL=scored_BL)
