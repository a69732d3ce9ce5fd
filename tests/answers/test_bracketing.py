"""Where an arm does not rise above the noise, runs are added to that arm, or to its noise."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted_tables import table

from analysis.answers.propose import Proposal, bracketing_runs
from analysis.fitting.fit import FitSettings, fit_table

SIZES = (6_512, 14_376, 25_312, 56_400, 99_776)
BUDGETS = (4e11, 8e11)


def valley(sizes: tuple[int, ...], best: float, noise: float) -> pd.DataFrame:
    """Two seeds of every size at every budget, with a parabola in the log size."""
    rng, rows = np.random.default_rng(3), []
    for size in sizes:
        for seed in (0, 1):
            luck = noise * rng.standard_normal()
            for budget in BUDGETS:
                loss = (
                    2.3 * (budget / 4e11) ** -0.06 * np.exp(0.01 * np.log(size / best) ** 2 + luck)
                )
                tokens = budget / (6 * size + 60_000)
                rows.append(
                    {"family": "a", "params": size, "tokens": tokens, "flops": budget}
                    | {
                        "budget_flops": budget,
                        "loss": loss,
                        "seed": seed,
                        "run_id": f"{size}-{seed}",
                    }
                )
    return pd.DataFrame(rows)


def proposals(rows: pd.DataFrame, convention: str = "as given") -> tuple[Proposal, ...]:
    ours = dataclasses.replace(table(rows), params_convention=convention)
    return bracketing_runs(fit_table(ours, FitSettings(n_bootstrap=100)), 1e14, resumes=False)


def test_a_flat_arm_is_extended_on_its_own_side() -> None:
    found = proposals(valley(SIZES, best=14_000, noise=0.012))
    assert found
    assert {each.why for each in found} == {"not bracketed: an arm does not rise above the noise"}
    assert all(each.run.params < SIZES[0] for each in found)


def test_at_the_end_of_the_ladder_it_gets_more_seeds() -> None:
    sizes = (1_744, 3_732, 8_190, 25_312, 56_400)
    found = proposals(valley(sizes, best=4_500, noise=0.012), "trunk")
    assert found
    assert {round(each.run.params) for each in found} <= {1_744, 3_732, 8_190}
    assert all(each.run.seed >= 2 for each in found)


@pytest.mark.parametrize("noise", [1e-4, 1e-3])
def test_a_bracketed_budget_asks_for_nothing(noise: float) -> None:
    assert not proposals(valley(SIZES, best=24_000, noise=noise))
