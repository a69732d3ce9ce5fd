"""Where the loss E + A/N^alpha + B/D^beta is lowest along a budget C, on which D = C / M(N).

Suffixes: R the estimate and its resamples, K budgets.
"""

from dataclasses import dataclass

import numpy as np

from analysis.stats.cost import CostPerToken
from analysis.surface.surface import SurfaceFit
from analysis.tables.points import FloatArray

Numbers = FloatArray | float

ROUNDING = 1e-13
"""Of a log size, the step below which nothing is gained."""
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class SurfaceOptima:
    """Logs at K budgets, shape (1 + R, K): row 0 is the estimate, the others are draws."""

    log_params_RK: FloatArray
    log_tokens_RK: FloatArray
    log_loss_RK: FloatArray


def best_size(
    size_arm: Numbers,
    data_arm: Numbers,
    exponents: tuple[Numbers, Numbers],
    cost: CostPerToken,
    log_flops: Numbers,
    margin: float,
) -> FloatArray:
    """Log of the size with the lowest loss; all arguments broadcast.

    It is searched up to `margin` beyond the observed log sizes, and lies at an end of that range
    where the loss has no minimum inside it.
    """
    alpha, beta = exponents
    shape = np.broadcast_shapes(np.shape(size_arm), np.shape(log_flops))
    low, high = np.full(shape, cost.low - margin), np.full(shape, cost.high + margin)
    log_arms = np.log(np.maximum(alpha * size_arm, TINY))
    log_arms = log_arms - np.log(np.maximum(beta * data_arm, TINY))

    def gain(at: FloatArray) -> tuple[FloatArray, FloatArray]:
        # dL/dlog N = 0: alpha·A·N^(−alpha) = beta·B·m·D^(−beta) with m = d log M / d log N.
        slope = cost.slope(at)
        log_price = np.log(slope) - beta * cost.log_tokens(at, log_flops)
        return log_arms - alpha * at - log_price, alpha + beta * slope

    # Without a minimum inside, an end of the range.
    high = np.where(gain(low)[0] < 0, low, high)
    low = np.where(gain(high)[0] > 0, high, low)
    at = 0.5 * (low + high)
    for _ in range(60):  # of Newton, or a halving where it would leave what is known: to rounding
        ahead, slope = gain(at)
        low, high = np.where(ahead > 0, at, low), np.where(ahead > 0, high, at)
        after = at + ahead / slope
        # A step that only rounds is the end, also where it ends on what is known.
        is_good = ((after > low) & (after < high)) | (np.abs(after - at) < ROUNDING)
        after = np.where(is_good, after, 0.5 * (low + high))
        moved = float(np.max(np.abs(after - at), initial=0.0))
        at = after
        if moved < ROUNDING:
            break
    result: FloatArray = at
    return result


def surface_optima(
    surface: SurfaceFit, cost: CostPerToken, log_flops_K: FloatArray, margin: float, n_draws: int
) -> SurfaceOptima | None:
    """The surface's optima at K budgets; None where one lies beyond the searched sizes."""
    E, A, B, alpha, beta = (
        # Draws without a certificate are missing; the first ones then count twice.
        np.concatenate([[getattr(surface, name)], np.resize(surface.draws[name], n_draws)])[:, None]
        for name in ("E", "A", "B", "alpha", "beta")
    )
    log_params = best_size(A, B, (alpha, beta), cost, log_flops_K, margin)
    beyond_K = np.maximum(cost.low - log_params[0], log_params[0] - cost.high)
    if beyond_K.max() > margin - 1e-6:
        return None
    log_tokens = cost.log_tokens(log_params, log_flops_K)
    loss = E + A * np.exp(-alpha * log_params) + B * np.exp(-beta * log_tokens)
    return SurfaceOptima(log_params, log_tokens, np.log(loss))
