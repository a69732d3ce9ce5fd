"""A joint distribution small enough to enumerate, and the perfect predictor for it.

The noise kernel is written out here from its definition, with no code of the families, so that
both sides of a comparison are independent.

Shapes: B sequences, L positions, V tokens, E = V + 1 input ids, X = V^L sequences, Q nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Share = Callable[[Tensor], Tensor]
"""The uniform share s of the noise at level t; the rest is mask."""


def masked_share(t: Tensor) -> Tensor:
    return torch.zeros_like(t)


def uniform_share(t: Tensor) -> Tensor:
    return torch.ones_like(t)


def hybrid_share(shift: float, scale: float = 1.0) -> Share:
    return lambda t: torch.sigmoid(scale * torch.log((1 - t) / t) + shift)


def kernel(share: Share, t: Tensor, n_tokens: int) -> Tensor:
    """q_t(z | x), one matrix (…, E, V) per noise level, float64."""
    t = t.double()[..., None, None]
    noise = torch.cat([(share(t) / n_tokens).expand(*t.shape[:-2], n_tokens, 1), 1 - share(t)], -2)
    return (1 - t) * torch.eye(n_tokens + 1, n_tokens, dtype=torch.float64) + t * noise


@dataclass(frozen=True)
class TinyJoint:
    """A distribution over all sequences of `seq_len` tokens."""

    n_tokens: int
    seq_len: int
    p_X: Tensor

    @classmethod
    def random(cls, n_tokens: int, seq_len: int, seed: int = 0) -> "TinyJoint":
        """Far from uniform and from independent: log-probabilities with standard deviation 1.5."""
        rng = torch.Generator().manual_seed(seed)
        logits_X = 1.5 * torch.randn(n_tokens**seq_len, generator=rng, dtype=torch.float64)
        return cls(n_tokens, seq_len, logits_X.softmax(0))

    @property
    def x_XL(self) -> Tensor:
        ids = torch.arange(self.n_tokens)
        return torch.cartesian_prod(*[ids] * self.seq_len).reshape(-1, self.seq_len)

    @property
    def nll_X(self) -> Tensor:
        return -self.p_X.log()

    def index(self, x_BL: Tensor) -> Tensor:
        """Row of `x_XL` of each sequence."""
        powers_L = self.n_tokens ** torch.arange(self.seq_len - 1, -1, -1)
        return (x_BL * powers_L).sum(-1)


@dataclass(frozen=True)
class PerfectDenoiser:
    """p(x_l | z without position l): what every bound here is minimised by."""

    joint: TinyJoint
    share: Share
    sees_own_position: bool = False
    """Predict p(x_l | z) instead: better for a sampler's eye, worse for the bound."""

    def __call__(self, z_BL: Tensor, t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
        n_tokens, x_XL = self.joint.n_tokens, self.joint.x_XL
        t_B1 = t_B[:, None] if t_B.dim() == 1 else t_B
        q_BLEV = kernel(self.share, t_B1, n_tokens).expand(*z_BL.shape, -1, -1)
        q_BLV = q_BLEV.gather(2, z_BL[..., None, None].expand(-1, -1, 1, n_tokens))[:, :, 0]
        logits = []
        for position in range(self.joint.seq_len):
            weight_BX = self.joint.p_X.expand(z_BL.shape[0], -1)
            for other in range(self.joint.seq_len):
                if other != position or self.sees_own_position:
                    weight_BX = weight_BX * q_BLV[:, other, x_XL[:, other]]
            is_token_XV = torch.nn.functional.one_hot(x_XL[:, position], n_tokens).double()
            logits.append((weight_BX @ is_token_XV).log())
        return torch.stack(logits, dim=1)


@dataclass(frozen=True)
class PerfectReader:
    """p(x at a position | all tokens that its input may read); causal unless told otherwise."""

    joint: TinyJoint

    def __call__(
        self,
        z_BL: Tensor,
        _t_B: Tensor,
        /,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
    ) -> Tensor:
        assert positions_BL is not None
        n_inputs, x_XL = z_BL.shape[1], self.joint.x_XL
        if visible_BLL is None:
            visible_BLL = torch.ones(n_inputs, n_inputs, dtype=torch.bool).tril()
        x_BLX = x_XL.T[positions_BL]
        fits_BLX = (z_BL[..., None] == self.joint.n_tokens) | (z_BL[..., None] == x_BLX)
        logits = []
        for reader in range(n_inputs):
            fits_BX = (fits_BLX | ~visible_BLL[reader][None, :, None]).all(dim=1)
            is_token_BXV = torch.nn.functional.one_hot(x_BLX[:, reader], self.joint.n_tokens)
            weight_BX = fits_BX * self.joint.p_X
            logits.append(torch.einsum("bx,bxv->bv", weight_BX, is_token_BXV.double()).log())
        return torch.stack(logits, dim=1)


@dataclass(frozen=True)
class PerfectPrefixDenoiser:
    """p(x_l | x_1 … x_{l−1}) from a start token and a prefix of any length."""

    joint: TinyJoint

    def __call__(self, z_BL: Tensor, _t_B: Tensor, /, **_order: Tensor | None) -> Tensor:
        joint, logits = self.joint, []
        for position in range(z_BL.shape[1]):
            prefix_B1L, x_XL = z_BL[:, None, 1 : position + 1], joint.x_XL
            weight_BX = joint.p_X * (x_XL[:, :position] == prefix_B1L).all(-1)
            is_token_XV = torch.nn.functional.one_hot(x_XL[:, position], joint.n_tokens).double()
            logits.append((weight_BX @ is_token_XV).log())
        return torch.stack(logits, dim=1)


def quadrature(n_nodes: int = 100, log_snr: float = 20.0) -> tuple[Tensor, Tensor]:
    """Nodes and weights for an integral over t in (0, 1): Gauss–Legendre in log-SNR.

    It resolves the log(t) that uniform noise leaves at t = 0. The mass it cuts off is 4e-9.
    """
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(n_nodes))
    t_Q = torch.sigmoid(-log_snr * nodes)
    return t_Q, weights * log_snr * t_Q * torch.sigmoid(log_snr * nodes)


def mean_over_noise(
    function: Callable[[Tensor, Tensor, Tensor], Tensor],
    joint: TinyJoint,
    share: Share,
    t: float,
) -> Tensor:
    """E over z ~ q_t(. | x) of function(x_BL, z_BL, t_B) summed over L, for every x, (X,)."""
    n_ids, seq_len, x_XL = joint.n_tokens + 1, joint.seq_len, joint.x_XL
    z_ZL = torch.cartesian_prod(*[torch.arange(n_ids)] * seq_len).reshape(-1, seq_len)
    x_BL = x_XL.repeat_interleave(len(z_ZL), 0)
    z_BL = z_ZL.repeat(len(x_XL), 1)
    q_EV = kernel(share, torch.tensor(t, dtype=torch.float64), joint.n_tokens)
    q_B = q_EV[z_BL, x_BL].prod(-1)
    possible_B = q_B > 0
    x_BL, z_BL, q_B = x_BL[possible_B], z_BL[possible_B], q_B[possible_B]
    t_B = torch.full((len(q_B),), t, dtype=torch.float64)
    nats_B = function(x_BL, z_BL, t_B).sum(-1)
    return torch.zeros(len(x_XL), dtype=torch.float64).index_add(0, joint.index(x_BL), q_B * nats_B)
