"""What a round adds: runs that bracket and that narrow, and no end before there is an answer."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table

from analysis.fitting.fit import FitResult, FitSettings, fit_table
from sweeper.sweepfile.schema import Sweep
from sweeper.verbs.driving.chosen_runs import answer_ratio, chosen_runs

AT = float(BUDGETS[3])
ASK = {"interval": "multiplier", "baseline": "masked", "against": "uniform", "at": f"{AT:g}"}
ISOFLOP = {
    "isoflop": {"budgets": ["1e16"], "sizes": ["1M", "2M", "4M"], "on_unbracketed": "extend"}
}


def asking(design: dict[str, Any], within: float) -> Sweep:
    return Sweep.model_validate(
        {
            "name": "asking",
            "corpus": {"source": "stdlib", "seq_len": 64},
            "series": {"masked": {"family": "masked"}, "uniform": {"family": "uniform"}},
            "design": design,
            "ask": ASK | {"within": within},
        }
    )


@pytest.fixture(scope="module")
def result() -> FitResult:
    """Two noisy series; of the smallest budget, the sizes below the best one are missing."""
    parts: list[pd.DataFrame] = []
    for seed, (label, handicap) in enumerate({"masked": 1.0, "uniform": 1.4}.items()):
        rows = isoflop_rows(label, noise=0.006, handicap=handicap, seed=seed)
        is_open = (rows["flops"] == BUDGETS[0]) & (
            rows["params"] < 1.5 * Surface().best_params(float(BUDGETS[0]))
        )
        parts.append(rows[~is_open])
    return fit_table(table(*parts), FitSettings(n_bootstrap=100))


def purposes(result: FitResult, sweep: Sweep, answer: float | None) -> set[str]:
    return {each.purpose for each in chosen_runs(result, sweep, answer, 1e18, 1e19)}


def test_open_budgets_of_a_design_are_bracketed_also_when_there_is_an_answer(
    result: FitResult,
) -> None:
    sweep = asking(ISOFLOP, 1.1)
    assert "bracket" in purposes(result, sweep, answer_ratio(result, sweep))


def test_those_of_auto_only_while_there_is_none(result: FitResult) -> None:
    sweep = asking({"auto": {"total_flops": "1e19"}}, 1.1)
    answer = answer_ratio(result, sweep)
    assert answer is not None
    assert answer > 1.1
    assert purposes(result, sweep, answer) == {"precision"}
    assert "bracket" in purposes(result, sweep, None)


def test_an_expectation_that_was_too_hopeful_does_not_end_a_sweep(result: FitResult) -> None:
    sweep = asking({"auto": {"total_flops": "1e19"}}, 4.0)
    answer = answer_ratio(result, sweep)
    assert answer is not None
    assert answer < 4.0
    assert not chosen_runs(result, sweep, answer, 1e18, 1e19)  # answered
    # What resampling says counts, not what was expected of the runs.
    added = chosen_runs(result, sweep, 4.5, 1e18, 1e19)
    assert added
    assert np.all([each.purpose == "precision" for each in added])


def test_nothing_is_added_beyond_what_is_left(result: FitResult) -> None:
    sweep = asking({"auto": {"total_flops": "1e19"}}, 1.05)
    added = chosen_runs(result, sweep, 2.0, 1e18, 2e17)
    assert 0 < sum(each.run.flops_added for each in added) <= 2e17 * (1 + 1e-9)
    assert not chosen_runs(result, sweep, 2.0, 1e18, 0.0)
