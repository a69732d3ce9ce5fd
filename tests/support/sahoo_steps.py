"""What the first study (arXiv 2602.15014) computed its step counts from."""

SAHOO_BATCH_SEQUENCES = 256

FORWARD_FLOPS = {
    "sahoo-6M": 5.3026e10,
    "sahoo-19M": 1.0860e11,
    "sahoo-34M": 1.7057e11,
    "sahoo-48M": 2.22747e11,
    "sahoo-66M": 2.85808e11,
    "sahoo-85M": 3.46382e11,
    "sahoo-75M": 4.06821e11,
    "sahoo-113M": 4.49410e11,
    "sahoo-142M": 5.36595e11,
    "sahoo-170M": 6.23779e11,
    "sahoo-180M": 6.71042e11,
    "sahoo-206M": 7.50126e11,
    "sahoo-231M": 8.29211e11,
    "sahoo-268M": 9.60366e11,
    "sahoo-302M": 1.0636e12,
    "sahoo-336M": 1.1669e12,
    "sahoo-472M": 1.6187e12,
    "sahoo-551M": 1.8605e12,
    "sahoo-571M": 1.9400e12,
    "sahoo-629M": 2.1023e12,
    "sahoo-666M": 2.2326e12,
    "sahoo-761M": 2.5252e12,
    "sahoo-831M": 2.7545e12,
    "sahoo-944M": 3.1027e12,
    "sahoo-1233M": 4.0256e12,
    "sahoo-1476M": 4.8066e12,
    "sahoo-1678M": 5.4254e12,
    "sahoo-2121M": 6.8054e12,
}
"""Forward pass over one sequence of 2,048 tokens, as published in its repository: the result of a
counter, rounded to five or six digits. Projections, MLPs and head, without the products of
attention, plus 0.05 to 0.3 % for norms and the like."""


def sahoo_steps(name: str, budget_flops: float) -> int:
    """Optimiser steps for a size and a budget: three forward passes a step."""
    return int(budget_flops / FORWARD_FLOPS[name] / SAHOO_BATCH_SEQUENCES / 3)
