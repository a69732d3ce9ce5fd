"""Runs that could be trained next: new sizes, further seeds, longer runs, new budgets."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.answers.territory import (
    SAME_SIZE_GAP,
    Place,
    Territory,
    TrainedRun,
)
from analysis.isoflop.isoflop import MIN_SIZES
from sweeper.trials.ladder import ladder, trunk_params

SAME_END = 0.01
"""A run that ends this much short of a budget reaches it but for rounding."""
BUNDLE_STEPS = (0, -1, 1, -2, 2)
"""Sizes of a new budget about its expected optimum, in spacings."""

Nearest = Callable[[float], float]
"""Gives the size that can be trained nearest to a log size."""
Kind = Literal["size", "seed", "longer", "budget"]


@dataclass(frozen=True)
class CandidateRun:
    """One run that could be added, or lengthened."""

    family: str
    params: float
    seed: int
    points: tuple[Place, ...]
    """What it yields beyond what was observed, ascending; the last ends it."""
    flops_added: float
    """FLOPs to be spent: of its last point, less those of the run that it lengthens."""
    kind: Kind
    lengthens: TrainedRun | None = None

    @property
    def name(self) -> tuple[str, float, int]:
        """Series, size and seed."""
        return self.family, self.params, self.seed

    @property
    def tokens(self) -> float:
        """At its end."""
        return self.points[-1].tokens

    @property
    def flops(self) -> float:
        """Of the whole run."""
        return self.points[-1].flops

    @property
    def budget_flops(self) -> float | None:
        """Nominal budget that it ends at; None where the source has none."""
        return self.points[-1].budget_flops

    @property
    def budgets(self) -> tuple[float, ...]:
        """At which it is observed, in FLOPs: nominal ones where the source has them."""
        return tuple(point.budget_flops or point.flops for point in self.points)


@dataclass(frozen=True)
class Option:
    """Runs that are taken together or not at all: one, or those that draw a new budget's curve."""

    runs: tuple[CandidateRun, ...]
    new_level: int | None = None

    @property
    def flops(self) -> float:
        """FLOPs to be spent on all."""
        return sum(run.flops_added for run in self.runs)

    @property
    def is_single_point(self) -> bool:
        """Whether it adds one point to a budget that was observed."""
        run = self.runs[0]
        is_one = len(self.runs) == len(run.points) == 1 and run.lengthens is None
        return is_one and self.new_level is None and run.points[0].set >= 0


def nearest_rung(log_params: float) -> float:
    """Trunk parameters of the rung nearest to a log size."""
    sizes = np.array([trunk_params(rung) for rung in ladder()], dtype=np.float64)
    return float(sizes[np.argmin(np.abs(np.log(sizes) - log_params))])


def three_digits(log_params: float) -> float:
    """Any size, where params are not those of the trunk."""
    return float(f"{math.exp(log_params):.3g}")


def options(known: Territory, nearest: Nearest) -> list[Option]:
    """Every run worth a thought, and a bundle for each budget that could be new."""
    found = [
        Option((run,))
        for params in _sizes(known, nearest)
        for level in known.near_levels(math.log(params))
        for run in runs_to(known, params, level)
    ]
    bundles = [_bundle(known, level, nearest) for level in known.new_levels]
    return found + [bundle for bundle in bundles if bundle is not None]


def runs_to(known: Territory, params: float, level: int) -> list[CandidateRun]:
    """The runs of a size that could end at a budget: a new one, and those that get longer."""
    log_params = math.log(params)
    places = known.places(log_params, level)
    if not places:
        return []
    taken = known.seeds(log_params, level)
    # From the series' first seed on: a new size then sees the data of the others in their order.
    seed = known.first_seed
    while seed in taken:
        seed += 1
    kind: Kind = "seed" if taken else "size"
    flops = places[-1].flops
    runs = [CandidateRun(known.family, params, seed, places, flops, kind)]
    for old in known.of_size(log_params) if known.passes_budgets else []:
        further = tuple(place for place in places if place.flops > old.flops * (1 + SAME_END))
        if further:
            added = flops - (old.flops if known.resumes or old.is_planned else 0.0)
            run = CandidateRun(known.family, params, old.seed, further, added, "longer", old)
            runs.append(run)
    return runs


def after(known: Territory, run: CandidateRun) -> Territory:
    """With the run trained."""
    before = () if run.lengthens is None else run.lengthens.places
    grown = TrainedRun(run.params, run.seed, (*before, *run.points), is_planned=True)
    return known.after(grown, run.lengthens)


def merged(runs: Iterable[CandidateRun]) -> list[CandidateRun]:
    """Each run once: one that lengthens an earlier one is that one, trained for longer."""
    found: list[CandidateRun] = []
    for run in runs:
        for index, earlier in enumerate(found):
            if run.lengthens is not None and run.name == earlier.name:
                found[index] = dataclasses.replace(
                    earlier,
                    points=(*earlier.points, *run.points),
                    flops_added=earlier.flops_added + run.flops - earlier.flops,
                )
                break
        else:
            found.append(run)
    return found


def _sizes(known: Territory, nearest: Nearest) -> list[float]:
    """Those trained, and two for each spacing between them and a spacing around them."""
    found = sorted({run.params for run in known.runs})
    low, high = math.log(found[0]) - known.step, math.log(found[-1]) + known.step
    for wanted in np.linspace(low, high, 2 * round((high - low) / known.step) + 1).tolist():
        params = nearest(wanted)
        is_near = abs(math.log(params) - wanted) <= SAME_SIZE_GAP
        if is_near and np.abs(np.log(found) - math.log(params)).min() >= SAME_SIZE_GAP:
            found.append(params)
    return found


def _bundle(known: Territory, level: int, nearest: Nearest) -> Option | None:
    """Runs that draw the curve of a new budget; None where too few sizes can be trained."""
    sizes = np.array(sorted({run.params for run in known.runs}))
    runs: dict[float, CandidateRun] = {}
    for offset in BUNDLE_STEPS:
        wanted = known.levels.best_sizes[level] + offset * known.step
        apart = np.abs(np.log(sizes) - wanted)
        is_trained = apart.min() < 0.5 * known.step
        params = float(sizes[np.argmin(apart)]) if is_trained else nearest(wanted)
        ways = runs_to(known, params, level)
        if ways:
            cheapest = min(ways, key=lambda run: run.flops_added)
            is_new = cheapest.kind != "longer"
            runs[params] = dataclasses.replace(cheapest, kind="budget") if is_new else cheapest
    return Option(tuple(runs.values()), level) if len(runs) >= MIN_SIZES else None
