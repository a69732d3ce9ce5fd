"""Power laws recover what was planted, and an offset only where the data demand one."""

import numpy as np
import pytest

from analysis.stats.power_law import (
    PowerLaw,
    fit_power_law,
    law_with_offset,
    variance_about_line,
)

FLOPS = np.geomspace(1e15, 1e18, 8)


def law_of(log_y: np.ndarray, noise: float = 0.0, *, weighted: bool = True) -> PowerLaw:
    rng = np.random.default_rng(0)
    draws = log_y + noise * rng.standard_normal((400, len(log_y)))
    normals = rng.standard_normal(draws.shape)
    return fit_power_law(FLOPS[: len(log_y)], log_y, draws, normals, weighted=weighted)


@pytest.mark.parametrize("weighted", [True, False])
def test_a_planted_power_law_is_recovered(weighted: bool) -> None:
    law = law_of(np.log(0.3) + 0.55 * np.log(FLOPS), weighted=weighted)
    assert law.exponent == pytest.approx(0.55, abs=1e-9)
    assert law.coefficient == pytest.approx(0.3, rel=1e-6)
    assert law(1e20) == pytest.approx(0.3 * 1e20**0.55, rel=1e-6)
    assert law.offset is None


def test_the_interval_is_that_of_the_points() -> None:
    law = law_of(0.55 * np.log(FLOPS), noise=0.02)
    expected = 0.02 / np.sqrt(np.sum((np.log(FLOPS) - np.log(FLOPS).mean()) ** 2))
    width = law.exponent_ci[1] - law.exponent_ci[0]
    assert width == pytest.approx(2 * 1.96 * expected, rel=0.12)  # 400 draws: sd 4 %


def test_scatter_about_the_law_widens_its_interval() -> None:
    bend = 0.1 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    straight = law_of(0.5 * np.log(FLOPS), noise=0.01)
    scattered = law_of(0.5 * np.log(FLOPS) + bend, noise=0.01)
    assert scattered.scatter == pytest.approx(0.11, abs=0.02)
    assert np.ptp(scattered.exponent_ci) > 5 * np.ptp(straight.exponent_ci)


def test_excess_variance_is_zero_within_the_noise() -> None:
    x = np.log(FLOPS)
    assert variance_about_line(x, 2 + 0.5 * x, np.full(8, 0.01)) == 0.0


def test_an_offset_is_found_when_it_is_there() -> None:
    loss = 1.7 + 300 * FLOPS**-0.16
    draws = loss * np.exp(1e-4 * np.random.default_rng(1).standard_normal((200, 8)))
    law = law_with_offset(law_of(np.log(loss)), FLOPS, loss, draws)
    assert law is not None
    assert law.offset == pytest.approx(1.7, abs=0.01)
    assert law.exponent == pytest.approx(-0.16, abs=0.002)
    assert law(1e20) == pytest.approx(1.7 + 300 * 1e20**-0.16, rel=1e-3)


def test_no_offset_for_a_pure_law_or_for_five_points() -> None:
    rng = np.random.default_rng(2)
    pure = 50 * FLOPS**-0.06 * np.exp(0.002 * rng.standard_normal(8))
    draws = pure * np.exp(0.002 * rng.standard_normal((200, 8)))
    assert law_with_offset(law_of(np.log(pure)), FLOPS, pure, draws) is None
    bent = 1.7 + 300 * FLOPS[:5] ** -0.16
    draws = np.tile(bent, (200, 1))
    assert law_with_offset(law_of(np.log(bent)), FLOPS[:5], bent, draws) is None
