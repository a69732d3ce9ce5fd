"""Runs are charged what they cost, pass budgets on the way, and spend what they may."""

import dataclasses
import math

import numpy as np
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table, trajectory_rows

from analysis.answers.asked import Interval
from analysis.answers.candidates import options, runs_to, three_digits
from analysis.answers.compare import compare
from analysis.answers.expected import of_run
from analysis.answers.information import linearised
from analysis.answers.propose import Request, next_runs, propose
from analysis.answers.run_noise import RunNoise
from analysis.answers.territory import Levels, Territory, territory
from analysis.errors import SettingsError
from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.stats.power_law import LawName
from analysis.tables.points import points_by_family

PLANTED = Surface()
SETTINGS = FitSettings(n_bootstrap=200)


@pytest.fixture(scope="module")
def trajectories() -> FitResult:
    parts = trajectory_rows("a", n_sizes=9), trajectory_rows("b", seed=1, n_sizes=9)
    return fit_table(table(*parts), SETTINGS)


@pytest.fixture(scope="module")
def cells() -> FitResult:
    parts = isoflop_rows("a", noise=0.004), isoflop_rows("b", noise=0.004, handicap=2.0, seed=1)
    return fit_table(table(*parts), SETTINGS)


def planted_territory(*, resumes: bool = True) -> Territory:
    points = points_by_family(table(trajectory_rows()).frame)["a"]
    numbers = np.arange(len(BUDGETS))
    return territory(points, Levels(np.log(BUDGETS), BUDGETS, numbers, {}), resumes=resumes)


def test_a_new_run_passes_the_budgets_below_its_end_for_nothing() -> None:
    known = planted_territory()
    params = sorted(run.params for run in known.runs)[4]
    new = next(run for run in runs_to(known, params * 1.15, 3) if run.lengthens is None)
    assert new.kind == "size"
    assert new.seed == 0
    assert new.flops_added == new.flops == pytest.approx(BUDGETS[3])
    assert list(new.budgets) == pytest.approx(BUDGETS[: len(new.budgets)][-4:])
    assert len(new.budgets) >= 3
    for place in new.points:
        assert place.tokens * params * 1.15 * 6 == pytest.approx(place.flops, rel=1e-6)


@pytest.mark.parametrize("resumes", [True, False])
def test_a_longer_run_yields_the_budgets_it_has_not_reached(resumes: bool) -> None:
    known = planted_territory(resumes=resumes)
    short = min(known.runs, key=lambda run: run.flops)
    level = int(np.searchsorted(BUDGETS, short.flops * 1.01))
    longer = [run for run in runs_to(known, short.params, level) if run.lengthens is short]
    (run,) = longer
    assert run.seed == short.seed
    assert list(run.budgets) == pytest.approx([BUDGETS[level]])
    spent_before = short.flops if resumes else 0.0
    assert run.flops_added == pytest.approx(BUDGETS[level] - spent_before)


def test_a_replicate_takes_the_next_free_seed_of_its_size() -> None:
    rows = trajectory_rows().assign(seed=0)
    sizes = np.sort(rows["params"].unique())
    again = rows[rows["params"] == sizes[4]].assign(seed=2, run_id="again")
    again["loss"] *= 1.001
    points = points_by_family(table(rows, again).frame)["a"]
    known = territory(points, Levels(np.log(BUDGETS), BUDGETS, np.arange(5), {}), resumes=True)
    seeds = {run.seed for run in runs_to(known, float(sizes[4]), 2) if run.lengthens is None}
    assert seeds == {1}


def test_runs_of_one_point_each_are_not_taken_to_pass_budgets(cells: FitResult) -> None:
    points = cells.family("a").points
    levels = Levels(np.log(BUDGETS), BUDGETS, np.arange(5), {})
    known = territory(points, levels, resumes=True)
    runs = [run for option in options(known, three_digits) for run in option.runs]
    assert {len(run.points) for run in runs} == {1}
    assert {run.kind for run in runs} == {"size", "seed"}


def test_a_second_point_of_a_run_tells_less_than_a_replicate(trajectories: FitResult) -> None:
    curves = linearised(trajectories.family("a"))
    assert curves is not None
    set_2, size_2 = np.array([2, 2]), np.full(2, curves.log_params_origin)
    tokens_2 = np.repeat(curves.log_tokens_origin_K[2], 2)

    def noise_of_mean(noise: RunNoise) -> tuple[float, float]:
        """Variances of the level's coefficient by one run of two points, and by two runs."""
        own = dataclasses.replace(curves, noise=noise)
        same = of_run(own, set_2, size_2, tokens_2)
        one = of_run(own, set_2[:1], size_2[:1], tokens_2[:1])
        two = one.plus(one)
        return tuple(  # type: ignore[return-value]
            float(known.noisy_cc[2, 2] / known.square_cc[2, 2] ** 2) for known in (same, two)
        )

    shared, apart = noise_of_mean(RunNoise(0.003, 0.0, is_assumed=False))
    assert shared == pytest.approx(2 * apart)
    shared, apart = noise_of_mean(RunNoise(0.0, 0.003, is_assumed=False))
    assert shared == pytest.approx(apart)


@pytest.mark.parametrize("interval", ["params", "loss"])
def test_the_expected_interval_is_the_bootstrap_one(
    interval: LawName, cells: FitResult, trajectories: FitResult
) -> None:
    for result in (cells, trajectories):
        for label in ("a", "b"):
            isoflop = result.family(label).isoflop
            assert isoflop is not None
            assert isoflop.params_law is not None
            last = isoflop.bracketed[-1]
            ends = last.loss_ci if interval == "loss" else isoflop.params_law.interval(last.flops)
            assert ends is not None
            found = propose(result, Request((label,), interval, None, 1))
            assert found.ratio_now is not None
            # A factor 1.5 in width: both estimate noise from twenty degrees of freedom or fewer.
            assert 1 / 1.5 < math.log(found.ratio_now) / math.log(ends[1] / ends[0]) < 1.5


def test_the_expected_interval_of_a_multiplier_is_the_bootstrap_one(
    cells: FitResult, trajectories: FitResult
) -> None:
    for result in (cells, trajectories):
        for point in compare(result, "a", "b").points[:3]:
            assert point.ci is not None
            found = propose(result, Request(("a", "b"), "multiplier", point.flops, 1))
            assert found.ratio_now is not None
            expected = math.log(found.ratio_now)
            assert 1 / 1.5 < expected / math.log(point.ci[1] / point.ci[0]) < 1.5


@pytest.mark.parametrize("interval", ["params", "loss"])
def test_no_more_is_spent_than_allowed_and_more_narrows_further(
    interval: Interval, trajectories: FitResult
) -> None:
    request = Request(("a",), interval, None)
    some, more = (next_runs(trajectories, request, spend) for spend in (5e16, 1e17))
    assert 0 < some.flops <= 5e16 * (1 + 1e-9)
    assert some.flops < more.flops <= 1e17 * (1 + 1e-9)
    assert some.ratio_now is not None
    assert some.ratio_after is not None
    assert more.ratio_after is not None
    assert more.ratio_after < some.ratio_after < some.ratio_now
    names = [proposal.run.name for proposal in more.proposals]
    assert len(names) == len(set(names))


def test_runs_end_where_the_interval_is_narrow_enough(cells: FitResult) -> None:
    request = Request(("a", "b"), "multiplier", 1e16)
    now = propose(cells, request).ratio_now
    assert now is not None
    within = now**0.8
    found = next_runs(cells, dataclasses.replace(request, within=within), 1e19)
    assert found.ratio_after is not None
    assert found.ratio_after <= within
    assert found.flops < 1e19
    without_last = math.exp(math.log(now) * (found.proposals[-2].width or 0.0))
    assert without_last > within
    assert not next_runs(cells, dataclasses.replace(request, within=2 * now), 1e19).proposals


def test_a_new_budget_is_drawn_by_several_sizes_about_its_expected_optimum() -> None:
    points = points_by_family(table(trajectory_rows()).frame)["a"]
    flops = np.append(BUDGETS, 3.16e17)
    best = math.log(PLANTED.best_params(3.16e17))
    known = territory(points, Levels(np.log(flops), flops, np.arange(6), {5: best}), resumes=True)
    (bundle,) = (each for each in options(known, three_digits) if each.new_level == 5)
    sizes = np.sort(np.log([run.params for run in bundle.runs]))
    assert len(sizes) == 5
    assert sizes[1] < best < sizes[3]
    assert {run.budget_flops for run in bundle.runs} == {3.16e17}
    # Those of trained sizes go on where these ended.
    spent = sum(run.lengthens.flops for run in bundle.runs if run.lengthens is not None)
    assert 0 < spent == pytest.approx(5 * 3.16e17 - bundle.flops)


def test_a_budget_that_is_asked_beyond_all_is_drawn_first(cells: FitResult) -> None:
    found = next_runs(cells, Request(("a",), "params", 2e17), 1.5e18)
    asked = [each.run for each in found.proposals[:5]]
    assert [run.budget_flops for run in asked] == pytest.approx([2e17] * 5)
    best = PLANTED.best_params(2e17)
    assert asked[0].params == pytest.approx(best, rel=0.5)
    assert min(run.params for run in asked) < best / 2 < 2 * best < max(r.params for r in asked)


def test_a_spend_that_is_too_small_for_a_curve_begins_it_at_its_expected_optimum(
    cells: FitResult,
) -> None:
    found = next_runs(cells, Request(("a",), "params", 2e17), 2.5e17)
    begun = [each.run for each in found.proposals if each.run.flops > 1.5e17]
    assert len(begun) == 1
    assert begun[0].params == pytest.approx(PLANTED.best_params(2e17), rel=0.5)
    assert found.flops <= 2.5e17 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda _: Request(("a",), "loss", None, within=0.9), "within 0.9"),
        (lambda result: next_runs(result, Request(("a",), "loss", None), 0.0), "0 FLOPs"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, expected: str, cells: FitResult) -> None:
    with pytest.raises(SettingsError, match=expected):
        make(cells)  # type: ignore[operator]
