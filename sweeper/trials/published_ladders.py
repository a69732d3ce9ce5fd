"""The model sizes of the two studies, by name: `sahoo-85M`, `gidd-25M`.

The names are the studies' own. Those of arXiv 2602.15014 come from another study whose MLP has
three matrices, and overstate the trunk by a third (its 85M has 71M trunk parameters); `75M` lies
between 85M and 113M.
"""

from dataclasses import dataclass

from sweeper.trials.ladder import Rung


@dataclass(frozen=True)
class PublishedRung:
    """A size of arXiv 2602.15014 with the cost its step counts were computed from."""

    rung: Rung
    forward_flops: float
    """Forward pass over one sequence of 2,048 tokens, as published in its repository: a counter's
    result rounded to five or six digits. Projections, MLPs and head, without the products of
    attention, plus 0.05 to 0.3 % for norms and the like."""


SAHOO = {
    "sahoo-6M": PublishedRung(Rung(6, 256, 4), 5.3026e10),
    "sahoo-19M": PublishedRung(Rung(8, 384, 6), 1.0860e11),
    "sahoo-34M": PublishedRung(Rung(8, 512, 8), 1.7057e11),
    "sahoo-48M": PublishedRung(Rung(9, 576, 9), 2.22747e11),
    "sahoo-66M": PublishedRung(Rung(10, 640, 10), 2.85808e11),
    "sahoo-85M": PublishedRung(Rung(13, 640, 10), 3.46382e11),
    "sahoo-75M": PublishedRung(Rung(16, 640, 8), 4.06821e11),
    "sahoo-113M": PublishedRung(Rung(12, 768, 12), 4.49410e11),
    "sahoo-142M": PublishedRung(Rung(15, 768, 12), 5.36595e11),
    "sahoo-170M": PublishedRung(Rung(18, 768, 12), 6.23779e11),
    "sahoo-180M": PublishedRung(Rung(14, 896, 14), 6.71042e11),
    "sahoo-206M": PublishedRung(Rung(16, 896, 14), 7.50126e11),
    "sahoo-231M": PublishedRung(Rung(18, 896, 14), 8.29211e11),
    "sahoo-268M": PublishedRung(Rung(16, 1024, 16), 9.60366e11),
    "sahoo-302M": PublishedRung(Rung(18, 1024, 16), 1.0636e12),
    "sahoo-336M": PublishedRung(Rung(20, 1024, 16), 1.1669e12),
    "sahoo-472M": PublishedRung(Rung(18, 1280, 10), 1.6187e12),
    "sahoo-551M": PublishedRung(Rung(21, 1280, 10), 1.8605e12),
    "sahoo-571M": PublishedRung(Rung(18, 1408, 11), 1.9400e12),
    "sahoo-629M": PublishedRung(Rung(24, 1280, 10), 2.1023e12),
    "sahoo-666M": PublishedRung(Rung(21, 1408, 11), 2.2326e12),
    "sahoo-761M": PublishedRung(Rung(24, 1408, 11), 2.5252e12),
    "sahoo-831M": PublishedRung(Rung(22, 1536, 12), 2.7545e12),
    "sahoo-944M": PublishedRung(Rung(25, 1536, 12), 3.1027e12),
    "sahoo-1233M": PublishedRung(Rung(24, 1792, 14), 4.0256e12),
    "sahoo-1476M": PublishedRung(Rung(22, 2048, 16), 4.8066e12),
    "sahoo-1678M": PublishedRung(Rung(25, 2048, 16), 5.4254e12),
    "sahoo-2121M": PublishedRung(Rung(28, 2176, 17), 6.8054e12),
}
"""The 28 sizes of arXiv 2602.15014 (its `configs/flops`), smallest first by name."""

SAHOO_BATCH_SEQUENCES = 256


def sahoo_steps(name: str, budget_flops: float) -> int:
    """Optimiser steps of arXiv 2602.15014 for a size and a budget: three forward passes a step."""
    return int(budget_flops / SAHOO[name].forward_flops / SAHOO_BATCH_SEQUENCES / 3)


GIDD = {
    "gidd-25M": Rung(8, 512, 8),
    "gidd-50M": Rung(10, 640, 10),
    "gidd-85M": Rung(12, 768, 12),
    "gidd-200M": Rung(16, 1024, 16),
    "gidd-570M": Rung(20, 1536, 12),
    "gidd-3B-masked": Rung(18, 3072, 24),
    "gidd-3B-uniform": Rung(19, 3072, 24),
    "gidd-10B": Rung(34, 4608, 36),
}
"""The five sizes of the grid of arXiv 2512.10858, and its three scaled-up runs."""

PUBLISHED_RUNGS: dict[str, Rung] = GIDD | {name: size.rung for name, size in SAHOO.items()}
"""Every named size."""
