"""FLOPs to a given width of the masked-vs-uniform interval: chosen runs in rounds, or a whole grid.

The truth of a series is the surface fitted to its published points, the noise that of its isoFLOP
curves, half of its variance the run's. The grid is trained again with seed after seed; rounds begin
with half of the sizes at three cheaper budgets, and add what `next_runs` names, a fifth of a
grid a round, until the bootstrap interval of the multiplier at the largest budget is as narrow as
asked. Whether it then holds the truth is counted, too.

Suffixes: N sizes, K budgets.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from bench_lines import Line
from planted_tables import SHARED_DATA, table
from scipy.optimize import brentq

from analysis.answers.compare import multiplier_at
from analysis.answers.forms import Outlook
from analysis.answers.propose import Request, next_runs
from analysis.fitting.fit import FitResult, FitSettings, fit_curves
from analysis.isoflop.isoflop import fit_isoflop
from analysis.stats.bootstrap import Resampler
from analysis.surface.surface import SurfaceFit, fit_surface
from analysis.tables.load import load
from analysis.tables.points import FloatArray, points_by_family

N_RESAMPLES = 200
RUN_SHARE = 0.5
SIZE_RATIO = 1.5
"""Of neighbouring sizes of the grid."""
ROUND = 0.2
"""FLOPs of a round over those of a grid."""
MAX_GRIDS = 8


@dataclass(frozen=True)
class Study:
    """Two series of published points, and the grid that a replay has."""

    name: str
    table: str
    series: tuple[str, str]
    """The worse one is the baseline: the better one reaches its loss among its own budgets."""
    budgets_K: FloatArray
    passes_budgets: bool
    """Whether one run is observed at all budgets that it passes: rates are constant."""
    noise_factor: float = 1.0
    """Over the noise of the published points."""
    half_width: float = 5.0
    """Of the grid's sizes at a budget: the ends over the best one."""
    widths: tuple[float, ...] = (1.5, 1.3, 1.2, 1.15)
    """Upper over lower end of the 95 % interval, descending."""


GIDD = Study(
    "GIDD", "gidd_isoflop_points.csv", ("uniform", "masked"), np.geomspace(1e18, 1e20, 6), True
)
SAHOO = Study(
    "Sahoo", "sahoo_isoflop_points.csv", ("Duo", "MDLM"), np.geomspace(4e18, 1.6e20, 6), False
)
TINY_RUNS = dataclasses.replace(
    GIDD, name="GIDD, noise of tiny runs", noise_factor=5.0, half_width=12.0, widths=(2.0, 1.5)
)
"""0.8 to 1 %, as runs of a million parameters and less have it."""


@dataclass(frozen=True)
class Truth:
    """What a series would show."""

    surface: SurfaceFit
    noise: float

    def best_params(self, flops: float) -> float:
        """With C = 6·N·D."""
        fit = self.surface
        ratio = fit.alpha * fit.A / (fit.beta * fit.B) * (flops / 6) ** fit.beta
        return float(ratio ** (1 / (fit.alpha + fit.beta)))

    def best_loss(self, flops: float) -> float:
        """Of the best size."""
        params = self.best_params(flops)
        return self.surface(params, flops / 6 / params)

    def flops_reaching(self, loss: float) -> float:
        """Of the best sizes."""

        def surplus(log_flops: float) -> float:
            return self.best_loss(math.exp(log_flops)) - loss

        return math.exp(brentq(surplus, math.log(1e15), math.log(1e25)))


@dataclass(frozen=True)
class Run:
    """One training run and the budgets at which it is observed."""

    series: str
    params: float
    seed: int
    budgets: tuple[float, ...]


class Simulation:
    """One replicate: every run has its luck, whoever asks for it."""

    def __init__(self, study: Study, truths: dict[str, Truth], seed: int) -> None:
        self.study, self.truths, self.seed = study, truths, seed
        self.runs: dict[tuple[str, float, int, float], Run] = {}
        self.flops = 0.0

    def train(self, runs: Iterable[Run]) -> None:
        """A run that was trained before goes on where it ended."""
        for run in runs:
            end = max(run.budgets)
            own = run.budgets[0] if not self.study.passes_budgets else 0.0
            key = (run.series, round(run.params, 3), run.seed, own)
            before = self.runs.get(key)
            budgets = run.budgets if before is None else (*before.budgets, *run.budgets)
            self.flops += end - (0.0 if before is None else max(before.budgets))
            self.runs[key] = Run(run.series, run.params, run.seed, tuple(sorted(set(budgets))))

    def rows(self) -> pd.DataFrame:
        """The tidy table of what was trained."""
        rows = []
        for number, run in enumerate(self.runs.values()):
            truth = self.truths[run.series]
            label = self.study.series.index(run.series)
            place = [self.seed, label, round(1e3 * math.log(run.params)), run.seed]
            luck = math.sqrt(RUN_SHARE) * np.random.default_rng(place).standard_normal()
            for flops in run.budgets:
                tokens = flops / 6 / run.params
                rng = np.random.default_rng([*place, round(1e3 * math.log(flops))])
                noise = luck + math.sqrt(1 - RUN_SHARE) * rng.standard_normal()
                loss = truth.surface(run.params, tokens) * math.exp(truth.noise * noise)
                rows.append((run.series, run.params, tokens, flops, loss, run.seed, f"{number}"))
        columns = ["family", "params", "tokens", "flops", "loss", "seed", "run_id"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.assign(budget_flops=frame["flops"])

    def fit(self) -> FitResult:
        """The isoFLOP curves of both series."""
        return fit_curves(table(self.rows()), FitSettings(n_bootstrap=N_RESAMPLES, seed=self.seed))

    def interval(self, result: FitResult) -> tuple[float, float]:
        """Of the multiplier at the largest budget, where both series were observed; else all."""
        own, other = (Outlook.of(result.family(label)) for label in self.study.series)
        flops = float(self.study.budgets_K[-1])
        point = None if own is None or other is None else multiplier_at(own, other, flops, flops)
        if point is None or point.ci is None or point.extrapolated:
            return 0.0, math.inf
        return point.ci


def grid(study: Study, truths: dict[str, Truth], seed: int, *, coarse: bool = False) -> list[Run]:
    """All sizes near the best one of every budget; the coarse one has a part."""
    best_K = [truths[study.series[0]].best_params(float(flops)) for flops in study.budgets_K]
    n_steps = math.ceil(
        math.log(best_K[-1] / best_K[0] * study.half_width**2) / math.log(SIZE_RATIO)
    )
    sizes_N = best_K[0] / study.half_width * SIZE_RATIO ** np.arange(n_steps + 1)
    sizes_N = np.array([float(f"{size:.3g}") for size in sizes_N])
    budgets = list(zip(study.budgets_K.tolist(), best_K, strict=True))
    if coarse:
        sizes_N, budgets = sizes_N[::2], [budgets[i] for i in (0, 1, 3)]
    runs = []
    for series in study.series:
        for params in sizes_N.tolist():
            near = [
                flops
                for flops, best in budgets
                if abs(math.log(params / best)) < math.log(study.half_width)
            ]
            groups = [near] if study.passes_budgets else [[flops] for flops in near]
            runs += [Run(series, params, seed, tuple(group)) for group in groups if group]
    return runs


def truths_of(study: Study) -> dict[str, Truth]:
    """Surfaces and noise of the published points."""
    series = points_by_family(load(SHARED_DATA / study.table).frame)
    found = {}
    for label in study.series:
        points = series[label]
        resampler = Resampler.create([points], N_RESAMPLES, 0)
        surface, curves = (
            fit_surface(points, "auto", resampler),
            fit_isoflop(points, "pair", resampler),
        )
        assert isinstance(surface, SurfaceFit)
        assert curves.effective_noise is not None
        found[label] = Truth(surface, study.noise_factor * curves.effective_noise)
    return found


@dataclass(frozen=True)
class Reached:
    """What the first interval of a width took, in FLOPs of one grid, and whether it was right."""

    grids: float
    holds: bool


class Watch:
    """Notes when each width is first reached."""

    def __init__(self, study: Study, truths: dict[str, Truth]) -> None:
        flops = float(study.budgets_K[-1])
        loss = truths[study.series[0]].best_loss(flops)
        self.truth = truths[study.series[1]].flops_reaching(loss) / flops
        self.widths = study.widths
        self.reached: dict[float, Reached] = {}

    def look(self, interval: tuple[float, float], grids: float) -> bool:
        """Whether all widths are reached."""
        low, high = interval
        for width in self.widths:
            if width not in self.reached and high <= width * low:
                self.reached[width] = Reached(grids, low <= self.truth <= high)
        return len(self.reached) == len(self.widths)


def by_rounds(study: Study, truths: dict[str, Truth], seed: int) -> dict[float, Reached]:
    """A coarse part of a grid, and runs that are chosen."""
    unit = flops_of_grid(study, truths)
    simulation, watch = Simulation(study, truths, seed), Watch(study, truths)
    simulation.train(grid(study, truths, 0, coarse=True))
    at, within = float(study.budgets_K[-1]), study.widths[0]
    while simulation.flops < MAX_GRIDS * unit:
        result = simulation.fit()
        if watch.look(simulation.interval(result), simulation.flops / unit):
            break
        within = min(within, *(width for width in study.widths if width not in watch.reached))
        request = Request(study.series, "multiplier", at, within=within)
        found = next_runs(result, request, ROUND * unit)
        if not found.proposals:
            # Expected to be narrow enough, and is not.
            within = max(1.02, within**0.8)
            continue
        simulation.train(
            Run(each.run.family, each.run.params, each.run.seed, each.run.budgets)
            for each in found.proposals
        )
    return watch.reached


def by_grids(study: Study, truths: dict[str, Truth], seed: int) -> dict[float, Reached]:
    """Seed after seed of the whole grid."""
    simulation, watch = Simulation(study, truths, seed), Watch(study, truths)
    for number in range(MAX_GRIDS):
        simulation.train(grid(study, truths, number))
        if watch.look(simulation.interval(simulation.fit()), number + 1.0):
            break
    return watch.reached


def flops_of_grid(study: Study, truths: dict[str, Truth]) -> float:
    """With one seed."""
    simulation = Simulation(study, truths, 0)
    simulation.train(grid(study, truths, 0))
    return simulation.flops


def rounds_lines(study: Study, n_replicates: int = 100) -> list[Line]:
    """FLOPs of rounds over those of grids, medians over replicates, for every width."""
    if not (SHARED_DATA / study.table).exists():
        return []
    truths = truths_of(study)
    never = Reached(float(MAX_GRIDS), holds=True)
    ways = [
        [way(study, truths, seed) for seed in range(n_replicates)] for way in (by_rounds, by_grids)
    ]
    lines = []
    for width in study.widths:
        ours, theirs = ([found.get(width, never) for found in way] for way in ways)
        spent, whole = (np.array([each.grids for each in way]) for way in (ours, theirs))
        held = [np.mean([each.holds for each in way]) for way in (ours, theirs)]
        remark = (
            f"rounds {np.median(spent):.2f} grids (nine of ten: {np.quantile(spent, 0.9):.2f}), "
            f"whole grids {np.median(whole):g} (mean {whole.mean():.2f}); the interval holds the "
            f"truth in {held[0]:.0%} and {held[1]:.0%} of {n_replicates}"
        )
        ratio = float(np.median(spent) / np.median(whole))
        what = f"{study.name}, interval of {width:g}: FLOPs of rounds over those of grids"
        lines.append(Line(what, ratio, 1 / 3, "", remark))
    return lines
