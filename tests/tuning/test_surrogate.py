"""A Gaussian process over a search sees through the luck of single runs."""

import math
from typing import Any

import numpy as np
import pytest

from sweeper.planning.search_space import Dimension
from sweeper.tuning.surrogate import expected_bounds

SPACE = {
    "weight_decay": Dimension((1e-3, 1.0), is_log=True),
    "ema": Dimension((0.0, 1.0)),
    "betas": Dimension(None, choices=([0.9, 0.95], [0.9, 0.99])),
}
RUN_SD = 0.03


def drawn(n: int, seed: int) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    """Settings, their true bounds and those of single runs: a valley, lower for one choice."""
    rng = np.random.default_rng(seed)
    settings: list[dict[str, Any]] = [
        {
            "weight_decay": 10 ** rng.uniform(-3, 0),
            "ema": rng.uniform(),
            "betas": SPACE["betas"].choices[rng.integers(2)],
        }
        for _ in range(n)
    ]
    true_N = np.array(
        [
            2.5
            + 0.02 * math.log(one["weight_decay"] / 0.05) ** 2
            + 0.2 * (one["ema"] - 0.5) ** 2
            + 0.05 * (one["betas"] == [0.9, 0.99])
            for one in settings
        ]
    )
    return settings, true_N, true_N + RUN_SD * rng.standard_normal(n)


def test_expected_bounds_are_nearer_to_the_truth_than_single_runs() -> None:
    errors, run_sds, optimism, optimism_of_runs = [], [], [], []
    for seed in range(12):
        settings, true_N, bound_N = drawn(32, seed)
        process = expected_bounds(SPACE, settings, bound_N.tolist())
        assert process is not None
        expected_N = np.array(process.bound)
        errors.append(float(np.sqrt(np.mean((expected_N - true_N) ** 2))))
        run_sds.append(process.run_sd)
        optimism.append(float(expected_N.min() - true_N[expected_N.argmin()]))
        optimism_of_runs.append(float(bound_N.min() - true_N[bound_N.argmin()]))
    assert np.mean(errors) < 0.7 * RUN_SD  # four effects and a mean, of 32 runs: .4 at best
    assert np.median(run_sds) == pytest.approx(RUN_SD, rel=0.25)  # 2 sd of a median of 12
    assert abs(np.mean(optimism)) < abs(np.mean(optimism_of_runs)) / 2


def test_runs_without_luck_are_expected_as_they_were() -> None:
    settings, true_N, _ = drawn(32, seed=1)
    process = expected_bounds(SPACE, settings, true_N.tolist())
    assert process is not None
    assert process.bound == pytest.approx(true_N.tolist(), abs=0.01)
    assert process.run_sd < 0.01


def test_few_or_equal_bounds_say_nothing() -> None:
    settings, true_N, _ = drawn(8, seed=0)
    assert expected_bounds(SPACE, settings[:6], true_N[:6].tolist()) is None
    assert expected_bounds(SPACE, settings, [2.5] * 8) is None
    assert expected_bounds(SPACE, settings, true_N.tolist()) is not None
