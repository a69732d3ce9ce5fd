"""Laws of the best rate and batch, found again in planted tuning runs."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from planted_tuning import KEY, SIZES, TOKENS, PlantedValley, planted_runs

from analysis.errors import TableError
from analysis.fitting.pooled_quadratic import TunedFit, TuningRuns, fit_tuned_law
from analysis.fitting.quadratic_posterior import TRANSFERRING_RATES

VALLEY = PlantedValley()
MIDDLE = math.sqrt(SIZES[0] * SIZES[1]), TOKENS[1]


def runs(noise: float, seed: int = 0, **options: object) -> TuningRuns:
    return planted_runs(VALLEY, noise, np.random.default_rng(seed), **options)  # type: ignore[arg-type]


def fit(tuning_runs: TuningRuns) -> TunedFit:
    return fit_tuned_law(tuning_runs, KEY, "masked")


def test_laws_of_runs_without_noise_are_found() -> None:
    law = fit(runs(0.0)).law
    for place in itertools.product(SIZES, TOKENS):
        expected = VALLEY.learning_rate.log(*place), VALLEY.batch_tokens.log(*place)
        assert law.learning_rate.log(*place) == pytest.approx(expected[0], abs=0.01)
        assert law.batch_tokens.log(*place) == pytest.approx(expected[1], abs=0.01)
    assert law.curvature.rate == pytest.approx(VALLEY.curvature.rate, rel=0.01)
    assert law.curvature.batch == pytest.approx(VALLEY.curvature.batch, rel=0.01)


@pytest.mark.slow
def test_noise_and_its_correlation_within_runs_are_told() -> None:
    fits = [fit(runs(0.004, seed)) for seed in range(4)]
    assert np.mean([each.noise_sd for each in fits]) == pytest.approx(0.004, rel=0.4)
    assert np.median([each.run_correlation for each in fits]) > 0.4


def test_priors_decide_what_one_size_cannot_tell() -> None:
    one_size = runs(0.003, sizes=SIZES[:1])
    wide, narrow = fit(one_size), fit_tuned_law(one_size, KEY, "masked", TRANSFERRING_RATES)
    for found, mean, sd in ((wide, -0.3, 0.4), (narrow, 0.0, 0.2)):
        low, high = found.law.intervals["learning_rate.params_exponent"]
        assert found.law.learning_rate.params_exponent == pytest.approx(mean, abs=0.02)
        assert (high - low) / (2 * 1.96) == pytest.approx(sd, rel=0.05)
    assert wide.law.params_range == (SIZES[0], SIZES[0])


@pytest.mark.slow
def test_a_bad_run_moves_the_law_by_less_than_its_interval() -> None:
    good = runs(0.004)
    before = fit(good)
    low, high = before.rate_interval(*MIDDLE)
    for bad in (0, 3, 12):
        spoilt_P = np.where(good.run_P == bad, 1.08, 1.0)  # twenty standard deviations
        after = fit(dataclasses.replace(good, loss_P=good.loss_P * spoilt_P))
        moved = after.law.learning_rate.log(*MIDDLE) - before.law.learning_rate.log(*MIDDLE)
        assert abs(moved) < 0.5 * math.log(high / low), bad


def test_a_run_that_diverged_is_left_out_and_named() -> None:
    good = runs(0.004)
    is_last_P = (good.run_P == 6) & (good.tokens_P == TOKENS[-1])
    found = fit(dataclasses.replace(good, loss_P=np.where(is_last_P, np.inf, good.loss_P)))
    assert found.law == fit(good.take(good.run_P != 6)).law
    assert [each.code for each in found.warnings] == ["diverged_runs"]
    assert found.warnings[0].message.endswith(": 6")


def test_runs_that_all_diverged_are_an_error() -> None:
    good = runs(0.004)
    with pytest.raises(TableError, match="found 14, all diverged"):
        fit(dataclasses.replace(good, loss_P=np.full_like(good.loss_P, np.nan)))


def test_columns_that_do_not_fit_are_an_error() -> None:
    good = runs(0.004)
    with pytest.raises(TableError, match="learning_rate must be positive, found 0"):
        dataclasses.replace(good, learning_rate_P=0.0 * good.learning_rate_P)
    with pytest.raises(TableError, match="columns of one length"):
        dataclasses.replace(good, loss_P=good.loss_P[1:])


def test_the_order_of_points_does_not_matter() -> None:
    good = runs(0.004)
    shuffled = good.take(np.random.default_rng(1).permutation(len(good.run_P)))
    assert fit(shuffled).law == fit(good).law


@pytest.mark.slow
def test_cells_say_whether_the_best_point_lies_within_what_was_tried() -> None:
    assert all(cell.bracketed for cell in fit(runs(0.001, missed_by=(1.0, 1.0))).cells[1:5:3])
    assert not any(cell.bracketed for cell in fit(runs(0.001, missed_by=(30.0, 1.0))).cells)
    line = runs(0.001)
    line = line.take(line.batch_tokens_P == line.batch_tokens_P[0])
    assert not any(cell.bracketed for cell in fit(line).cells)


def test_the_law_carries_what_it_was_measured_at_and_intervals_of_every_number() -> None:
    law = fit(runs(0.004)).law
    assert law.key == KEY
    assert law.tokens_range == (TOKENS[0], TOKENS[-1])
    for part in ("learning_rate", "batch_tokens", "curvature"):
        for name, value in vars(getattr(law, part)).items():
            low, high = law.intervals[f"{part}.{name}"]
            assert low < value < high
