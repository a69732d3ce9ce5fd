"""Profile intervals of the surface's exponents, and the test of the surface against `pair`."""

import dataclasses

import numpy as np
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table, trajectory_rows
from scipy import stats

from analysis.fitting.fit import FitSettings, fit_table
from analysis.fitting.lack_of_fit import Z_LIMIT, lack_of_fit
from analysis.stats.bootstrap import Resampler
from analysis.surface.surface import SurfaceFit, fit_surface
from analysis.tables.points import Points, points_by_family

PLANTED = Surface()


def one_series(frame: object) -> Points:
    return points_by_family(table(frame).frame)["a"]  # type: ignore[arg-type]


def fitted(points: Points, n_resamples: int = 50) -> SurfaceFit:
    fit = fit_surface(points, np.inf, Resampler.create([points], n_resamples, 0))
    assert isinstance(fit, SurfaceFit)
    return fit


def test_profile_and_bootstrap_agree_where_noise_is_even() -> None:
    fit = fitted(one_series(isoflop_rows(noise=0.002, n_sizes=12, seed=1)), 1000)
    for name in ("alpha", "beta"):
        profile, bootstrap = fit.profile_ci[name], fit.ci[name]
        assert profile is not None
        # Two estimates of one width from 60 points: the noise level alone is known to 10 %.
        assert np.ptp(profile) == pytest.approx(np.ptp(bootstrap), rel=0.3)


@pytest.mark.slow
def test_profile_intervals_cover_the_planted_exponents() -> None:
    covered = []
    for seed in range(60):
        fit = fitted(one_series(isoflop_rows(noise=0.003, seed=seed)), 10)
        for name in ("alpha", "beta"):
            interval = fit.profile_ci[name]
            assert interval is not None
            covered.append(interval[0] <= getattr(PLANTED, name) <= interval[1])
    # 60 related pairs: sd .028 of a share of .95.
    assert 0.95 - 3 * 0.028 <= np.mean(covered) <= 1.0


def test_shared_luck_of_runs_widens_the_profile() -> None:
    correlated = one_series(trajectory_rows(run_noise=0.004, point_noise=0.0005))
    alone = dataclasses.replace(correlated, run_P=np.arange(len(correlated.run_P)))
    together, apart = fitted(correlated).profile_ci["alpha"], fitted(alone).profile_ci["alpha"]
    assert together is not None
    assert apart is not None
    assert np.ptp(together) > 1.2 * np.ptp(apart)


def test_without_noise_the_profile_is_the_value() -> None:
    fit = fitted(one_series(isoflop_rows()))
    assert fit.profile_ci["alpha"] == pytest.approx((PLANTED.alpha, PLANTED.alpha), rel=1e-4)


def asymmetric_rows(bend: float, seed: int = 0) -> object:
    """Valleys whose data arm grows with the budget: `pair` holds them, no surface does."""
    frame = isoflop_rows(noise=0.001, n_sizes=9, seed=seed)
    stronger = 1.0 + bend * np.log10(frame["budget_flops"] / BUDGETS[0])
    frame["loss"] += (stronger - 1.0) * PLANTED.B * frame["tokens"] ** -PLANTED.beta
    return frame


def test_a_surface_that_misses_structure_is_remarked() -> None:
    result = fit_table(table(asymmetric_rows(bend=0.3)), FitSettings(n_bootstrap=50))  # type: ignore[arg-type]
    assert "surface_lacks_fit" in {warning.code for warning in result.warnings}


def test_a_surface_that_holds_is_not_remarked() -> None:
    tests = [lack_of_fit(one_series(asymmetric_rows(bend=0.0, seed=seed))) for seed in range(30)]
    deviates = [test.z for test in tests if test is not None]
    assert len(deviates) == 30
    assert max(deviates) < Z_LIMIT
    assert np.mean(deviates) == pytest.approx(0.0, abs=0.55)  # 3 sd of 30 standard normals


def test_shared_runs_are_not_tested() -> None:
    assert lack_of_fit(one_series(trajectory_rows())) is None


def test_the_deviate_has_the_tail_of_f() -> None:
    test = lack_of_fit(one_series(asymmetric_rows(bend=0.02)))
    assert test is not None
    exact = stats.norm.isf(stats.f.sf(test.f, *test.dof))
    assert test.z == pytest.approx(exact, rel=1e-9)
