"""How the noise of a series divides between runs and the points observed along each.

The points of one run share its luck with initial weights and data order: the relative noise of a
loss is an effect of its run plus one of its own, so that a second point of a run tells less than a
second run.

Suffixes: P points, c coefficients, G runs.
"""

from dataclasses import dataclass

import numpy as np

from analysis.tables.points import FloatArray, IntArray

ASSUMED_RUN_SHARE = 0.5
"""Of the variance, where the data do not tell: between none, where a run's points would be as good
as runs, and all, where they would tell nothing new."""
MIN_SHARED_RUNS = 6
"""Runs with several points below which their share is assumed: three coefficients along sizes, and
three degrees of freedom."""
MAX_RUN_SHARE = 0.95
"""No estimate says that a second point of a run adds nothing."""


@dataclass(frozen=True)
class RunNoise:
    """Relative standard deviations of a loss."""

    run: float
    """Shared by all points of a run."""
    point: float
    is_assumed: bool
    """Whether the share of the runs is `ASSUMED_RUN_SHARE` for want of data."""

    @property
    def total(self) -> float:
        """Of a single point."""
        return float(np.hypot(self.run, self.point))

    @classmethod
    def of_total(cls, total: float, run_share: float, *, is_assumed: bool) -> "RunNoise":
        """From the deviation of a point and the runs' share of its variance."""
        run, point = total * np.sqrt(run_share), total * np.sqrt(1.0 - run_share)
        return cls(float(run), float(point), is_assumed)


def run_noise(
    residual_P: FloatArray, slope_Pc: FloatArray, run_P: IntArray, sigma: float
) -> RunNoise:
    """From the relative residuals of least squares with these slopes; `sigma` is the deviation of a
    point where no run has enough of them.
    """
    _, index_P, count_G = np.unique(run_P, return_inverse=True, return_counts=True)
    if int(np.sum(count_G > 1)) < MIN_SHARED_RUNS:
        return RunNoise.of_total(sigma, ASSUMED_RUN_SHARE, is_assumed=True)
    # What the fit leaves of noise with covariance point²·I + run²·ZZᵀ is M times it, so that the
    # expected sums of squares, of points and of runs, are linear in the two variances.
    left, size_c, _ = np.linalg.svd(slope_Pc, full_matrices=False)
    basis_Pc = left[:, size_c > 1e-10 * size_c[0]]
    onehot_PG = np.eye(len(count_G))[index_P]
    absorbed_cG = basis_Pc.T @ onehot_PG
    left_GG = np.diag(count_G.astype(np.float64)) - absorbed_cG.T @ absorbed_cG
    expected_22 = np.array(
        [
            [len(residual_P) - basis_Pc.shape[1], np.trace(left_GG)],
            [np.trace(left_GG), float(np.sum(left_GG**2))],
        ]
    )
    squares_2 = np.array([residual_P @ residual_P, np.sum((onehot_PG.T @ residual_P) ** 2)])
    point, run = np.linalg.lstsq(expected_22, squares_2, rcond=None)[0]
    total = max(point, 0.0) + max(run, 0.0)
    if total <= 0.0:
        return RunNoise.of_total(sigma, ASSUMED_RUN_SHARE, is_assumed=True)
    share = float(np.clip(run / total, 0.0, MAX_RUN_SHARE))
    return RunNoise.of_total(float(np.sqrt(total)), share, is_assumed=False)
