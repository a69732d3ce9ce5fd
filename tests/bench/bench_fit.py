"""How long fits take and how much memory they need: `make bench-fit`.

Every line is one quantity, the median of repeated runs, and its target. Parts run one after another
in processes of their own, so that each peak of memory is its own: the highest resident size less
the size once everything is imported and the table is read.

Without the reference tables, a planted table of the same shape stands in for the 240 points.
"""

import argparse
import dataclasses
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
from bench_lines import Line, median_seconds, say, say_machine
from planted_tables import SHARED_DATA, Surface, isoflop_rows, table

from analysis.isoflop.curves import IsoFlopMethod
from analysis.isoflop.isoflop import fit_isoflop
from analysis.stats.bootstrap import Resampler
from analysis.surface.solver import minimise
from analysis.surface.surface import SurfaceFit, centre, fit_chunked, fit_surface
from analysis.tables.load import load
from analysis.tables.points import Points, points_by_family

DELTA = 1e-3
"""Of the published fits: far narrower than the default, hence the hardest."""
N_SURFACE = 4000
N_ISOFLOP = 10_000
N_COMMAND = 1000
TIDY_COLUMNS = {"family", "params", "tokens", "flops", "loss"}
"""Of the reference files only those that have them are tables to fit."""


def peak_mib() -> float:
    """Highest resident size of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def points_240() -> Points:
    """chinchilla.csv without its outliers, or as many planted points."""
    path = SHARED_DATA / "chinchilla.csv"
    if path.exists():
        return points_by_family(load(path).frame)["chinchilla"]
    rows = isoflop_rows(noise=0.005, budgets=np.geomspace(1e18, 1e21, 15), n_sizes=16)
    rows = rows.drop(columns="budget_flops")  # one surface, as in the published fit
    return points_by_family(table(rows).frame)["a"]


def one_surface() -> list[Line]:
    """One certified fit."""
    problem = centre(points_240()).problem
    seconds = median_seconds(lambda: minimise(problem, DELTA), 21)
    return [Line("one surface fit, 240 points", 1e3 * seconds, 15.0, "ms")]


def surface_warm() -> list[Line]:
    """As `sweeper fit` does it."""
    points = points_240()
    resampler = Resampler.create([points], N_SURFACE, 0)
    before = peak_mib()
    found = fit_surface(points, DELTA, resampler)
    memory = peak_mib() - before
    seconds = median_seconds(lambda: fit_surface(points, DELTA, resampler), 5)
    assert isinstance(found, SurfaceFit)
    what = f"{N_SURFACE} bootstraps of a surface, 240 points"
    return [
        Line(f"{what}, warm", seconds, 1.5),
        Line(f"{what}, warm: without certificate", found.n_uncertified, 0, "resamples"),
        Line(f"{what}, warm: memory", memory, 100.0, "MiB"),
    ]


def surface_restarted() -> list[Line]:
    """A global search for every resample."""
    points = points_240()
    problem = centre(points).problem
    counts_RP = Resampler.create([points], N_SURFACE, 0).run_counts(points)
    resampled = dataclasses.replace(problem, weight_RP=counts_RP * problem.weight_RP)
    before = peak_mib()
    minimum = fit_chunked(resampled, lambda part: minimise(part, DELTA))
    memory = peak_mib() - before
    seconds = median_seconds(lambda: fit_chunked(resampled, lambda p: minimise(p, DELTA)), 3)
    what = f"{N_SURFACE} bootstraps of a surface, global restarts"
    n_uncertified = int((~minimum.is_certified_R).sum())
    return [
        Line(what, seconds, 3.0),
        Line(f"{what}: without certificate", n_uncertified, 0, "resamples"),
        Line(f"{what}: memory", memory, 100.0, "MiB"),
    ]


def isoflop(method: IsoFlopMethod) -> list[Line]:
    """Five budgets of seven sizes."""
    rows = isoflop_rows("a", Surface(), noise=0.003, n_sizes=7)
    points = points_by_family(table(rows).frame)["a"]
    resampler = Resampler.create([points], N_ISOFLOP, 0)
    before = peak_mib()
    fit_isoflop(points, method, resampler)
    memory = peak_mib() - before
    seconds = median_seconds(lambda: fit_isoflop(points, method, resampler), 5)
    what = f"{N_ISOFLOP} isoFLOP bootstraps, 35 points, {method}"
    return [Line(what, seconds, 0.3), Line(f"{what}: memory", memory, 100.0, "MiB")]


def isoflop_parabola() -> list[Line]:
    """As published studies do it."""
    return isoflop("parabola")


def isoflop_pair() -> list[Line]:
    """The default."""
    return isoflop("pair")


def command() -> list[Line]:
    """`sweeper fit` on every reference table, start-up included."""
    program = Path(sys.executable).parent / "sweeper"
    lines = []
    for path in sorted(SHARED_DATA.glob("*.csv")):
        if not set(pd.read_csv(path, nrows=0)) >= TIDY_COLUMNS:
            continue
        arguments = [program, "fit", path, "--bootstrap", str(N_COMMAND), "--json"]
        seconds = median_seconds(
            lambda a=arguments: subprocess.run(a, check=True, capture_output=True),  # type: ignore[misc]
            3,
        )
        lines.append(Line(f"sweeper fit {path.name} --bootstrap {N_COMMAND}", seconds, 5.0))
    return lines


PARTS: dict[str, Callable[[], list[Line]]] = {
    part.__name__: part
    for part in (
        one_surface,
        surface_warm,
        surface_restarted,
        isoflop_parabola,
        isoflop_pair,
        command,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--part", choices=PARTS, help="one part, in this process")
    chosen = parser.parse_args().part
    if chosen is not None:
        say("\n".join(map(str, PARTS[chosen]())))
        return
    modules = (np, pd, scipy)
    say_machine(*(f"{each.__name__} {each.__version__}" for each in modules), "one thread")
    if not SHARED_DATA.is_dir():
        say("the reference tables are absent: planted points, and no run of the command")
    for name in PARTS:
        subprocess.run([sys.executable, __file__, "--part", name], check=True)


if __name__ == "__main__":
    main()
