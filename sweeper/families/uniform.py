"""Uniform-state diffusion (Duo, arXiv 2506.10892): tokens turn into other tokens, and can return.

    q(z_t | x)   x with probability alpha_t, otherwise a token drawn uniformly from all V

The density needs one V-wide sum beyond the log-softmax, and loses no digits in float32: all terms
are small where their sum is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sweeper.families._mixing import AbstractMixing, itakura_saito, softplus_drop
from sweeper.families._scores import softplus
from sweeper.families.base import LATER_OPTION, Needs, Sampler, per_token


@dataclass(frozen=True)
class Family(AbstractMixing):
    """Uniform-state diffusion, trained on its bound or on the bound without its weight."""

    objective: Literal["nelbo", "unweighted"] = field(default="nelbo", metadata=LATER_OPTION)
    """Duo trains on its bound; `unweighted` multiplies its density by alpha (1 − alpha), as the
    study of GIDD does (`hybrid` with shift inf is the same)."""

    def __post_init__(self) -> None:
        if self.objective not in ("nelbo", "unweighted"):
            raise ValueError(f"objective {self.objective!r}: expected nelbo or unweighted")

    @property
    def needs(self) -> Needs:
        return Needs(attention="bidirectional", extra_input_ids=0, time_conditioning=True)

    def log_shares(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.full_like(t, -math.inf)

    def nelbo_of(
        self, scores: tuple[Tensor, ...], x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        t_BL = per_token(t_B, x0_BL)
        # kappa = V alpha / (1 − alpha), h_j = log(1 + kappa x_theta(j)), h* = log(1 + kappa)
        log_kappa_BL = self.log_kappa(t_BL)
        log_p_x_BL, log_p_z_BL, h_sum_BL = scores
        drop_BL = softplus_drop(log_kappa_BL, log_p_x_BL)  # h* − h_x
        is_kept_BL = zt_BL == x0_BL
        # d = log of the ratio of scores at z: h* − h_x where z = x, −h_z elsewhere.
        d_BL = torch.where(is_kept_BL, drop_BL, -softplus(log_kappa_BL + log_p_z_BL))
        # W = 1 / (1 + kappa) where z = x, 1 elsewhere.
        weight_BL = torch.where(is_kept_BL, torch.sigmoid(-log_kappa_BL), 1.0)
        # W / (V alpha) · { (V + kappa) IS(d) + kappa (h* − h_x) + h* − sum_j h_j }: Eq. 8 of arXiv
        # 2506.10892, a sum over V of score-entropy terms, without one-hot vectors.
        kappa_BL = log_kappa_BL.exp()
        divergence_BL = kappa_BL * drop_BL + softplus(log_kappa_BL) - h_sum_BL
        terms_BL = (self.vocab_size + kappa_BL) * itakura_saito(d_BL) + divergence_BL
        return weight_BL * terms_BL / (self.vocab_size * (1 - t_BL))

    def loss_of(
        self, scores: tuple[Tensor, ...], x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        nats_BL = self.nelbo_of(scores, x0_BL, zt_BL, t_B)
        if self.objective == "nelbo":
            return nats_BL
        # The density in the log-SNR lambda: dlambda/dt = −1 / (alpha (1 − alpha)).
        t_BL = per_token(t_B, x0_BL)
        return nats_BL * t_BL * (1 - t_BL)

    @property
    def samplers(self) -> Mapping[str, Sampler]:
        return {"ancestral": self._ancestral, "greedy_tail": self._greedy_tail}
