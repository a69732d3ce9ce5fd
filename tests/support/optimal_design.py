"""Which runs tell most of what is to be predicted: V-optimal sequential design (arXiv 2604.22753).

Given slopes d log L / d theta of the runs that could be trained and of the places to predict, and
what is known of theta (a prior, or earlier runs), runs are taken one after another by how much they
lower the mean predicted variance, over a power of their cost. Where theta is uncertain, its draws
stand side by side: a design that is good on average over them.

Suffixes: S draws of theta, N runs, M points of a run, T places to predict, c coefficients.
"""

import numpy as np

from analysis.answers.run_noise import RunNoise
from analysis.tables.points import BoolArray, FloatArray

COST_EXPONENT = 0.3
"""That of arXiv 2604.22753: with 1, whole budgets go to the smallest runs, which tell little of
large ones where the form is not quite right."""


def whitened(slope_Mc: FloatArray, noise: RunNoise) -> FloatArray:
    """Slopes of the points of one run in units of their noise, which they share in part."""
    n_points = len(slope_Mc)
    # The inverse root of point² · I + run² · 11ᵀ: along 1 the variance is point² + M · run².
    mean_1c = slope_Mc.mean(axis=0, keepdims=True)
    together = np.sqrt(noise.point**2 + n_points * noise.run**2)
    apart_Mc = (slope_Mc - mean_1c) / noise.point if n_points > 1 else np.zeros_like(slope_Mc)
    result: FloatArray = mean_1c / together + apart_Mc
    return result


def falls(information_Scc: FloatArray, run_SNMc: FloatArray, target_STc: FloatArray) -> FloatArray:
    """By how much each run would lower the mean variance of the log losses at the targets, (N,).

    Slopes of the runs are whitened; a run of fewer points than M has rows of zeros.
    """
    covariance_Scc = np.linalg.inv(information_Scc)
    spread_SNMc = run_SNMc @ covariance_Scc[:, None]
    # tr[(T V Xᵀ)(I + X V Xᵀ)⁻¹(X V Tᵀ)] for the rows X of each run.
    own_SNMM = spread_SNMc @ np.swapaxes(run_SNMc, 2, 3) + np.eye(run_SNMc.shape[2])
    cross_SNMT = spread_SNMc @ np.swapaxes(target_STc, 1, 2)[:, None]
    fall_SN = np.sum(cross_SNMT * np.linalg.solve(own_SNMM, cross_SNMT), axis=(2, 3))
    mean_N: FloatArray = fall_SN.mean(axis=0) / target_STc.shape[1]
    return mean_N


def best_run(
    fall_N: FloatArray,
    cost_N: FloatArray,
    is_open_N: BoolArray,
    cost_exponent: float = COST_EXPONENT,
) -> int | None:
    """Number of the open run with the largest fall over a power of its cost; None without any."""
    if not is_open_N.any():
        return None
    return int(np.argmax(np.where(is_open_N, fall_N / cost_N**cost_exponent, -np.inf)))


def v_optimal(
    information_Scc: FloatArray,
    run_SNMc: FloatArray,
    target_STc: FloatArray,
    cost_N: FloatArray,
    spend: float,
    cost_exponent: float = COST_EXPONENT,
) -> tuple[int, ...]:
    """Numbers of the runs to train for `spend` in the unit of their cost, each at most once, in the
    order in which they were taken; losses are not needed.
    """
    chosen: list[int] = []
    is_free_N = np.ones(len(cost_N), dtype=bool)
    while True:
        is_open_N = is_free_N & (cost_N <= (spend - cost_N[chosen].sum()) * (1 + 1e-9))
        fall_N = falls(information_Scc, run_SNMc, target_STc)
        number = best_run(fall_N, cost_N, is_open_N, cost_exponent)
        if number is None:
            return tuple(chosen)
        chosen.append(number)
        is_free_N[number] = False
        rows_SMc = run_SNMc[:, number]
        information_Scc = information_Scc + np.swapaxes(rows_SMc, 1, 2) @ rows_SMc
