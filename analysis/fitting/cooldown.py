"""How much a cooldown lowers the loss: the factor between constant and cooled-down runs.

Laws fitted to runs at constant learning rate describe losses before the cooldown; dividing by this
factor makes them comparable to finished runs. The GIDD study (arXiv 2512.10858) applies one
constant, 1.0245, everywhere. It is not one: their own pairs drift with size, rate and batch, which
is why the spread over the pairs is stated beside the interval of the mean.

Suffixes: R resamples, P pairs, G groups.
"""

from dataclasses import dataclass

import numpy as np

from analysis.errors import SettingsError
from analysis.stats.power_law import percentile_interval
from analysis.tables.points import FloatArray, IntArray

MIN_PAIRS = 3


@dataclass(frozen=True)
class CooldownRatio:
    """Loss without cooldown over loss with it."""

    ratio: float
    """Mean over the pairs."""
    ci: tuple[float, float]
    """95 % of the mean, groups of pairs drawn with replacement."""
    stderr: float
    """Of the mean, were the pairs independent."""
    spread: float
    """Standard deviation over the pairs: what one more configuration may differ by."""
    n_pairs: int


def cooldown_ratio(
    loss_constant_P: FloatArray,
    loss_cooled_P: FloatArray,
    group_P: IntArray,
    n_resamples: int = 1000,
    seed: int = 0,
) -> CooldownRatio:
    """Mean ratio of pairs that differ in the cooldown alone; raises `SettingsError` for too few.

    Pairs of one `group_P` (of one trunk run, say) are drawn together.
    """
    n_pairs = len(loss_constant_P)
    if n_pairs < MIN_PAIRS or len(loss_cooled_P) != n_pairs or len(group_P) != n_pairs:
        raise SettingsError(
            f"cooldown ratio: {n_pairs} constant and {len(loss_cooled_P)} cooled-down losses in "
            f"{len(group_P)} groups; expected equally many of each, {MIN_PAIRS} or more"
        )
    ratio_P = loss_constant_P / loss_cooled_P
    groups, index_P = np.unique(group_P, return_inverse=True)
    rng = np.random.default_rng([seed, 0])
    share = np.full(len(groups), 1.0 / len(groups))
    count_RP = rng.multinomial(len(groups), share, size=n_resamples)[:, index_P]
    mean_R = (count_RP @ ratio_P) / count_RP.sum(axis=1)
    spread = float(np.std(ratio_P, ddof=1))
    return CooldownRatio(
        ratio=float(ratio_P.mean()),
        ci=percentile_interval(mean_R),
        stderr=spread / float(np.sqrt(n_pairs)),
        spread=spread,
        n_pairs=n_pairs,
    )
