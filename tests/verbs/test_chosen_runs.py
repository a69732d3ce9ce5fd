"""What a round adds: runs that bracket and that narrow, and no end before there is an answer."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table

from analysis.fitting.fit import FitResult, FitSettings, fit_table
from sweeper.sweepfile.schema import Sweep
from sweeper.verbs.driving.chosen_runs import Answer, answer_to, chosen_runs

AT = float(BUDGETS[3])
ASK = {"interval": "multiplier", "baseline": "masked", "against": "uniform", "at": f"{AT:g}"}
WIDE = Answer(2.0, is_open=False)
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


def fitted(*budgets: float) -> FitResult:
    """Two noisy series; of some budgets the sizes below the best one are missing."""
    parts: list[pd.DataFrame] = []
    for seed, (label, handicap) in enumerate({"masked": 1.0, "uniform": 1.4}.items()):
        rows = isoflop_rows(label, noise=0.006, handicap=handicap, seed=seed)
        smallest = np.array([1.5 * Surface().best_params(flops) for flops in rows["flops"]])
        parts.append(rows[~rows["flops"].isin(budgets) | (rows["params"] > smallest)])
    return fit_table(table(*parts), FitSettings(n_bootstrap=100))


@pytest.fixture(scope="module")
def result() -> FitResult:
    """The smallest budget is open."""
    return fitted(float(BUDGETS[0]))


def purposes(result: FitResult, sweep: Sweep, answer: Answer | None) -> set[str]:
    return {each.purpose for each in chosen_runs(result, sweep, answer, 1e18, 1e19)}


def test_open_budgets_of_a_design_are_bracketed_also_when_there_is_an_answer(
    result: FitResult,
) -> None:
    sweep = asking(ISOFLOP, 1.1)
    assert "bracket" in purposes(result, sweep, answer_to(result, sweep))


def test_those_of_auto_only_while_there_is_none(result: FitResult) -> None:
    sweep = asking({"auto": {"total_flops": "1e19"}}, 1.1)
    answer = answer_to(result, sweep)
    assert answer is not None
    assert answer.ratio > 1.1
    assert purposes(result, sweep, answer) == {"precision"}
    assert "bracket" in purposes(result, sweep, None)


def test_an_answer_beyond_the_brackets_does_not_settle_it() -> None:
    beyond = fitted(*map(float, BUDGETS[2:]))
    sweep = asking({"auto": {"total_flops": "1e19"}}, 100.0)
    answer = answer_to(beyond, sweep)
    assert answer is not None
    assert answer.ratio < 100.0
    assert answer.is_open
    assert not answer.settles(100.0)
    assert "bracket" in purposes(beyond, sweep, answer)


def test_an_expectation_that_was_too_hopeful_does_not_end_a_sweep(result: FitResult) -> None:
    sweep = asking({"auto": {"total_flops": "1e19"}}, 4.0)
    answer = answer_to(result, sweep)
    assert answer is not None
    assert answer.settles(4.0)
    assert not chosen_runs(result, sweep, answer, 1e18, 1e19)  # answered
    # What resampling says counts, not what was expected of the runs.
    added = chosen_runs(result, sweep, Answer(4.5, is_open=False), 1e18, 1e19)
    assert added
    assert np.all([each.purpose == "precision" for each in added])


def test_nothing_is_added_beyond_what_is_left(result: FitResult) -> None:
    sweep = asking({"auto": {"total_flops": "1e19"}}, 1.05)
    added = chosen_runs(result, sweep, WIDE, 1e18, 2e17)
    assert 0 < sum(each.run.flops_added for each in added) <= 2e17 * (1 + 1e-9)
    assert not chosen_runs(result, sweep, WIDE, 1e18, 0.0)
