"""Draws from posteriors that are known exactly."""

import numpy as np
import pytest
from scipy.stats import kstest, multivariate_normal

from analysis.errors import FitError
from analysis.stats.tempering import posterior_draws
from analysis.tables.points import FloatArray


def test_draws_follow_a_narrow_normal_posterior_far_from_its_prior() -> None:
    mean_K, sd_K = np.array([3.0, -2.0, 0.0]), np.array([0.01, 0.1, 1.0])

    def log_likelihood(x_RK: FloatArray) -> FloatArray:
        return np.asarray(-0.5 * (((x_RK - mean_K) / sd_K) ** 2).sum(axis=1))

    x_RK = posterior_draws(log_likelihood, 3, 4000, np.random.default_rng(0))
    assert x_RK.shape == (4000, 3)
    precision_K = 1.0 + sd_K**-2  # of a normal prior and a normal likelihood
    z_RK = (x_RK - mean_K * sd_K**-2 / precision_K) * np.sqrt(precision_K)
    # About half of the draws count: three standard errors of means of 2,000.
    assert z_RK.mean(axis=0) == pytest.approx(np.zeros(3), abs=0.07)
    assert z_RK.std(axis=0) == pytest.approx(np.ones(3), abs=0.05)


def test_draws_follow_a_posterior_that_is_skewed() -> None:
    def log_likelihood(x_RK: FloatArray) -> FloatArray:
        return np.asarray(4.0 * x_RK[:, 0] - np.exp(2.0 * x_RK[:, 0]))

    x_RK = posterior_draws(log_likelihood, 1, 4000, np.random.default_rng(1))
    grid_G = np.linspace(-6.0, 3.0, 10_001)
    density_G = np.exp(log_likelihood(grid_G[:, None]) - 0.5 * grid_G**2)
    below_G = np.cumsum(density_G) / density_G.sum()
    share_R = np.interp(x_RK[:, 0], grid_G, below_G)
    assert kstest(share_R, "uniform").statistic < 0.04  # 1.63 / sqrt(1,600): one in a hundred


def test_one_draw_that_outweighs_all_others_is_followed() -> None:
    """A part of the posterior that proposals hardly reach: of seed 3, one draw of 600 did."""
    mass, far_2 = 0.05, [2.0, 2.0]

    def log_likelihood(x_RK: FloatArray) -> FloatArray:
        near_R = np.log(1.0 - mass) + multivariate_normal([0.0, 0.0], 0.3**2).logpdf(x_RK)
        far_R = np.log(mass) + multivariate_normal(far_2, 0.2**2).logpdf(x_RK)
        log_prior_R = multivariate_normal([0.0, 0.0], 1.0).logpdf(x_RK)
        return np.asarray(np.logaddexp(near_R, far_R) - log_prior_R)

    x_RK = posterior_draws(log_likelihood, 2, 3000, np.random.default_rng(3))
    assert np.mean(x_RK[:, 0] > 1.2) == pytest.approx(mass, abs=0.03)


def test_a_likelihood_too_rough_to_follow_is_an_error() -> None:
    def log_likelihood(x_RK: FloatArray) -> FloatArray:
        return np.asarray(1e6 * np.sin(1e6 * x_RK).sum(axis=1))

    with pytest.raises(FitError, match="could not be sampled"):
        posterior_draws(log_likelihood, 5, 100, np.random.default_rng(0))
