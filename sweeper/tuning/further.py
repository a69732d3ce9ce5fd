"""Tuning runs that follow from the results of the first: some to bracket the best, some to check.

Points are compared in units of the hexagon's radius, in log rate and log batch.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.planning import recipe
from sweeper.planning.runs import MIN_STEPS, Setting
from sweeper.planning.series import ResolvedSeries
from sweeper.trials.ladder import trunk_params
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.tuned_laws import TunedLaw
from sweeper.tuning.hexagon import OFFSETS, Point, TuningSize, centre, entry, hexagon, point_at

MAX_FURTHER = 4  # runs of a size and series that may follow the first seven
MAX_SHIFT = 2.0  # radii that a second hexagon may lie off the first
LEAST_DISTANCE = 0.5  # radii of a further run from every other
MAX_RATE = 1e3  # as in sweep files
CHECKED = (0.5, 1.0, 2.0)  # rates, in units of the best one
SAME_CELL = 0.02  # relative; whole steps move the tokens of a cell by up to a hundredth


@dataclass(frozen=True)
class Cell:
    """A size and tokens at which the runs of a series were compared."""

    params: float
    tokens: float
    is_bracketed: bool
    """Whether the best point lies among those tried."""


@dataclass(frozen=True)
class FittedLaw:
    """What was fitted to the runs of a series."""

    law: TunedLaw
    cells: tuple[Cell, ...]


def further_runs(
    all_series: Sequence[ResolvedSeries],
    sizes: Sequence[TuningSize],
    setting: Setting,
    radius: float,
    laws: Mapping[str, FittedLaw],
) -> list[dict[str, Any]]:
    """A few runs towards the best point for each series and size that does not bracket it."""
    entries = []
    for series in all_series:
        fitted = laws[series.label]
        for size in sizes:
            params = setting.params(size.rung)
            open_cells = [
                cell
                for cell in fitted.cells
                if not cell.is_bracketed and abs(cell.params / params - 1) < SAME_CELL
            ]
            if open_cells:
                best = _mean_vertex(fitted.law, open_cells)
                middle = centre(series.train, size, setting, radius)
                points = _towards(best, middle, size, radius, setting.seq_len)
                entries += [entry(series, size.rung, size.tokens, point) for point in points]
    return entries


def _mean_vertex(law: TunedLaw, cells: Sequence[Cell]) -> tuple[float, float]:
    """Log rate and log batch of the best points of cells, on average."""
    rates = [law.learning_rate.log(cell.params, cell.tokens) for cell in cells]
    batches = [law.batch_tokens.log(cell.params, cell.tokens) for cell in cells]
    return math.fsum(rates) / len(cells), math.fsum(batches) / len(cells)


def _towards(
    best: tuple[float, float], middle: Point, size: TuningSize, radius: float, seq_len: int
) -> list[Point]:
    """Points of a hexagon about the best that are not near those tried, the farthest out first."""
    r, (x, y) = math.log(radius), middle.logs
    dx, dy = best[0] - x, best[1] - y
    # An estimate so far out is a direction more than a place.
    shrunk = min(1.0, MAX_SHIFT * r / max(math.hypot(dx, dy), 1e-9))
    dx, dy = dx * shrunk, dy * shrunk
    largest = math.log(size.tokens[0] / MIN_STEPS)
    candidates = []
    for ox, oy in sorted(OFFSETS, key=lambda o: (-(o[0] * dx + o[1] * dy), o)):
        log_rate = min(x + dx + r * ox, math.log(MAX_RATE))
        candidates.append(point_at(log_rate, min(y + dy + r * oy, largest), seq_len))
    tried = [*hexagon(middle, radius, seq_len)]
    chosen: list[Point] = []
    for point in candidates:
        if len(chosen) < MAX_FURTHER and all(
            math.dist(point.logs, other.logs) >= LEAST_DISTANCE * r for other in (*tried, *chosen)
        ):
            chosen.append(point)
    return chosen


def checks(
    all_series: Sequence[ResolvedSeries],
    sizes: Sequence[TuningSize],
    setting: Setting,
    laws: Mapping[str, FittedLaw],
    tuned: Sequence[PlannedTrial],
    base: Sequence[PlannedTrial],
) -> list[dict[str, Any]]:
    """Three rates at the law's batch, at the largest size that costs no more than tuning did.

    `tuned` are the tuning runs, `base` those of the sweep that is tuned.
    """
    entries = []
    largest_tuned = max(trunk_params(size.rung) for size in sizes)
    lengths = {tokens for size in sizes for tokens in size.tokens}
    for series in all_series:
        law = laws[series.label].law
        affordable = math.fsum(one.train_flops for one in tuned if one.series == series.label)
        for one, tokens in _largest_first(series.label, base, lengths):
            if trunk_params(one.trial.rung) <= largest_tuned:
                break
            if len(CHECKED) * tokens * one.flops_per_token.total > affordable:
                continue
            params = one.params.trunk
            batch = max(
                recipe.MIN_BATCH_SEQUENCES, round(law.best_batch(params, tokens) / setting.seq_len)
            )
            if tokens < MIN_STEPS * batch * setting.seq_len:
                continue
            rate = math.log(law.best_rate(params, tokens, batch * setting.seq_len))
            log_batch = math.log(batch * setting.seq_len)
            for factor in CHECKED:
                point = point_at(rate + math.log(factor), log_batch, setting.seq_len)
                entries.append(entry(series, one.trial.rung, [tokens], point))
            break
    return entries


def _largest_first(
    label: str, base: Sequence[PlannedTrial], lengths: set[int]
) -> Iterator[tuple[PlannedTrial, int]]:
    """Runs of a series and where they may end: larger sizes first, then longer runs."""
    own = [one for one in base if one.series == label]
    for one in sorted(own, key=lambda each: -trunk_params(each.trial.rung)):
        for tokens in sorted({cell.tokens for cell in one.cells} | lengths, reverse=True):
            yield one, tokens
