"""L*(D) by the surface and along the optima, and the cooldown factor."""

import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table

from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.fitting.token_frontier import TokenFrontier

SETTINGS = FitSettings(n_bootstrap=100)


def frontier_of(result: FitResult) -> TokenFrontier:
    tokens = result.family("a").token_frontier
    assert tokens is not None
    return tokens


def test_the_limit_is_the_loss_of_an_infinitely_large_model() -> None:
    planted = Surface()
    limit = frontier_of(fit_table(table(isoflop_rows()), SETTINGS)).limit
    assert limit is not None
    for point in limit:
        expected = planted.E + planted.B * point.tokens**-planted.beta
        assert point.loss == pytest.approx(expected, rel=1e-4)
        assert point.loss < point.loss_at_largest_size


def test_intervals_of_the_limit_hold_the_planted_one() -> None:
    planted = Surface()
    limit = frontier_of(fit_table(table(isoflop_rows(noise=0.003, seed=3)), SETTINGS)).limit
    assert limit is not None
    for point in limit:
        low, high = point.ci
        assert low < planted.E + planted.B * point.tokens**-planted.beta < high


def test_a_limit_far_below_every_size_is_not_stated() -> None:
    slow = Surface(E=0.3, A=20.0, B=400.0, alpha=0.1, beta=0.37)
    result = fit_table(table(isoflop_rows(surface=slow)), SETTINGS)
    tokens = result.family("a").token_frontier
    assert tokens is not None
    assert tokens.limit is None
    assert tokens.along_optima is not None
    assert "token_limit_out_of_reach" in {warning.code for warning in result.warnings}


def test_the_slope_along_the_optima_is_that_of_loss_over_that_of_tokens() -> None:
    straight = Surface(E=1e-9, A=50.0, B=50.0, alpha=0.3, beta=0.3)
    law = frontier_of(fit_table(table(isoflop_rows(surface=straight)), SETTINGS)).along_optima
    assert law is not None
    assert law.exponent == pytest.approx(-0.15 / 0.5, abs=1e-4)
    assert law.n_budgets == len(BUDGETS)


def test_one_budget_and_few_points_have_no_token_bound_frontier() -> None:
    frame = isoflop_rows(budgets=BUDGETS[:1]).head(6)
    result = fit_table(table(frame), SETTINGS)
    assert result.family("a").token_frontier is None
    assert "no_token_frontier" in {warning.code for warning in result.warnings}
