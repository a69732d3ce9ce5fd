"""Large tables of observations whose law is known, the same rows for the same size."""

import numpy as np
import pandas as pd
from planted_tables import Surface, isoflop_rows

HANDICAPS = {"ar": 1.0, "esolm": 1.004, "masked": 2.3, "uniform": 3.4, "balanced": 2.8}
"""Compute that each series needs for the losses of the first; one pair that nobody can tell."""
BUDGETS = np.geomspace(1e17, 1e20, 10)
N_SIZES = 20
NOISE = 0.004
"""Relative, of a run."""


def observations(n_seeds: int = 1, n_budgets: int = len(BUDGETS)) -> pd.DataFrame:
    """5 series × 10 budgets × 20 sizes × seeds: 1,000 rows for one seed."""
    budgets = np.geomspace(BUDGETS[0], BUDGETS[-1], n_budgets)
    parts = [
        isoflop_rows(
            label,
            Surface(),
            NOISE,
            handicap,
            1000 * number + seed,
            budgets,
            N_SIZES,
            half_width=6.0,
        ).assign(seed=seed)
        for number, (label, handicap) in enumerate(HANDICAPS.items())
        for seed in range(n_seeds)
    ]
    return pd.concat(parts, ignore_index=True)


def with_ingredients(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows with what every convention for parameters and FLOPs is counted from."""
    # A width of 64 a layer, as ladders have it: 12 · layers · width² parameters.
    n_layers = np.maximum(np.round((frame["params"] / (12 * 64**2)) ** (1 / 3)), 1.0)
    d_model = 8.0 * np.round(np.sqrt(frame["params"] / (12 * n_layers)) / 8.0)
    shape = {"n_layers": n_layers, "d_model": d_model, "context_tokens": 1024, "vocab_size": 32_768}
    return frame.assign(params_trunk=frame["params"], **shape)


def sizes_of_one_budget() -> pd.DataFrame:
    """Two series, each size trained at one budget alone: other FLOPs make no budgets of them."""
    handicaps = {"ar": 1.0, "masked": 2.3}
    parts = [
        isoflop_rows(label, noise=0.002, handicap=each, seed=n, budgets=np.geomspace(1e15, 1e18, 4))
        for n, (label, each) in enumerate(handicaps.items())
    ]
    return with_ingredients(pd.concat(parts, ignore_index=True))
