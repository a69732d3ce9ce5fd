"""The transformer every family trains: the backbone of arXiv 2512.10858 §2.1.

Pre-norm blocks with RMSNorm, query–key norm over the full width, rotary positions, soft-capped
attention logits, one learned attention sink per head, a squared-ReLU MLP, no time conditioning.
Residual branches are scaled by 4 / layers and logits by 512 / width, so that one base learning
rate serves every width and depth (CompleteP; the optimiser's part is in `optimizer.py`).

Shapes: B batch, L sequence length, D width, H heads, K channels of a head, V vocabulary,
S the sink and the L keys.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.ladder import Rung

RMS_EPSILON = 1e-6
ROPE_BASE = 10_000.0
LOGIT_CAP = 30.0
"""Attention logits saturate here: cap · tanh(logit / cap)."""
INIT_SCALE = 0.4
"""Matrices start at N(0, (0.4 / sqrt(width))²)."""
EMBEDDING_STD = 0.02
RESIDUAL_SCALE = 4.0
"""Each residual branch is multiplied by this over the number of layers."""
HEAD_SCALE = 512.0
"""Logits are multiplied by this over the width."""


class RMSNorm(nn.Module):
    """x / rms(x) times a gain stored as its difference from one, so that decay pulls it to one."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension in float32 or wider."""
        width = self.gain.shape[-1:]
        normal = functional.rms_norm(at_least_float32(x), width, eps=RMS_EPSILON)
        return (normal * (1 + self.gain)).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention with query–key norm, rotary positions, soft cap and a learned sink."""

    def __init__(self, rung: Rung) -> None:
        super().__init__()
        self.n_heads, self.head_width = rung.n_heads, rung.head_width
        self.qkv = nn.Parameter(torch.empty(3 * rung.width, rung.width))
        self.out = nn.Parameter(torch.empty(rung.width, rung.width))
        self.query_key_norm = RMSNorm(2, rung.width)
        self.sink_key_bias = nn.Parameter(torch.zeros(rung.n_heads, 1, rung.head_width))
        self.sink_value_bias = nn.Parameter(torch.zeros(rung.n_heads, 1, rung.head_width))

    def forward(
        self, x_BLD: Tensor, rotation: tuple[Tensor, Tensor], bias_BHLL: Tensor | None
    ) -> Tensor:
        """Attend; the bias is added to the logits, −inf where a key is hidden from a query."""
        B, L, D = x_BLD.shape
        qkv_BL3D = functional.linear(x_BLD, self.qkv).view(B, L, 3, D)
        # Queries and keys in one go: two norms and two rotations cost as much as one.
        qk_BL2D = self.query_key_norm(qkv_BL3D[:, :, :2])
        q_BHLK, k_BHLK = rotate(self.by_head(qk_BL2D), rotation).chunk(2, dim=1)
        v_BHLK = self.by_head(qkv_BL3D[:, :, 2:])
        q_BHLK = q_BHLK * (
            self.head_width**-0.5 / LOGIT_CAP
        )  # the cap's division, on a small tensor
        logits_BHLL = LOGIT_CAP * torch.tanh(q_BHLK @ k_BHLK.transpose(-1, -2))
        if bias_BHLL is not None:
            logits_BHLL = logits_BHLL + bias_BHLL
        sink_BHL1 = LOGIT_CAP * torch.tanh((q_BHLK * self.sink_key_bias).sum(-1, keepdim=True))
        logits_BHLS = torch.cat([sink_BHL1, logits_BHLL], dim=-1)
        weights_BHLS = at_least_float32(logits_BHLS).softmax(dim=-1).to(v_BHLK.dtype)
        on_sink_BHL1, on_keys_BHLL = torch.split(weights_BHLS, [1, L], dim=-1)
        mixed_BHLK = on_keys_BHLL @ v_BHLK + on_sink_BHL1 * self.sink_value_bias
        return functional.linear(mixed_BHLK.transpose(1, 2).flatten(2), self.out)

    def by_head(self, x_BLnD: Tensor) -> Tensor:
        """(B, L, n, D) to (B, n · H, L, K)."""
        B, L, n, _ = x_BLnD.shape
        return x_BLnD.reshape(B, L, n * self.n_heads, self.head_width).transpose(1, 2)


class Block(nn.Module):
    """One pre-norm layer; both residual branches scaled by 4 / layers."""

    def __init__(self, rung: Rung) -> None:
        super().__init__()
        d = rung.width
        self.scale = RESIDUAL_SCALE / rung.n_layers
        self.attention_norm, self.attention = RMSNorm(d), Attention(rung)
        self.mlp_norm = RMSNorm(d)
        self.up, self.up_bias = (
            nn.Parameter(torch.empty(4 * d, d)),
            nn.Parameter(torch.zeros(4 * d)),
        )
        self.down, self.down_bias = (
            nn.Parameter(torch.empty(d, 4 * d)),
            nn.Parameter(torch.zeros(d)),
        )

    def forward(
        self, h_BLD: Tensor, rotation: tuple[Tensor, Tensor], bias_BHLL: Tensor | None
    ) -> Tensor:
        """h + scale · attention, then h + scale · mlp."""
        attended = self.attention(self.attention_norm(h_BLD), rotation, bias_BHLL)
        h_BLD = h_BLD + self.scale * attended
        hidden = functional.linear(self.mlp_norm(h_BLD), self.up, self.up_bias)
        return h_BLD + self.scale * functional.linear(
            functional.relu(hidden).square(), self.down, self.down_bias
        )


class Backbone(nn.Module):
    """Ids (B, L) to logits (B, L, V), float32 or wider."""

    parametrization: Literal["complete_p", "standard"] = "complete_p"
    """How the optimiser's rates depend on width and depth, see `optimizer.py`."""

    def __init__(
        self,
        rung: Rung,
        vocab_size: int,
        extra_input_ids: int,
        attention: Literal["causal", "bidirectional"],
    ) -> None:
        super().__init__()
        self.rung, self.is_causal = rung, attention == "causal"
        self.embedding = nn.Parameter(torch.empty(vocab_size + extra_input_ids, rung.width))
        self.blocks = nn.ModuleList(Block(rung) for _ in range(rung.n_layers))
        self.final_norm = RMSNorm(rung.width)
        self.head = nn.Parameter(torch.zeros(vocab_size, rung.width))

    def initialize(self, rng: torch.Generator) -> None:
        """Draw the weights; norms, biases, sinks and head start at zero."""
        with torch.no_grad():
            self.embedding.normal_(0, EMBEDDING_STD, generator=rng)
            for block in self.blocks:
                for name, parameter in block.named_parameters():
                    if is_matrix(name, parameter):
                        parameter.normal_(0, INIT_SCALE / math.sqrt(self.rung.width), generator=rng)

    def forward(
        self,
        z_BL: Tensor,
        t_B: Tensor,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
    ) -> Tensor:
        """Logits of every input; the noise level is not used by this backbone.

        `positions_BL` and `visible_BLL` are those of `Denoiser`.
        """
        del t_B
        n_inputs = z_BL.shape[1]
        h_BLD = functional.embedding(z_BL, self.embedding)
        if positions_BL is None:
            positions_BL = torch.arange(n_inputs, device=z_BL.device)
        if visible_BLL is None and self.is_causal:
            visible_BLL = causal_visibility(n_inputs, z_BL.device)
        rotation = rotary_angles(positions_BL, self.rung.head_width)
        bias_BHLL = None if visible_BLL is None else visibility_bias(visible_BLL, h_BLD.dtype)
        for block in self.blocks:
            h_BLD = block(h_BLD, rotation, bias_BHLL)
        h_BLD = self.final_norm(h_BLD) * (HEAD_SCALE / self.rung.width)
        return at_least_float32(functional.linear(h_BLD, self.head))


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter of a block is a weight matrix: drawn at random, trained at eta / D."""
    return parameter.dim() > 1 and not name.endswith(("bias", "gain"))


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or unchanged if it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def rotary_angles(positions_BL: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position times frequency, float32, ready to broadcast over heads.

    (L, K/2) for positions (L,) that all sequences share, (B, 1, L, K/2) for (B, L).
    """
    half = head_width // 2
    frequencies = ROPE_BASE ** (-torch.arange(half, device=positions_BL.device) / half)
    angles = positions_BL[..., None] * frequencies
    if positions_BL.dim() > 1:
        angles = angles[:, None]
    return angles.cos(), angles.sin()


def rotate(x_BHLK: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn channel pairs (k, k + K/2) by their angle (arXiv 2104.09864, half-split layout)."""
    cos, sin = (r.to(x_BHLK.dtype) for r in rotation)
    a, b = x_BHLK.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def causal_visibility(n_inputs: int, device: torch.device) -> Tensor:
    """(L, L): each input reads itself and those before it."""
    return torch.ones(n_inputs, n_inputs, dtype=torch.bool, device=device).tril()


def visibility_bias(visible_BLL: Tensor, dtype: torch.dtype) -> Tensor:
    """Zero where a query (row) may see a key (column), −inf elsewhere; one for all heads.

    (L, L) for a mask that all sequences share, (B, 1, L, L) for (B, L, L).
    """
    bias = torch.zeros(visible_BLL.shape, dtype=dtype, device=visible_BLL.device)
    bias = bias.masked_fill(~visible_BLL, -math.inf)
    return bias if bias.dim() == 2 else bias[:, None]
