"""A surface with one exponent, L(N, D) = E + A / N^alpha + B / D^alpha, for extrapolation from few
runs: with four coefficients it needs only five. N* and D* grow alike in it, so it is no evidence on
how to share compute.

Suffixes: R resamples, P points, G grid cells, 4 the coefficients E, A, B, alpha.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from analysis.errors import FitWarning
from analysis.stats.bootstrap import Noise, Resampler
from analysis.stats.power_law import EXPONENT_RANGE
from analysis.tables.points import FloatArray, Points, n_levels

MIN_POINTS = 5
"""Four coefficients and one point to judge the noise by."""


@dataclass(frozen=True)
class TiedSurface:
    """Coefficients in nats, parameters and tokens, with bootstrap draws."""

    # Gadre et al. (arXiv 2403.08540, eq. 4) write it with C = 6·N·D and M = D / N as
    # L = E + (a · M^eta + b · M^−eta) · C^−eta, which is the same with alpha = 2·eta.
    E: float
    A: float
    B: float
    alpha: float
    sigma: float
    """Standard deviation of the losses about the surface, nats per token."""
    draws_R4: FloatArray = field(repr=False, compare=False)

    def __call__(self, params: float, tokens: float) -> float:
        """Loss at a size and a number of tokens, nats per token."""
        return float(self.E + self.A / params**self.alpha + self.B / tokens**self.alpha)

    def draws_at(self, params: float, tokens: float) -> FloatArray:
        """Bootstrap values of the loss there, shape (R,)."""
        level_R, size_R, data_R, alpha_R = self.draws_R4.T
        values_R: FloatArray = level_R + size_R * params**-alpha_R + data_R * tokens**-alpha_R
        return values_R


def fit_tied_surface(points: Points, resampler: Resampler) -> TiedSurface | FitWarning:
    """Least squares of the loss, as published, not of its log; or why there is none."""
    n_points = len(points.loss_P)
    if n_points < MIN_POINTS or min(n_levels(points.params_P), n_levels(points.tokens_P)) < 3:
        message = (
            f"{n_points} points are too few, or of too few sizes, for a surface of one exponent"
        )
        return FitWarning("too_few_points", message, points.family)
    u_P, v_P = np.log(points.params_P), np.log(points.tokens_P)
    # Centred, so that both columns are of order one.
    u_origin, v_origin = float(u_P.mean()), float(v_P.mean())
    problem = _Problem(u_P - u_origin, v_P - v_origin)
    best_14 = problem.fit(points.loss_P[None])
    residual_P = points.loss_P - problem.loss(best_14)[0]
    basis_P4, _ = np.linalg.qr(problem.slopes(best_14)[0])
    noise = Noise(residual_P, basis_P4, points.run_P)
    noisy_RP = points.loss_P - residual_P + resampler.wild_noise(points, noise)
    draws_R4 = problem.fit(noisy_RP)
    if best_14[0, 1] <= 0 or best_14[0, 2] <= 0:
        message = "in the best surface of one exponent the loss rises with params or tokens"
        return FitWarning("tied_surface_rises", message, points.family)
    for theta_R4 in (best_14, draws_R4):
        theta_R4[:, 1] *= np.exp(theta_R4[:, 3] * u_origin)
        theta_R4[:, 2] *= np.exp(theta_R4[:, 3] * v_origin)
    level, size, data, alpha = best_14[0].tolist()
    return TiedSurface(level, size, data, alpha, noise.sigma, draws_R4)


@dataclass(frozen=True)
class _Problem:
    """Centred design."""

    u_P: FloatArray
    v_P: FloatArray

    def fit(self, loss_RP: FloatArray) -> FloatArray:
        """Coefficients of every resample, shape (R, 4), by Gauss–Newton from the best of a grid."""
        theta_R4 = self._best_of_grid(loss_RP)
        for _ in range(12):  # from a grid this dense four reach rounding
            slopes_RP4 = self.slopes(theta_R4)
            residual_RP = loss_RP - self.loss(theta_R4)
            transposed = np.swapaxes(slopes_RP4, 1, 2)
            normal_R44 = transposed @ slopes_RP4
            scale_R4 = np.einsum("rjj->rj", normal_R44) + 1e-290  # 1e-13 of it is no denormal
            # Keeps a step finite where an arm is absent, and moves no optimum.
            normal_R44 += 1e-13 * scale_R4[:, :, None] * np.eye(4)
            pull_R41 = transposed @ residual_RP[..., None]
            step_R4 = np.linalg.solve(normal_R44, pull_R41)[..., 0]
            step_R4[:, 3] = np.clip(step_R4[:, 3], -0.1, 0.1)
            theta_R4 = theta_R4 + step_R4
            if np.all(np.abs(step_R4) <= 1e-13 * np.abs(theta_R4)):
                break
            theta_R4[:, 3] = np.clip(theta_R4[:, 3], *EXPONENT_RANGE)
        return theta_R4

    def loss(self, theta_R4: FloatArray) -> FloatArray:
        """Fitted losses, shape (R, P)."""
        level, size, data, alpha = (theta_R4[:, [j]] for j in range(4))
        result: FloatArray = (
            level + size * np.exp(-alpha * self.u_P) + data * np.exp(-alpha * self.v_P)
        )
        return result

    def slopes(self, theta_R4: FloatArray) -> FloatArray:
        """Derivatives of the fitted losses, shape (R, P, 4)."""
        _, size, data, alpha = (theta_R4[:, [j]] for j in range(4))
        x_RP, z_RP = np.exp(-alpha * self.u_P), np.exp(-alpha * self.v_P)
        by_alpha_RP = -self.u_P * size * x_RP - self.v_P * data * z_RP
        return np.stack([np.ones_like(x_RP), x_RP, z_RP, by_alpha_RP], axis=2)

    @cached_property
    def _grid(self) -> list[tuple[float, FloatArray, FloatArray]]:
        """Exponents, with the columns of a linear fit and their pseudo-inverse, transposed."""
        found = []
        for alpha in np.geomspace(*EXPONENT_RANGE, 60).tolist():
            arms_P = np.exp(-alpha * self.u_P), np.exp(-alpha * self.v_P)
            columns_P3 = np.stack([np.ones_like(self.u_P), *arms_P], axis=1)
            found.append((alpha, columns_P3, np.linalg.pinv(columns_P3).T))
        return found

    def _best_of_grid(self, loss_RP: FloatArray) -> FloatArray:
        """Linear least squares at the alpha of the grid with the least error, shape (R, 4)."""
        error_R = np.full(len(loss_RP), np.inf)
        best_R4 = np.empty((len(loss_RP), 4))
        for alpha, columns_P3, inverse_P3 in self._grid:
            linear_R3 = loss_RP @ inverse_P3
            here_R = np.sum((loss_RP - linear_R3 @ columns_P3.T) ** 2, axis=1)
            better_R = here_R < error_R
            error_R[better_R] = here_R[better_R]
            best_R4[better_R, :3] = linear_R3[better_R]
            best_R4[better_R, 3] = alpha
        return best_R4
