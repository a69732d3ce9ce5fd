"""What a published network brings to the backbone: layers, initialisation and parametrisation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sweeper.trials.ladder import Rung


@dataclass(frozen=True)
class Architecture:
    """One published network. Its modules map (B, N, D) and an AttentionContext to (B, N, D)."""

    block: Callable[[Rung], nn.Module]
    final: Callable[[Rung], nn.Module]
    """From the last block to the input of the head."""
    conditioner: Callable[[], nn.Module] | None
    """Noise levels, (B,) or (B, N), to the condition of the context; none: levels are not used."""
    has_head_bias: bool
    embedding_init: Callable[[Tensor, torch.Generator], object]
    """Draws the input table in place."""
    init: Callable[[nn.Module, torch.Generator], None]
    """Draws the weights of a block or conditioner in place, except those that start at zero."""
    parametrization: Literal["complete_p", "standard"]
    """How learning rates depend on width and depth; see `optimizer.py`."""
