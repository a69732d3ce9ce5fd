"""The compute-optimal frontier L*(C) of one series as a curve that can be read in both directions.

Between the bracketed budgets a monotone cubic in log–log axes joins their optima, less a level that
straightens them; beyond them the curve continues as the series' loss law does. So inside the data
no functional form is assumed.

Suffixes: R resamples, K budgets; row 0 of every array is the estimate itself, the others are draws.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.isoflop.isoflop import IsoFlopFit
from analysis.stats.power_law import TINY, PowerLaw, nested_law
from analysis.tables.points import BoolArray, FloatArray, IntArray

ROUNDING = 1e-14
"""Of a share, the step below which nothing is gained."""
MIN_POINTS_FOR_LEVEL = 4
"""An offset, an arm, an exponent, and one point that could contradict them."""


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
    level: float = 0.0
    """Subtracted from losses before their logs are joined, below all of them."""

    @property
    def loss_range(self) -> tuple[float, float]:
        """Lowest and highest compute-optimal loss observed."""
        return float(np.exp(self.log_loss_RK[0, -1])), float(np.exp(self.log_loss_RK[0, 0]))

    def log_loss(self, log_flops: float) -> FloatArray:
        """Log of the loss at a budget, shape (R,)."""
        x = self.log_flops_K
        if log_flops < x[0]:
            return self._continued(0, log_flops)
        if log_flops > x[-1]:
            return self._continued(-1, log_flops)
        left = int(np.clip(np.searchsorted(x, log_flops) - 1, 0, len(x) - 2))
        share = (log_flops - x[left]) / (x[left + 1] - x[left])
        n_rows = len(self.log_loss_RK)
        arm_R = np.exp(self._between(np.full(n_rows, left), np.full(n_rows, share)))
        result: FloatArray = np.log(self.level + arm_R)
        return result

    def log_flops_reaching(self, log_loss_R: FloatArray) -> FloatArray:
        """Log of the least compute that reaches a loss, shape (R,); inf where none does."""
        x, y = self.log_flops_K, self.log_loss_RK
        n_above_R = np.sum(y > log_loss_R[:, None], axis=1)
        left_R = np.clip(n_above_R - 1, 0, len(x) - 2)
        wanted_R = np.log(np.maximum(np.exp(log_loss_R) - self.level, TINY))
        is_inside_R = (n_above_R > 0) & (n_above_R < len(x))
        share_R = np.zeros(len(y))
        share_R[is_inside_R] = self._share_reaching(is_inside_R, left_R, wanted_R)
        inside_R = x[left_R] + share_R * (x[left_R + 1] - x[left_R])
        outside_R = np.where(
            n_above_R == 0, self._reached_from(0, log_loss_R), self._reached_from(-1, log_loss_R)
        )
        return np.where(is_inside_R, inside_R, outside_R)

    @cached_property
    def _log_arm_RK(self) -> FloatArray:
        """Log of what the losses exceed the level by."""
        result: FloatArray = np.log(np.exp(self.log_loss_RK) - self.level)
        return result

    @cached_property
    def _slope_RK(self) -> FloatArray:
        """Slopes of the log arm at the knots, of monotone cubics (Fritsch and Butland 1984)."""
        # Straight lines would cut the frontier's bend: an error of 3 % in compute where budgets are
        # a factor 5 apart.
        width_K = np.diff(self.log_flops_K)
        chord_RK = np.diff(self._log_arm_RK, axis=1) / width_K
        slope_RK = np.empty_like(chord_RK, shape=self.log_loss_RK.shape)
        slope_RK[:, 0], slope_RK[:, -1] = chord_RK[:, 0], chord_RK[:, -1]
        if len(width_K) == 1:
            return slope_RK
        left, right = chord_RK[:, :-1], chord_RK[:, 1:]
        weight_left = (width_K[:-1] + 2 * width_K[1:]) / (3 * (width_K[:-1] + width_K[1:]))
        blend = weight_left * right + (1 - weight_left) * left
        falls = (left < 0) & (right < 0)
        slope_RK[:, 1:-1] = np.where(falls, left * right / np.where(falls, blend, 1.0), 0.0)
        # Where the bend continues, an end is as much steeper than its chord as its neighbour is
        # flatter; never beyond three chords, where monotony would end. (SciPy's Pchip takes a
        # three-point difference there.)
        for end, neighbour in ((0, 1), (-1, -2)):
            outer = 1.5 * chord_RK[:, end] - 0.5 * slope_RK[:, neighbour]
            slope_RK[:, end] = np.clip(outer, 3 * chord_RK[:, end], 0.0)
        return slope_RK

    def _share_reaching(
        self, chosen_R: BoolArray, left_R: IntArray, wanted_R: FloatArray
    ) -> FloatArray:
        """Of the chosen rows, how far along a falling segment the log arm is as wanted."""
        rows = np.flatnonzero(chosen_R)
        left_R, wanted_R = left_R[rows], wanted_R[rows]
        start_R, end_R = self._log_arm_RK[rows, left_R], self._log_arm_RK[rows, left_R + 1]
        width_R = self.log_flops_K[left_R + 1] - self.log_flops_K[left_R]
        first_R = self._slope_RK[rows, left_R] * width_R
        last_R = self._slope_RK[rows, left_R + 1] * width_R
        # Hermite's cubic: start + first·t + b·t² + a·t³.
        a_R = 2 * (start_R - end_R) + first_R + last_R
        b_R = 3 * (end_R - start_R) - 2 * first_R - last_R
        low_R, high_R = np.zeros(len(left_R)), np.ones(len(left_R))
        t_R = np.full(len(left_R), 0.5)
        for _ in range(60):  # of Newton, or a halving where it would leave what is known
            above_R = start_R + t_R * (first_R + t_R * (b_R + t_R * a_R)) - wanted_R
            low_R = np.where(above_R > 0, t_R, low_R)
            high_R = np.where(above_R > 0, high_R, t_R)
            slope_R = first_R + t_R * (2 * b_R + 3 * t_R * a_R)
            after_R = t_R - above_R / np.where(slope_R < 0, slope_R, -TINY)
            # A step that only rounds is the end, also where it ends on what is known.
            is_good_R = (after_R > low_R) & (after_R < high_R)
            is_good_R |= np.abs(after_R - t_R) < ROUNDING
            after_R = np.where(is_good_R, after_R, 0.5 * (low_R + high_R))
            moved = float(np.max(np.abs(after_R - t_R), initial=0.0))
            t_R = after_R
            if moved < ROUNDING:
                break
        return t_R

    def _between(self, left_R: IntArray, share_R: FloatArray) -> FloatArray:
        """Log arm at a share of the way from one knot to the next, by Hermite's cubic, (R,)."""
        rows = np.arange(len(left_R))
        start_R, end_R = self._log_arm_RK[rows, left_R], self._log_arm_RK[rows, left_R + 1]
        width_R = self.log_flops_K[left_R + 1] - self.log_flops_K[left_R]
        rise_start_R = self._slope_RK[rows, left_R] * width_R
        rise_end_R = self._slope_RK[rows, left_R + 1] * width_R
        t, s = share_R, 1.0 - share_R
        result: FloatArray = (
            s**2 * (1 + 2 * t) * start_R
            + t**2 * (1 + 2 * s) * end_R
            + s**2 * t * rise_start_R
            - t**2 * s * rise_end_R
        )
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
    loss_K = fit.values("loss")
    log_loss_RK = np.vstack([np.log(loss_K), fit.log_loss_RK])
    return Frontier(
        log_flops_K=np.log(fit.values("flops")),
        # A frontier cannot rise with compute.
        log_loss_RK=np.minimum.accumulate(log_loss_RK, axis=1),
        exponent_R=np.concatenate([[fit.loss_law.exponent], fit.loss_law.exponent_R]),
        offset_R=np.concatenate([[fit.loss_law.offset or 0.0], fit.loss_law.offset_R]),
        level=_level(fit.loss_law, fit.values("flops"), loss_K, float(log_loss_RK.min())),
    )


def _level(law: PowerLaw, flops_K: FloatArray, loss_K: FloatArray, log_lowest: float) -> float:
    """The offset of the law that the optima follow best, at most 9/10 of the lowest loss."""
    # Less it a frontier is nearly straight, and cubics through few knots follow it: budgets a
    # factor 6 apart were joined 0.2 % of compute off, more than the interval where noise is 1e-4.
    if len(flops_K) < MIN_POINTS_FOR_LEVEL:
        return 0.0
    bent = nested_law(law, flops_K, loss_K, loss_K[None])
    return min(bent.offset or 0.0, 0.9 * float(np.exp(log_lowest)))
