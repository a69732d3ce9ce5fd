"""The optimiser of a backbone: parameter groups, decay and epsilon, and the rate of each step.

Steps are counted from 1: a run of S steps takes 1 … S. The studies count from 0; their step s is
our s + 1. No update is wasted on a rate of zero: warmup ends at the peak with step W, and a
cooldown would reach zero with the update after the last one.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from sweeper.networks.backbone import Backbone
from sweeper.networks.gidd import is_matrix
from sweeper.training.laprop import LaProp
from sweeper.training.muon import MuonAndAdamW
from sweeper.trials.trial import Optimizer

# Where the updates of Muon are as large, entry by entry, as those of AdamW at the same eta: the
# width of the smallest network of arXiv 2512.10858.
MUON_REFERENCE_WIDTH = 512


def build_optimizer(backbone: Backbone, settings: Optimizer) -> torch.optim.Optimizer:
    """The optimiser; each group remembers its full rate as `peak`."""
    epsilon = 1e-8  # added to the root of the mean square
    match backbone.parametrization:
        case "complete_p":  # arXiv 2512.10858 §2.1: the same rates serve every rung
            groups = _complete_p_groups(backbone, settings)
            epsilon = epsilon / (backbone.rung.width * backbone.rung.n_layers)  # eps / (d · L)
        case "standard":  # arXiv 2602.15014 §6.1: one rate, decay and epsilon
            rate, decay = settings.learning_rate, settings.weight_decay
            parts = [[*backbone.parameters()]]
            if settings.name == "muon":
                matrices = _trunk_matrices(backbone)
                parts = [matrices, _without(matrices, backbone.parameters())]
            groups = [{"params": part, "peak": rate, "weight_decay": decay} for part in parts]
    rate = groups[0]["peak"]
    match settings.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=settings.betas, eps=epsilon, fused=True)
        case "laprop":
            return LaProp(groups, lr=rate, betas=settings.betas, eps=epsilon)
        case "muon":
            matrices_group, *others = groups
            return MuonAndAdamW(matrices_group, others, lr=rate, betas=settings.betas, eps=epsilon)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its share of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak"]


def _complete_p_groups(backbone: Backbone, settings: Optimizer) -> list[dict[str, Any]]:
    matrices = _trunk_matrices(backbone)
    others = _without([*matrices, backbone.embedding], backbone.parameters())
    # Matrices train at eta / d, and decay is relative to the rate, hence times d; everything else
    # trains at an auxiliary rate without decay.
    scale: float = backbone.rung.width
    if settings.name == "muon":
        # A feature moves by the rate times the spectral norm of the update (arXiv 2310.17813 eq.
        # 7). With entries of one size that grows as d where, as AdamW's, they point one way, and as
        # sqrt(d) where all singular values are equal.
        scale = math.sqrt(backbone.rung.width * MUON_REFERENCE_WIDTH)
    bulk_rate, other_rate = settings.learning_rate / scale, settings.auxiliary_learning_rate
    embedding_rate = settings.embedding_learning_rate_ratio * other_rate
    return [
        {"params": matrices, "peak": bulk_rate, "weight_decay": settings.weight_decay * scale},
        {"params": [backbone.embedding], "peak": embedding_rate, "weight_decay": 0.0},
        {"params": others, "peak": other_rate, "weight_decay": 0.0},
    ]


def _trunk_matrices(backbone: Backbone) -> list[nn.Parameter]:
    """Weight matrices of all layers, without those that read the noise level."""
    return [
        parameter
        for name, parameter in backbone.blocks.named_parameters()
        if is_matrix(name, parameter) and ".modulation." not in name
    ]


def _without(some: Iterable[nn.Parameter], of: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    left_out = {*map(id, some)}  # tensors compare by value
    return [parameter for parameter in of if id(parameter) not in left_out]


def rate_factor(step: int, settings: Optimizer) -> float:
    """Share of the peak rate at a step of a trial."""
    warmup_steps, n_steps = settings.warmup_steps, settings.schedule_steps
    match settings.schedule:
        case "constant":
            return constant(step, warmup_steps)
        case "cosine":
            return cosine(step, warmup_steps, n_steps, settings.min_learning_rate_ratio)
        case "wsd":
            return wsd(step, warmup_steps, n_steps, settings.cooldown_steps)


def constant(step: int, warmup_steps: int) -> float:
    """Linear warmup, then the peak (arXiv 2512.10858 §2.3)."""
    return min(1.0, step / warmup_steps)


def cosine(step: int, warmup_steps: int, n_steps: int, min_ratio: float) -> float:
    """Linear warmup, then half a cosine down to a share of the peak (arXiv 2602.15014 §6.1)."""
    if step <= warmup_steps:
        return step / warmup_steps
    progress = (step - 1 - warmup_steps) / (n_steps - warmup_steps)
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def wsd(step: int, warmup_steps: int, n_steps: int, cooldown_steps: int) -> float:
    """Warmup, the peak, and 1 − sqrt(k / K) over the last K steps (arXiv 2512.10858 §2.3)."""
    # k counts the cooldown steps already taken: 0 at the first, K after the last.
    n_cooled = step - 1 - (n_steps - cooldown_steps)
    if n_cooled <= 0:
        return constant(step, warmup_steps)
    return 1 - math.sqrt(n_cooled / cooldown_steps)
