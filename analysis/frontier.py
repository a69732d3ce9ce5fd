"""The compute-optimal frontier L*(C) of one series as a curve that can be read in both directions.

Between the bracketed budgets it joins their optima by straight lines in log–log axes; beyond them
it continues with the exponent of the series' loss law. So inside the data no functional form is
assumed, and what lies outside is exactly what is flagged as extrapolated. A frontier cannot rise
with compute: a resample whose loss does is replaced by its running minimum.

Suffixes: R resamples, K budgets; row 0 of every array is the estimate itself, the others are draws.
"""

from dataclasses import dataclass

import numpy as np

from analysis.isoflop import IsoFlopFit
from analysis.points import FloatArray


@dataclass(frozen=True)
class Frontier:
    """R bootstrap frontiers and, in row 0, the estimate."""

    log_flops_K: FloatArray
    log_loss_RK: FloatArray
    """Non-increasing along K."""
    exponent_R: FloatArray
    """Of the loss law, which continues the frontier beyond the data."""
    offset_R: FloatArray
    """Of the loss law; zeros for a pure power law."""

    @property
    def loss_range(self) -> tuple[float, float]:
        """Lowest and highest compute-optimal loss observed."""
        return float(np.exp(self.log_loss_RK[0, -1])), float(np.exp(self.log_loss_RK[0, 0]))

    def log_loss(self, log_flops: float) -> FloatArray:
        """Log of the loss at a budget, shape (R,)."""
        x, y = self.log_flops_K, self.log_loss_RK
        right = int(np.clip(np.searchsorted(x, log_flops), 1, len(x) - 1))
        share = (log_flops - x[right - 1]) / (x[right] - x[right - 1])
        result: FloatArray = (1 - share) * y[:, right - 1] + share * y[:, right]
        if log_flops < x[0]:
            result = self._continued(0, log_flops)
        if log_flops > x[-1]:
            result = self._continued(-1, log_flops)
        return result

    def log_flops_reaching(self, log_loss_R: FloatArray) -> FloatArray:
        """Log of the least compute that reaches a loss, shape (R,); inf where none does."""
        x, y = self.log_flops_K, self.log_loss_RK
        rows = np.arange(len(y))
        n_above_R = np.sum(y > log_loss_R[:, None], axis=1)
        right_R = np.clip(n_above_R, 1, len(x) - 1)
        left_R = right_R - 1
        fall_R = y[rows, left_R] - y[rows, right_R]
        share_R = (y[rows, left_R] - log_loss_R) / np.where(fall_R > 0, fall_R, 1.0)
        inside_R = x[left_R] + share_R * (x[right_R] - x[left_R])
        outside_R = np.where(
            n_above_R == 0, self._reached_from(0, log_loss_R), self._reached_from(-1, log_loss_R)
        )
        is_inside_R = (n_above_R > 0) & (n_above_R < len(x))
        result: FloatArray = np.where(is_inside_R, inside_R, outside_R)
        return result

    def _continued(self, knot: int, log_flops: float) -> FloatArray:
        """Log of offset + (L_knot − offset) · (C / C_knot)^exponent, shape (R,)."""
        arm_R = np.exp(self.log_loss_RK[:, knot]) - self.offset_R
        growth_R = np.exp(self.exponent_R * (log_flops - self.log_flops_K[knot]))
        result: FloatArray = np.log(self.offset_R + np.maximum(arm_R, 0.0) * growth_R)
        return result

    def _reached_from(self, knot: int, log_loss_R: FloatArray) -> FloatArray:
        """The inverse, shape (R,): inf at or below the offset, or where the law does not fall."""
        arm_R = np.exp(self.log_loss_RK[:, knot]) - self.offset_R
        wanted_R = np.exp(log_loss_R) - self.offset_R
        reachable_R = (arm_R > 0) & (wanted_R > 0) & (self.exponent_R < 0)
        ratio_R = np.where(reachable_R, wanted_R, 1.0) / np.where(reachable_R, arm_R, 1.0)
        steps_R = np.log(ratio_R) / np.where(reachable_R, self.exponent_R, -1.0)
        return np.where(reachable_R, self.log_flops_K[knot] + steps_R, np.inf)


def frontier(fit: IsoFlopFit | None) -> Frontier | None:
    """The frontier of a series, or None where fewer than two budgets are bracketed."""
    if fit is None or fit.loss_law is None:
        return None
    estimate_K = np.log([optimum.loss for optimum in fit.bracketed if optimum.loss is not None])
    log_loss_RK = np.vstack([estimate_K[None], fit.log_loss_RK])
    return Frontier(
        log_flops_K=np.log([optimum.flops for optimum in fit.bracketed]),
        log_loss_RK=np.minimum.accumulate(log_loss_RK, axis=1),
        exponent_R=np.concatenate([[fit.loss_law.exponent], fit.loss_law.exponent_R]),
        offset_R=np.concatenate([[fit.loss_law.offset or 0.0], fit.loss_law.offset_R]),
    )
