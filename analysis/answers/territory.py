"""What a series has trained, run by run, and at which budgets its runs are observed.

Where its runs are observed at several budgets, one run passes all smaller budgets on the way and
costs what its last point costs. Where every point took a run of its own (a schedule that ends with
the run, or a table that does not tell), a run is observed once.

Suffixes: K budgets, P points.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from analysis.stats.cost import CostPerToken
from analysis.tables.points import BoolArray, FloatArray, IntArray, Points

SAME_SIZE_GAP = 0.08
"""Log distance within which a size counts as observed at a budget; some rungs are closer."""
EXACT = 1e-4
"""Log distance of sizes that are equal but for rounding."""


@dataclass(frozen=True)
class Place:
    """Where a run is observed."""

    level: int
    """Number of its budget among those of the series; -1 for none of them."""
    set: int
    """Number of the coefficients that it tells of; -1 for none."""
    budget_flops: float | None
    """Nominal budget; None where the source has none."""
    flops: float
    tokens: float


@dataclass(frozen=True)
class TrainedRun:
    """A run that was trained, or is counted as such."""

    params: float
    seed: int
    places: tuple[Place, ...]
    """Ascending."""
    is_planned: bool = False
    """Whether it is yet to be trained, so that it can be planned longer for the difference."""

    @cached_property
    def log_params(self) -> float:
        """Log of the size."""
        return math.log(self.params)

    @cached_property
    def levels(self) -> frozenset[int]:
        """Numbers of the budgets that it is observed at."""
        return frozenset(place.level for place in self.places)

    @property
    def flops(self) -> float:
        """At its end."""
        return self.places[-1].flops


@dataclass(frozen=True)
class Levels:
    """Budgets at which runs of a series are or could be observed, observed ones first."""

    log_flops_K: FloatArray
    nominal_K: FloatArray
    """NaN where the source has none: levels of compute that stand for budgets."""
    set_K: IntArray
    """Number of the coefficients that a budget tells of; -1 for none."""
    best_sizes: Mapping[int, float]
    """Log size expected to be optimal at each new budget."""


@dataclass(frozen=True)
class Territory:
    """What a series has trained and where it could go on."""

    family: str
    place: Callable[[float, int], Place]
    """Where a new run of a log size would be observed at a level."""
    levels: Levels
    tokens_per_param: tuple[float, float]
    """Logs. Curves were not tested beyond, and a run of a few steps is no run."""
    runs: tuple[TrainedRun, ...]
    passes_budgets: bool
    """Whether one run is observed at every budget that it passes."""
    resumes: bool
    """Whether a longer run goes on where a shorter one ended, else starts again."""

    @cached_property
    def new_levels(self) -> list[int]:
        """Budgets that nothing was observed at."""
        return [level for level in self.levels.best_sizes if not len(self.sizes_at(level))]

    @cached_property
    def open_levels(self) -> list[int]:
        """Budgets that something was observed at."""
        new = self.new_levels
        return [level for level in range(len(self.levels.log_flops_K)) if level not in new]

    def sizes_at(self, level: int) -> FloatArray:
        """Log sizes observed at a budget, ascending; at levels that stand for budgets, all."""
        return self._sizes_K[level]

    @cached_property
    def _sizes_K(self) -> tuple[FloatArray, ...]:
        by_level: list[set[float]] = [set() for _ in self.levels.nominal_K]
        for run in self.runs:
            for place in run.places:
                if place.level >= 0:
                    by_level[place.level].add(run.log_params)
        every = {run.log_params for run in self.runs}
        is_budget_K = np.isfinite(self.levels.nominal_K).tolist()
        pairs = zip(by_level, is_budget_K, strict=True)
        return tuple(np.array(sorted(own if is_budget else every)) for own, is_budget in pairs)

    @cached_property
    def step(self) -> float:
        """Usual log ratio between neighbouring sizes of one budget."""
        return float(np.median([spacing(self._sizes_K[level]) for level in self.open_levels]))

    @cached_property
    def _ends_K(self) -> tuple[tuple[float, float], ...]:
        """Log sizes within a spacing of those observed at each budget."""
        ends = []
        for seen in self._sizes_K:
            margin = spacing(seen) + SAME_SIZE_GAP if len(seen) else 0.0
            ends.append((seen[0] - margin, seen[-1] + margin) if len(seen) else (math.inf, 0.0))
        return tuple(ends)

    def of_size(self, log_params: float) -> list[TrainedRun]:
        """The runs of a size, the last of each seed."""
        found = dict[int, TrainedRun]()
        for run in self._near(log_params):
            old = found.get(run.seed)
            found[run.seed] = run if old is None or run.flops > old.flops else old
        return list(found.values())

    def _near(self, log_params: float) -> Sequence[TrainedRun]:
        """The runs of a size, in their order."""
        if log_params not in self._found_near:
            cell = round(log_params / EXACT)
            numbers = sorted(
                i for c in (cell - 1, cell, cell + 1) for i in self._by_cell.get(c, ())
            )
            near = [self.runs[i] for i in numbers]
            self._found_near[log_params] = [
                run for run in near if abs(run.log_params - log_params) < EXACT
            ]
        return self._found_near[log_params]

    @cached_property
    def _found_near(self) -> dict[float, list[TrainedRun]]:
        return {}

    @cached_property
    def _by_cell(self) -> dict[int, list[int]]:
        """Numbers of the runs by their log sizes, in cells that are as wide as sizes are equal."""
        found = defaultdict[int, list[int]](list)
        for number, run in enumerate(self.runs):
            found[round(run.log_params / EXACT)].append(number)
        return found

    @cached_property
    def first_seed(self) -> int:
        """The least of its runs; 0 without any."""
        return min((run.seed for run in self.runs), default=0)

    def after(self, run: TrainedRun, lengthened: TrainedRun | None) -> "Territory":
        """With one more run, in place of the one that it lengthens."""
        others = tuple(each for each in self.runs if each is not lengthened)
        return dataclasses.replace(self, runs=(*others, run))

    def seeds(self, log_params: float, level: int) -> set[int]:
        """Taken by runs of a size; where runs pass no budgets, by those at this one."""
        near = self._near(log_params)
        return {run.seed for run in near if self.passes_budgets or level in run.levels}

    def near_levels(self, log_params: float) -> list[int]:
        """The budgets that were observed at sizes about this one, a spacing further at most."""
        ends = ((level, *self._ends_K[level]) for level in self.open_levels)
        return [level for level, low, high in ends if low <= log_params <= high]

    def places(self, log_params: float, level: int) -> tuple[Place, ...]:
        """Where a new run of a size that ends at a budget would be observed, ascending; nowhere
        where the end is beyond the tokens per parameter of the series.
        """
        end = self.place(log_params, level)
        if not self._is_within(end, log_params):
            return ()
        if not self.passes_budgets:
            return (end,)
        # At budgets far below, a curve was not tested at so large a size.
        passed = [
            place
            for other in self.near_levels(log_params)
            if self.levels.log_flops_K[other] < self.levels.log_flops_K[level] - EXACT
            and self._is_within(place := self.place(log_params, other), log_params)
        ]
        return (*sorted(passed, key=lambda place: place.flops), end)

    def _is_within(self, place: Place, log_params: float) -> bool:
        low, high = self.tokens_per_param
        return low <= math.log(place.tokens) - log_params <= high


def territory(points: Points, levels: Levels, *, resumes: bool) -> Territory:
    """Of a series and the budgets that are open to it."""
    ratio_P = np.log(points.tokens_P / points.params_P)
    # Give or take a spacing of sizes, squared.
    margin = math.log(4.0)
    cost = CostPerToken.of(points)

    def place(log_params: float, level: int) -> Place:
        log_flops, nominal = float(levels.log_flops_K[level]), float(levels.nominal_K[level])
        log_cost = -float(cost.log_tokens(np.array(log_params), 0.0))
        return Place(
            level=level,
            set=int(levels.set_K[level]),
            budget_flops=None if math.isnan(nominal) else nominal,
            flops=math.exp(log_flops),
            tokens=math.exp(log_flops - log_cost),
        )

    return Territory(
        family=points.family,
        place=cache(place),
        levels=levels,
        tokens_per_param=(float(ratio_P.min()) - margin, float(ratio_P.max()) + margin),
        runs=_trained_runs(points, levels),
        passes_budgets=points.has_shared_runs,
        resumes=resumes,
    )


def spacing(log_sizes: FloatArray) -> float:
    """Usual log ratio between neighbouring sizes."""
    low, high = np.log((1.25, 3.0))
    gaps = np.diff(np.sort(log_sizes))
    gaps = gaps[gaps > SAME_SIZE_GAP]
    return float(np.clip(np.median(gaps) if len(gaps) else high, low, high))


def _trained_runs(points: Points, levels: Levels) -> tuple[TrainedRun, ...]:
    """The runs of a table; without seeds, those of a size (and budget) are numbered."""
    level_P = _levels_of(points, levels)
    order_P = np.argsort(points.flops_P, kind="stable")
    # A surface has one set of coefficients, whatever the level.
    is_surface = bool(np.isnan(levels.nominal_K).all())
    runs: list[TrainedRun] = []
    for number in np.unique(points.run_P).tolist():
        mine = order_P[points.run_P[order_P] == number]
        places = tuple(
            Place(
                level=int(level_P[p]),
                set=0 if is_surface else int(levels.set_K[level_P[p]]) if level_P[p] >= 0 else -1,
                budget_flops=None if math.isnan(points.budget_P[p]) else float(points.budget_P[p]),
                flops=float(points.flops_P[p]),
                tokens=float(points.tokens_P[p]),
            )
            for p in mine.tolist()
        )
        params = float(np.median(points.params_P[mine]))
        seed = points.seed_P[mine[0]]
        if math.isnan(seed):
            alike = [
                run
                for run in runs
                if abs(math.log(run.params / params)) < EXACT
                and (points.has_shared_runs or run.places[0].level == places[0].level)
            ]
            seed = len(alike)
        runs.append(TrainedRun(params, int(seed), places))
    return tuple(runs)


def _levels_of(points: Points, levels: Levels) -> IntArray:
    """Number of each point's budget; -1 for none."""
    has_budget: BoolArray = np.isfinite(levels.nominal_K)
    if has_budget.any():
        apart_PK = np.abs(points.budget_P[:, None] / levels.nominal_K - 1.0)
    else:
        apart_PK = np.abs(np.log(points.flops_P)[:, None] - levels.log_flops_K)
    level_P: IntArray = np.argmin(apart_PK, axis=1)
    width = EXACT if has_budget.any() else SAME_SIZE_GAP
    level_P[~(apart_PK.min(axis=1) < width)] = -1
    return level_P
