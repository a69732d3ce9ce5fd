"""AdamW with the parameter groups of arXiv 2512.10858 §2.1 and a warmup-then-constant schedule.

With base learning rate eta, weight matrices of a trunk of width d and depth L train at eta / d
with weight decay times d, everything else at an auxiliary rate without decay, all with eps
1e-8 / (d · L): together with the backbone's multipliers, the same rates serve every rung.
"""

import torch
from torch import nn

from sweeper.backbone import Backbone, is_matrix
from sweeper.trial import Optimizer

EMBEDDING_FACTOR = 2.0
"""Rate of the input table in units of the auxiliary one.

A row moves only at steps that show its token. At 25K parameters, from 1e11 to 1e12 FLOPs, doubling
its rate lowered the bound of `ar` by 0.01 to 0.03 and of `masked` (cross-entropy) by 0.015 nats per
token and left `uniform` where it was: one seed each, so little more than the noise of 0.01 to 0.02.
"""

ADAM_EPSILON = 1e-8
"""Before division by width and depth."""


def build_optimizer(backbone: Backbone, settings: Optimizer) -> torch.optim.AdamW:
    """The optimiser; each group remembers its full rate as `peak`."""
    width, n_layers = backbone.rung.width, backbone.rung.n_layers
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in backbone.named_parameters():
        if name.startswith("blocks.") and is_matrix(name, parameter):
            matrices.append(parameter)
        elif parameter is not backbone.embedding:
            others.append(parameter)
    bulk_rate, other_rate = settings.learning_rate / width, settings.auxiliary_learning_rate
    embedding_rate = EMBEDDING_FACTOR * other_rate
    groups = [
        {"params": matrices, "peak": bulk_rate, "weight_decay": settings.weight_decay * width},
        {"params": [backbone.embedding], "peak": embedding_rate, "weight_decay": 0.0},
        {"params": others, "peak": other_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=bulk_rate,
        betas=settings.betas,
        eps=ADAM_EPSILON / (width * n_layers),
        fused=True,
    )


def rate_factor(step: int, settings: Optimizer) -> float:
    """Share of the peak rate at a step counted from 1: linear warmup, then constant."""
    return min(1.0, step / settings.warmup_steps)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its share of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak"]
