"""How much of the noise is the run's is told from the residuals, or said to be assumed."""

import numpy as np
import pytest

from analysis.answers.run_noise import ASSUMED_RUN_SHARE, run_noise


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_the_share_of_runs_is_told_from_residuals_that_a_fit_absorbed_a_part_of(
    share: float,
) -> None:
    rng = np.random.default_rng(1)
    run_P = np.repeat(np.arange(12), 4)
    size_P = np.linspace(-1, 1, 12)[run_P]
    slope_Pc = np.stack([np.ones(48), size_P, size_P**2], axis=1)
    left_PP = np.eye(48) - slope_Pc @ np.linalg.pinv(slope_Pc)
    found = []
    for _ in range(200):
        luck_P = np.sqrt(share) * rng.standard_normal(12)[run_P]
        noise_P = 0.01 * (luck_P + np.sqrt(1 - share) * rng.standard_normal(48))
        found.append(run_noise(left_PP @ noise_P, slope_Pc, run_P, 1.0))
    assert not any(noise.is_assumed for noise in found)
    # Negative estimates are cut at 0. One share scatters by 0.13, their mean by 0.01.
    of_run = np.mean([noise.run**2 / noise.total**2 for noise in found])
    assert of_run == pytest.approx(share, abs=0.07)
    assert np.sqrt(np.mean([noise.total**2 for noise in found])) == pytest.approx(0.01, rel=0.05)


def test_without_runs_of_several_points_the_share_is_assumed() -> None:
    run_P = np.arange(20)
    noise = run_noise(np.linspace(-1, 1, 20), np.ones((20, 1)), run_P, 0.003)
    assert noise.is_assumed
    assert noise.total == pytest.approx(0.003)
    assert noise.run**2 == pytest.approx(ASSUMED_RUN_SHARE * 0.003**2)
