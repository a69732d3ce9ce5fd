"""Layers of the network `gidd` whose gradients are written out.

Small networks are bound by calls and by passes over intermediates, not by arithmetic, and autograd
makes about twice as many of both as these formulas. They have no second derivatives.

Tokens come last wherever there are heads: then halves of heads, heads, and queries beside keys are
contiguous, a sum over channels runs along tokens, and matrix products need no copies.

Shapes: B batch, N new inputs, M inputs read, T tokens (B · N), D width, H heads, K channels of a
head, F hidden channels of the MLP, E outputs of a projection, G heads of all sequences (H · B);
n and m are those of one block of queries.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sweeper.families.base import at_least_float32

RMS_EPSILON = 1e-6
LOGIT_CAP = 30.0  # attention logits saturate here: cap · tanh(logit / cap)
sigmoid_backward = torch.ops.aten.sigmoid_backward
MAX_KEPT_LOGITS = 512**2
"""Of one head and sequence. With more than these a layer keeps none for the backward pass but
computes them again, `BLOCK_LOGITS` of all heads at a time: its memory is linear in the keys."""
BLOCK_LOGITS = 2**21


def compute_dtype(x: Tensor) -> torch.dtype:
    """That of matrix products with x: what autocast asks for, or x's own."""
    device = x.device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return x.dtype
    return torch.get_autocast_dtype(device)


def normalised(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """n = x / rms(x) along a dimension, and 1 / rms(x)."""
    inverse_rms = x.square().mean(dim, keepdim=True).add_(RMS_EPSILON).rsqrt_()
    return x * inverse_rms, inverse_rms


def to_normalised_input(dn: Tensor, n: Tensor, inverse_rms: Tensor, dim: int) -> Tensor:
    """The gradient of x from that of n, which it overwrites: (dn − n mean(dn n)) / rms(x)."""
    return dn.addcmul_(n, (dn * n).mean(dim, keepdim=True), value=-1).mul_(inverse_rms)


def with_gain(weight: Tensor, gain: Tensor) -> Tensor:
    """The weight that gives for n what `weight` gives for n (1 + gain); n is larger than it."""
    return weight * (1 + gain)


def to_gained(d_gained: Tensor, weight: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight and gain from that of `with_gain`."""
    d_gained = d_gained.to(weight.dtype)
    return d_gained * (1 + gain), (d_gained * weight).sum(0)


class RMSNorm(Function):
    """x / rms(x) · (1 + gain) over the last dimension, in float32 or wider."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        """As large as x, and of its dtype."""
        n, inverse_rms = normalised(at_least_float32(x), -1)
        ctx.save_for_backward(n, inverse_rms, gain)
        return (n * (1 + gain)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x and gain."""
        n, inverse_rms, gain = ctx.saved_tensors
        d_gain = (dy * n).flatten(0, -2).sum(0)
        return to_normalised_input(dy * (1 + gain), n, inverse_rms, -1), d_gain


class MLP(Function):
    """relu(n U' + u)² W' + w of the normalised input n (1 + gain)."""

    @staticmethod
    def forward(  # noqa: PLR0913 (autograd takes each tensor by itself)
        ctx: Any,
        h_TD: Tensor,
        gain_D: Tensor,
        up_FD: Tensor,
        up_bias: Tensor,
        down_DF: Tensor,
        down_bias: Tensor,
    ) -> Tensor:
        """(T, D) to (T, D)."""
        dtype = compute_dtype(h_TD)
        n_TD, inverse_rms = normalised(at_least_float32(h_TD), -1)
        gained_up_FD, down_DF = with_gain(up_FD, gain_D).to(dtype), down_DF.to(dtype)
        active_TF = torch.addmm(up_bias.to(dtype), n_TD.to(dtype), gained_up_FD.t()).relu_()
        hidden_TF = active_TF.square()
        ctx.save_for_backward(
            n_TD, inverse_rms, gain_D, up_FD, gained_up_FD, down_DF, active_TF, hidden_TF
        )
        return torch.addmm(down_bias.to(dtype), hidden_TF, down_DF.t())

    @staticmethod
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor, ...]:
        """Gradients of all arguments."""
        n_TD, inverse_rms, gain_D, up_FD, gained_up_FD, down_DF, active_TF, hidden_TF = (
            ctx.saved_tensors
        )
        # d relu(a)² = 2 relu(a): zero where a is negative; the 2 is exact on the smaller matrix.
        da_TF = torch.mm(dy_TD, 2 * down_DF).mul_(active_TF)
        d_up, d_gain = to_gained(torch.mm(da_TF.t(), n_TD.to(da_TF.dtype)), up_FD, gain_D)
        dn_TD = at_least_float32(torch.mm(da_TF, gained_up_FD))
        dh_TD = to_normalised_input(dn_TD, n_TD, inverse_rms, -1)
        return dh_TD, d_gain, d_up, da_TF.sum(0), torch.mm(dy_TD.t(), hidden_TF), dy_TD.sum(0)


class Heads(Function):
    """Queries, keys and values of the normalised input n (1 + gain).

    Queries and keys are normalised in their turn, over the full width, and rotated.
    """

    @staticmethod
    def forward(  # noqa: PLR0913 (autograd takes each tensor by itself)
        ctx: Any,
        h_BND: Tensor,
        gain_D: Tensor,
        weight_ED: Tensor,
        query_key_gain_2D: Tensor,
        rotation: tuple[Tensor, Tensor],
        n_heads: int,
    ) -> tuple[Tensor, ...]:
        """Three times (H, B, K, N), from a weight (3 D, D)."""
        (B, N, D), dtype = h_BND.shape, compute_dtype(h_BND)
        n_TD, inverse_rms = normalised(at_least_float32(h_BND).flatten(0, 1), -1)
        gained_ED = with_gain(weight_ED, gain_D).to(dtype)
        qkv_3DBN = torch.mm(gained_ED, n_TD.to(dtype).t()).view(3, D, B, N)
        n_2DBN, inverse_rms_2 = normalised(at_least_float32(qkv_3DBN[:2]), 1)
        cos, sin = (angle.transpose(-1, -2).contiguous() for angle in rotation)
        ctx.save_for_backward(
            *(n_TD, inverse_rms, gain_D, weight_ED, gained_ED),
            *(n_2DBN, inverse_rms_2, query_key_gain_2D, cos, sin),
        )
        ctx.n_heads = n_heads
        qkv_3HBKN = n_2DBN.new_empty(3, n_heads, B, D // n_heads, N)
        qk_2DBN = n_2DBN * (1 + query_key_gain_2D)[..., None, None]
        turn(_by_head(qk_2DBN, n_heads), cos, sin, qkv_3HBKN[:2])
        qkv_3HBKN[2] = _by_head(qkv_3DBN[2:], n_heads)[0]
        return qkv_3HBKN.to(dtype).unbind()

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weight and both gains."""
        n_TD, inverse_rms, gain_D, weight_ED, gained_ED, *of_heads = ctx.saved_tensors
        n_2DBN, inverse_rms_2, query_key_gain_2D, cos, sin = of_heads
        _, D, B, N = n_2DBN.shape
        d_3DBN = n_2DBN.new_empty(3, D, B, N)
        dq_HBKN, dk_HBKN, dv_HBKN = _by_head(d_3DBN, ctx.n_heads)
        for d_turned, d in ((dq, dq_HBKN), (dk, dk_HBKN)):
            turn(d_turned, cos, -sin, d)  # back by the same angle
        dv_HBKN.copy_(dv)
        d_2DBN = d_3DBN[:2]
        d_query_key_gain = (d_2DBN * n_2DBN).sum((2, 3))
        d_2DBN.mul_((1 + query_key_gain_2D)[..., None, None])
        to_normalised_input(d_2DBN, n_2DBN, inverse_rms_2, 1)
        d_ET = d_3DBN.view(3 * D, B * N).to(gained_ED.dtype)
        d_weight, d_gain = to_gained(torch.mm(d_ET, n_TD.to(d_ET.dtype)), weight_ED, gain_D)
        dn_TD = at_least_float32(torch.mm(d_ET.t(), gained_ED))
        dh_TD = to_normalised_input(dn_TD, n_TD, inverse_rms, -1)
        return dh_TD.view(B, N, D), d_gain, d_weight, d_query_key_gain, None, None


def _by_head(x_nDBN: Tensor, n_heads: int) -> Tensor:
    """(n, D, B, N) seen as (n, H, B, K, N)."""
    return torch.unflatten(x_nDBN, 1, (n_heads, -1)).transpose(2, 3)


def turn(x_KN: Tensor, cos: Tensor, sin: Tensor, out_KN: Tensor) -> None:
    """Write x with its channel pairs (k, k + K/2) turned by an angle (arXiv 2104.09864)."""
    (a, b), (out_a, out_b) = x_KN.chunk(2, dim=-2), out_KN.chunk(2, dim=-2)
    torch.mul(a, cos, out=out_a).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=out_b).addcmul_(a, sin)


@dataclass(frozen=True)
class Mask:
    """Which keys a query must not read."""

    bias: Tensor | None
    """Added to logits, (N, M) or (B, N, M): −inf where a query must not read a key."""
    is_causal: bool
    """In place of a bias: each query reads the keys up to its own, and N = M."""
    n_before: int = 0
    """Keys before that of the first query, M − N."""

    def keys(self, rows: slice) -> slice:
        """The keys that some of these queries read."""
        return slice(0, rows.stop) if self.is_causal else slice(None)

    def apply(self, logits_GNM: Tensor, rows: slice) -> None:
        """Add the bias to logits of these queries and their keys."""
        if self.is_causal:
            bias_NM = torch.full_like(logits_GNM[0], -math.inf).triu_(1 + rows.start)
            logits_GNM.add_(bias_NM)
        elif self.bias is not None:
            of_sequences = torch.unflatten(logits_GNM, 0, (-1, *self.bias.shape[:-2]))
            of_sequences.add_(self.bias[..., rows, :])


class CappedAttention(Function):
    """softmax(cap · tanh(q · k / sqrt(K) / cap) + bias) v, with a sink beside the keys.

    That is a · (softmax over the keys alone) v + (1 − a) · (value of the sink), a being what the
    sink leaves. One block of queries at a time; the weights of a single block are kept for the
    backward pass, those of several are computed again.
    """

    @staticmethod
    def forward(  # noqa: PLR0913
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sink_key: Tensor, sink_value: Tensor, mask: Mask
    ) -> Tensor:
        """What is read, (D, T), from (H, B, K, N), twice (H, B, K, M) and twice (H, K)."""
        H, B, K, N = q.shape
        q_GKN, k_GKM, v_GKM = (x.flatten(0, 1) for x in (q, k, v))
        sinks = _of_all_sequences(sink_key, B, q.dtype), _of_all_sequences(sink_value, B, q.dtype)
        s_sink_GN = at_least_float32(q_GKN * sinks[0]).sum(1).mul_(sigmoid_scale(K)).sigmoid_()
        on_keys_GKN, share_GN = torch.empty_like(q_GKN), torch.empty_like(s_sink_GN)
        kept = list[Tensor]()
        blocks = query_blocks(H * B, N, k.shape[3])
        for rows in blocks:
            keys = mask.keys(rows)
            weights, share_GN[:, rows] = capped_weights(
                q_GKN[..., rows], k_GKM[..., keys], mask, rows
            )
            on_keys_GKN[..., rows] = torch.bmm(v_GKM[..., keys], weights[0].transpose(1, 2))
            if len(blocks) == 1:
                kept += weights
            del weights  # before those of the next block
        share_GN = share_GN.sub_(2 * LOGIT_CAP * s_sink_GN).sigmoid_()
        mixed_GKN = on_keys_GKN.mul_(share_GN[:, None])
        mixed_GKN.addcmul_(sinks[1], (1 - share_GN).to(q.dtype)[:, None])
        ctx.mask, ctx.blocks, ctx.shape = mask, blocks, (H, B, K, N)
        ctx.save_for_backward(q_GKN, k_GKM, v_GKM, *sinks, mixed_GKN, share_GN, s_sink_GN, *kept)
        return mixed_GKN.view(H, B, K, N).transpose(1, 2).reshape(H * K, B * N)

    @staticmethod
    def backward(ctx: Any, d_mixed_DT: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all arguments but the mask."""
        saved, (H, B, K, N) = ctx.saved_tensors, ctx.shape
        q_GKN, k_GKM, v_GKM, *sinks, mixed_GKN, share_GN, s_sink_GN = saved[:8]
        kept, dtype = saved[8:], q_GKN.dtype
        d_GKN = d_mixed_DT.view(H, K, B, N).transpose(1, 2).flatten(0, 1)
        # Softmax: dlogit = weight · (dweight − delta), delta = sum of weight · dweight,
        # which is the sum of what is read times its gradient (arXiv 2205.14135, appendix B.2).
        delta_GN = at_least_float32(d_GKN * mixed_GKN).sum(1)
        on_sink_GN = 1 - share_GN
        d_sink_GN = ((d_GKN * sinks[1]).sum(1) - delta_GN).mul_(on_sink_GN)
        d_sink_value_GK = (d_GKN * on_sink_GN.to(dtype)[:, None]).sum(2)
        # Weights of keys are share · softmax over the keys.
        d_GKN, delta_GN = d_GKN * share_GN.to(dtype)[:, None], delta_GN.mul_(share_GN)
        # Cap: logit = 2 cap · s + constant, s = sigmoid(2 / (cap sqrt(K)) · q · k)
        dx_sink_G1N = sigmoid_backward(d_sink_GN, s_sink_GN).to(dtype)[:, None]
        dq_GKN, dk_GKM, dv_GKM = (torch.zeros_like(x) for x in (q_GKN, k_GKM, v_GKM))
        for rows in ctx.blocks:
            keys, q_GKn, d_GKn = ctx.mask.keys(rows), q_GKN[..., rows], d_GKN[..., rows]
            k_GKm = k_GKM[..., keys]
            weights_Gnm, s_Gnm = kept or capped_weights(q_GKn, k_GKm, ctx.mask, rows)[0]
            dv_GKM[..., keys] += torch.bmm(d_GKn, weights_Gnm)
            d_Gnm = at_least_float32(torch.bmm(d_GKn.transpose(1, 2), v_GKM[..., keys]))
            d_Gnm.sub_(delta_GN[:, rows, None]).mul_(weights_Gnm)
            dx_Gnm = sigmoid_backward(d_Gnm, s_Gnm).to(dtype)
            dq_GKN[..., rows] = torch.bmm(k_GKm, dx_Gnm.transpose(1, 2))
            dk_GKM[..., keys] += torch.bmm(q_GKn, dx_Gnm)
            del weights_Gnm, s_Gnm, d_Gnm, dx_Gnm
        dq_GKN.addcmul_(sinks[0], dx_sink_G1N)
        d_sink_key_GK = (q_GKN * dx_sink_G1N).sum(2)
        scale = 4 * K**-0.5  # 2 cap · 2 / (cap sqrt(K))
        for d in (dq_GKN, dk_GKM, d_sink_key_GK):
            d.mul_(scale)
        d_sinks = [d.view(H, B, K).sum(1) for d in (d_sink_key_GK, d_sink_value_GK)]
        return *(torch.unflatten(d, 0, (H, B)) for d in (dq_GKN, dk_GKM, dv_GKM)), *d_sinks, None


def sigmoid_scale(head_width: int) -> float:
    """What multiplies q · k: cap · tanh(x / cap) = 2 cap · sigmoid(2 x / cap) − cap.

    A sigmoid takes a third of the time of a hyperbolic tangent; a softmax ignores the constant.
    """
    return 2 / (LOGIT_CAP * math.sqrt(head_width))


def capped_weights(
    q_GKN: Tensor, k_GKM: Tensor, mask: Mask, rows: slice
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Weights of keys alone and sigmoids, (G, N, M) each, and log-sum-exps of logits, (G, N)."""
    scale, nothing = sigmoid_scale(q_GKN.shape[1]), q_GKN.new_empty(())
    x_GNM = torch.baddbmm(nothing, q_GKN.transpose(1, 2), k_GKM, beta=0, alpha=scale)
    s_GNM = at_least_float32(x_GNM).sigmoid_()
    logits_GNM = s_GNM * (2 * LOGIT_CAP)
    mask.apply(logits_GNM, rows)
    weights_GNM = logits_GNM.softmax(-1)
    # From the weight of each query's own key, which it always reads: capped logits differ by 60 at
    # most, so it is never rounded to zero.
    own = mask.n_before + rows.start
    own_logit_GN, own_weight_GN = (x.diagonal(own, 1, 2) for x in (logits_GNM, weights_GNM))
    return (weights_GNM.to(q_GKN.dtype), s_GNM), own_logit_GN - own_weight_GN.log()


def query_blocks(n_heads: int, n_queries: int, n_keys: int) -> list[slice]:
    """All queries of short sequences, else blocks of them; `n_heads` over all sequences."""
    if n_queries * n_keys <= MAX_KEPT_LOGITS:
        return [slice(0, n_queries)]
    size = max(1, BLOCK_LOGITS // (n_heads * n_keys))
    return [slice(i, min(i + size, n_queries)) for i in range(0, n_queries, size)]


def _of_all_sequences(sink_HK: Tensor, n_sequences: int, dtype: torch.dtype) -> Tensor:
    """(H, K) to (G, K, 1)."""
    H, K = sink_HK.shape
    return sink_HK.to(dtype)[:, None].expand(H, n_sequences, K).reshape(-1, K, 1)
