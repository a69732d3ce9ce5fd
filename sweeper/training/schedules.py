"""Learning-rate schedules: the share of its peak rate that a step trains at.

Steps are counted from 1: a run of S steps takes 1 … S. The studies count from 0; their step s is
our s + 1. No update is wasted on a rate of zero: warmup ends at the peak with step W, and a
cooldown would reach zero with the update after the last one.
"""

import math

from sweeper.trials.trial import Optimizer


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
    """Warmup, the peak, and 1 − sqrt(k / K) over the last K steps (arXiv 2512.10858 §2.3).

    k counts the cooldown steps already taken: 0 at the first, K after the last.
    """
    n_cooled = step - 1 - (n_steps - cooldown_steps)
    if n_cooled <= 0:
        return constant(step, warmup_steps)
    return 1 - math.sqrt(n_cooled / cooldown_steps)
