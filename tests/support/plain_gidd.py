"""The layers of the network `gidd` in plain operations, for tests and benchmarks of the written-out
ones: autograd finds the gradients, and every intermediate is a tensor of its own.

Shapes: B batch, N inputs, D width, H heads, K channels of a head, S the sink and the N keys.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.families.base import at_least_float32
from sweeper.networks.attention import AttentionContext, by_head, rotate
from sweeper.networks.backbone import Backbone
from sweeper.networks.gidd import Attention, GiddBlock, GiddFinal
from sweeper.networks.gidd_layers import LOGIT_CAP, RMS_EPSILON


def use_plain_layers(backbone: Backbone) -> Backbone:
    """The same backbone, its parameters too, computing in plain operations."""
    for i, block in enumerate(backbone.blocks):
        assert isinstance(block, GiddBlock)
        backbone.blocks[i] = PlainBlock(block)
    assert isinstance(backbone.final, GiddFinal)
    backbone.final = PlainFinal(backbone.final)
    return backbone


def plain_norm(x: Tensor, gain: Tensor) -> Tensor:
    normal = functional.rms_norm(at_least_float32(x), gain.shape[-1:], eps=RMS_EPSILON)
    return (normal * (1 + gain)).to(x.dtype)


def plain_attention(own: Attention, x_BND: Tensor, context: AttentionContext) -> Tensor:
    B, N, D = x_BND.shape
    qkv_BN3D = functional.linear(x_BND, own.qkv).view(B, N, 3, D)
    qk_BN2D = plain_norm(qkv_BN3D[:, :, :2], own.query_key_norm.gain)
    q_BHNK, k_BHNK = rotate(by_head(qk_BN2D, own.n_heads), context.rotation).chunk(2, dim=1)
    v_BHNK = by_head(qkv_BN3D[:, :, 2:], own.n_heads)
    q_BHNK = q_BHNK * (q_BHNK.shape[-1] ** -0.5 / LOGIT_CAP)
    logits_BHNN = LOGIT_CAP * torch.tanh(q_BHNK @ k_BHNK.transpose(-1, -2))
    logits_BHNN = logits_BHNN + plain_bias(context, logits_BHNN)
    sink_BHN1 = LOGIT_CAP * torch.tanh((q_BHNK * own.sink_key_bias).sum(-1, keepdim=True))
    logits_BHNS = torch.cat([sink_BHN1, logits_BHNN], dim=-1)
    weights_BHNS = at_least_float32(logits_BHNS).softmax(dim=-1).to(v_BHNK.dtype)
    on_sink_BHN1, on_keys_BHNN = weights_BHNS.split_with_sizes([1, N], dim=-1)
    mixed_BHNK = on_keys_BHNN @ v_BHNK + on_sink_BHN1 * own.sink_value_bias
    return functional.linear(mixed_BHNK.transpose(1, 2).flatten(2), own.out)


def plain_bias(context: AttentionContext, logits_BHNN: Tensor) -> Tensor:
    if context.is_causal:
        return torch.full_like(logits_BHNN[0, 0], -torch.inf).triu(1)
    bias = context.bias_BNM
    if bias is None:
        return logits_BHNN.new_zeros(())
    return bias if bias.dim() == 2 else bias[:, None]


class PlainBlock(nn.Module):
    """A block with the parameters of another."""

    def __init__(self, block: GiddBlock) -> None:
        super().__init__()
        self.of = block

    def forward(self, h_BND: Tensor, context: AttentionContext) -> Tensor:
        own = self.of
        normal_BND = plain_norm(h_BND, own.attention_norm.gain)
        h_BND = h_BND + own.scale * plain_attention(own.attention, normal_BND, context)
        hidden = functional.linear(plain_norm(h_BND, own.mlp_norm.gain), own.up, own.up_bias)
        return h_BND + own.scale * functional.linear(
            functional.relu(hidden).square(), own.down, own.down_bias
        )


class PlainFinal(nn.Module):
    """The final norm with the parameters of another."""

    def __init__(self, final: GiddFinal) -> None:
        super().__init__()
        self.of = final

    def forward(self, h_BND: Tensor, _context: AttentionContext) -> Tensor:
        return plain_norm(h_BND, self.of.norm.gain) * self.of.scale
