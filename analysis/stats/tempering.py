"""Draws from a posterior whose prior is a standard normal one, by population Monte Carlo: a
multivariate t is fitted to weighted draws, stage by stage, while the likelihood is let in by
degrees (arXiv 0710.4242, tempered). It needs no gradient, no starting point and no mode.

Suffixes: R draws, K coordinates.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_t

from analysis.errors import FitError
from analysis.tables.points import FloatArray

PER_STAGE = 600
"""Draws that each proposal is fitted to."""
MIN_EFFECTIVE = 0.3
"""Share of a stage's draws that must count: decides how much of the likelihood is let in next."""
TAIL_DOF = 6
"""Of the proposals: their tails must be heavier than the posterior's."""
SPREAD = 1.15
"""Factor on a proposal's covariance, for the same reason."""
N_SHARES = 100
MAX_STAGES = 100
N_REFINED = 2
"""Proposals fitted with all of the likelihood let in."""

LogLikelihood = Callable[[FloatArray], FloatArray]
"""From coordinates (R, K) to log likelihoods (R,), all finite."""


def posterior_draws(
    log_likelihood: LogLikelihood, n_coordinates: int, n_draws: int, rng: np.random.Generator
) -> FloatArray:
    """Equally weighted draws (R, K); raises `FitError` where the posterior cannot be followed."""
    x_RK = rng.standard_normal((PER_STAGE, n_coordinates))
    log_proposal_R = _log_prior(x_RK)
    n_refined, share = 0, 0.0
    for _ in range(MAX_STAGES):
        log_likelihood_R = log_likelihood(x_RK)
        log_ratio_R = _log_prior(x_RK) - log_proposal_R
        share = _next_share(share, log_ratio_R, log_likelihood_R)
        weight_R = _weights(log_ratio_R + share * log_likelihood_R)
        is_rough = bool(1.0 / np.sum(weight_R**2) < 2 * n_coordinates)
        if is_rough and share < 1.0:
            break  # too few to tell a covariance
        if is_rough:
            # One draw far out outweighs all others: none may have more than 1 / sqrt(R), as in
            # truncated importance sampling (Ionides, 2008), until the proposals reach that far.
            weight_R = np.minimum(weight_R, len(weight_R) ** -0.5)
            weight_R /= weight_R.sum()
        n_refined += share == 1.0 and not is_rough
        if n_refined > N_REFINED:
            # Systematic resampling: one uniform draw decides all.
            at_R = (np.arange(len(x_RK)) + rng.uniform()) / len(x_RK)
            return x_RK[np.minimum(np.searchsorted(np.cumsum(weight_R), at_R), len(x_RK) - 1)]
        mean_K = weight_R @ x_RK
        covariance_KK = SPREAD * np.cov(x_RK, rowvar=False, aweights=weight_R)
        proposal = multivariate_t(mean_K, covariance_KK, df=TAIL_DOF)
        size = n_draws if n_refined == N_REFINED else PER_STAGE
        x_RK = np.reshape(proposal.rvs(size, random_state=rng), (size, n_coordinates))
        log_proposal_R = np.asarray(proposal.logpdf(x_RK))
    raise FitError(
        f"the posterior could not be sampled beyond {share:.2g} of the log likelihood; "
        "are there losses of another unit, or runs of another series, among the observations?"
    )


def _log_prior(x_RK: FloatArray) -> FloatArray:
    log_prior_R: FloatArray = -0.5 * (x_RK**2).sum(axis=1) - 0.5 * x_RK.shape[1] * np.log(2 * np.pi)
    return log_prior_R


def _weights(log_weight_R: FloatArray) -> FloatArray:
    weight_R: FloatArray = np.exp(log_weight_R - logsumexp(log_weight_R))
    return weight_R


def _next_share(share: float, log_ratio_R: FloatArray, log_likelihood_R: FloatArray) -> float:
    """The largest power of the likelihood from `share` to 1 under which enough draws count."""
    shares_S = share + (1.0 - share) * np.linspace(0.0, 1.0, N_SHARES) ** 3
    effective_S = [
        1.0 / np.sum(_weights(log_ratio_R + each * log_likelihood_R) ** 2) / len(log_ratio_R)
        for each in shares_S
    ]
    # No t may be close to the posterior, so that fewer count of the share they were made for.
    enough = np.array(effective_S) >= min(MIN_EFFECTIVE, 0.9 * effective_S[0])
    return float(shares_S[np.flatnonzero(enough).max()])
