"""Approach 1: the hull is the lower one, and laws along it are those that were planted."""

import numpy as np
import pandas as pd
import pytest
from planted_tables import Surface, isoflop_rows, table

from analysis.errors import FitWarning
from analysis.fitting.envelope import Envelope, fit_envelope, lower_hulls
from analysis.stats.bootstrap import Resampler
from analysis.tables.points import Points, points_by_family

EVEN = Surface(E=0.0, A=50.0, B=50.0, alpha=0.3, beta=0.3)
"""A pure power law along its frontier, N* and D* both with exponent 1/2."""


def curves(n_sizes: int = 25, noise: float = 0.0, seed: int = 0) -> Points:
    """Training curves of `EVEN`, one per size, about their optimum: beyond it the last
    size would lie on the envelope alone."""
    rng = np.random.default_rng(seed)
    parts = []
    for index, params in enumerate(np.geomspace(1e5, 1e8, n_sizes)):
        tokens = params * np.geomspace(0.75, 1.33, 12)
        luck = noise * rng.normal()
        part = {"family": "a", "params": params, "tokens": tokens, "run_id": f"run {index}"}
        loss = EVEN.loss(np.full(12, params), tokens) * np.exp(luck)
        parts.append(pd.DataFrame(part).assign(flops=6 * params * tokens, loss=loss))
    return points_by_family(table(*parts).frame)["a"]


def fitted(points: Points, n_resamples: int = 200) -> Envelope:
    envelope = fit_envelope(points, Resampler.create([points], n_resamples, 0))
    assert isinstance(envelope, Envelope)
    return envelope


def test_a_hull_holds_the_corners_and_nothing_above_or_behind_the_lowest_point() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 1.0])
    y = np.array([4.0, 1.5, 1.0, 0.4, 2.0, 3.0])
    everyone = np.ones((1, 6), dtype=bool)
    assert lower_hulls(x, y, everyone).tolist() == [[True, True, False, True, False, False]]
    without_second = everyone & (np.arange(6) != 1)
    expected = [[True, False, True, True, False, False]]
    assert lower_hulls(x, y, without_second).tolist() == expected


def test_no_point_lies_below_the_chords_of_its_hull() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=60), rng.normal(size=60)
    on_hull = lower_hulls(x, y, np.ones((1, 60), dtype=bool))[0]
    order = np.argsort(x[on_hull])
    chord = np.interp(x, x[on_hull][order], y[on_hull][order])
    assert np.all(y >= chord - 1e-12)  # rounding of the interpolation


def test_planted_exponents_are_read_off_the_envelope() -> None:
    envelope = fitted(curves())
    # At both ends of the hull one curve stands alone, which pulls the line by about .01.
    assert envelope.params_law.exponent == pytest.approx(0.5, abs=0.012)
    assert envelope.tokens_law.exponent == pytest.approx(0.5, abs=0.012)
    assert envelope.loss_law.exponent == pytest.approx(-0.15, abs=0.003)


def test_luck_of_runs_widens_the_interval() -> None:
    calm, lucky = fitted(curves()), fitted(curves(noise=0.01, seed=1))
    assert np.ptp(lucky.params_law.exponent_ci) > 1.3 * np.ptp(calm.params_law.exponent_ci)
    low, high = lucky.params_law.exponent_ci
    assert low < lucky.params_law.exponent < high


def test_sizes_and_tokens_share_the_compute_between_them() -> None:
    envelope = fitted(curves(noise=0.01))
    total = envelope.params_law.exponent + envelope.tokens_law.exponent
    assert total == pytest.approx(1.0, abs=1e-9)  # C = 6·N·D point by point


def test_without_training_curves_there_is_no_envelope() -> None:
    points = points_by_family(table(isoflop_rows()).frame)["a"]
    refusal = fit_envelope(points, Resampler.create([points], 20, 0))
    assert isinstance(refusal, FitWarning)
    assert refusal.code == "no_training_curves"


def test_a_few_curves_are_too_few() -> None:
    points = curves(n_sizes=4)
    refusal = fit_envelope(points, Resampler.create([points], 20, 0))
    assert isinstance(refusal, FitWarning)
    assert refusal.code == "too_few_training_curves"
