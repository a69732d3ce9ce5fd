"""Runs that could be trained next, and which of them would bracket a budget that is open."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.fitting.fit import FamilyFit
from analysis.isoflop.isoflop import MIN_SIZES, Optimum
from analysis.stats.cost import CostPerToken
from analysis.tables.points import FloatArray
from sweeper.trials.ladder import ladder, trunk_params

SAME_SIZE_GAP = 0.08
"""Log distance within which a size counts as observed at a budget; some rungs are closer."""

Nearest = Callable[[float], float]
"""Gives the size that can be trained nearest to a log size."""


@dataclass(frozen=True)
class CandidateRun:
    """One run that could be added."""

    family: str
    params: float
    tokens: float
    flops: float
    budget_flops: float | None
    """Nominal budget it belongs to; None where the source has none."""


@dataclass(frozen=True)
class Proposal:
    """One run to add."""

    run: CandidateRun
    purpose: Literal["bracket", "precision"]
    why: str
    width: float | None
    """Of the interval, with this run and those ranked above it, over its present width."""


def nearest_rung(log_params: float) -> float:
    """Trunk parameters of the rung nearest to a log size."""
    sizes = np.array([trunk_params(rung) for rung in ladder()], dtype=np.float64)
    return float(sizes[np.argmin(np.abs(np.log(sizes) - log_params))])


def three_digits(log_params: float) -> float:
    """Any size, where params are not those of the trunk."""
    return float(f"{math.exp(log_params):.3g}")


def candidates(fit: FamilyFit, nearest: Nearest) -> list[CandidateRun]:
    """Every run within one spacing of the sizes of its budget that was not observed."""
    # Tokens per parameter stay within what the series has seen, give or take a spacing (of sizes,
    # squared): the curves were not tested beyond, and a run of a few steps is no run.
    points = fit.points
    ratio_P = points.tokens_P / points.params_P
    low, high = ratio_P.min() / 4.0, ratio_P.max() * 4.0
    budgets = [(o.budget_flops, o.flops) for o in fit.isoflop.optima] if fit.isoflop else []
    if not budgets:
        levels = np.geomspace(points.flops_P.min(), points.flops_P.max(), 5)
        budgets = [(math.nan, float(flops)) for flops in levels]
    runs = []
    for nominal, flops in budgets:
        mine = points.budget_P == nominal
        seen = np.log(np.unique(points.params_P[mine] if mine.any() else points.params_P))
        step = _spacing(seen)
        # Two candidates for each spacing of the source's sizes.
        n = 2 * (round(float(np.ptp(seen)) / step) + 2) + 1
        wanted = np.linspace(seen[0] - step, seen[-1] + step, n)
        observed = seen if mine.any() else seen[:0]
        runs += _trainable(fit, (nominal, flops), wanted, observed, nearest)
    return [run for run in runs if low <= run.tokens / run.params <= high]


def bracketing(fit: FamilyFit, nearest: Nearest) -> list[Proposal]:
    """Runs that show on which side the open minima lie, cheapest budget first."""
    if fit.isoflop is None:
        return []
    found, law = [], fit.isoflop.params_law
    open_budgets = [optimum for optimum in fit.isoflop.optima if not optimum.bracketed]
    for optimum in sorted(open_budgets, key=lambda o: o.budget_flops):
        mine = fit.points.budget_P == optimum.budget_flops
        seen = np.unique(np.log(fit.points.params_P[mine]))
        lowest = float(np.log(fit.points.params_P[mine][np.argmin(fit.points.loss_P[mine])]))
        expected = None if law is None else math.log(law(optimum.flops))
        wanted, why = _wanted(optimum, seen, lowest, expected)
        budget = (optimum.budget_flops, optimum.flops)
        found += [
            Proposal(run, "bracket", f"not bracketed: {why}", None)
            for run in _trainable(fit, budget, wanted, seen, nearest)
        ]
    return found


def _wanted(
    optimum: Optimum, seen: FloatArray, lowest: float, expected: float | None
) -> tuple[list[float], str]:
    """Log sizes that would close a budget, and what is open about it."""
    # `expected` is the log of the optimal size by the law of the other budgets.
    step = _spacing(seen)
    if optimum.reason == "minimum_at_smallest":
        return _beyond(seen[0], -step, expected), "the minimum lies below its smallest size"
    if optimum.reason == "minimum_at_largest":
        return _beyond(seen[-1], step, expected), "the minimum lies above its largest size"
    if optimum.reason == "flat":
        return [seen[0] - step, seen[-1] + step], "an arm does not rise above the noise"
    if optimum.reason == "no_minimum":
        return [lowest - 0.5 * step, lowest + 0.5 * step], "the curve has no minimum"
    centre = lowest if expected is None else expected
    wanted = [centre + step * offset for offset in (0, -1, 1, -2, 2)]
    new = [size for size in wanted if np.abs(seen - size).min() > 0.5 * step]
    return new[: max(1, MIN_SIZES + 1 - len(seen))], "it has too few sizes"


def _beyond(end: float, step: float, expected: float | None) -> list[float]:
    """Sizes beyond an end, until one spacing past the minimum that the law expects there."""
    n = 2  # one to find the minimum, one to see the loss rise again
    if expected is not None:
        n = min(max(n, math.ceil((expected - end) / step) + 1), 5)
    return [end + step * (i + 1) for i in range(n)]


def _spacing(log_sizes: FloatArray) -> float:
    """Usual log ratio between neighbouring sizes."""
    low, high = np.log((1.25, 3.0))
    gaps = np.diff(np.sort(log_sizes))
    gaps = gaps[gaps > SAME_SIZE_GAP]
    return float(np.clip(np.median(gaps) if len(gaps) else high, low, high))


def _trainable(
    fit: FamilyFit,
    budget: tuple[float, float],
    wanted: Iterable[float],
    observed: FloatArray,
    nearest: Nearest,
) -> list[CandidateRun]:
    """The trainable sizes nearest to those wanted, each once, without the observed ones."""
    nominal, flops = budget
    cost = CostPerToken.of(fit.points)
    runs: dict[float, CandidateRun] = {}
    for size in wanted:
        params = nearest(size)
        known = np.append(observed, np.log(list(runs)))
        if abs(math.log(params) - size) > SAME_SIZE_GAP or (
            len(known) and np.abs(known - math.log(params)).min() < SAME_SIZE_GAP
        ):
            continue
        tokens = float(np.exp(cost.log_tokens(np.log(params), math.log(flops))))
        named = None if math.isnan(nominal) else nominal
        runs[params] = CandidateRun(fit.family, params, tokens, flops, named)
    return list(runs.values())
