"""The network of arXiv 2512.10858 §2.1.

Pre-norm blocks with RMSNorm, query–key norm over the full width, rotary positions, soft-capped
attention logits, one learned attention sink per head, a squared-ReLU MLP, no time conditioning.

Shapes: B batch, N new inputs, M inputs read, D width, H heads, K channels of a head, S the sink
and the M keys.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.families.base import at_least_float32
from sweeper.networks.architecture import Architecture
from sweeper.networks.attention import AttentionContext, by_head, rotate
from sweeper.trials.ladder import Rung

RMS_EPSILON = 1e-6
LOGIT_CAP = 30.0  # attention logits saturate here: cap · tanh(logit / cap)
RESIDUAL_SCALE = 4.0  # over the number of layers: multiplies each residual branch
HEAD_SCALE = 512.0  # over the width: multiplies the logits


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

    def forward(self, x_BND: Tensor, context: AttentionContext) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        B, N, D = x_BND.shape
        qkv_BN3D = functional.linear(x_BND, self.qkv).view(B, N, 3, D)
        # Queries and keys in one go: two norms and two rotations cost as much as one.
        qk_BN2D = self.query_key_norm(qkv_BN3D[:, :, :2])  # over D, before the split into heads
        q_BHNK, k_BHNK = rotate(by_head(qk_BN2D, self.n_heads), context.rotation).chunk(2, dim=1)
        v_BHNK = by_head(qkv_BN3D[:, :, 2:], self.n_heads)
        k_BHMK, v_BHMK = context.keys_and_values(k_BHNK, v_BHNK)
        # cap · tanh(q · k / sqrt(K) / cap), with both divisions on q, the smaller tensor.
        q_BHNK = q_BHNK * (self.head_width**-0.5 / LOGIT_CAP)
        logits_BHNM = LOGIT_CAP * torch.tanh(q_BHNK @ k_BHMK.transpose(-1, -2))
        if context.bias_BHNM is not None:
            logits_BHNM = logits_BHNM + context.bias_BHNM
        # Key and value of the sink start at zero: a logit of 0, "softmax plus one". No rotation.
        sink_BHN1 = LOGIT_CAP * torch.tanh((q_BHNK * self.sink_key_bias).sum(-1, keepdim=True))
        logits_BHNS = torch.cat([sink_BHN1, logits_BHNM], dim=-1)
        weights_BHNS = at_least_float32(logits_BHNS).softmax(dim=-1).to(v_BHMK.dtype)
        on_sink_BHN1, on_keys_BHNM = weights_BHNS.split_with_sizes([1, k_BHMK.shape[2]], dim=-1)
        mixed_BHNK = on_keys_BHNM @ v_BHMK + on_sink_BHN1 * self.sink_value_bias
        return functional.linear(mixed_BHNK.transpose(1, 2).flatten(2), self.out)


class GiddBlock(nn.Module):
    """One pre-norm layer; both residual branches scaled by 4 / layers."""

    def __init__(self, rung: Rung) -> None:
        super().__init__()
        # CompleteP: with the 512 / width of the head and the groups of `optimizer.py`, one base
        # learning rate serves every width and depth.
        d = rung.width
        self.scale = RESIDUAL_SCALE / rung.n_layers
        self.attention_norm, self.attention = RMSNorm(d), Attention(rung)
        self.mlp_norm = RMSNorm(d)
        self.up = nn.Parameter(torch.empty(4 * d, d))
        self.up_bias = nn.Parameter(torch.zeros(4 * d))
        self.down = nn.Parameter(torch.empty(d, 4 * d))
        self.down_bias = nn.Parameter(torch.zeros(d))

    def forward(self, h_BND: Tensor, context: AttentionContext) -> Tensor:
        """h + scale · attention, then h + scale · mlp."""
        h_BND = h_BND + self.scale * self.attention(self.attention_norm(h_BND), context)
        hidden = functional.linear(self.mlp_norm(h_BND), self.up, self.up_bias)
        return h_BND + self.scale * functional.linear(
            functional.relu(hidden).square(), self.down, self.down_bias
        )


class GiddFinal(nn.Module):
    """The final norm, with the scale of the logits."""

    def __init__(self, rung: Rung) -> None:
        super().__init__()
        self.scale = HEAD_SCALE / rung.width
        self.norm = RMSNorm(rung.width)

    def forward(self, h_BND: Tensor, _context: AttentionContext) -> Tensor:
        """What the head multiplies."""
        normal_BND: Tensor = self.norm(h_BND)
        return normal_BND * self.scale


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter of a block is a weight matrix: drawn at random, trained at eta / D."""
    return parameter.dim() > 1 and not name.endswith(("bias", "gain"))


def draw_embedding(embedding: Tensor, rng: torch.Generator) -> None:
    """N(0, 0.02²)."""
    embedding.normal_(0, 0.02, generator=rng)


def draw(block: nn.Module, rng: torch.Generator) -> None:
    """Draw the matrices from N(0, (0.4 / sqrt(width))²); norms, biases and sinks stay at zero."""
    for name, parameter in block.named_parameters():
        if is_matrix(name, parameter):
            width = min(parameter.shape)  # also that of the MLP, whose other side is 4 D
            parameter.normal_(0, 0.4 / math.sqrt(width), generator=rng)


ARCHITECTURE = Architecture(
    block=GiddBlock,
    final=GiddFinal,
    conditioner=None,
    has_head_bias=False,
    embedding_init=draw_embedding,
    init=draw,
    parametrization="complete_p",
)
