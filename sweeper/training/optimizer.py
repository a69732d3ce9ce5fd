"""The optimiser of a backbone: its parameter groups, their peak rates, decay and epsilon."""

from typing import Any

import torch
from torch import nn

from sweeper.networks.backbone import Backbone
from sweeper.networks.gidd import is_matrix
from sweeper.training.laprop import LaProp
from sweeper.trials.trial import Optimizer

EPSILON = 1e-8
"""Added to the root of the mean square; `complete_p` divides it by width and depth."""


def build_optimizer(backbone: Backbone, settings: Optimizer) -> torch.optim.Optimizer:
    """The optimiser; each group remembers its full rate as `peak`."""
    match backbone.parametrization:
        case "complete_p":  # arXiv 2512.10858 §2.1: the same rates serve every rung
            groups = _complete_p_groups(backbone, settings)
            epsilon = EPSILON / (backbone.rung.width * backbone.rung.n_layers)  # eps / (d · L)
        case "standard":  # arXiv 2602.15014 §6.1: one rate, decay and epsilon
            rate, decay = settings.learning_rate, settings.weight_decay
            groups = [{"params": [*backbone.parameters()], "peak": rate, "weight_decay": decay}]
            epsilon = EPSILON
    rate = groups[0]["peak"]
    match settings.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=settings.betas, eps=epsilon, fused=True)
        case "laprop":
            return LaProp(groups, lr=rate, betas=settings.betas, eps=epsilon)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its share of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak"]


def _complete_p_groups(backbone: Backbone, settings: Optimizer) -> list[dict[str, Any]]:
    width = backbone.rung.width
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in backbone.named_parameters():
        if name.startswith("blocks.") and is_matrix(name, parameter):
            matrices.append(parameter)
        elif parameter is not backbone.embedding:
            others.append(parameter)
    # Matrices train at eta / d, and decay is relative to the rate, hence times d; everything else
    # trains at an auxiliary rate without decay.
    bulk_rate, other_rate = settings.learning_rate / width, settings.auxiliary_learning_rate
    embedding_rate = settings.embedding_learning_rate_ratio * other_rate
    return [
        {"params": matrices, "peak": bulk_rate, "weight_decay": settings.weight_decay * width},
        {"params": [backbone.embedding], "peak": embedding_rate, "weight_decay": 0.0},
        {"params": others, "peak": other_rate, "weight_decay": 0.0},
    ]
