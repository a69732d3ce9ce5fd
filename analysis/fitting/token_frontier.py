"""The token-bound frontier L*(D): the loss that a series reaches when tokens, not compute, run out.

Suffixes: R resamples, K budgets.
"""

from dataclasses import dataclass

import numpy as np

from analysis.errors import FitWarning
from analysis.isoflop.isoflop import IsoFlopFit
from analysis.stats.power_law import PowerLaw, percentile_interval
from analysis.surface.surface import SurfaceFit
from analysis.tables.points import FloatArray, Points

Interval = tuple[float, float]


@dataclass(frozen=True)
class TokenPoint:
    """The limit at one token count, nats per token."""

    tokens: float
    loss: float
    ci: Interval
    loss_at_largest_size: float


@dataclass(frozen=True)
class TokenFrontier:
    """Two definitions that differ; either may be None, not both."""

    limit: tuple[TokenPoint, ...] | None
    """inf_N L(N, D) = E + B / D^beta: compute is free and each token is seen once. It lies below
    every measured loss and extrapolates in N. None without a surface."""
    along_optima: PowerLaw | None
    """L*(D) = A · D^s through the compute-optimal points, as the GIDD study draws it
    (arXiv 2512.10858): s is the exponent of L*(C) over that of D*(C). None with fewer than two
    bracketed budgets."""
    warnings: tuple[FitWarning, ...] = ()


def token_frontier(
    points: Points, isoflop: IsoFlopFit | None, surface: SurfaceFit | None
) -> TokenFrontier | FitWarning:
    """Read L*(D) off what is fitted already, or say why there is nothing to read."""
    limit = None if surface is None else _limit(points, surface)
    warnings = () if limit is None else _reach(points.family, limit)
    if any(warning.code == "token_limit_out_of_reach" for warning in warnings):
        limit = None
    along_optima = None if isoflop is None else _along_optima(isoflop)
    if limit is None and along_optima is None:
        message = "no token-bound frontier: neither a surface nor two bracketed budgets"
        return warnings[0] if warnings else FitWarning("no_token_frontier", message, points.family)
    return TokenFrontier(limit, along_optima, warnings)


def _reach(family: str, limit: tuple[TokenPoint, ...]) -> tuple[FitWarning, ...]:
    """How far the largest size is from the limit, where that is far."""
    gap = limit[-1].loss_at_largest_size / limit[-1].loss - 1.0
    if gap < 0.1:
        return ()
    where = f"the loss of the largest size lies {gap:.0%} above the limit N → ∞"
    if gap < 0.5:
        message = f"{where}: the token-bound frontier extrapolates in N"
        return (FitWarning("token_limit_extrapolates", message, family),)
    return (FitWarning("token_limit_out_of_reach", f"{where}: no limit is stated", family),)


def _limit(points: Points, surface: SurfaceFit) -> tuple[TokenPoint, ...]:
    largest = float(points.params_P.max())
    draws = surface.draws
    return tuple(
        TokenPoint(
            tokens=float(tokens),
            loss=float(surface.E + surface.B / tokens**surface.beta),
            ci=percentile_interval(draws["E"] + draws["B"] * tokens ** -draws["beta"]),
            loss_at_largest_size=surface(largest, float(tokens)),
        )
        for tokens in np.geomspace(points.tokens_P.min(), points.tokens_P.max(), 5)
    )


def _along_optima(isoflop: IsoFlopFit) -> PowerLaw | None:
    log_tokens_K, log_loss_K = np.log(isoflop.values("tokens")), np.log(isoflop.values("loss"))
    # Over a narrower range of D* a law in it is a line through one point.
    if len(log_tokens_K) < 2 or np.ptp(log_tokens_K) < np.log(1.05):
        return None
    return loss_along_tokens(
        np.vstack([log_tokens_K, isoflop.log_tokens_RK]),
        np.vstack([log_loss_K, isoflop.log_loss_RK]),
    )


def loss_along_tokens(log_tokens_RK: FloatArray, log_loss_RK: FloatArray) -> PowerLaw:
    """Least-squares line of log L* over log D*; row 0 is the estimate, the rest are draws."""
    # Both coordinates of a draw come from the same resample, so their errors stay related.
    x_RK = log_tokens_RK - log_tokens_RK.mean(axis=1, keepdims=True)
    slope_R = np.sum(x_RK * log_loss_RK, axis=1) / np.sum(x_RK**2, axis=1)
    intercept_R = log_loss_RK.mean(axis=1) - slope_R * log_tokens_RK.mean(axis=1)
    residual_K = log_loss_RK[0] - intercept_R[0] - slope_R[0] * log_tokens_RK[0]
    return PowerLaw.from_lines(slope_R, intercept_R, len(residual_K), float(np.std(residual_K)))
