"""Distances between distributions of features."""

import numpy as np
import pytest

from sweeper.sampling.distances import frontier_area, mauve, mmd, whitened


def normal(n: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, size=(n, 6)) * np.arange(1, 7)


def test_equal_histograms_have_the_whole_area_and_disjoint_ones_little() -> None:
    counts = np.array([1000, 2000, 3000])
    assert frontier_area(counts, counts) == pytest.approx(1, abs=1e-4)
    assert frontier_area(np.array([1000, 0]), np.array([0, 1000])) < 0.05


def test_mmd_of_one_distribution_is_zero_within_its_interval_and_unbiased() -> None:
    values = []
    for seed in range(30):
        features = whitened(normal(100, seed=seed), normal(100, seed=seed + 1000))
        found = mmd(features, np.random.default_rng(seed), 20)
        assert found.low <= found.value <= found.high
        values.append(found.value)
    # Four standard errors of the mean of 30.
    assert abs(np.mean(values)) < 4 * np.std(values) / 30**0.5


def test_both_distances_grow_with_the_shift_and_intervals_part() -> None:
    near, far = (whitened(normal(300, shift, seed=1), normal(300, seed=2)) for shift in (0.0, 0.7))
    rng = np.random.default_rng(0)
    assert mmd(far, rng, 100).low > mmd(near, rng, 100).high
    assert mauve(far, rng, 100).high < mauve(near, rng, 100).low


def test_samples_that_are_all_alike_are_far() -> None:
    """Even where all are the mean of real text."""
    alike, real = (whitened(x, normal(200)) for x in (np.zeros((200, 6)), normal(200, seed=1)))
    rng = np.random.default_rng(0)
    assert mauve(alike, rng, 20).value < 0.1
    assert mmd(alike, rng, 20).low > max(mmd(real, rng, 20).high, 0.02)


def test_scales_of_features_do_not_matter() -> None:
    samples, real, scale = normal(100, 0.5, 3), normal(100, seed=4), np.logspace(-1, 1, 6)
    plain, scaled = whitened(samples, real), whitened(samples * scale, real * scale)
    # Directions turn, distances stay.
    found = [((each.samples_ND - each.real_MD) ** 2).sum() for each in (plain, scaled)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
