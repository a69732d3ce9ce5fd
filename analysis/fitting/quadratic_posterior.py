"""The posterior of `pooled_quadratic`'s model: one quadratic valley whose lowest point moves.

Given the curvature the model is linear. Written out, the square of a vertex's place is a constant
of its cell, which the level of the cell takes in, and what is left is

    ln L = level + 1/2 (k_rate u² + 2 c u v + k_batch v²)
                 − (k_rate u + c v) u* − (c u + k_batch v) v*

with u, v the log rate and log batch, and u*, v* linear in ln N and ln D. So the coefficients of
both laws are normal given three numbers of curvature and two of noise, but for the tails of runs,
which weights at their best values stand for: a nested Laplace approximation (Rue, Martino and
Chopin, 2009).

Suffixes: P points, G runs, C cells, R draws, H numbers of curvature and noise, K coefficients of
laws and levels, L those of laws.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from analysis.tables.points import FloatArray, IntArray, rungs
from sweeper.trials.tuned_laws import Curvature

Normal = tuple[float, float]
"""Mean and standard deviation."""

LACK_OF_FIT = 0.1
"""Share of a point's excess loss by which the true valley may differ from a quadratic: far points
say less about the vertex."""
RUN_TAIL_DOF = 4.0
"""Degrees of freedom of a run's Student t: a bad run moves the laws little."""
MIN_NOISE = 1e-4
"""Relative standard deviation of a loss that no evaluation goes below."""
MAX_CORRELATION = 0.99
"""Of the points of one run: evaluations have noise of their own."""
N_STEPS = 8
"""Of reweighted least squares."""
N_LAW = 6
"""Coefficients of both laws: level, slope in ln N and in ln D of each."""

NOISE_PRIOR = (float(np.log(0.005)), 1.0)
"""Log of the scale of a run's log loss: .07 to 3.5 %."""
CORRELATION_PRIOR = (0.5, 1.2)
"""Logit of the correlation of one run's points."""


@dataclass(frozen=True)
class LawPriors:
    """Normal priors, in logs and per unit of ln N and ln D: published values, and wide.

    Curvatures are .013 ± .003 for rate and batch in the 17 densest cells of Step Law (arXiv
    2503.04715), and .02 to .03 for the rate in the GIDD study (arXiv 2512.10858). The best batch
    goes with tokens to the power .38 (arXiv 2505.13738), .57 (Step Law) or .82 (GIDD), and not
    with size. The best rate goes with size to the power −.71 and with tokens to .31 in Step Law,
    and at the best batch with tokens to .28 in GIDD.
    """

    log_rate_curvature: Normal = (float(np.log(0.02)), 0.7)
    log_batch_curvature: Normal = (float(np.log(0.015)), 0.7)
    atanh_ridge: Normal = (-0.3, 0.4)
    """Of the correlation c / sqrt(k_rate k_batch): a larger batch wants a larger rate."""
    rate_by_params: Normal = (-0.3, 0.4)
    rate_by_tokens: Normal = (0.1, 0.4)
    batch_by_params: Normal = (0.0, 0.2)
    batch_by_tokens: Normal = (0.55, 0.35)
    log_centre_sd: float = float(np.log(4.0))
    """Of eta* and B* in the middle of the cells, about the middle of what was tried."""


TRANSFERRING_RATES = LawPriors(rate_by_params=(0.0, 0.2))
"""For parametrisations made to have one best rate for all sizes, as CompleteP."""


@dataclass(frozen=True)
class _Numbers:
    """Curvature and noise, (R, 1) each."""

    rate_R1: FloatArray
    batch_R1: FloatArray
    cross_R1: FloatArray
    variance_R1: FloatArray
    correlation_R1: FloatArray

    @property
    def determinant_R(self) -> FloatArray:
        """Of the matrix of curvatures."""
        determinant_R1: FloatArray = self.rate_R1 * self.batch_R1 - self.cross_R1**2
        return determinant_R1[:, 0]


@dataclass(frozen=True)
class Solved:
    """Coefficients of laws and levels given the numbers of curvature and noise."""

    log_likelihood_R: FloatArray
    """With the coefficients integrated out, up to a constant."""
    coefficient_RK: FloatArray
    covariance_RKK: FloatArray


@dataclass(frozen=True)
class QuadraticDraws:
    """Draws from the posterior; laws are lines in ln N and ln D about the middle of the cells."""

    curvature: Curvature
    """At the means of the logs: means of draws need not have a minimum."""
    law_RL: FloatArray
    """Rate, then batch: log value in the middle, slopes in ln N and in ln D."""
    curvature_R3: FloatArray
    """Of rate, batch and cross."""
    noise_sd_R: FloatArray
    correlation_R: FloatArray


class QuadraticModel:
    """The likelihood of all points for many draws at once.

    A draw is five coordinates, in standard deviations of their priors: log curvatures of rate and
    batch, atanh of the ridge, log noise, logit of the correlation within runs.
    """

    n_coordinates = 5

    def __init__(
        self,
        places_P4: FloatArray,
        log_loss_P: FloatArray,
        cell_P: IntArray,
        run_P: IntArray,
        priors: LawPriors,
    ) -> None:
        """Places are logs of size, tokens, learning rate and batch."""
        first_C = np.unique(cell_P, return_index=True)[1]
        self.middle_2 = places_P4[first_C, :2].mean(axis=0)
        self.tried_2 = places_P4[:, 2:].mean(axis=0)
        self.place_P3 = np.insert(places_P4[:, :2] - self.middle_2, 0, 1.0, axis=1)
        self.u_P, self.v_P = (places_P4[:, 2:] - self.tried_2).T
        self.log_loss_P = log_loss_P
        self.cell_PC = np.eye(int(cell_P.max()) + 1)[cell_P]
        self.run_PG = np.eye(int(run_P.max()) + 1)[run_P]
        self.n_G = self.run_PG.sum(axis=0)
        centre = (0.0, priors.log_centre_sd)
        rate = (centre, priors.rate_by_params, priors.rate_by_tokens)
        batch = (centre, priors.batch_by_params, priors.batch_by_tokens)
        n_levels = self.cell_PC.shape[1]
        mean_L, sd_L = np.array(rate + batch).T
        # Levels are free.
        self.prior_mean_K = np.concatenate([mean_L, np.zeros(n_levels)])
        self.prior_precision_K = np.concatenate([sd_L**-2, np.zeros(n_levels)])
        shape = (priors.log_rate_curvature, priors.log_batch_curvature, priors.atanh_ridge)
        self.mean_H, self.sd_H = np.array((*shape, NOISE_PRIOR, CORRELATION_PRIOR)).T
        self.lack_of_fit_P = np.zeros(len(log_loss_P))
        self.expect_lack_of_fit(np.zeros((1, self.n_coordinates)))

    def log_likelihood(self, x_RH: FloatArray) -> FloatArray:
        """Of coordinates, with laws and levels integrated out."""
        return self.solve(x_RH).log_likelihood_R

    def solve(self, x_RH: FloatArray) -> Solved:
        """Laws and levels that go with coordinates."""
        numbers = self._numbers(x_RH)
        sd_RP = np.sqrt(numbers.variance_R1 + self.lack_of_fit_P**2)
        white_RPc = self._whiten(self._table(numbers) / sd_RP[:, :, None], numbers.correlation_R1)
        y_RP1, columns_RPK = white_RPc[:, :, :1], white_RPc[:, :, 1:]
        prior_KK = np.diag(self.prior_precision_K)
        right_K1 = (self.prior_precision_K * self.prior_mean_K)[:, None]
        weight_RG = np.ones((len(x_RH), len(self.n_G)))
        for _ in range(N_STEPS):
            weighted_RKP = self._weigh(columns_RPK, weight_RG)
            coefficient_RK1 = np.linalg.solve(
                weighted_RKP @ columns_RPK + prior_KK, weighted_RKP @ y_RP1 + right_K1
            )
            residual_RP = (y_RP1 - columns_RPK @ coefficient_RK1)[:, :, 0]
            distance_RG = residual_RP**2 @ self.run_PG
            weight_RG = (RUN_TAIL_DOF + self.n_G) / (RUN_TAIL_DOF + distance_RG)
        coefficient_RK = coefficient_RK1[:, :, 0]
        # A Student t of n dimensions has this share of the information of its weighted normal.
        share_G = (RUN_TAIL_DOF + self.n_G) / (RUN_TAIL_DOF + self.n_G + 2.0)
        precision_RKK = self._weigh(columns_RPK, share_G * weight_RG) @ columns_RPK + prior_KK
        covariance_RKK = np.linalg.inv(precision_RKK).astype(np.float64)
        within_R1, common_RG = self._run_variances(numbers.correlation_R1)
        log_likelihood_R = -0.5 * np.log1p(distance_RG / RUN_TAIL_DOF) @ (RUN_TAIL_DOF + self.n_G)
        log_likelihood_R -= np.log(sd_RP).sum(axis=1)
        log_likelihood_R -= 0.5 * np.log(common_RG).sum(axis=1)
        log_likelihood_R -= 0.5 * np.log(within_R1[:, 0]) * np.sum(self.n_G - 1.0)
        log_likelihood_R -= 0.5 * (coefficient_RK - self.prior_mean_K) ** 2 @ self.prior_precision_K
        log_likelihood_R -= 0.5 * np.linalg.slogdet(precision_RKK)[1]
        log_likelihood_R += self._volume(numbers, covariance_RKK)
        return Solved(log_likelihood_R, coefficient_RK, covariance_RKK)

    def expect_lack_of_fit(self, x_RH: FloatArray) -> None:
        """Let points scatter by a share of their excess loss under the laws of these draws."""
        # Not under those of each draw: a law could then win by passing through noisy points.
        numbers, coefficient_RK = self._numbers(x_RH), self.solve(x_RH).coefficient_RK
        x_RP = self.u_P - coefficient_RK[:, 0:3] @ self.place_P3.T
        y_RP = self.v_P - coefficient_RK[:, 3:6] @ self.place_P3.T
        squares_RP = 0.5 * (numbers.rate_R1 * x_RP**2 + numbers.batch_R1 * y_RP**2)
        excess_RP = squares_RP + numbers.cross_R1 * x_RP * y_RP
        self.lack_of_fit_P = LACK_OF_FIT * excess_RP.mean(axis=0)

    def complete(self, x_RH: FloatArray, rng: np.random.Generator) -> QuadraticDraws:
        """Draws of all numbers, the laws' given the coordinates."""
        numbers, solved = self._numbers(x_RH), self.solve(x_RH)
        covariance_RLL = solved.covariance_RKK[:, :N_LAW, :N_LAW]
        normal_RL1 = rng.standard_normal((len(x_RH), N_LAW, 1))
        law_RL = solved.coefficient_RK[:, :N_LAW].copy()
        law_RL += (np.linalg.cholesky(covariance_RLL) @ normal_RL1)[:, :, 0]
        law_RL[:, ::3] += self.tried_2
        middle = self._numbers(x_RH.mean(axis=0, keepdims=True))
        return QuadraticDraws(
            curvature=Curvature(
                middle.rate_R1.item(), middle.batch_R1.item(), middle.cross_R1.item()
            ),
            law_RL=law_RL,
            curvature_R3=np.hstack([numbers.rate_R1, numbers.batch_R1, numbers.cross_R1]),
            noise_sd_R=np.sqrt(numbers.variance_R1[:, 0]),
            correlation_R=numbers.correlation_R1[:, 0],
        )

    def _numbers(self, x_RH: FloatArray) -> _Numbers:
        value_HR1 = (self.mean_H + self.sd_H * x_RH).T[:, :, None]
        rate_R1, batch_R1 = np.exp(value_HR1[:2])
        return _Numbers(
            rate_R1=rate_R1,
            batch_R1=batch_R1,
            cross_R1=np.tanh(value_HR1[2]) * np.sqrt(rate_R1 * batch_R1),
            variance_R1=np.exp(2.0 * value_HR1[3]) + MIN_NOISE**2,
            correlation_R1=MAX_CORRELATION * expit(value_HR1[4]),
        )

    def _table(self, numbers: _Numbers) -> FloatArray:
        """(R, P, 1 + K): what the laws and levels have to explain, then their columns."""
        slope_u_RP = numbers.rate_R1 * self.u_P + numbers.cross_R1 * self.v_P
        slope_v_RP = numbers.cross_R1 * self.u_P + numbers.batch_R1 * self.v_P
        known_RP = 0.5 * (slope_u_RP * self.u_P + slope_v_RP * self.v_P)
        levels_RPC = np.broadcast_to(self.cell_PC, (len(known_RP), *self.cell_PC.shape))
        return np.concatenate(
            [
                (self.log_loss_P - known_RP)[:, :, None],
                -slope_u_RP[:, :, None] * self.place_P3,
                -slope_v_RP[:, :, None] * self.place_P3,
                levels_RPC,
            ],
            axis=2,
        )

    def _volume(self, numbers: _Numbers, covariance_RKK: FloatArray) -> FloatArray:
        """Log of what integrals over laws owe to the curvature's units, to be added back."""
        # A flatter valley leaves each pair of coefficients that the runs tell more room, by one
        # over the determinant, and would be favoured for that: curvatures were 15 % too low.
        prior_L = self.prior_precision_K[:N_LAW]
        kept_R = np.diagonal(covariance_RKK, axis1=1, axis2=2)[:, :N_LAW] @ prior_L
        expected = self._numbers(np.zeros((1, self.n_coordinates)))
        ratio_R = numbers.determinant_R / expected.determinant_R
        volume_R: FloatArray = 0.5 * (N_LAW - kept_R) * np.log(ratio_R)
        return volume_R

    def _run_variances(self, correlation_R1: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Of differences within a run, (R, 1), and along its mean, (R, G); a point has 1."""
        within_R1 = 1.0 - correlation_R1
        return within_R1, within_R1 + correlation_R1 * self.n_G

    def _whiten(self, scaled_RPc: FloatArray, correlation_R1: FloatArray) -> FloatArray:
        """Columns in which the equally correlated points of a run are independent."""
        within_R1, common_RG = self._run_variances(correlation_R1)
        to_mean_RG = (np.sqrt(within_R1 / common_RG) - 1.0) / self.n_G
        moved_RGc = to_mean_RG[:, :, None] * (self.run_PG.T @ scaled_RPc)
        white_RPc: FloatArray = scaled_RPc + self.run_PG @ moved_RGc
        white_RPc /= np.sqrt(within_R1)[:, :, None]
        return white_RPc

    def _weigh(self, columns_RPK: FloatArray, weight_RG: FloatArray) -> FloatArray:
        """Weighted columns, transposed."""
        weight_RP1 = (weight_RG @ self.run_PG.T)[:, :, None]
        return (columns_RPK * weight_RP1).swapaxes(1, 2)


def cells_of(params_P: FloatArray, tokens_P: FloatArray) -> IntArray:
    """Number of each point's cell: one size, trained on one number of tokens."""
    pairs_P2 = np.column_stack([rungs(params_P), rungs(tokens_P)])
    return np.unique(pairs_P2, axis=0, return_inverse=True)[1].astype(np.int64)
