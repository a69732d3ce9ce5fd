"""Laws of the best learning rate and batch size, as `sweeper tune` measures and plans use them.

Around the best point the log of the loss is taken for one quadratic, whatever the size and the
tokens; the best point moves with both as a power law. N are trunk parameters, D training tokens,
eta the base learning rate, B the tokens per step.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class SizeTokensLaw:
    """exp(log_coefficient) · N^params_exponent · D^tokens_exponent."""

    log_coefficient: float
    params_exponent: float
    tokens_exponent: float

    def log(self, params: float, tokens: float) -> float:
        """Log of the law's value for a size and training tokens."""
        moved = self.params_exponent * math.log(params) + self.tokens_exponent * math.log(tokens)
        return self.log_coefficient + moved


@dataclass(frozen=True)
class Curvature:
    """Second derivatives of the log loss in the log rate and the log batch, at the best of both."""

    rate: float
    batch: float
    cross: float

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.rate * self.batch > self.cross**2):
            raise ValueError(f"expected a quadratic with one minimum, got {self}")

    def excess(self, log_rate_ratio: float, log_batch_ratio: float) -> float:
        """Relative excess loss at a rate and a batch given as log ratios to the best ones."""
        x, y = log_rate_ratio, log_batch_ratio
        return 0.5 * (self.rate * x**2 + 2.0 * self.cross * x * y + self.batch * y**2)


@dataclass(frozen=True)
class LawKey:
    """What a law was measured for: it says nothing about anything else."""

    family: str
    family_options: tuple[tuple[str, Any], ...]
    """Sorted (name, value) pairs, defaults included."""
    backbone: str
    optimizer: str
    schedule: str
    betas: tuple[float, float]
    weight_decay: float
    ema_decay: float

    def differences(self, other: "LawKey") -> tuple[str, ...]:
        """Names of the parts in which two keys differ."""
        names = [each.name for each in fields(self)]
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))


@dataclass(frozen=True)
class TunedLaw:
    """The best learning rate and batch of one series, and what missing them costs."""

    key: LawKey
    learning_rate: SizeTokensLaw
    """At the best batch."""
    batch_tokens: SizeTokensLaw
    curvature: Curvature
    params_range: tuple[float, float]
    """Sizes that it was measured at, ends included."""
    tokens_range: tuple[float, float]
    """Training tokens that it was measured at, ends included."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % intervals of its numbers, by dotted name: `learning_rate.tokens_exponent`."""

    def best_rate(self, params: float, tokens: float, batch_tokens: float) -> float:
        """The best learning rate at a batch that need not be the best one."""
        log_batch_ratio = math.log(batch_tokens) - self.batch_tokens.log(params, tokens)
        # Where the quadratic's slope in the log rate is zero.
        log_shift = -self.curvature.cross / self.curvature.rate * log_batch_ratio
        return math.exp(self.learning_rate.log(params, tokens) + log_shift)

    def best_batch(self, params: float, tokens: float) -> float:
        """The best tokens per step."""
        return math.exp(self.batch_tokens.log(params, tokens))

    def excess(self, params: float, tokens: float, rate: float, batch_tokens: float) -> float:
        """Relative excess loss of a rate and a batch over the best ones, for a size and tokens."""
        return self.curvature.excess(
            math.log(rate) - self.learning_rate.log(params, tokens),
            math.log(batch_tokens) - self.batch_tokens.log(params, tokens),
        )

    def extrapolation(self, params: float, tokens: float) -> float:
        """Largest factor by which a size or tokens lie outside the measured ranges; 1 inside."""
        pairs = ((params, self.params_range), (tokens, self.tokens_range))
        return max(max(low / value, value / high, 1.0) for value, (low, high) in pairs)
