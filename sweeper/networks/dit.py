"""The network of arXiv 2602.15014: a diffusion transformer with adaptive layer norm (adaLN).

    c    = SiLU(W2 SiLU(W1 features(sigma) + b1) + b2),    sigma = −log alpha_t
    h   += gate · attention(modulate(LN(h))),    h += gate · mlp(modulate(LN(h)))
    modulate(x) = x (1 + scale) + shift

Shifts, scales and gates of each layer are linear in c and start at zero, so every block starts as
the identity. Rotary positions, a GELU MLP, a head with bias. Families without time conditioning
read sigma = 0: c is a learned constant.

Shapes: B batch, N new inputs, M inputs read, D width, H heads, K channels of a head, C channels of
the condition.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.families.base import at_least_float32
from sweeper.networks.architecture import Architecture
from sweeper.networks.attention import AttentionContext, by_head, for_all_heads, rotate
from sweeper.trials.ladder import DIT_CONDITION_WIDTH, DIT_LEVEL_FEATURES, Rung

NORM_EPSILON = 1e-5
ALPHA_MIN = 1e-3  # least alpha_t that is read: sigma stays below 6.9, its range in training


class Linear(nn.Module):
    """x W' + b; the bias is optional."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_out, n_in))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, n_in) to (…, n_out)."""
        return functional.linear(x, self.weight, self.bias)


class LayerNorm(nn.Module):
    """Layer norm with a gain and no bias, in float32 or wider."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        normal = functional.layer_norm(at_least_float32(x), self.gain.shape, eps=NORM_EPSILON)
        return normal * self.gain


class Conditioner(nn.Module):
    """Noise levels, (B,) or (B, N), to conditions (B, 1, C) or (B, N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = Linear(DIT_LEVEL_FEATURES, DIT_CONDITION_WIDTH)
        self.out = Linear(DIT_CONDITION_WIDTH, DIT_CONDITION_WIDTH)

    def forward(self, t_B: Tensor) -> Tensor:
        """c of the formulas above."""
        t_BN = t_B[:, None] if t_B.dim() == 1 else t_B
        # sigma = −log alpha_t with alpha_t = 1 − t, not rescaled.
        sigma_BN = -(1 - t_BN.to(self.out.weight.dtype)).clamp(min=ALPHA_MIN).log()
        half = DIT_LEVEL_FEATURES // 2
        exponents = torch.arange(half, device=t_B.device, dtype=sigma_BN.dtype) / half
        angles_BNF = sigma_BN[..., None] * 10_000.0**-exponents
        features_BNF = torch.cat([angles_BNF.cos(), angles_BNF.sin()], dim=-1)
        hidden = functional.silu(self.hidden(features_BNF))
        condition_BNC: Tensor = functional.silu(self.out(hidden))
        return condition_BNC


class DitBlock(nn.Module):
    """One layer, modulated and gated by the condition."""

    def __init__(self, rung: Rung) -> None:
        super().__init__()
        d, self.n_heads = rung.width, rung.n_heads
        self.modulation = Linear(DIT_CONDITION_WIDTH, 6 * d)
        self.attention_norm, self.mlp_norm = LayerNorm(d), LayerNorm(d)
        self.qkv, self.out = Linear(d, 3 * d, bias=False), Linear(d, d, bias=False)
        self.up, self.down = Linear(d, 4 * d), Linear(4 * d, d)

    def forward(self, h_BND: Tensor, context: AttentionContext) -> Tensor:
        """h + gate · attention, then h + gate · mlp."""
        modulation: Tensor = self.modulation(context.condition_BNC)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)
        normal_BND = modulate(self.attention_norm(h_BND), shift_a, scale_a)
        h_BND = h_BND + gate_a * self.attend(normal_BND, context)
        hidden = self.up(modulate(self.mlp_norm(h_BND), shift_m, scale_m))
        mixed_BND: Tensor = self.down(functional.gelu(hidden, approximate="tanh"))
        return h_BND + gate_m * mixed_BND

    def attend(self, x_BND: Tensor, context: AttentionContext) -> Tensor:
        """Multi-head attention."""
        B, N, D = x_BND.shape
        qkv_BN3D = self.qkv(x_BND).view(B, N, 3, D)
        qk_BHNK = rotate(by_head(qkv_BN3D[:, :, :2], self.n_heads), context.rotation)
        q_BHNK, k_BHNK = qk_BHNK.chunk(2, dim=1)
        v_BHNK = by_head(qkv_BN3D[:, :, 2:], self.n_heads)
        k_BHMK, v_BHMK = context.keys_and_values(k_BHNK, v_BHNK)
        bias = context.bias_BNM
        mixed_BHNK = functional.scaled_dot_product_attention(
            q_BHNK,
            k_BHMK,
            v_BHMK,
            attn_mask=None if bias is None else for_all_heads(bias),
            is_causal=context.is_causal,
        )
        mixed_BND: Tensor = self.out(mixed_BHNK.transpose(1, 2).flatten(2))
        return mixed_BND


class DitFinal(nn.Module):
    """The final norm, modulated by the condition."""

    def __init__(self, rung: Rung) -> None:
        super().__init__()
        self.modulation = Linear(DIT_CONDITION_WIDTH, 2 * rung.width)
        self.norm = LayerNorm(rung.width)

    def forward(self, h_BND: Tensor, context: AttentionContext) -> Tensor:
        """What the head multiplies."""
        shift, scale = self.modulation(context.condition_BNC).chunk(2, dim=-1)
        return modulate(self.norm(h_BND), shift, scale)


def modulate(x_BND: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift, with shift and scale (B, 1, D) or (B, N, D)."""
    return x_BND * (1 + scale) + shift


def draw_embedding(embedding: Tensor, rng: torch.Generator) -> None:
    """U(−1/sqrt(D), 1/sqrt(D))."""
    bound = 1 / math.sqrt(embedding.shape[1])
    embedding.uniform_(-bound, bound, generator=rng)


def draw(module: nn.Module, rng: torch.Generator) -> None:
    """Linear layers of n inputs start at U(−1/sqrt(n), 1/sqrt(n)), biases too; modulation at 0."""
    for name, layer in module.named_modules():
        if isinstance(layer, Linear) and not name.endswith("modulation"):
            bound = 1 / math.sqrt(layer.weight.shape[1])
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=rng)


ARCHITECTURE = Architecture(
    block=DitBlock,
    final=DitFinal,
    conditioner=Conditioner,
    has_head_bias=True,
    embedding_init=draw_embedding,
    init=draw,
    parametrization="standard",
)
