"""Noise that series share is kept in differences, as far as residuals show that it is shared."""

import dataclasses

import numpy as np
import pytest
from planted_tables import isoflop_rows, table

from analysis.isoflop.isoflop import fit_isoflop
from analysis.isoflop.noise_correlation import noise_correlation
from analysis.stats.bootstrap import Resampler
from analysis.tables.points import Points, points_by_family


def two_series(shared: float, seed: int, n_sizes: int = 9) -> tuple[Points, ...]:
    """Noise of 0.5 %, of which a share of the variance is the same in both."""
    rows = [isoflop_rows(label, n_sizes=n_sizes) for label in "ab"]
    series = points_by_family(table(*rows).frame).values()
    rng = np.random.default_rng(seed)
    common_P = rng.standard_normal(5 * n_sizes)
    return tuple(
        dataclasses.replace(
            points,
            loss_P=points.loss_P
            * np.exp(
                0.005
                * (
                    np.sqrt(shared) * common_P
                    + np.sqrt(1 - shared) * rng.standard_normal(len(common_P))
                )
            ),
        )
        for points in series
    )


def test_equal_noise_correlates_fully() -> None:
    correlation_FF = noise_correlation(two_series(1.0, seed=0), "pair")
    np.testing.assert_allclose(correlation_FF, 1.0, atol=1e-6)  # equal to rounding of the fits


def test_the_correlation_is_a_lower_bound() -> None:
    found = [noise_correlation(two_series(0.8, seed), "pair")[0, 1] for seed in range(20)]
    # 28 degrees of freedom: standard error .07 at .8, so the bound is .73 on average, ± .016.
    assert np.mean(found) == pytest.approx(0.73, abs=0.05)


def test_independent_noise_is_left_independent() -> None:
    found = [noise_correlation(two_series(0.0, seed), "pair")[0, 1] for seed in range(40)]
    # One standard error above 0 in 16 % of the cases: 6.4 ± 2.3 of 40.
    assert np.sum(np.array(found) > 0) <= 14
    assert np.mean(found) < 0.1


def test_a_single_series_and_series_without_budgets_correlate_with_none() -> None:
    first, second = two_series(1.0, seed=0)
    np.testing.assert_array_equal(noise_correlation([first], "pair"), [[1.0]])
    without = dataclasses.replace(second, budget_P=np.full_like(second.budget_P, np.nan))
    np.testing.assert_array_equal(noise_correlation([first, without], "pair"), np.eye(2))


def test_draws_of_two_series_move_together_as_far_as_their_noise_does() -> None:
    series = two_series(0.0, seed=1)
    for planted in (0.0, 0.6, 1.0):
        correlation_FF = np.array([[1.0, planted], [planted, 1.0]])
        resampler = Resampler.create(series, 2000, 0, correlation_FF)
        ours, theirs = (
            fit_isoflop(points, "pair", resampler).log_loss_RK[:, 2] for points in series
        )
        # 2000 draws: standard error .02; residuals of both differ in size from run to run.
        assert np.corrcoef(ours, theirs)[0, 1] == pytest.approx(planted, abs=0.08)
