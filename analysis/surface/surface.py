"""The surface L(N, D) = E + A/N^alpha + B/D^beta of one series, or why there is none: the choice of
delta, the weights and the resampling of approach 3 (arXiv 2203.15556).

Suffixes: R resamples, P points, 5 the coordinates of theta.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.errors import FitWarning
from analysis.stats.bootstrap import HUBER_SIGMAS, MAD_TO_SIGMA, Noise, Resampler, many_runs
from analysis.stats.power_law import EXPONENT_RANGE, inverse_variance_weights, percentile_interval
from analysis.surface.profile import profile_intervals
from analysis.surface.solver import (
    Minimum,
    SurfaceProblem,
    arms,
    log_residuals,
    minimise,
    newton,
    relative_slopes,
)
from analysis.tables.points import BoolArray, FloatArray, Points, n_levels

N_COEFFICIENTS = 5
MIN_POINTS = 8
"""Five coefficients, and three points to judge the noise by."""
MIN_LEVELS = 3
"""Distinct sizes, and distinct token counts: a power law plus a constant has three coefficients."""

MAX_WIDTH = 0.5
"""Of the interval of a = beta/(alpha+beta), which says how N* ∝ C^a shares compute and lies in 0 to
1: over half of all values say nothing. Of 22 public series of nine studies the widest has 0.32."""
MAX_WIDTH_WITHOUT_FLOOR = 1 / 3
"""The same where resamples also disagree on whether there is an E: then alpha and beta trade with
it, and the interval covers two laws that go apart beyond the data."""
MAX_NUMBERS, LEAST_DRAWS = 4_000_000, 200
"""Of points times resamples, and of resamples where points are many: their draws take the time."""
UNCLEAR_FLOOR = 0.1
"""Share of resamples at E = 0 from which they disagree; in those series it is 0.01 at most, or 0.92
with E = 0 as the best fit, where there is nothing to disagree on."""


@dataclass(frozen=True)
class SurfaceFit:
    """Coefficients in nats, parameters and tokens, with 95 % bootstrap intervals."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    ci: dict[str, tuple[float, float]]
    """Intervals of the five, and of `params_exponent`."""
    profile_ci: dict[str, tuple[float, float] | None]
    """Profile intervals of alpha and beta; None where the profile does not close. Without them
    where the surface is only read off."""
    params_exponent: float
    """beta / (alpha + beta): exponent of N*(C) where C = 6·N·D."""
    huber_delta: float
    objective: float
    sigma: float
    """Standard deviation of the log residuals."""
    n_points: int
    n_uncertified: int
    """Resamples left out of the intervals, because no certified optimum was found."""
    draws: dict[str, FloatArray] = field(repr=False, compare=False)
    """Bootstrap values of the five coefficients."""
    warnings: tuple[FitWarning, ...] = ()

    def __call__(self, params: float, tokens: float) -> float:
        """Loss at a size and a number of tokens, nats per token."""
        return float(self.E + self.A / params**self.alpha + self.B / tokens**self.beta)

    def draws_at(self, params: float, tokens: float) -> FloatArray:
        """Bootstrap values of the loss there, shape (R,)."""
        draws = self.draws
        size_R, data_R = params ** -draws["alpha"], tokens ** -draws["beta"]
        return draws["E"] + draws["A"] * size_R + draws["B"] * data_R


@dataclass(frozen=True)
class Centred:
    """The problem in centred coordinates and the way back."""

    problem: SurfaceProblem
    log_params_mean: float
    log_tokens_mean: float
    log_loss_mean: float

    def coefficients(self, theta_R5: FloatArray) -> dict[str, FloatArray]:
        """E, A, B, alpha, beta in the units of the table, each (R,)."""
        scale = np.exp(self.log_loss_mean)
        alpha, beta = theta_R5[:, 3], theta_R5[:, 4]
        return {
            "E": scale * theta_R5[:, 0],
            "A": scale * np.exp(theta_R5[:, 1] + alpha * self.log_params_mean),
            "B": scale * np.exp(theta_R5[:, 2] + beta * self.log_tokens_mean),
            "alpha": alpha,
            "beta": beta,
        }


def fit_surface(
    points: Points, huber_delta: float | Literal["auto"], resampler: Resampler
) -> SurfaceFit | FitWarning:
    """Fit one series or say why not; `huber_delta` is in log-loss units, inf = least squares."""
    found = _resampled(points, huber_delta, resampler)
    if isinstance(found, FitWarning):
        return found
    fit, problem, theta_5 = found
    profile_ci = profile_intervals(problem, theta_5, fit.huber_delta, points.run_P)
    warnings = (*fit.warnings, *_open_profiles(points, profile_ci))
    return dataclasses.replace(fit, profile_ci=profile_ci, warnings=warnings)


def resampled_surface(
    points: Points, huber_delta: float | Literal["auto"], resampler: Resampler
) -> SurfaceFit | FitWarning:
    """`fit_surface` without the profile intervals, which a surface that is only read off needs
    not.
    """
    found = _resampled(points, huber_delta, resampler)
    return found if isinstance(found, FitWarning) else found[0]


def _resampled(
    points: Points, huber_delta: float | Literal["auto"], resampler: Resampler
) -> tuple[SurfaceFit, SurfaceProblem, FloatArray] | FitWarning:
    """The fit without profile intervals, its problem and its theta, (5,)."""
    reason = _why_not_identified(points)
    if reason is not None:
        return _refusal(points, *reason)
    centred = centre(points)
    delta = _auto_delta(centred.problem) if huber_delta == "auto" else huber_delta
    best = minimise(centred.problem, delta)
    theta_5 = best.theta_R5[0]
    reason = _why_degenerate(centred.problem, theta_5)
    if reason is not None:
        return _refusal(points, *reason)
    if not best.is_certified_R[0]:
        return _refusal(points, "surface_not_certified", "no optimum could be certified")
    n_draws = max(LEAST_DRAWS, MAX_NUMBERS // len(points.loss_P))
    minimum = _bootstrap(centred.problem, points, theta_5, delta, resampler.first(n_draws))
    draws_R5 = minimum.theta_R5[minimum.is_certified_R]
    n_uncertified = int((~minimum.is_certified_R).sum())
    is_flat_2R = _is_flat(centred.problem, draws_R5)
    runaway = _is_runaway(draws_R5) | is_flat_2R[0] | is_flat_2R[1]
    if not len(draws_R5) or runaway.mean() > 0.2:
        message = (
            f"{runaway.mean():.0%} of the resamples have no exponent within "
            f"[{EXPONENT_RANGE[0]}, {EXPONENT_RANGE[1]}]: more sizes and budgets are needed"
        )
        return _refusal(points, "surface_not_identified", message)
    coefficient = {k: float(v[0]) for k, v in centred.coefficients(theta_5[None]).items()}
    draws = centred.coefficients(draws_R5)
    share_R = draws["beta"] / (draws["alpha"] + draws["beta"])
    if (reason_why := _why_exponents_unclear(draws, share_R, theta_5[0] > 0)) is not None:
        return _refusal(points, "surface_not_identified", reason_why)
    residual_P = log_residuals(centred.problem, theta_5)
    fit = SurfaceFit(
        **coefficient,
        ci={k: percentile_interval(v) for k, v in (draws | {"params_exponent": share_R}).items()},
        profile_ci={},
        params_exponent=coefficient["beta"] / (coefficient["alpha"] + coefficient["beta"]),
        huber_delta=delta,
        objective=float(best.objective_R[0]),
        sigma=float(np.sqrt(np.sum(residual_P**2) / (len(residual_P) - N_COEFFICIENTS))),
        n_points=len(residual_P),
        n_uncertified=n_uncertified,
        draws=draws,
        warnings=tuple(_warnings(points, theta_5, draws_R5, n_uncertified)),
    )
    return fit, centred.problem, theta_5


def _why_not_identified(points: Points) -> tuple[str, str] | None:
    """Code and reason when the design cannot pin the surface down, whatever the losses are."""
    n_points = len(points.loss_P)
    n_sizes, n_tokens = n_levels(points.params_P), n_levels(points.tokens_P)
    if n_points < MIN_POINTS:
        return "too_few_points", f"{n_points} points, a surface needs {MIN_POINTS}"
    if n_sizes < MIN_LEVELS:
        return "too_few_sizes", f"{n_sizes} distinct sizes, a surface needs {MIN_LEVELS}"
    if n_tokens < MIN_LEVELS:
        return "too_few_token_counts", f"{n_tokens} token counts, a surface needs {MIN_LEVELS}"
    if np.ptp(np.log(points.loss_P)) < 1e-6:
        return "constant_loss", "the loss is the same at every point"
    correlation = np.corrcoef(np.log(points.params_P), np.log(points.tokens_P))[0, 1]
    if abs(correlation) > 0.9995:  # the two terms cannot be told apart
        message = (
            f"log params and log tokens are collinear (correlation {correlation:.5f}): "
            "vary tokens at fixed size"
        )
        return "collinear_design", message
    return None


def _why_degenerate(problem: SurfaceProblem, theta_5: FloatArray) -> tuple[str, str] | None:
    """Code and reason when the optimum is on a face or an edge that makes it meaningless."""
    is_flat_in_size, is_flat_in_data = _is_flat(problem, theta_5[None])[:, 0].tolist()
    if is_flat_in_size:
        return "no_size_dependence", "in the best fit the loss does not fall with params"
    if is_flat_in_data:
        return "no_token_dependence", "in the best fit the loss does not fall with tokens"
    if _is_runaway(theta_5[None])[0]:
        message = f"best fit at alpha = {theta_5[3]:.3g}, beta = {theta_5[4]:.3g}, off every scale"
        return "surface_not_identified", message
    return None


def _why_exponents_unclear(
    draws: dict[str, FloatArray], share_R: FloatArray, has_floor: bool
) -> str | None:
    """The reason when resamples agree on neither exponent enough to say how compute is shared."""
    low, high = percentile_interval(share_R)
    at_zero = float((draws["E"] == 0).mean())
    is_floor_unclear = has_floor and at_zero > UNCLEAR_FLOOR
    if high - low <= (MAX_WIDTH_WITHOUT_FLOOR if is_floor_unclear else MAX_WIDTH):
        return None
    ends = percentile_interval(draws["alpha"])
    floor = f" and E = 0 in {at_zero:.0%} of the resamples" if is_floor_unclear else ""
    return (
        f"beta/(alpha+beta) is anything from {low:.2f} to {high:.2f} (alpha {ends[0]:.2f} to "
        f"{ends[1]:.2f}){floor}: losses over a wider range of sizes and tokens are needed"
    )


def _is_runaway(theta_R5: FloatArray) -> BoolArray:
    """Whether an exponent left the range of the search grid, (R,)."""
    low, high = EXPONENT_RANGE
    outside: BoolArray = np.any((theta_R5[:, 3:] < low) | (theta_R5[:, 3:] > high), axis=1)
    return outside


def _is_flat(problem: SurfaceProblem, theta_R5: FloatArray) -> BoolArray:
    """Whether the size arm, and the data arm, change the loss over the data at all, (2, R)."""
    size_RP, data_RP = arms(problem, theta_R5)
    return np.stack([np.ptp(size_RP, axis=1), np.ptp(data_RP, axis=1)]) < 1e-5


def _refusal(points: Points, code: str, reason: str) -> FitWarning:
    return FitWarning(code, f"no surface is fitted: {reason}", points.family)


def centre(points: Points) -> Centred:
    """The problem of one series, weighted by its standard errors where they tell points apart."""
    u, v, y = np.log(points.params_P), np.log(points.tokens_P), np.log(points.loss_P)
    means = float(u.mean()), float(v.mean()), float(y.mean())
    even = SurfaceProblem(
        u - means[0], v - means[1], (y - means[2])[None], np.ones((1, len(points.loss_P)))
    )
    if not points.stderr_P.any():
        return Centred(even, *means)
    residual_P = log_residuals(even, minimise(even, np.inf).theta_R5[0])
    dof = len(residual_P) - N_COEFFICIENTS
    weight_P = inverse_variance_weights(residual_P, points.stderr_P / points.loss_P, dof)
    if weight_P is None:
        return Centred(even, *means)
    return Centred(dataclasses.replace(even, weight_RP=weight_P[None]), *means)


def _auto_delta(problem: SurfaceProblem) -> float:
    """1.345 robust standard deviations of the residuals, iterated twice from least squares."""
    # A fixed 1e-3 is least absolute deviations in practice (noise is 0.3–1 %), which widens
    # intervals by about a quarter for nothing.
    delta = np.inf
    for _ in range(2):
        residual_P = log_residuals(problem, minimise(problem, delta).theta_R5[0])
        sigma = MAD_TO_SIGMA * float(np.median(np.abs(residual_P)))
        if sigma < 1e-9:  # noise-free: every residual is rounding
            return np.inf
        delta = HUBER_SIGMAS * sigma
    return delta


def _bootstrap(
    problem: SurfaceProblem, points: Points, theta_5: FloatArray, delta: float, resampler: Resampler
) -> Minimum:
    """Theta of every resample; those that are not certified from the estimate start globally."""
    if many_runs(points):
        counts_RP = resampler.run_counts(points)
        resampled = dataclasses.replace(problem, weight_RP=counts_RP * problem.weight_RP)
    else:
        residual_P = log_residuals(problem, theta_5)
        root_weight_P = np.sqrt(problem.weight_RP[0])
        slope_P5 = relative_slopes(problem, theta_5) * root_weight_P[:, None]
        # On the face E = 0 the fit cannot move E.
        basis_Pc, _ = np.linalg.qr(slope_P5[:, 1:] if theta_5[0] == 0 else slope_P5)
        noise = Noise(residual_P * root_weight_P, basis_Pc, points.run_P, huber_delta=delta)
        noise_RP = resampler.wild_noise(points, noise) / np.sqrt(problem.weight_RP)
        fitted_RP = problem.log_loss_RP - residual_P
        resampled = dataclasses.replace(problem, log_loss_RP=fitted_RP + noise_RP)

    def warm(part: SurfaceProblem) -> Minimum:
        found = newton(part, np.tile(theta_5, (part.n_resamples, 1)), delta)
        failed = np.flatnonzero(~found.is_certified_R)
        if len(failed):
            again = minimise(part.rows(failed), delta)
            for name, value in vars(found).items():
                value[failed] = getattr(again, name)
        return found

    return fit_chunked(resampled, warm)


def fit_chunked(problem: SurfaceProblem, fit: Callable[[SurfaceProblem], Minimum]) -> Minimum:
    """All resamples, in chunks of about 2^16 numbers that stay in cache."""
    chunk = max(1, 2**16 // len(problem.log_params_P))
    parts = [
        vars(fit(problem.rows(slice(first, first + chunk)))).values()
        for first in range(0, problem.n_resamples, chunk)
    ]
    return Minimum(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _warnings(
    points: Points,
    theta_5: FloatArray,
    draws_R5: FloatArray,
    n_uncertified: int,
) -> list[FitWarning]:
    warnings = []
    if theta_5[0] == 0:
        message = "the best surface has E = 0: the data do not show an irreducible loss"
        warnings.append(FitWarning("no_irreducible_loss", message, points.family))
    elif (share := float((draws_R5[:, 0] == 0).mean())) > 0.025:
        message = f"E = 0 in {share:.0%} of the resamples: the irreducible loss is not pinned down"
        warnings.append(FitWarning("irreducible_loss_unclear", message, points.family))
    if n_uncertified:
        message = f"{n_uncertified} resamples without a certified optimum are left out"
        warnings.append(FitWarning("uncertified_resamples", message, points.family))
    return warnings


def _open_profiles(
    points: Points, profile_ci: dict[str, tuple[float, float] | None]
) -> list[FitWarning]:
    warnings = []
    if open_ones := [name for name, interval in profile_ci.items() if interval is None]:
        message = (
            f"the profile of {' and '.join(open_ones)} does not close within its search: some "
            "values far from the best fit almost as well"
        )
        warnings.append(FitWarning("open_profile", message, points.family))
    return warnings
