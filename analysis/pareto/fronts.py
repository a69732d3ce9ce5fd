"""Pareto fronts of quality against speed, interpolated between their points.

Between neighbours of a front, quality is linear in the logarithm of the speed: the published study
reads speeds at round qualities off its fronts in the same way (arXiv 2602.15014, figure 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.pareto.matched import Point
from analysis.tables.points import FloatArray, IntArray


@dataclass(frozen=True)
class Front:
    """Points of which none is both faster and better than another, by rising speed."""

    log_speed_F: FloatArray
    quality_F: FloatArray
    """Lower is better, so it rises along the front."""

    @classmethod
    def of(cls, log_speed: FloatArray, quality: FloatArray) -> "Front":
        """The front of some points."""
        chosen = on_front(log_speed, quality)
        order = chosen[np.argsort(log_speed[chosen])]
        return cls(log_speed[order], quality[order])

    def quality_at(self, log_speed: FloatArray) -> FloatArray:
        """Best quality at least so fast; infinite beyond the fastest point."""
        # Whoever is faster than asked may wait.
        found = np.interp(log_speed, self.log_speed_F, self.quality_F)
        return np.where(log_speed <= self.log_speed_F[-1], found, np.inf)

    def log_speed_at(self, quality: FloatArray) -> FloatArray:
        """Greatest speed at which quality is no worse; minus infinity where it never is."""
        found = np.interp(quality, self.quality_F, self.log_speed_F)
        return np.where(quality >= self.quality_F[0], found, -np.inf)


def on_front(log_speed: FloatArray, quality: FloatArray) -> IntArray:
    """Indices of the points that no other beats in speed and quality, fastest first."""
    order = np.lexsort((quality, -log_speed))
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(quality[order])[:-1]])
    return order[quality[order] < best_before].astype(np.int64)


def fronts_by_draw(points: Sequence[Point]) -> list[Front]:
    """The front of one series in every draw, that of the values themselves first."""
    speed_RP = np.stack([point.log_speed_R for point in points], axis=1)
    quality_RP = np.stack([point.quality_R for point in points], axis=1)
    return [Front.of(*row) for row in zip(speed_RP, quality_RP, strict=True)]
