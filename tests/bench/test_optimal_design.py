"""Runs are chosen by the variance that they remove where it is asked for."""

import numpy as np
import pytest
from optimal_design import falls, v_optimal, whitened

from analysis.answers.run_noise import RunNoise


def line_slopes(x: np.ndarray) -> np.ndarray:
    """Of level and slope of a straight line, one point a run, (1, N, 1, 2)."""
    return np.stack([np.ones_like(x), x], axis=1)[None, :, None, :]


def test_the_fall_is_that_of_the_variance_computed_anew() -> None:
    rng = np.random.default_rng(0)
    root_Scc = rng.standard_normal((2, 4, 4))
    information_Scc = root_Scc @ np.swapaxes(root_Scc, 1, 2) + np.eye(4)
    run_SNMc, target_STc = rng.standard_normal((2, 5, 3, 4)), rng.standard_normal((2, 6, 4))

    def variance(information_Scc: np.ndarray) -> float:
        covariance_Scc = np.linalg.inv(information_Scc)
        return float(np.mean(np.sum((target_STc @ covariance_Scc) * target_STc, axis=2)))

    before = variance(information_Scc)
    for number, fall in enumerate(falls(information_Scc, run_SNMc, target_STc)):
        rows = run_SNMc[:, number]
        after = variance(information_Scc + np.swapaxes(rows, 1, 2) @ rows)
        assert fall == pytest.approx(before - after, rel=1e-9)


def test_a_prediction_beyond_the_runs_asks_for_the_ends_of_a_line() -> None:
    x = np.linspace(0, 1, 11)
    prior = 1e-3 * np.eye(2)[None]
    chosen = v_optimal(prior, line_slopes(x), line_slopes(np.array([3.0]))[:, :, 0], 1 + 0 * x, 2)
    assert set(chosen) == {0, 10}


@pytest.mark.parametrize("cost_exponent", [0.0, 0.3, 1.0])
def test_no_more_is_spent_than_allowed_and_no_run_is_taken_twice(cost_exponent: float) -> None:
    x = np.linspace(0, 1, 30)
    cost = 100.0**x
    target = line_slopes(np.array([2.0]))[:, :, 0]
    chosen = v_optimal(np.eye(2)[None], line_slopes(x), target, cost, 120.0, cost_exponent)
    assert len(set(chosen)) == len(chosen) > 0
    assert cost[list(chosen)].sum() <= 120.0
    left = 120.0 - cost[list(chosen)].sum()
    assert np.delete(cost, list(chosen)).min(initial=np.inf) > left


def test_cost_decides_more_the_larger_its_exponent() -> None:
    x = np.linspace(0, 1, 30)
    cost = 100.0**x
    target = line_slopes(np.array([2.0]))[:, :, 0]
    first = [
        v_optimal(np.eye(2)[None], line_slopes(x), target, cost, 200.0, exponent)[0]
        for exponent in (0.0, 1.0)
    ]
    assert x[first[0]] == 1.0
    assert x[first[1]] == 0.0


def test_points_that_share_all_their_noise_tell_as_much_as_one() -> None:
    slope_Mc = np.tile([1.0, 2.0], (4, 1))
    shared = whitened(slope_Mc, RunNoise(0.01, 1e-9, is_assumed=False))
    own = whitened(slope_Mc, RunNoise(1e-9, 0.01, is_assumed=False))
    one = np.outer([1.0, 2.0], [1.0, 2.0]) / 0.01**2
    assert shared.T @ shared == pytest.approx(one, rel=1e-6)
    assert own.T @ own == pytest.approx(4 * one, rel=1e-6)
    noise, rng = RunNoise(0.01, 0.02, is_assumed=False), np.random.default_rng(0)
    slope_Mc = rng.standard_normal((4, 2))
    covariance_MM = 0.01**2 + 0.02**2 * np.eye(4)
    rows = whitened(slope_Mc, noise)
    assert rows.T @ rows == pytest.approx(slope_Mc.T @ np.linalg.inv(covariance_MM) @ slope_Mc)
