"""`design: auto`: what it costs, what it asks for, and that it is a design like any other."""

import math
from typing import Any

import pytest
from test_planner import corpus, fields

from sweeper.planning.auto_design import N_BUDGETS, prior_tokens
from sweeper.planning.planner import PlannedSweep, make_plan
from sweeper.sweepfile.problems import InvalidSweep
from sweeper.sweepfile.schema import Sweep

ASK = {"interval": "multiplier", "baseline": "ar", "against": "masked"}


def planned(auto: dict[str, Any], **changes: Any) -> PlannedSweep:
    changes = {"design": {"auto": auto}, "train": {}, **changes}
    return make_plan(
        Sweep.model_validate(fields(**changes)), corpus(), bfloat16_from_width=math.inf
    )


@pytest.mark.parametrize("total", [1e12, 3e13, 1e17, 1e21])
def test_it_costs_at_most_its_total_and_at_least_a_good_part(total: float) -> None:
    assert 0.6 * total <= planned({"total_flops": total}).totals.train_flops <= total


@pytest.mark.parametrize("total", [1e16, 1e19])  # below, the ladder has no smaller sizes
def test_every_budget_has_sizes_on_both_sides_of_the_expected_optimum(total: float) -> None:
    plan = planned({"total_flops": total})
    cells = [
        (c.budget_flops, c.tokens) for each in plan.trials for c in each.cells if c.budget_flops
    ]
    budgets = sorted({budget for budget, _ in cells})
    assert len(budgets) == N_BUDGETS
    for budget in budgets:
        ratios = [tokens / prior_tokens(budget) for at, tokens in cells if at == budget]
        assert min(ratios) < 0.5
        assert max(ratios) > 2.0
        assert len(ratios) >= 5 * 2  # of both series


def test_rounds_leave_a_part_of_the_total_for_later() -> None:
    whole = planned({"total_flops": 1e14}).totals.train_flops
    first = planned({"total_flops": 1e14, "first_round": 0.25}, ask=ASK).totals.train_flops
    assert first < 0.3 * 1e14 < whole


def reach(plan: PlannedSweep) -> float:
    """Largest over smallest size."""
    sizes = [each.params.trunk for each in plan.trials]
    return max(sizes) / min(sizes)


def test_rounds_mend_the_prior_so_that_sizes_need_not_reach_as_far() -> None:
    by_itself = planned({"total_flops": 1e16})
    with_rounds = planned({"total_flops": 1e16}, ask=ASK)
    assert reach(with_rounds) < 0.3 * reach(by_itself)


def test_large_sizes_are_observed_at_small_budgets_where_they_pass_them() -> None:
    def sizes_at_smallest(**train: str) -> int:
        plan = planned({"total_flops": 1e16}, ask=ASK, train=train)
        cells = [(c.budget_flops, each) for each in plan.trials for c in each.cells]
        smallest = min(budget for budget, _ in cells if budget)
        return len({each.params.trunk for budget, each in cells if budget == smallest})

    assert sizes_at_smallest() > sizes_at_smallest(schedule="cosine")


def test_a_budget_asked_about_lies_inside_and_what_is_over_goes_into_seeds() -> None:
    plan = planned({"total_flops": 1e15}, ask={**ASK, "at": 1e12})
    budgets = [c.budget_flops for each in plan.trials for c in each.cells if c.budget_flops]
    assert min(budgets) < 1e12 < max(budgets) <= 2e12
    assert len({each.trial.seed for each in plan.trials}) > 2


def test_hours_and_money_are_totals_too() -> None:
    hours = planned({"gpu_hours": 1}).totals.train_flops
    assert hours == planned({"money": 3, "price_per_gpu_hour": 3}).totals.train_flops
    assert hours == pytest.approx(3600 * 4e14, rel=0.4)


def test_too_little_for_any_size_is_refused_with_what_would_do() -> None:
    with pytest.raises(InvalidSweep, match=r"expected at least .* FLOPs") as refused:
        planned({"total_flops": 1e8})
    assert refused.value.problems[0].path == ("design", "auto")
