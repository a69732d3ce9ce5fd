"""Weights of points whose standard errors explain only part of their scatter."""

import numpy as np

from analysis.tables.points import FloatArray


def inverse_variance_weights(
    residual_P: FloatArray, stderr_P: FloatArray, dof: int
) -> FloatArray | None:
    """1 / (stderr² + tau²) with mean 1, or None where the standard errors cannot tell points apart.

    tau² is the moment estimate (Paule and Mandel 1982): Σ residual² / (stderr² + tau²) = dof, found
    by bisection since the sum falls monotonically. Both inputs are relative to the loss. Standard
    errors that are all alike carry no information about weights: what all points share moves no
    minimum.
    """
    if not stderr_P.any() or np.ptp(stderr_P) <= 1e-9 * stderr_P.max():
        return None
    low, high = 0.0, float(np.sum(residual_P**2) / dof) + np.finfo(float).tiny
    for _ in range(60):
        middle = 0.5 * (low + high)
        too_small = np.sum(residual_P**2 / (stderr_P**2 + middle)) > dof
        low, high = (middle, high) if too_small else (low, middle)
    weight_P = 1.0 / (stderr_P**2 + high)
    result: FloatArray = weight_P / weight_P.mean()
    return result
