"""Runs that show on which side the open minima lie."""

import math

import numpy as np

from analysis.answers.candidates import CandidateRun, Nearest, after, runs_to
from analysis.answers.territory import SAME_SIZE_GAP, Territory, spacing
from analysis.fitting.fit import FamilyFit
from analysis.isoflop.isoflop import MIN_SIZES, Optimum
from analysis.tables.points import FloatArray


def bracketing(
    fit: FamilyFit, known: Territory, nearest: Nearest
) -> list[tuple[CandidateRun, str]]:
    """Runs that would bracket the open budgets, each with what is open, cheapest budget first."""
    if fit.isoflop is None:
        return []
    found = []
    law = fit.isoflop.params_law
    for level, optimum in enumerate(fit.isoflop.optima):
        if optimum.bracketed:
            continue
        mine = fit.points.budget_P == optimum.budget_flops
        seen = np.unique(np.log(fit.points.params_P[mine]))
        lowest = float(np.log(fit.points.params_P[mine][np.argmin(fit.points.loss_P[mine])]))
        expected = None if law is None else math.log(law(optimum.flops))
        flat_end = _flat_end(fit, optimum) if optimum.reason == "flat" else 0.0
        wanted, why = _wanted(optimum, seen, lowest, expected, flat_end)
        # Between the smallest rungs of a ladder lie gaps of half a spacing.
        margin = max(SAME_SIZE_GAP, 0.5 * spacing(seen))
        new = [
            params
            for size in wanted
            if abs(math.log(params := _trainable(known, size, nearest)) - size) <= margin
            and _is_new(params, seen, known, level)
        ]
        # Where no size lies further out, more seeds of the end and of the lowest size lower the
        # noise that the arm must exceed.
        again = [] if new or not flat_end else [math.exp(flat_end), math.exp(lowest)]
        for params in (*new, *again):
            if ways := runs_to(known, params, level):
                run = min(ways, key=lambda way: way.flops_added)
                known = after(known, run)
                found.append((run, f"not bracketed: {why}"))
    return found


def _is_new(params: float, seen: FloatArray, known: Territory, level: int) -> bool:
    """Whether no size near this one is observed, or planned, at a budget."""
    apart = np.abs(np.append(seen, known.sizes_at(level)) - math.log(params))
    return bool(apart.min() >= SAME_SIZE_GAP)


def _flat_end(fit: FamilyFit, optimum: Optimum) -> float:
    """Log size at the end of the arm that rises least above the lowest mean loss."""
    mine = fit.points.budget_P == optimum.budget_flops
    sizes, of_P = np.unique(np.log(fit.points.params_P[mine]), return_inverse=True)
    mean = np.bincount(of_P, fit.points.loss_P[mine]) / np.bincount(of_P)
    return float(sizes[0] if mean[0] < mean[-1] else sizes[-1])


def _trainable(known: Territory, log_size: float, nearest: Nearest) -> float:
    """The size nearest to one that is wanted: a trained one, where runs pass budgets."""
    trained = np.array([run.params for run in known.runs])
    apart = np.abs(np.log(trained) - log_size)
    if known.passes_budgets and apart.min() < SAME_SIZE_GAP:
        return float(trained[np.argmin(apart)])
    return nearest(log_size)


def _wanted(
    optimum: Optimum,
    seen: FloatArray,
    lowest: float,
    expected: float | None,
    flat_end: float,
) -> tuple[list[float], str]:
    """Log sizes that would close a budget, and what is open about it."""
    # `expected` is the log of the optimal size by the law of the other budgets.
    step = spacing(seen)
    if optimum.reason == "minimum_at_smallest":
        return _beyond(seen[0], -step, expected), "the minimum lies below its smallest size"
    if optimum.reason == "minimum_at_largest":
        return _beyond(seen[-1], step, expected), "the minimum lies above its largest size"
    if optimum.reason == "flat":
        outwards = step if flat_end > lowest else -step
        return [flat_end + outwards], "an arm does not rise above the noise"
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
