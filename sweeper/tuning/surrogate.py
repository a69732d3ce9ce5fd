"""A Gaussian process over the results of a search: what settings do without the luck of one run.

The lowest of many noisy bounds is partly lucky. The process knows that neighbours do alike and
how much single runs scatter, so its mean at the trials is a fairer ranking of them. It serves every
sampler and decides nothing: what is tried next is the sampler's business.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize

from sweeper.planning.search_space import Dimension
from sweeper.tuning.search import Settings, text_of

# Shapes: N trials, X coordinates of a setting, K hyperparameters.

MIN_TRIALS_PER_DIMENSION = 2  # with fewer, length scales are but their prior
NOISE_SHARES = (0.01, 0.1, 0.5)
"""Where the fit starts: parts of the variance that are luck."""
LENGTH_PRIOR = (math.log(0.7), 0.8)
"""Mean and standard deviation of a log length scale, in units of a dimension's range."""
NOISE_PRIOR = (math.log(0.1), 1.5)
"""Of the log variance of single runs, in units of that of all bounds."""
SCALE_PRIOR = (0.0, 1.0)
"""Of the log variance of what settings change, in the same units."""
SCALE_ENDS, NOISE_ENDS, LENGTH_ENDS = (-6.0, 4.0), (-9.0, 2.0), (-3.0, 4.0)
"""Beyond these the priors leave nothing, and exponentials may overflow."""
JITTER = 1e-8  # variance added for a stable Cholesky factor; the noise is at least 1e-3 or so


@dataclass(frozen=True)
class Expected:
    """Bounds that the process expects at the trials it was given."""

    bound: tuple[float, ...]
    """Nats per token, of the mean over runs."""
    run_sd: float
    """Standard deviation of single runs about it."""


def expected_bounds(
    space: Mapping[str, Dimension], settings: Sequence[Settings], bounds: Sequence[float]
) -> Expected | None:
    """What each of the settings is expected to reach; None for too few trials to say."""
    if len(bounds) < 1 + MIN_TRIALS_PER_DIMENSION * len(space):
        return None
    position_NX, groups_X = _positions(space, settings)
    bound_N = np.array(bounds)
    center, spread = float(np.mean(bound_N)), float(np.std(bound_N))
    if spread == 0:
        return None
    value_N = (bound_N - center) / spread
    square_NNG = _squares(position_NX, groups_X)
    start = np.zeros(square_NNG.shape[2] + 2)
    start[2:] = LENGTH_PRIOR[0]
    ends_K = [SCALE_ENDS, NOISE_ENDS] + [LENGTH_ENDS] * (len(start) - 2)
    fits = []
    for share in NOISE_SHARES:
        start[0], start[1] = math.log(1 - share), math.log(share)
        arguments = (square_NNG, value_N)
        fits.append(optimize.minimize(_loss, start, arguments, method="L-BFGS-B", bounds=ends_K))
    best_K = min(fits, key=lambda fit: float(fit.fun)).x
    signal_NN, noise = _kernel(best_K, square_NNG), math.exp(best_K[1])
    factor = linalg.cho_factor(signal_NN + (noise + JITTER) * np.eye(len(value_N)), lower=True)
    mean_N = signal_NN @ linalg.cho_solve(factor, value_N)
    return Expected(
        bound=tuple((center + spread * mean_N).tolist()),
        run_sd=spread * math.sqrt(noise),
    )


def _positions(
    space: Mapping[str, Dimension], settings: Sequence[Settings]
) -> tuple[np.ndarray, list[int]]:
    """Coordinates in units of each dimension's range, and the dimension of each coordinate."""
    columns, groups = [], []
    for group, (name, dimension) in enumerate(space.items()):
        values = [one[name] for one in settings]
        if dimension.ends is None:
            # Two different choices are at a distance of 1, whichever they are.
            texts = [text_of(value) for value in values]
            for choice in map(text_of, dimension.choices):
                columns.append([(text == choice) / math.sqrt(2) for text in texts])
                groups.append(group)
            continue
        scale = math.log if dimension.is_log else float
        low, high = map(scale, dimension.ends)
        columns.append([(scale(value) - low) / (high - low) for value in values])
        groups.append(group)
    return np.array(columns).T, groups


def _squares(position_NX: np.ndarray, groups_X: list[int]) -> np.ndarray:
    """Squared distances between trials along each dimension G: (N, N, G)."""
    square_NNX = (position_NX[:, None] - position_NX[None]) ** 2
    in_group_XG = np.equal.outer(groups_X, range(max(groups_X) + 1)).astype(float)
    square_NNG: np.ndarray = square_NNX @ in_group_XG
    return square_NNG


def _kernel(log_K: np.ndarray, square_NNG: np.ndarray) -> np.ndarray:
    """Matérn kernel of smoothness 5/2 with a length scale for each dimension."""
    r_NN = np.sqrt(5 * square_NNG @ np.exp(-2 * log_K[2:]))
    kernel_NN: np.ndarray = math.exp(log_K[0]) * (1 + r_NN + r_NN**2 / 3) * np.exp(-r_NN)
    return kernel_NN


def _loss(log_K: np.ndarray, square_NNG: np.ndarray, value_N: np.ndarray) -> float:
    """Negative log posterior of the hyperparameters, up to a constant."""
    noise = math.exp(log_K[1]) + JITTER
    covariance_NN = _kernel(log_K, square_NNG) + noise * np.eye(len(value_N))
    factor = linalg.cholesky(covariance_NN, lower=True)
    white_N = linalg.solve_triangular(factor, value_N, lower=True)
    prior = ((log_K[0] - SCALE_PRIOR[0]) / SCALE_PRIOR[1]) ** 2
    prior += ((log_K[1] - NOISE_PRIOR[0]) / NOISE_PRIOR[1]) ** 2
    prior += float(np.sum(((log_K[2:] - LENGTH_PRIOR[0]) / LENGTH_PRIOR[1]) ** 2))
    return float(white_N @ white_N / 2 + np.sum(np.log(np.diag(factor))) + prior / 2)
