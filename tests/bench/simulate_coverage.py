"""How often 95 % intervals hold the truth in simulated sweeps: `make coverage`.

A replicate is two series over the same isoFLOP design, the second with a handicap of 2 in compute,
with fresh noise on every run; intervals are computed as `sweeper fit` and `sweeper compare` do, and
checked against what was planted. N*, D*, the surface and the multiplier are planted with an
irreducible loss; L* without, since L*(C) is a power law only there.

`--processes 2` uses both cores; results do not depend on it. `--out docs/coverage.md` writes the
table into the page, below its marker.

Suffixes: P points, K budgets.
"""

import argparse
import dataclasses
import functools
import itertools
import math
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from planted_tables import Surface, isoflop_rows, table

from analysis.answers.compare import multiplier_at
from analysis.errors import FitWarning
from analysis.isoflop.frontier import frontier
from analysis.isoflop.isoflop import IsoFlopFit, fit_isoflop
from analysis.isoflop.noise_correlation import noise_correlation
from analysis.stats.bootstrap import Resampler
from analysis.surface.surface import SurfaceFit, fit_surface
from analysis.tables.points import FloatArray, Points, points_by_family

NoiseKind = Literal["Gaussian", "Student t3"]

DESIGNS = {16: (4, 4), 35: (5, 7), 81: (9, 9)}
"""Budgets and sizes by number of points; sizes reach from 1/8 to 8 times the best one."""
BUDGET_RANGE = (1e15, 1e18)
NOISE_RANGE = (0.003, 0.01)
"""Relative standard deviation of a loss; each replicate draws one, log-uniform."""
HANDICAP = 2.0
N_DRAWS = 300
NOMINAL = (0.92, 0.98)
"""The target: nominal coverage is 0.95."""
MARKER = "<!-- written by `make coverage` -->"

BENT = Surface()
STRAIGHT = Surface(E=0.0)

SURFACE_NAMES = {"alpha": "alpha", "beta": "beta", "a": "params_exponent", "E": "E"}
PROFILE_NAMES = {"alpha, profile": "alpha", "beta, profile": "beta"}

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Condition:
    """One row of the table."""

    n_points: int
    noise: NoiseKind


@dataclass(frozen=True)
class PlantedSeries:
    """Two series without noise."""

    series: tuple[Points, ...]
    budgets_K: FloatArray

    def noisy(self, noise: NoiseKind, rng: np.random.Generator) -> tuple[Points, ...]:
        sigma = float(np.exp(rng.uniform(*np.log(NOISE_RANGE))))
        return tuple(
            dataclasses.replace(
                points, loss_P=points.loss_P * np.exp(sigma * deviates(noise, rng, points))
            )
            for points in self.series
        )


@functools.cache
def planted(surface: Surface, n_points: int) -> PlantedSeries:
    """One of the designs."""
    n_budgets, n_sizes = DESIGNS[n_points]
    budgets_K = np.geomspace(*BUDGET_RANGE, n_budgets)
    rows = [
        isoflop_rows(label, surface, handicap=handicap, budgets=budgets_K, n_sizes=n_sizes)
        for label, handicap in (("a", 1.0), ("b", HANDICAP))
    ]
    return PlantedSeries(tuple(points_by_family(table(*rows).frame).values()), budgets_K)


def deviates(noise: NoiseKind, rng: np.random.Generator, points: Points) -> FloatArray:
    """Noise of variance 1, one per point."""
    n_points = len(points.loss_P)
    if noise == "Gaussian":
        return rng.standard_normal(n_points)
    deviate_P: FloatArray = rng.standard_t(3, n_points) / math.sqrt(3.0)
    return deviate_P


def replicate(condition: Condition, seed: int) -> dict[str, bool | None]:
    """Whether each interval holds the truth; None where there is no interval."""
    rng = np.random.default_rng(
        [seed, condition.n_points, get_args(NoiseKind).index(condition.noise)]
    )
    bent, straight = planted(BENT, condition.n_points), planted(STRAIGHT, condition.n_points)
    series = bent.noisy(condition.noise, rng)
    correlation_FF = noise_correlation(series, "pair")
    resampler = Resampler.create(series, N_DRAWS, seed, correlation_FF)
    fits = [fit_isoflop(points, "pair", resampler) for points in series]
    (alone, _) = straight.noisy(condition.noise, rng)
    loss_law = fit_isoflop(alone, "pair", Resampler.create([alone], N_DRAWS, seed)).loss_law
    share = BENT.params_exponent
    optimum = fits[0].optima[len(bent.budgets_K) // 2]
    return {
        "N*": holds(exponent_ci(fits[0], "params_law"), share),
        "D*": holds(exponent_ci(fits[0], "tokens_law"), 1.0 - share),
        "L*": holds(None if loss_law is None else loss_law.exponent_ci, -STRAIGHT.alpha * share),
        "N*(C)": holds(optimum.params_ci, BENT.best_params(optimum.flops)),
        "L*(C)": holds(optimum.loss_ci, BENT.best_loss(optimum.flops)),
        "multiplier": holds(multiplier_ci(fits, bent.budgets_K), HANDICAP),
        **surface_holds(fit_surface(series[0], "auto", resampler)),
    }


def exponent_ci(fit: IsoFlopFit, name: str) -> Interval:
    law = getattr(fit, name)
    return None if law is None else law.exponent_ci


def multiplier_ci(fits: list[IsoFlopFit], budgets_K: FloatArray) -> Interval:
    """At the middle budget, where both series observed the loss."""
    own, other = (frontier(fit) for fit in fits)
    if own is None or other is None:
        return None
    middle = float(budgets_K[len(budgets_K) // 2])
    return multiplier_at(own, other, middle, middle).ci


def surface_holds(fit: SurfaceFit | FitWarning) -> dict[str, bool | None]:
    """The bootstrap intervals of four numbers, and the profile intervals of two."""
    if isinstance(fit, FitWarning):
        return dict.fromkeys([*SURFACE_NAMES, *PROFILE_NAMES])
    by_bootstrap = {
        shown: holds(fit.ci[name], getattr(BENT, name)) for shown, name in SURFACE_NAMES.items()
    }
    by_profile = {
        shown: holds(fit.profile_ci[name], getattr(BENT, name))
        for shown, name in PROFILE_NAMES.items()
    }
    return by_bootstrap | by_profile


def holds(interval: Interval, truth: float) -> bool | None:
    return None if interval is None else interval[0] <= truth <= interval[1]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _task(task: tuple[Condition, int]) -> tuple[Condition, dict[str, bool | None]]:
    return task[0], replicate(*task)


def outcomes(
    conditions: Iterable[Condition], n_replicates: int, n_processes: int
) -> Iterator[tuple[Condition, dict[str, bool | None]]]:
    """All replicates of all conditions, in order."""
    tasks = list(itertools.product(conditions, range(n_replicates)))
    if n_processes == 1:
        yield from map(_task, tasks)
        return
    # Fresh processes: a fork of one that has imported BLAS may hang.
    with multiprocessing.get_context("spawn").Pool(n_processes) as pool:
        yield from pool.imap(_task, tasks, chunksize=10)


Tally = dict[Condition, dict[str, list[bool | None]]]


def tally(
    conditions: list[Condition], n_replicates: int, n_processes: int = 1, *, every: int = 10**9
) -> Tally:
    """Outcomes by condition and quantity; a line after so many replicates."""
    result: Tally = defaultdict(lambda: defaultdict(list))
    started = time.perf_counter()
    total = len(conditions) * n_replicates
    for done, (condition, held) in enumerate(
        outcomes(conditions, n_replicates, n_processes), start=1
    ):
        for name, value in held.items():
            result[condition][name].append(value)
        if done % every == 0:
            elapsed = time.perf_counter() - started
            left = elapsed / done * (total - done)
            say(f"{done}/{total} replicates, {left:.0f} s left")
    return result


def coverage(values: list[bool | None]) -> float:
    """Share of the intervals there are that hold the truth."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else math.nan


def as_markdown(result: Tally) -> str:
    """A row per condition: percent, bold outside 92–98, and the share without interval."""
    names = list(next(iter(result.values())))
    lines = ["| n | noise | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for condition, by_name in result.items():
        shown = [_shown(by_name[name]) for name in names]
        lines.append(f"| {condition.n_points} | {condition.noise} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _shown(values: list[bool | None]) -> str:
    share = coverage(values)
    text = f"{100 * share:.1f}"
    missing = sum(value is None for value in values) / len(values)
    remark = f" ({100 * missing:.0f} % none)" if missing >= 0.005 else ""
    return (text if NOMINAL[0] <= share <= NOMINAL[1] else f"**{text}**") + remark


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--replicates", type=int, default=500, help="per design and noise")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    conditions = [Condition(n, noise) for n in DESIGNS for noise in get_args(NoiseKind)]
    started = time.perf_counter()
    result = tally(conditions, options.replicates, options.processes, every=50)
    text = as_markdown(result)
    minutes = (time.perf_counter() - started) / 60
    say(f"{text}\n\n{options.replicates} replicates a row, {minutes:.1f} min")
    if options.out is not None:
        page = options.out.read_text(encoding="utf-8")
        head, _, _ = page.partition(MARKER)
        options.out.write_text(f"{head}{MARKER}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
