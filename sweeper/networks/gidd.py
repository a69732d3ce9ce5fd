"""The network of arXiv 2512.10858 §2.1.

Pre-norm blocks with RMSNorm, query–key norm over the full width, rotary positions, soft-capped
attention logits, one learned attention sink per head, a squared-ReLU MLP, no time conditioning.

Shapes: B batch, N new inputs, M inputs read, T tokens (B · N), D width, H heads, K channels of a
head.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.networks import gidd_layers as layers
from sweeper.networks.architecture import Architecture
from sweeper.networks.attention import AttentionContext
from sweeper.trials.ladder import Rung

RESIDUAL_SCALE = 4.0  # over the number of layers: multiplies each residual branch
HEAD_SCALE = 512.0  # over the width: multiplies the logits


class RMSNorm(nn.Module):
    """x / rms(x) times a gain stored as its difference from one, so that decay pulls it to one."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension in float32 or wider."""
        normal: Tensor = layers.RMSNorm.apply(x, self.gain)  # type: ignore[no-untyped-call]
        return normal


class Attention(nn.Module):
    """Multi-head attention with query–key norm, rotary positions, soft cap and a learned sink."""

    def __init__(self, rung: Rung) -> None:
        super().__init__()
        self.n_heads = rung.n_heads
        self.qkv = nn.Parameter(torch.empty(3 * rung.width, rung.width))
        self.out = nn.Parameter(torch.empty(rung.width, rung.width))
        self.query_key_norm = RMSNorm(2, rung.width)
        # Key and value of the sink start at zero: a logit of 0, "softmax plus one". No rotation.
        self.sink_key_bias = nn.Parameter(torch.zeros(rung.n_heads, 1, rung.head_width))
        self.sink_value_bias = nn.Parameter(torch.zeros(rung.n_heads, 1, rung.head_width))

    def forward(self, h_BND: Tensor, norm: RMSNorm, context: AttentionContext) -> Tensor:
        """(B, N, D) to (B, N, D), behind a norm of the input."""
        gains = norm.gain, self.query_key_norm.gain
        q_HBKN, k_HBKM, v_HBKM = layers.Heads.apply(  # type: ignore[no-untyped-call]
            h_BND, gains[0], self.qkv, gains[1], context.rotation, self.n_heads
        )
        n_before = 0
        if context.cache is not None:
            n_before = context.cache.n_kept
            k_HBKM, v_HBKM = (
                x_BHMK.permute(1, 0, 3, 2)
                for x_BHMK in context.cache.with_new(
                    k_HBKM.permute(1, 0, 3, 2), v_HBKM.permute(1, 0, 3, 2)
                )
            )
        mixed_DT: Tensor = layers.CappedAttention.apply(  # type: ignore[no-untyped-call]
            q_HBKN,
            k_HBKM,
            v_HBKM,
            self.sink_key_bias.squeeze(1),
            self.sink_value_bias.squeeze(1),
            layers.Mask(context.bias_BNM, context.is_causal, n_before),
        )
        return functional.linear(mixed_DT.t(), self.out).view(h_BND.shape)


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
        attended_BND = self.attention(h_BND, self.attention_norm, context)
        h_BND = torch.add(h_BND, attended_BND, alpha=self.scale)
        mlp = self.mlp_norm.gain, self.up, self.up_bias, self.down, self.down_bias
        mlp_TD: Tensor = layers.MLP.apply(h_BND.flatten(0, 1), *mlp)  # type: ignore[no-untyped-call]
        return torch.add(h_BND, mlp_TD.view(h_BND.shape), alpha=self.scale)


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
