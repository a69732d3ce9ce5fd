"""Charts of numbers with intervals, one below the other: answers, sensitivity, exponents.

Their few rows stand in the specification itself.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from analysis import notation
from analysis.answers.compare import MultiplierPoint
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.report.page.charts.figure import Figure, Panel
from analysis.report.page.charts.vega import (
    INK,
    MUTED,
    PAPER,
    Axis,
    Json,
    series_color,
    series_shape,
)
from analysis.report.tables import Table
from analysis.sensitivity.conclusions import KIND_TITLES, SYMBOLS, Conclusion, Sensitivity
from analysis.sensitivity.variations import VariationKind
from analysis.stats.power_law import PowerLaw

MAX_ROWS = 7
"""Budgets in the picture of an answer."""
ROW_PIXELS = 24
CONTRARY = "var(--contrary)"
METHODS = ("isoFLOP", "envelope", "surface")
"""Approaches 2, 1 and 3 of Hoffmann et al., the one that the report trusts first."""
PANELS = {"params": "N* ∝ Cᵃ", "tokens": "D* ∝ Cᵇ", "loss": "L* ∝ Cᶜ"}


def _rows_axis(names: Sequence[str], *, labelled: bool = True) -> Json:
    """Rows from the top, their names to the left."""
    axis = {
        "title": None, "ticks": False, "domain": False, "grid": False, "labelLimit": 150,
        "labels": labelled,
    }  # fmt: skip
    return {"field": "row", "type": "nominal", "sort": [*names], "axis": axis}


def _forest(
    x: Axis, rows: Sequence[Json], names: Sequence[str], neutral: float | None, described: str
) -> Json:
    """Rows with `row`, `value`, `low`, `high`, `color`, `shape`, `filled` and what is `told`."""
    y = _rows_axis(names)
    low = x.encoded() | {"field": "low"}
    own = {"scale": None, "type": "nominal", "legend": None}
    color = own | {"field": "color"}
    layers: list[Json] = []
    if neutral is not None:
        layers.append(
            {"name": "neutral", "data": {"values": [{"x": neutral}]},
             "mark": {"type": "rule", "color": INK},
             "encoding": {"x": {"field": "x", "type": "quantitative"}}}
        )  # fmt: skip
    layers += [
        {"name": "interval", "mark": {"type": "rule", "strokeWidth": 2},
         "encoding": {"x": low, "x2": {"field": "high"}, "y": y, "color": color}},
        {"name": "number", "mark": {"type": "point", "size": 75, "opacity": 1, "strokeWidth": 1.5},
         "encoding": {"x": x.encoded(), "y": y, "stroke": color, "shape": own | {"field": "shape"},
                      "fill": own | {"field": "fill"}}},
    ]  # fmt: skip
    usermeta: Json = {
        "x": x.kind, "y": None, "losses": [], "series": None,
        "tips": {"number": [["", "told", "text"], ["95 %", "interval", "text"]]},
    }  # fmt: skip
    return {
        "description": described,
        "height": ROW_PIXELS * max(2, len(names)),
        "data": {"values": [*rows]},
        "layer": layers,
        "usermeta": usermeta,
    }


class Look(NamedTuple):
    """Of a mark."""

    color: str = INK
    shape: str = "circle"
    filled: bool = True


PLAIN = Look()


class Number(NamedTuple):
    """A value, its interval, and how both are written."""

    value: float | None
    ends: notation.Interval | None
    write: Callable[[float], str]


def _row(name: str, number: Number, told: str, look: Look = PLAIN) -> Json:
    value, ends, write = number
    low, high = ends or (value, value)
    return {
        "row": name, "value": value, "low": low, "high": high, "color": look.color,
        "shape": look.shape, "fill": look.color if look.filled else PAPER, "told": told,
        "interval": notation.with_interval(value, ends, write, notation.NO_INTERVAL),
    }  # fmt: skip


def answer_chart(
    points: Sequence[MultiplierPoint], asked: MultiplierPoint | None, baseline: str, against: str
) -> Json:
    """The multiplier at the budgets of a pair, the asked one in full ink."""
    shown = {point.flops: point for point in (*points, *([asked] if asked else ()))}
    flops = sorted(shown)
    stride = -(-len(flops) // (MAX_ROWS - 1))
    kept = flops[::-stride][::-1]
    if asked is not None and asked.flops not in kept:
        kept = sorted([*kept, asked.flops])
    rows = []
    for each in kept:
        point = shown[each]
        if point.multiplier is None:
            continue
        is_asked = asked is not None and each == asked.flops
        look = (CONTRARY, "diamond") if is_asked else (MUTED, "circle")
        told = f"at {notation.flops(each)} FLOPs {against} needs, of the compute of {baseline}"
        rows.append(
            _row(
                notation.flops(each),
                Number(point.multiplier, point.ci, notation.ratio),
                told,
                Look(*look, not point.extrapolated),
            )
        )
    x = Axis("value", "its compute for equal loss, of the other's", "ratio", "log")
    described = f"Compute that {against} needs for the loss of {baseline}, by budget."
    return _forest(x, rows, [row["row"] for row in reversed(rows)], 1.0, described)


def sensitivity(found: Sequence[Sensitivity], tables: Sequence[tuple[str, Table]]) -> Figure:
    """Every comparison's numbers under every variation, a forest for each."""
    panels = []
    for tried in found:
        for conclusion in tried.comparisons:
            if any(row.value is not None for row in conclusion.rows):
                what = f"{_title(conclusion)}, {tried.against} against {tried.baseline}"
                panels.append(Panel(what, _varied(conclusion, what)))
    caption = (
        "Line and band: the fit with its 95 % interval. A cross has the other sign than the fit. "
        "Rows are other counts of parameters and FLOPs, other forms, and the fit without a budget "
        "or size; what the data cannot support has no row."
    )
    return Figure("sensitivity", "Comparisons otherwise", caption, tuple(panels), tuple(tables))


def _title(conclusion: Conclusion) -> str:
    if conclusion.quantity == "multiplier":
        return "compute multiplier"
    return f"difference of {SYMBOLS[conclusion.quantity]} exponents"


def _varied(conclusion: Conclusion, described: str) -> Json:
    is_ratio = conclusion.quantity == "multiplier"
    write = notation.ratio if is_ratio else notation.exponent
    rows = [_row("as fitted", Number(conclusion.value, conclusion.ci, write), "as fitted")]
    tried = [row for row in conclusion.rows if row.value is not None]
    for kind, members in groupby(tried, key=lambda row: row.variation.kind):
        for row in members:
            look = Look(CONTRARY, "cross") if row.is_changed else PLAIN
            name = _short(kind, row.variation.label)
            number = Number(row.value, row.ci, write)
            rows.append(_row(name, number, row.variation.phrase, look))
    x = Axis("value", "", "ratio", "log") if is_ratio else Axis("value", "", "number")
    spec = _forest(x, rows, [row["row"] for row in rows], 1.0 if is_ratio else 0.0, described)
    if conclusion.ci is not None:
        low, high = conclusion.ci
        band = {
            "name": "fit", "data": {"values": [{"low": low, "high": high}]},
            "mark": {"type": "rect", "color": INK, "opacity": 0.09},
            "encoding": {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}},
        }  # fmt: skip
        spec["layer"].insert(0, band)
    return spec


def _short(kind: VariationKind, label: str) -> str:
    """A row's name: what is varied goes without saying for forms, budgets and sizes."""
    return f"{KIND_TITLES[kind].split()[0]}: {label}" if kind in ("params", "flops") else label


def exponents(fit: FitResult, tables: tuple[tuple[str, Table], ...]) -> Figure:
    """Every estimate of every scaling exponent, one chart for each law."""
    panels = []
    for quantity, title in PANELS.items():
        rows = []
        for number, (label, family) in enumerate(fit.families.items()):
            for method in METHODS:
                found = _estimate(family, method, quantity)
                if found is not None:
                    name = f"{label}, {method}"
                    look = Look(series_color(number), series_shape(number), method == METHODS[0])
                    rows.append(_row(name, Number(*found, notation.exponent), name, look))
        for law in fit.published:
            if law.quantity == quantity and law.against == "flops" and not law.offset:
                told = f"{law.name}, published: {law.source}"
                name = f"{law.name}, published"
                ends = law.exponent_ci
                value = Number(law.exponent, ends, notation.exponent)
                rows.append(_row(name, value, told, Look(MUTED)))
        if rows:
            names = [row["row"] for row in rows]
            neutral = 0.5 if quantity != "loss" else None
            x = Axis("value", "exponent", "number")
            panels.append(Panel(title, _forest(x, rows, names, neutral, f"Exponents of {title}")))
    caption = (
        "Every estimate of every scaling exponent; hollow: by another method than isoFLOP curves. "
        "An exponent that depends on the method says more about the method than about the series. "
        "At 0.5 size and tokens grow alike."
    )
    return Figure("exponents", "Scaling exponents", caption, tuple(panels), tables)


def _estimate(
    family: FamilyFit, method: str, quantity: str
) -> tuple[float, notation.Interval | None] | None:
    """An exponent with its interval; None where this method gives no pure power law."""
    if method == "surface":
        if family.surface is None or quantity == "loss":
            return None
        share, (low, high) = family.surface.params_exponent, family.surface.ci["params_exponent"]
        if quantity == "params":
            return share, (low, high)
        return 1.0 - share, (1.0 - high, 1.0 - low)  # a + b = 1, as C ∝ N · D
    fitted = family.isoflop if method == "isoFLOP" else family.envelope
    law: PowerLaw | None = getattr(fitted, f"{quantity}_law", None)
    if law is None or law.offset is not None:  # beside an offset the exponent means another thing
        return None
    return law.exponent, law.exponent_ci
