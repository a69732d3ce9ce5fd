"""The model sizes of the two studies, by the studies' own names: `sahoo-85M`, `gidd-25M`."""

from sweeper.trials.ladder import Rung

# The 28 sizes of arXiv 2602.15014 (its `configs/flops`). Their names come from another study whose
# MLP has three matrices, and overstate the trunk by a third (85M has 71M trunk parameters).
SAHOO = {
    "sahoo-6M": Rung(6, 256, 4),
    "sahoo-19M": Rung(8, 384, 6),
    "sahoo-34M": Rung(8, 512, 8),
    "sahoo-48M": Rung(9, 576, 9),
    "sahoo-66M": Rung(10, 640, 10),
    "sahoo-85M": Rung(13, 640, 10),
    "sahoo-75M": Rung(16, 640, 8),
    "sahoo-113M": Rung(12, 768, 12),
    "sahoo-142M": Rung(15, 768, 12),
    "sahoo-170M": Rung(18, 768, 12),
    "sahoo-180M": Rung(14, 896, 14),
    "sahoo-206M": Rung(16, 896, 14),
    "sahoo-231M": Rung(18, 896, 14),
    "sahoo-268M": Rung(16, 1024, 16),
    "sahoo-302M": Rung(18, 1024, 16),
    "sahoo-336M": Rung(20, 1024, 16),
    "sahoo-472M": Rung(18, 1280, 10),
    "sahoo-551M": Rung(21, 1280, 10),
    "sahoo-571M": Rung(18, 1408, 11),
    "sahoo-629M": Rung(24, 1280, 10),
    "sahoo-666M": Rung(21, 1408, 11),
    "sahoo-761M": Rung(24, 1408, 11),
    "sahoo-831M": Rung(22, 1536, 12),
    "sahoo-944M": Rung(25, 1536, 12),
    "sahoo-1233M": Rung(24, 1792, 14),
    "sahoo-1476M": Rung(22, 2048, 16),
    "sahoo-1678M": Rung(25, 2048, 16),
    "sahoo-2121M": Rung(28, 2176, 17),
}

# The five sizes of the grid of arXiv 2512.10858, and its three scaled-up runs.
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

PUBLISHED_RUNGS = GIDD | SAHOO
