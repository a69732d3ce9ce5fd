"""What attention layers share: rotary positions, masks, and keys and values of earlier calls.

Shapes: B batch, N new inputs, M inputs read (cached ones, then the new ones), H heads, K channels
of a head, C channels of the condition.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


class LayerKVCache:
    """Keys and values of one layer."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.n_kept = 0
        self._keys_values: Tensor | None = None

    def with_new(self, k_BHNK: Tensor, v_BHNK: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, M, K): the cached ones, then the new ones."""
        if self._keys_values is None:
            B, H, _, K = k_BHNK.shape
            self._keys_values = k_BHNK.new_empty(2, B, H, self.capacity, K)
        stop = self.n_kept + k_BHNK.shape[2]
        # The next call overwrites those that are not kept.
        self._keys_values[0, :, :, self.n_kept : stop] = k_BHNK
        self._keys_values[1, :, :, self.n_kept : stop] = v_BHNK
        return self._keys_values[0, :, :, :stop], self._keys_values[1, :, :, :stop]


class KVCache:
    """Keys and values of all layers; for generation, as no gradient flows through it."""

    def __init__(self, n_layers: int, capacity: int) -> None:
        """`capacity`: most inputs, cached and new, that are read at once."""
        self.layers = [LayerKVCache(capacity) for _ in range(n_layers)]

    @property
    def n_kept(self) -> int:
        """Inputs that are cached."""
        return self.layers[0].n_kept

    def keep(self, n_inputs: int) -> None:
        """Keep the first `n_inputs` of those that were new in the last call."""
        for layer in self.layers:
            layer.n_kept += n_inputs


@dataclass(frozen=True)
class AttentionContext:
    """What a layer needs besides its input."""

    rotation: tuple[Tensor, Tensor]
    """Cosines and sines, (N, K/2) or (B, N, K/2)."""
    bias_BNM: Tensor | None
    """Added to attention logits, (N, M) or (B, N, M): −inf where an input (row) must not read
    another (column)."""
    is_causal: bool = False
    """In place of a bias: each input reads those before it and itself, and N = M."""
    condition_BNC: Tensor | None = None
    """What is known of the noise level; one for all inputs of a sequence (B, 1, C) or one each."""
    cache: LayerKVCache | None = None

    def keys_and_values(self, k_BHNK: Tensor, v_BHNK: Tensor) -> tuple[Tensor, Tensor]:
        """Everything to attend to, (B, H, M, K)."""
        return self.cache.with_new(k_BHNK, v_BHNK) if self.cache else (k_BHNK, v_BHNK)


def rotary_angles(positions_BN: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position times frequency, float32: (N, K/2) or (B, N, K/2)."""
    half = head_width // 2
    # Frequency of channel pair k: 10,000^(−2k/K), as in arXiv 2104.09864
    frequencies = 10_000.0 ** (-torch.arange(half, device=positions_BN.device) / half)
    angles = positions_BN[..., None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x_BHNK: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn channel pairs (k, k + K/2) by their angle (arXiv 2104.09864, half-split layout)."""
    cos, sin = (for_all_heads(r.to(x_BHNK.dtype)) for r in rotation)
    a, b = x_BHNK.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def by_head(x_BNnD: Tensor, n_heads: int) -> Tensor:
    """(B, N, n, D) to (B, n · H, N, K)."""
    B, N, n, D = x_BNnD.shape
    return x_BNnD.reshape(B, N, n * n_heads, D // n_heads).transpose(1, 2)


def for_all_heads(x: Tensor) -> Tensor:
    """What all sequences share, two dimensions, as it is; (B, …) to (B, 1, …)."""
    return x if x.dim() == 2 else x[:, None]


def visibility_bias(visible_BNM: Tensor, dtype: torch.dtype) -> Tensor:
    """Zero where an input (row) may read another (column), −inf elsewhere."""
    bias_BNM = torch.zeros(visible_BNM.shape, dtype=dtype, device=visible_BNM.device)
    return bias_BNM.masked_fill(~visible_BNM, -math.inf)
