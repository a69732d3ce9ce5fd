"""How often 95 % intervals hold the truth in simulated sweeps, and their widths: `make coverage`.

A replicate is two series over the same isoFLOP design, the second with a handicap in compute, with
fresh noise on every run; intervals are computed as `sweeper fit` and `sweeper compare` do, and
checked against what was planted. N*, D*, the surface and the multiplier are planted with an
irreducible loss; L* without, since L*(C) is a power law only there.

`--processes 2` uses both cores; results do not depend on it. `--out docs/coverage.md` writes the
tables into the page, below its marker.

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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from planted_tables import Surface, isoflop_rows, table

from analysis.answers.compare import multiplier_at
from analysis.answers.forms import Outlook
from analysis.errors import FitWarning
from analysis.fitting.fit import FamilyFit
from analysis.fitting.holdout import HoldOut, hold_out
from analysis.isoflop.isoflop import IsoFlopFit, fit_isoflop
from analysis.isoflop.noise_correlation import noise_correlation
from analysis.stats.bootstrap import Resampler
from analysis.surface.surface import SurfaceFit, fit_surface
from analysis.tables.points import FloatArray, Points, points_by_family

NoiseKind = Literal["Gaussian", "Student t3", "3 % outliers"]

DESIGNS = {16: (4, 4), 35: (5, 7), 81: (9, 9)}
"""Budgets and sizes by number of points; sizes reach from 1/8 to 8 times the best one."""
BUDGET_RANGE = (1e15, 1e18)
NOISE_RANGE = (0.003, 0.01)
"""Relative standard deviation of a loss; each replicate draws one, log-uniform."""
LITTLE_NOISE = (1e-4, 1e-4)
OUTLIER_SIGMAS = 10.0
"""By which a run that went wrong is worse."""
SHARED = 0.8
"""Of the variance, where luck is shared: correlation between runs of equal place in two series."""
HANDICAP = 2.0
N_DRAWS, N_MULTIPLIER_DRAWS = 300, 200
NOMINAL = (0.92, 0.98)
"""The target: nominal coverage is 0.95."""
MARKER = "<!-- written by `make coverage` -->"

BENT = Surface()

SURFACE_NAMES = {"alpha": "alpha", "beta": "beta", "a": "params_exponent", "E": "E"}
PROFILE_NAMES = {"alpha, profile": "alpha", "beta, profile": "beta"}

Interval = tuple[float, float] | None


class Outcome(NamedTuple):
    """What an interval says of a known truth."""

    held: bool
    width: float
    """Upper less lower end; of logs for sizes, losses and multipliers."""


Outcomes = dict[str, Outcome | None]
"""By quantity; None where there is no interval."""


@dataclass(frozen=True)
class Condition:
    """One row of the first table."""

    n_points: int
    noise: NoiseKind
    exponents: tuple[float, float] = (BENT.alpha, BENT.beta)
    shared: float = 0.0
    """Correlation of the noise of both series."""

    @property
    def cells(self) -> tuple[str, ...]:
        """What tells this row from the others."""
        alpha, beta = self.exponents
        noise = f"{self.noise}, shared" if self.shared else self.noise
        return f"{self.n_points}", noise, f"{alpha:g}, {beta:g}"

    def replicate(self, seed: int) -> Outcomes:
        """All intervals of one simulated sweep."""
        return replicate(self, seed)


@dataclass(frozen=True)
class Extrapolation:
    """One row of the second table: multipliers at every budget of both series."""

    n_budgets: int
    E: float
    handicap: float
    noise_range: tuple[float, float]

    @property
    def cells(self) -> tuple[str, ...]:
        """What tells this row from the others."""
        low, high = self.noise_range
        noise = f"{low:g}" if low == high else f"{low:g}–{high:g}"
        return f"{self.n_budgets}", f"{self.E:g}", f"{self.handicap:g}", noise

    def replicate(self, seed: int) -> Outcomes:
        """The multipliers of one simulated sweep."""
        return multipliers(self, seed)


AnyCondition = Condition | Extrapolation

CONDITIONS: tuple[Condition, ...] = (
    *itertools.starmap(Condition, itertools.product(DESIGNS, get_args(NoiseKind))),
    *(Condition(n, "Gaussian", law) for law in ((0.48, 0.24), (0.24, 0.48)) for n in DESIGNS),
    *(Condition(n, "Gaussian", shared=SHARED) for n in DESIGNS),
)
EXTRAPOLATIONS = tuple(
    Extrapolation(n, E, handicap, noise)
    for E in (0.0, BENT.E)
    for handicap, noise in ((3.0, NOISE_RANGE), (10.0, NOISE_RANGE), (10.0, LITTLE_NOISE))
    for n in (4, 5, 7, 9)
)


@dataclass(frozen=True)
class PlantedSeries:
    """Two series without noise."""

    series: tuple[Points, ...]
    budgets_K: FloatArray

    def noisy(
        self,
        noise: NoiseKind,
        rng: np.random.Generator,
        noise_range: tuple[float, float] = NOISE_RANGE,
        shared: float = 0.0,
    ) -> tuple[Points, ...]:
        sigma = float(np.exp(rng.uniform(*np.log(noise_range))))
        common_P = math.sqrt(shared) * deviates(noise, rng, self.series[0]) if shared else 0.0
        found = []
        for points in self.series:
            deviate_P = common_P + math.sqrt(1.0 - shared) * deviates(noise, rng, points)
            loss_P = points.loss_P * np.exp(sigma * deviate_P)
            found.append(dataclasses.replace(points, loss_P=loss_P))
        return tuple(found)


@functools.cache
def planted(
    surface: Surface, n_budgets: int, n_sizes: int, handicap: float = HANDICAP
) -> PlantedSeries:
    """One of the designs."""
    budgets_K = np.geomspace(*BUDGET_RANGE, n_budgets)
    rows = [
        isoflop_rows(label, surface, handicap=each, budgets=budgets_K, n_sizes=n_sizes)
        for label, each in (("a", 1.0), ("b", handicap))
    ]
    return PlantedSeries(tuple(points_by_family(table(*rows).frame).values()), budgets_K)


def deviates(noise: NoiseKind, rng: np.random.Generator, points: Points) -> FloatArray:
    """Noise of variance 1, one per point; of the runs that went right, where some went wrong."""
    n_points = len(points.loss_P)
    if noise == "Student t3":
        deviate_P: FloatArray = rng.standard_t(3, n_points) / math.sqrt(3.0)
        return deviate_P
    gaussian_P = rng.standard_normal(n_points)
    if noise == "Gaussian":
        return gaussian_P
    return gaussian_P + OUTLIER_SIGMAS * (rng.random(n_points) < 0.03)


def replicate(condition: Condition, seed: int) -> Outcomes:
    """Whether each interval holds the truth, and its width."""
    alpha, beta = condition.exponents
    law, straight_law = Surface(alpha=alpha, beta=beta), Surface(E=0.0, alpha=alpha, beta=beta)
    rng = np.random.default_rng(
        [seed, condition.n_points, get_args(NoiseKind).index(condition.noise)]
    )
    bent, straight = (planted(each, *DESIGNS[condition.n_points]) for each in (law, straight_law))
    series = bent.noisy(condition.noise, rng, shared=condition.shared)
    correlation_FF = noise_correlation(series, "pair")
    resampler = Resampler.create(series, N_DRAWS, seed, correlation_FF)
    fits = [fit_isoflop(points, "pair", resampler) for points in series]
    (alone, _) = straight.noisy(condition.noise, rng)
    loss_law = fit_isoflop(alone, "pair", Resampler.create([alone], N_DRAWS, seed)).loss_law
    share = law.params_exponent
    optimum = fits[0].optima[len(bent.budgets_K) // 2]
    outlooks = [Outlook.of(family(points, fit)) for points, fit in zip(series, fits, strict=True)]
    middle = float(bent.budgets_K[len(bent.budgets_K) // 2])
    own, other = outlooks
    multiplier = None
    if own is not None and other is not None:
        multiplier = multiplier_at(own, other, middle, middle).ci
    return {
        "N*": outcome(exponent_ci(fits[0], "params_law"), share),
        "D*": outcome(exponent_ci(fits[0], "tokens_law"), 1.0 - share),
        "L*": outcome(None if loss_law is None else loss_law.exponent_ci, -alpha * share),
        "N*(C)": outcome(logs(optimum.params_ci), math.log(law.best_params(optimum.flops))),
        "L*(C)": outcome(logs(optimum.loss_ci), math.log(law.best_loss(optimum.flops))),
        "multiplier": outcome(logs(multiplier), math.log(HANDICAP)),
        **surface_outcomes(fit_surface(series[0], "auto", resampler), law),
    }


def family(
    points: Points,
    isoflop: IsoFlopFit,
    surface: SurfaceFit | FitWarning | None = None,
    holdout: HoldOut | FitWarning | None = None,
) -> FamilyFit:
    """The parts that a multiplier is read off."""
    return FamilyFit(
        family=points.family,
        points=points,
        isoflop=isoflop,
        surface=surface if isinstance(surface, SurfaceFit) else None,
        envelope=None,
        token_frontier=None,
        holdout=holdout if isinstance(holdout, HoldOut) else None,
        batch_laws=None,
    )


def multipliers(condition: Extrapolation, seed: int) -> Outcomes:
    """The multiplier within the overlap of observed losses, at its edge and outside it."""
    rng = np.random.default_rng([seed, condition.n_budgets, int(condition.handicap)])
    law = Surface(E=condition.E)
    both = planted(law, condition.n_budgets, 7, condition.handicap)
    series = both.noisy("Gaussian", rng, condition.noise_range)
    resampler = Resampler.create(
        series, N_MULTIPLIER_DRAWS, seed, noise_correlation(series, "pair")
    )
    outlooks = []
    for points in series:
        fit = fit_isoflop(points, "pair", resampler)
        surface = fit_surface(points, "auto", resampler)
        holdout = hold_out(points, fit, "auto", resampler)
        outlooks.append(Outlook.of(family(points, fit, surface, holdout)))
    own, other = outlooks
    if own is None or other is None:
        return dict.fromkeys(["within", "edge", "beyond", "below"])
    up = [multiplier_at(own, other, c, c) for c in both.budgets_K.tolist()]
    down = [multiplier_at(other, own, c, c) for c in both.budgets_K.tolist()]
    inside = [point for point in up if not point.extrapolated] or up[:1]
    truth = math.log(condition.handicap)
    return {
        "within": outcome(logs(inside[len(inside) // 2].ci), truth),
        "edge": outcome(logs(inside[-1].ci), truth),
        "beyond": outcome(logs(up[-1].ci), truth),
        "below": outcome(logs(down[0].ci), -truth),
    }


def exponent_ci(fit: IsoFlopFit, name: str) -> Interval:
    law = getattr(fit, name)
    return None if law is None else law.exponent_ci


def surface_outcomes(fit: SurfaceFit | FitWarning, law: Surface) -> Outcomes:
    """The bootstrap intervals of four numbers, and the profile intervals of two."""
    found: Outcomes = dict.fromkeys([*SURFACE_NAMES, *PROFILE_NAMES])
    if isinstance(fit, FitWarning):
        return found
    for names, intervals in ((SURFACE_NAMES, fit.ci), (PROFILE_NAMES, fit.profile_ci)):
        for shown, name in names.items():
            found[shown] = outcome(intervals[name], getattr(law, name))
    return found


def logs(interval: Interval) -> Interval:
    return None if interval is None else (math.log(interval[0]), math.log(interval[1]))


def outcome(interval: Interval, truth: float) -> Outcome | None:
    if interval is None:
        return None
    return Outcome(interval[0] <= truth <= interval[1], interval[1] - interval[0])


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _task(task: tuple[AnyCondition, int]) -> tuple[AnyCondition, Outcomes]:
    return task[0], task[0].replicate(task[1])


def outcomes(
    conditions: Iterable[AnyCondition], n_replicates: int, n_processes: int
) -> Iterator[tuple[AnyCondition, Outcomes]]:
    """All replicates of all conditions, in order."""
    tasks = list(itertools.product(conditions, range(n_replicates)))
    if n_processes == 1:
        yield from map(_task, tasks)
        return
    # Fresh processes: a fork of one that has imported BLAS may hang.
    with multiprocessing.get_context("spawn").Pool(n_processes) as pool:
        yield from pool.imap(_task, tasks, chunksize=10)


Tally = dict[AnyCondition, dict[str, list[Outcome | None]]]


def tally(
    conditions: Sequence[AnyCondition],
    n_replicates: int,
    n_processes: int = 1,
    *,
    every: int = 10**9,
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


def coverage(values: list[Outcome | None]) -> float:
    """Share of the intervals there are that hold the truth."""
    found = [value.held for value in values if value is not None]
    return float(np.mean(found)) if found else math.nan


def as_markdown(result: Tally, columns: str) -> str:
    """A row per condition: percent, bold outside 92–98; median width; the share without one."""
    names = list(next(iter(result.values())))
    n_columns = columns.count("|") + 1 + len(names)
    lines = [f"| {columns} | {' | '.join(names)} |", "|---" * n_columns + "|"]
    for condition, by_name in result.items():
        cells = [*condition.cells, *(_shown(by_name[name]) for name in names)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(values: list[Outcome | None]) -> str:
    if math.isnan(share := coverage(values)):
        return "none"
    width = float(np.median([value.width for value in values if value is not None]))
    missing = 100 * values.count(None) / len(values)
    remark = f", {missing:.0f} % none" if missing >= 0.5 else ""
    bold = "" if NOMINAL[0] <= share <= NOMINAL[1] else "**"
    return f"{bold}{100 * share:.1f}{bold} ({width:.2g}{remark})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--replicates", type=int, default=250, help="per row")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, help="page whose tables are replaced")
    options = parser.parse_args()
    how = options.replicates, options.processes
    started = time.perf_counter()
    tables = [
        f"{options.replicates} replicates a row of {n_draws} bootstrap draws. {heading}\n\n"
        + as_markdown(tally(conditions, *how, every=50), columns)
        for conditions, n_draws, heading, columns in (
            (CONDITIONS, N_DRAWS, "All quantities:", "n | noise | alpha, beta"),
            (
                EXTRAPOLATIONS,
                N_MULTIPLIER_DRAWS,
                "Multipliers against the overlap of observed losses:",
                "budgets | E | multiplier | noise",
            ),
        )
    ]
    text = "\n\n".join(tables)
    say(f"{text}\n\n{(time.perf_counter() - started) / 60:.1f} min")
    if options.out is not None:
        page = options.out.read_text(encoding="utf-8")
        head, _, _ = page.partition(MARKER)
        options.out.write_text(f"{head}{MARKER}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
