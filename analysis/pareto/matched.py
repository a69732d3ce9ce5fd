"""Quality and speed at one entropy, interpolated between temperatures.

A lower temperature makes any sampler's text more probable and less varied, so single settings rank
samplers in any order one likes (arXiv 2604.02718). Settings are compared where their samples have
the same entropy.

Suffixes: R resamples after the measured values themselves, which are row 0; T temperatures.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.pareto.metrics import Estimate
from analysis.pareto.samples import EntropyOf, Setting, groups_over_temperature
from analysis.tables.points import FloatArray


@dataclass(frozen=True)
class CommonEntropy:
    """Where samplers are compared."""

    of: EntropyOf
    nats: float


@dataclass(frozen=True)
class Point:
    """One sampler of one model at so many steps, brought to the common entropy."""

    series: str
    model: str
    sampler: str
    n_steps: int
    temperatures: tuple[float, float]
    """Between which it was interpolated; equal where a measured setting has that entropy."""
    speed: float
    quality: float
    log_speed_R: FloatArray = field(repr=False)
    """Logarithms of it."""
    quality_R: FloatArray = field(repr=False)


@dataclass(frozen=True)
class NotCompared:
    """A sampler whose samples nowhere have the common entropy."""

    series: str
    sampler: str
    n_steps: int
    entropies: tuple[float, float]
    """Lowest and highest over the temperatures measured."""


def common_entropy(settings: Iterable[Setting], of: EntropyOf) -> CommonEntropy:
    """The entropy that most samplers reach; of a range of such entropies its middle."""
    spans = [_span(group, of) for group in groups_over_temperature([*settings])]
    ends = sorted({end for span in spans for end in span})
    middles = [(low + high) / 2 for low, high in itertools.pairwise(ends)] or ends
    reached = [sum(low <= middle <= high for low, high in spans) for middle in middles]
    best = [middle for middle, n in zip(middles, reached, strict=True) if n == max(reached)]
    return CommonEntropy(of, best[len(best) // 2])


def matched(
    settings: Sequence[Setting], metric: str, at: CommonEntropy, n_resamples: int, seed: int
) -> tuple[list[Point], list[NotCompared]]:
    """Every sampler at one entropy, with draws of what a repetition would have measured.

    Draws are normal with the standard errors that are stored; each setting has its own.
    """
    points, others = [], []
    usable = [each for each in settings if metric in each.qualities]
    for number, group in enumerate(groups_over_temperature(usable)):
        first, (low, high) = group[0], _span(group, at.of)
        if not low <= at.nats <= high:
            others.append(NotCompared(first.series, first.sampler, first.n_steps, (low, high)))
            continue
        rng = np.random.default_rng([seed, number])
        group = sorted(group, key=lambda each: each.entropies[at.of])
        entropy_T = np.array([each.entropies[at.of] for each in group])
        quality_RT = _draws([each.qualities[metric] for each in group], n_resamples, rng)
        speeds = [each.speed for each in group if each.speed is not None]
        speed_RT = _draws(speeds, n_resamples, rng)
        # A draw far below its value is no speed: its logarithm needs it positive.
        log_speed_RT = np.log(np.maximum(speed_RT, 0.01 * speed_RT[0]))
        quality_R = _interpolated(entropy_T, quality_RT, at.nats)
        log_speed_R = _interpolated(entropy_T, log_speed_RT, at.nats)
        points.append(
            Point(
                first.series,
                first.model,
                first.sampler,
                first.n_steps,
                _neighbours(group, at),
                float(np.exp(log_speed_R[0])),
                float(quality_R[0]),
                log_speed_R,
                quality_R,
            )
        )
    return points, others


def _span(group: Sequence[Setting], of: EntropyOf) -> tuple[float, float]:
    found = [each.entropies[of] for each in group]
    return min(found), max(found)


def _neighbours(group: Sequence[Setting], at: CommonEntropy) -> tuple[float, float]:
    """Temperatures of the settings just below and just above the common entropy."""
    below = [each for each in group if each.entropies[at.of] <= at.nats]
    above = [each for each in group if each.entropies[at.of] >= at.nats]
    return below[-1].temperature, above[0].temperature


def _draws(estimates: Sequence[Estimate], n: int, rng: np.random.Generator) -> FloatArray:
    """The values themselves, then n normal draws: (R, T)."""
    value_T = np.array([each.value for each in estimates])
    stderr_T = np.array([each.stderr for each in estimates])
    noise_RT = rng.standard_normal((n, len(value_T)))
    return np.vstack([value_T, value_T + stderr_T * noise_RT])


def _interpolated(x_T: FloatArray, y_RT: FloatArray, at: float) -> FloatArray:
    """y at `at` in every row, linear between ascending x, (R,)."""
    return np.array([np.interp(at, x_T, y_T) for y_T in y_RT])
