"""Resampling: runs stay together, series are paired, scales are honest."""

import numpy as np
import pandas as pd
import pytest
from planted_tables import isoflop_rows, table, trajectory_rows

from analysis.stats.bootstrap import Noise, Resampler, many_runs
from analysis.tables.points import points_by_family


def test_series_of_the_same_design_share_their_slots() -> None:
    series = points_by_family(table(trajectory_rows("a"), trajectory_rows("b")).frame)
    np.testing.assert_array_equal(series["a"].slot_P, series["b"].slot_P)
    assert len(np.unique(series["a"].slot_P)) == series["a"].n_runs


def test_runs_of_other_sizes_budgets_or_seeds_have_slots_of_their_own() -> None:
    first = isoflop_rows("a").assign(seed=0)
    second = pd.concat([first, first.assign(seed=1, loss=first["loss"] * 1.001)])
    points = points_by_family(table(second).frame)["a"]
    assert len(np.unique(points.slot_P)) == 2 * len(first)


def test_the_slot_does_not_depend_on_the_order_of_rows() -> None:
    frame = isoflop_rows("a")
    points = points_by_family(table(frame).frame)["a"]
    shuffled = frame.sample(frac=1, random_state=3)
    other = points_by_family(table(shuffled).frame)["a"]
    np.testing.assert_array_equal(points.slot_P[shuffled.index], other.slot_P)


def test_wild_noise_moves_a_whole_run_together() -> None:
    points = points_by_family(table(trajectory_rows()).frame)["a"]
    n = len(points.loss_P)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((n, 3)))[0]
    residual = np.full(n, 0.01)
    noise_RP = Resampler.create([points], 50, 0).wild_noise(
        points, Noise(residual, basis, points.run_P)
    )
    for run in np.unique(points.run_P):
        signs = np.sign(noise_RP[:, points.run_P == run])
        assert (signs == signs[:, :1]).all()


def test_wild_noise_has_the_spread_of_the_residuals_it_stands_for() -> None:
    points = points_by_family(table(isoflop_rows(n_sizes=40)).frame)["a"]
    n = len(points.loss_P)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((n, 15)))[0]
    errors = 0.01 * np.random.default_rng(1).standard_normal(n)
    residual = errors - basis @ (basis.T @ errors)
    noise = Noise(residual, basis, points.run_P)
    noise_RP = Resampler.create([points], 400, 0).wild_noise(points, noise)
    assert noise.dof == n - 15
    assert np.isclose(noise.sigma, 0.01, rtol=0.15)  # 185 degrees of freedom: sd 5 %
    assert np.isclose(noise_RP.std(), 0.01, rtol=0.15)


def test_few_runs_count_as_few_degrees_of_freedom() -> None:
    points = points_by_family(table(trajectory_rows(n_sizes=8)).frame)["a"]
    n = len(points.loss_P)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((n, 5)))[0]
    assert Noise(np.ones(n), basis, points.run_P).dof == 5


def test_run_counts_draw_whole_runs() -> None:
    points = points_by_family(table(trajectory_rows()).frame)["a"]
    counts_RP = Resampler.create([points], 30, 0).run_counts(points)
    first_of_run = np.unique(points.run_P, return_index=True)[1]
    np.testing.assert_array_equal(counts_RP[:, first_of_run].sum(axis=1), points.n_runs)
    for run in np.unique(points.run_P):
        drawn = counts_RP[:, points.run_P == run]
        assert (drawn == drawn[:, :1]).all()


def test_pairs_are_for_many_runs_only() -> None:
    few, many = isoflop_rows(n_sizes=6), isoflop_rows(n_sizes=12)
    assert not many_runs(points_by_family(table(few).frame)["a"])
    assert many_runs(points_by_family(table(many).frame)["a"])
    assert not many_runs(points_by_family(table(trajectory_rows()).frame)["a"])


def test_pooled_noise_counts_outliers_as_the_fit_did() -> None:
    n = 200
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((n, 3)))[0]
    residual = np.random.default_rng(1).standard_normal(n)
    residual[:4] = 40.0
    weight = np.minimum(1.0, 1.345 / np.abs(residual))
    assert Noise(residual, basis, np.arange(n)).pooled > 5
    # psi of unit noise has variance .71 and the weights a mean square of .93: .87, and outliers
    # add a fiftieth of 1.345² to the sum.
    robust = Noise(residual, basis, np.arange(n), weight).pooled
    assert robust == pytest.approx(0.90, abs=0.15)  # 3 sd of 200 points
    alike = Noise(residual, basis, np.arange(n), np.ones(n))
    assert alike.pooled == pytest.approx(alike.sigma)
