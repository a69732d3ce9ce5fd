"""What the charts of the page draw, as columns of plain values, and how many points it shows.

A fit becomes the frames of one *view*: other conventions for parameters and FLOPs make other views
of the same charts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis import notation
from analysis.answers.compare import Comparison, MultiplierPoint, stretches
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.isoflop.isoflop import REASONS, Optimum
from analysis.stats.power_law import PowerLaw
from analysis.tables.points import IntArray, Points, records
from analysis.tables.published import PublishedLaw

Cell = float | int | str | bool | None

MAX_POINTS = 4000
"""Measured points that a page shows: more would hide each other, and cost seconds to draw."""
CURVE_POINTS = 41
LABELLED_BUDGETS = 8
"""Of the curves of one series."""
QUANTITIES = ("loss", "params", "tokens")
REACH = {"loss": 1.5, "params": 30.0, "tokens": 30.0}
"""How far off the axis of a chart a published law may lie and still be drawn."""


@dataclass
class Frame:
    """Rows of a chart; every row has every column."""

    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """One more row."""
        assert len(cells) == len(self.columns)
        self.rows.append(cells)

    def to_json(self) -> dict[str, list[Any]]:
        """Column by column, numbers in six digits: more than a screen can show."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        return {
            name: [_short(cell) for cell in column]
            for name, column in zip(self.columns, columns, strict=True)
        }


def _short(cell: Cell) -> Cell:
    if not isinstance(cell, float):
        return cell
    if not np.isfinite(cell):
        return None
    value = float(f"{cell:.6g}")
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


Frames = dict[str, Frame]


@dataclass(frozen=True)
class Shown:
    """Which points of each series a page shows, and the numbers that their runs have on it."""

    points: dict[str, IntArray]
    """Of each series, indices of its points."""
    runs: dict[int, int]
    """Number of a run in the fit → its number on the page."""

    @classmethod
    def of(cls, fit: FitResult) -> "Shown":
        """All points, or evenly chosen ones of every budget where there are too many."""
        total = sum(len(family.points.loss_P) for family in fit.families.values())
        stride = -(-total // MAX_POINTS)
        points = {label: _thinned(family.points, stride) for label, family in fit.families.items()}
        shown = [fit.families[label].points.run_P[chosen] for label, chosen in points.items()]
        order = dict.fromkeys(np.concatenate(shown).tolist())
        return cls(points, {run: number for number, run in enumerate(order)})


def _thinned(points: Points, stride: int) -> IntArray:
    # Whole groups of size and budget are thinned alike, so that ends of curves stay.
    order = np.lexsort((points.tokens_P, points.params_P, points.budget_P))
    chosen: IntArray = np.sort(order[::stride])
    return chosen


def frames(fit: FitResult, comparisons: Sequence[Comparison], shown: Shown) -> Frames:
    """Everything that is drawn of one view."""
    found = {
        "points": Frame(
            ("series", "run", "params", "tokens", "flops", "budget", "loss", "low", "high")
        ),
        "curves": Frame(("series", "budget", "bracketed", "params", "loss")),
        "ends": Frame(("series", "text", "bracketed", "params", "loss")),
        "optima": Frame(
            ("series", "flops", *(f"{n}{e}" for n in QUANTITIES for e in ("", "_low", "_high")))
        ),
        "open": Frame(("series", "flops", "loss", "why")),
        "laws": Frame(("series", "quantity", "part", "flops", "value", "low", "high")),
        "residuals": Frame(("series", "flops", "percent", "low", "high", "kind")),
        "records": Frame(("series", "flops", "loss")),
        "published": Frame(("name", "quantity", "part", "flops", "value")),
        "stretches": Frame(("baseline", "series", "part", "flops", "multiplier", "low", "high")),
        "multipliers": Frame(
            ("baseline", "series", "flops", "multiplier", "low", "high", "extrapolated")
        ),
    }
    limits = _flops_limits(fit)
    for number, (label, family) in enumerate(fit.families.items()):
        _add_points(found["points"], number, family.points, shown.points[label], shown.runs)
        flops, loss = records(family.points)
        for cells in list(zip(flops.tolist(), loss.tolist(), strict=True))[
            :: 1 + len(flops) // 200
        ]:
            found["records"].add(number, *cells)
        _add_valleys(found, number, family)
        for quantity in QUANTITIES:
            _add_law(found["laws"], number, family, quantity, limits)
        _add_residuals(found["residuals"], number, family)
    _add_published(found["published"], fit.published, found, limits)
    numbers = {label: number for number, label in enumerate(fit.families)}
    for comparison in comparisons:
        _add_multipliers(found, comparison, numbers)
    return found


def bracketed(optima: Sequence[Optimum]) -> str:
    """How many of the budgets count."""
    if not optima:
        return "no budgets by this count"
    n_bracketed = sum(optimum.bracketed for optimum in optima)
    return f"{n_bracketed} of {len(optima)} budgets bracketed"


def _flops_limits(fit: FitResult) -> notation.Interval:
    """Of the frontiers: all budgets, and a third of a decade beyond."""
    flops = [o.flops for family in fit.families.values() for o in family.optima if o.curve_params]
    flops = flops or [1.0]
    return min(flops) / 1.3, max(flops) * 2.2


def _add_points(
    frame: Frame, series: int, points: Points, chosen: IntArray, runs: dict[int, int]
) -> None:
    mine = points.take(chosen)
    for run, params, tokens, flops, budget, loss, stderr in zip(
        mine.run_P.tolist(), mine.params_P.tolist(), mine.tokens_P.tolist(), mine.flops_P.tolist(),
        mine.budget_P.tolist(), mine.loss_P.tolist(), mine.stderr_P.tolist(), strict=True,
    ):  # fmt: skip
        frame.add(
            series, runs[run], params, tokens, flops, budget, loss, loss - stderr, loss + stderr
        )


def _add_valleys(found: Frames, series: int, family: FamilyFit) -> None:
    drawn = [optimum for optimum in family.optima if optimum.curve_params]
    labelled = {id(each) for each in drawn[:: -(-len(drawn) // LABELLED_BUDGETS) or 1]}
    for optimum in drawn:
        step = -(-len(optimum.curve_params) // CURVE_POINTS)
        pairs = list(zip(optimum.curve_params, optimum.curve_loss, strict=True))
        for params, loss in [*pairs[:-1:step], pairs[-1]]:
            found["curves"].add(series, optimum.budget_flops, optimum.bracketed, params, loss)
        if id(optimum) in labelled:
            budget = f"{optimum.budget_flops:.3g}".replace("e+0", "e").replace("e+", "e")
            found["ends"].add(series, budget, optimum.bracketed, *pairs[-1])
    for optimum in family.optima:
        if optimum.bracketed:
            values = [_with_ends(optimum, name) for name in QUANTITIES]
            found["optima"].add(series, optimum.flops, *(cell for each in values for cell in each))
        elif optimum.curve_params:
            # Where budgets were regrouped, no point is of one.
            mine = family.points.loss_P[family.points.budget_P == optimum.budget_flops]
            lowest = min(mine.tolist() or optimum.curve_loss)
            why = REASONS[optimum.reason] if optimum.reason else "not bracketed"
            found["open"].add(series, optimum.flops, lowest, why)


def _with_ends(optimum: Optimum, name: str) -> tuple[float | None, float | None, float | None]:
    low, high = getattr(optimum, f"{name}_ci") or (None, None)
    return getattr(optimum, name), low, high


def _law(family: FamilyFit, quantity: str) -> PowerLaw | None:
    law: PowerLaw | None = getattr(family.isoflop, f"{quantity}_law", None)
    return law


def _add_law(
    frame: Frame, series: int, family: FamilyFit, quantity: str, limits: notation.Interval
) -> None:
    law = _law(family, quantity)
    if law is None or family.isoflop is None:
        return
    first, *_, last = (optimum.flops for optimum in family.isoflop.bracketed)
    parts = (
        ("below", limits[0], first, 6),
        ("within", first, last, CURVE_POINTS),
        ("above", last, limits[1], 12),
    )
    for part, low, high, n in parts:
        for flops in np.geomspace(low, high, n).tolist() if low < high else ():
            frame.add(series, quantity, part, flops, law(flops), *law.interval(flops))


def _add_residuals(frame: Frame, series: int, family: FamilyFit) -> None:
    """Signed distance in percent of every L* from its law, and from what smaller budgets said."""
    law, holdout = _law(family, "loss"), family.holdout
    if law is None or family.isoflop is None:
        return
    for optimum in family.isoflop.bracketed:
        values = [
            None if value is None else 100.0 * (value / law(optimum.flops) - 1.0)
            for value in _with_ends(optimum, "loss")
        ]
        frame.add(series, optimum.flops, *values, "fitted")
    if holdout is None or holdout.unit != "budgets":
        return
    form = "power" if law.offset is None else "offset"
    closest = {made.target: made for made in holdout.predictions if made.form == form}
    for target, made in closest.items():
        percent = 100.0 * (target.loss / made.loss - 1.0)
        frame.add(series, target.flops, percent, None, None, "predicted from smaller budgets")


def _add_published(
    frame: Frame, laws: Iterable[PublishedLaw], found: Frames, limits: notation.Interval
) -> None:
    """Published laws where they pass near the fitted ones."""
    seen: dict[str, list[float]] = {quantity: [] for quantity in QUANTITIES}
    for row in found["laws"].rows:
        seen[str(row[1])].append(float(row[4] or 0.0))
    for law in laws:
        if not seen.get(law.quantity) or law.coefficient is None:
            continue
        low, high = min(seen[law.quantity]), max(seen[law.quantity])
        for flops in np.geomspace(*limits, CURVE_POINTS).tolist():
            value, reach = law(flops), REACH[law.quantity]
            if value is not None and low / reach < value < high * reach:
                part = "within its range" if law.covers(flops) else "outside it, or unknown"
                frame.add(law.name, law.quantity, part, flops, value)


def _add_multipliers(found: Frames, comparison: Comparison, numbers: dict[str, int]) -> None:
    pair = numbers[comparison.baseline], numbers[comparison.against]
    for index, stretch in enumerate(stretches(comparison.curve)):
        part = f"{index}{' extrapolated' if stretch.is_extrapolated else ''}"
        for point in stretch.points:
            found["stretches"].add(*pair, part, *_multiplier(point))
    for point in comparison.points:
        found["multipliers"].add(*pair, *_multiplier(point), point.extrapolated)


def _multiplier(point: MultiplierPoint) -> tuple[Cell, Cell, Cell, Cell]:
    low, high = point.ci or (None, None)
    return point.flops, point.multiplier, low, high
