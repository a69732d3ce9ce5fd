"""Runs beside a design: they change nothing about the trials of the design."""

import math
from typing import Any

import pytest
from test_planner import corpus, fields

from sweeper.planning.planner import PlannedSweep, make_plan
from sweeper.sweepfile.problems import InvalidSweep
from sweeper.sweepfile.schema import Sweep

DESIGN = {"isoflop": {"budgets": ["1e11", "3e11"], "sizes": ["5K", "10K", "40K"]}}


def planned(*added: dict[str, Any], **changes: Any) -> PlannedSweep:
    design = {**DESIGN, "added": list(added)}
    sweep = Sweep.model_validate(fields(design=design, train={}, **changes))
    return make_plan(sweep, corpus(), bfloat16_from_width=math.inf)


def test_added_runs_come_beside_the_trials_of_the_design() -> None:
    first = {"series": "masked", "size": "20K", "budgets": ["1e11", "3e11"], "seeds": [0, 3]}
    base = {each.trial_id for each in planned().trials}
    new = [each for each in planned(first).trials if each.trial_id not in base]
    assert base < {each.trial_id for each in planned(first).trials}
    assert [(each.series, each.trial.seed, len(each.cells)) for each in new] == [
        ("masked", 0, 2),
        ("masked", 3, 2),
    ]


def test_a_replicate_trains_as_the_run_that_it_repeats() -> None:
    again = {"series": "masked", "size": "10K", "budgets": "1e11", "seeds": 7}
    trials = {(e.series, e.params.trunk, e.trial.seed): e.trial for e in planned(again).trials}
    size = sorted({trunk for _, trunk, _ in trials})[1]
    own, repeated = trials["masked", size, 0], trials["masked", size, 7]
    assert repeated.optimizer == own.optimizer
    assert repeated.observe_at_steps == own.observe_at_steps[:1]


def test_later_entries_do_not_change_the_trials_of_earlier_ones() -> None:
    one = {"series": "masked", "size": "20K", "budgets": "3e11"}
    more = {"series": ["ar", "masked"], "size": "20K", "budgets": "1e11", "seeds": [1]}
    ids = {each.trial_id for each in planned(one).trials}
    assert ids < {each.trial_id for each in planned(one, more).trials}


def test_added_runs_need_not_keep_to_the_window() -> None:
    design = {"isoflop": {**DESIGN["isoflop"], "tokens_per_param": [20, 1000]}}
    far = {"series": "ar", "size": "100K", "budgets": "1e11"}
    sweep = Sweep.model_validate(fields(design={**design, "added": [far]}))
    plan = make_plan(sweep, corpus(), bfloat16_from_width=math.inf)
    assert any(each.params.trunk > 9e4 for each in plan.trials)


def test_an_added_run_of_too_few_steps_is_refused_at_its_place() -> None:
    with pytest.raises(InvalidSweep) as refused:
        planned({"series": "ar", "size": "400K", "budgets": "1e9"})
    assert refused.value.problems[0].path == ("design", "added", 0, "budgets", 0)


def test_an_optional_one_is_left_out() -> None:
    plan = planned({"series": "ar", "size": "400K", "budgets": ["1e9", "3e11"], "optional": True})
    assert [cell.budget_flops for cell in plan.skipped] == [1e9]
    assert {each.params.trunk > 3e5 for each in plan.trials} == {True, False}
