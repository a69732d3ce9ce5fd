"""Frontiers and comparisons: planted multipliers, what is extrapolated, what is unreachable."""

import dataclasses
import json

import numpy as np
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table, trajectory_rows

from analysis.answers import compare as comparison
from analysis.answers.compare import Comparison, compare
from analysis.errors import SettingsError
from analysis.fitting.fit import FitSettings, fit_table
from analysis.isoflop.crossover import crossover
from analysis.isoflop.frontier import Frontier
from analysis.report.text import comparison_text

SETTINGS = FitSettings(n_bootstrap=200)


def compared(*parts: object, settings: FitSettings = SETTINGS) -> Comparison:
    return compare(fit_table(table(*parts), settings), "a", "b")  # type: ignore[arg-type]


def a_frontier(offset: float = 0.0) -> Frontier:
    log_flops = np.log(BUDGETS)
    loss = offset + 40 * BUDGETS**-0.08
    return Frontier(
        log_flops_K=log_flops,
        log_loss_RK=np.log(loss)[None],
        exponent_R=np.array([-0.08]),
        offset_R=np.array([offset]),
    )


@pytest.mark.parametrize("offset", [0.0, 1.3])
@pytest.mark.parametrize("flops", [1e13, 1e15, 3e16, 1e17, 1e20])
def test_reading_a_frontier_back_gives_the_compute_it_was_read_at(
    flops: float, offset: float
) -> None:
    frontier = a_frontier(offset)
    log_loss = frontier.log_loss(np.log(flops))
    assert frontier.log_flops_reaching(log_loss)[0] == pytest.approx(np.log(flops), rel=1e-9)


def test_beyond_the_data_a_frontier_follows_its_law() -> None:
    frontier = a_frontier(offset=1.3)
    assert np.exp(frontier.log_loss(np.log(1e21))[0]) == pytest.approx(1.3 + 40 * 1e21**-0.08)


def test_a_loss_at_or_below_the_offset_is_unreachable() -> None:
    assert np.isinf(a_frontier(offset=1.3).log_flops_reaching(np.log([1.3]))[0])
    assert np.isinf(a_frontier(offset=1.3).log_flops_reaching(np.log([1.1]))[0])


def test_a_planted_handicap_is_recovered() -> None:
    result = compared(isoflop_rows("a"), isoflop_rows("b", handicap=3.0))
    inside = [point for point in result.points if not point.extrapolated]
    assert inside
    for point in inside:
        # Cubics between budgets a factor 3 apart follow the frontier to 0.4 %.
        assert point.multiplier == pytest.approx(3.0, rel=0.004)


def test_the_interval_holds_the_planted_handicap() -> None:
    noisy = {"noise": 0.002, "n_sizes": 7}
    result = compared(
        isoflop_rows("a", seed=1, **noisy),  # type: ignore[arg-type]
        isoflop_rows("b", seed=2, handicap=3.0, **noisy),  # type: ignore[arg-type]
    )
    for point in result.points:
        assert point.multiplier is not None
        assert point.ci is not None
        if not point.extrapolated:
            assert point.ci[0] < 3.0 < point.ci[1]
            assert point.ci[0] < point.multiplier < point.ci[1]


def test_noise_that_both_series_share_cancels() -> None:
    def series(family: str, seed: int) -> object:
        return isoflop_rows(family, noise=0.005, seed=seed)

    paired = compared(series("a", 1), series("b", 1))
    alone = compared(series("a", 1), series("b", 2))
    middle = len(BUDGETS) // 2
    for point in paired.points:
        assert point.multiplier == pytest.approx(1.0, abs=1e-9)
    paired_ci, alone_ci = paired.points[middle].ci, alone.points[middle].ci
    assert paired_ci is not None
    assert alone_ci is not None
    assert np.ptp(paired_ci) < 0.1 * np.ptp(alone_ci)


def test_only_losses_that_both_series_reached_are_not_extrapolated() -> None:
    result = compared(isoflop_rows("a"), isoflop_rows("b", handicap=3.0))
    flags = {point.flops: point.extrapolated for point in result.points}
    assert not flags[BUDGETS[0]]
    assert flags[BUDGETS[-1]]  # b would need 3e17, and stops at 1e17
    far = compared(isoflop_rows("a"), isoflop_rows("b", handicap=1e4))
    assert all(point.extrapolated for point in far.points)
    assert "no_overlap" in [warning.code for warning in far.warnings]
    assert "(extrapolated)" in far.verdict


def test_a_loss_below_the_other_series_limit_is_unreachable_with_a_remark() -> None:
    budgets = np.geomspace(1e15, 1e19, 8)
    better = isoflop_rows("a", Surface(E=0.5), budgets=budgets)
    worse = isoflop_rows("b", Surface(E=2.5, A=30.0, B=200.0), budgets=budgets)
    result = compared(better, worse)
    last = result.points[-1]
    assert last.multiplier is None
    assert last.ci is None
    assert last.unreachable_share > 0.5
    assert "unreachable" in [warning.code for warning in result.warnings]
    json.dumps(comparison.to_json(result), allow_nan=False)


def test_a_series_without_brackets_has_no_frontier_and_the_verdict_says_so() -> None:
    thin = isoflop_rows("b").groupby("budget_flops").head(2)
    result = compared(isoflop_rows("a"), thin)
    assert result.points == ()
    assert "b has no frontier" in result.verdict
    assert result.exponents["params"] is None
    json.dumps(comparison.to_json(result), allow_nan=False)


def test_the_verdict_has_numbers_and_their_uncertainty() -> None:
    result = compared(
        trajectory_rows("a", seed=1), trajectory_rows("b", Surface(A=75.0, B=500.0), seed=1)
    )
    assert "the compute of a to reach" in result.verdict
    assert "× [" in result.verdict
    assert "nats/token" in result.verdict


def test_series_that_do_not_differ_are_not_told_apart() -> None:
    result = compared(
        isoflop_rows("a", noise=0.004, seed=3), isoflop_rows("b", noise=0.004, seed=4)
    )
    assert "the interval includes 1" in result.verdict


def test_exponents_are_compared_by_paired_draws() -> None:
    steeper = Surface(alpha=0.5, beta=0.37, A=600.0)
    result = compared(
        isoflop_rows("a", noise=0.001, seed=1), isoflop_rows("b", steeper, noise=0.001, seed=2)
    )
    difference = result.exponents["params"]
    assert difference is not None
    planted = steeper.params_exponent - Surface().params_exponent
    assert difference.difference == pytest.approx(difference.against - difference.baseline)
    assert difference.difference_ci[0] < planted < difference.difference_ci[1]
    assert difference.difference_ci[1] < 0


def test_unknown_and_repeated_labels_are_errors_with_a_hint() -> None:
    result = fit_table(table(isoflop_rows("masked"), isoflop_rows("uniform")), SETTINGS)
    with pytest.raises(SettingsError, match="did you mean 'masked'"):
        compare(result, "maskd", "uniform")
    with pytest.raises(SettingsError, match="two different series"):
        compare(result, "masked", "masked")


def test_json_has_the_agreed_keys() -> None:
    answer = comparison.to_json(compared(isoflop_rows("a"), isoflop_rows("b", handicap=2.0)))
    assert {"baseline", "against", "points", "exponents", "warnings"} <= set(answer)
    assert set(answer["points"][0]) == {"flops", "multiplier", "ci", "extrapolated", "form"}
    json.dumps(answer, allow_nan=False)


def two_frontiers(gap: float, exponent: float) -> tuple[Frontier, Frontier]:
    """One of 40 C^−0.08, and one that is `gap` above it in log at 1e16 and falls by `exponent`."""
    log_flops = np.log(np.array([1e15, 1e16, 1e17]))
    level = np.log(40 * 1e16**-0.08)
    own, other = (
        Frontier(
            log_flops_K=log_flops,
            log_loss_RK=np.tile(level + up + slope * (log_flops - np.log(1e16)), (3, 1)),
            exponent_R=np.full(3, slope),
            offset_R=np.zeros(3),
        )
        for up, slope in ((0.0, -0.08), (gap, exponent))
    )
    return own, other


@pytest.mark.parametrize(("gap", "inside"), [(0.01, True), (0.05, False), (-0.05, False)])
def test_frontiers_meet_where_their_laws_say(gap: float, inside: bool) -> None:
    found = crossover(*two_frontiers(gap, -0.09))
    assert found is not None
    # gap − 0.01 · ln(C / 1e16) = 0
    assert found.flops == pytest.approx(1e16 * np.exp(gap / 0.01), rel=1e-6)
    assert found.ci == pytest.approx((found.flops, found.flops))
    assert found.extrapolated is not inside
    assert found.share == 1.0


def test_frontiers_that_do_not_meet_near_the_data_say_so() -> None:
    assert crossover(*two_frontiers(0.1, -0.08)) is None  # parallel
    assert crossover(*two_frontiers(0.1, -0.09)) is None  # 4.3 decades away
    found = compared(isoflop_rows("a"), isoflop_rows("b", handicap=3.0))
    assert "the frontiers meet at" in comparison_text(found) or found.crossover is None
    nowhere = comparison_text(dataclasses.replace(found, crossover=None))
    assert "the frontiers do not meet within 3 decades" in nowhere


def test_too_few_crossing_resamples_leave_no_interval() -> None:
    own, other = two_frontiers(0.01, -0.09)
    raised = other.log_loss_RK.copy()
    raised[2] += 1.0
    apart = Frontier(other.log_flops_K, raised, np.array([-0.09, -0.09, -0.08]), other.offset_R)
    found = crossover(own, apart)
    assert found is not None
    assert found.ci is None
    assert found.share == 0.5


def test_beyond_the_overlap_the_form_that_predicts_better_is_read() -> None:
    # Where E > 0 a pure law through the budgets is too steep: it says 2.2 for the planted 3.
    noisy = {"noise": 0.002, "budgets": np.geomspace(1e17, 1e19, 5)}
    result = compared(
        isoflop_rows("a", seed=1, **noisy),  # type: ignore[arg-type]
        isoflop_rows("b", seed=2, handicap=3.0, **noisy),  # type: ignore[arg-type]
    )
    last = result.points[-1]
    assert last.extrapolated
    assert last.form == "surface"
    assert last.ci is not None
    assert last.ci[0] < 3.0 < last.ci[1] < 1.4 * last.ci[0]
    assert all((point.form is not None) == point.extrapolated for point in result.points)
    assert "extrapolated by the surface" in comparison_text(result)


def test_without_a_surface_intervals_span_both_kinds_of_law() -> None:
    settings = FitSettings(n_bootstrap=100)
    noisy = {"noise": 0.003, "budgets": np.geomspace(1e15, 1e18, 4)}
    parts = [isoflop_rows("a", seed=1, **noisy), isoflop_rows("b", seed=2, handicap=3.0, **noisy)]  # type: ignore[arg-type]
    fit = fit_table(table(*parts), settings)
    families = {
        label: dataclasses.replace(family, surface=None, holdout=None)
        for label, family in fit.families.items()
    }
    last = compare(dataclasses.replace(fit, families=families), "a", "b").points[-1]
    assert last.ci is not None
    assert last.ci[0] < 3.0 < last.ci[1]
