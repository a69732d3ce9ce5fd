"""What a token costs at every size: training FLOPs per token as a smooth function of params.

Budgets, sizes and tokens hang together through it: D = C / M(N). M is read off the data, so it is
6·N only where the source counts 6·N.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from analysis.tables.points import FloatArray, Points


def cost_polynomial(points: Points) -> np.poly1d:
    """Log of FLOPs per token as a polynomial in log params."""
    log_params_P = np.log(points.params_P)
    # Small models bend where attention and head weigh.
    degree = min(3, len(np.unique(log_params_P)) - 1)
    per_token_P = np.log(points.flops_P) - np.log(points.tokens_P)
    origin = log_params_P.mean()
    centred = np.poly1d(np.polyfit(log_params_P - origin, per_token_P, degree))
    return np.poly1d(centred(np.poly1d([1.0, -origin])))


@dataclass(frozen=True)
class CostPerToken:
    """The polynomial within the sizes of a source, and straight lines in log–log beyond them."""

    polynomial: np.poly1d = field(repr=False)
    low: float
    high: float
    """Ends of the observed log params."""

    @classmethod
    def of(cls, points: Points) -> "CostPerToken":
        """Read off the observations of a series."""
        log_params_P = np.log(points.params_P)
        return cls(cost_polynomial(points), float(log_params_P.min()), float(log_params_P.max()))

    def slope(self, log_params: FloatArray) -> FloatArray:
        """d log M / d log N."""
        inside = np.clip(log_params, self.low, self.high)
        # Honest counts lie well inside this range.
        result: FloatArray = np.clip(self._derivative(inside), 0.05, 1.3)
        return result

    @cached_property
    def _derivative(self) -> np.poly1d:
        return self.polynomial.deriv()

    def log_tokens(self, log_params: FloatArray, log_flops: FloatArray | float) -> FloatArray:
        """Log of the tokens that a model trains on at a budget."""
        inside = np.clip(log_params, self.low, self.high)
        log_cost = self.polynomial(inside) + self.slope(inside) * (log_params - inside)
        return log_flops - log_cost
