"""The exact entropy of a synthetic source, which no bound may fall below."""

import numpy as np

from sweeper.data.synthetic import (
    SLOTS,
    parse_synthetic,
    stationary_distribution,
    transition_slots,
)


def entropy_rate(source: str) -> float:
    """Nats per token (Cover & Thomas, Elements of Information Theory, eq. 4.27)."""
    slots_CV = transition_slots(parse_synthetic(source))
    p_CV = slots_CV / SLOTS
    # H = −sum over s of pi(s) sum over k of p(k | s) ln p(k | s)
    return float(-(stationary_distribution(slots_CV) @ (p_CV * np.log(p_CV)).sum(axis=1)))
