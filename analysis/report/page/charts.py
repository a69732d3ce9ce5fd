"""The charts of the page as Vega-Lite specifications: plain data that a browser draws.

A specification names the frames it draws. What the page's script needs to know beside it stands in
its `usermeta`: what the axes count (`x`, `y`), which fields are losses and change with the unit,
which series a chart is of, and what is told of a mark that is pointed at. In titles `{params}` and
`{flops}` stand for what the view that is shown counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from analysis.figures.palette import PALETTE
from analysis.fitting.fit import FitResult
from analysis.report.page.frames import bracketed
from analysis.report.tables import Table

Json = dict[str, Any]
Kind = Literal["flops", "count", "loss", "ratio", "number", "percent", "text", "series", "run"]

SHAPES = {
    "circle": "●", "square": "■", "triangle-up": "▲", "diamond": "◆", "triangle-down": "▼",
    "cross": "✚", "triangle-right": "▶", "triangle-left": "◀",
}  # fmt: skip
"""Marks of the series, with the characters that stand for them in a key."""
INK, MUTED, PAPER = "var(--ink)", "var(--muted)", "var(--paper)"
DASHES = [5, 4]
LABELS: dict[str, str] = {
    "flops": "replace(format(datum.value, '.3~e'), 'e+', 'e')",
    "count": "replace(replace(format(datum.value, '.3~s'), 'G', 'B'), 'k', 'K')",
    "loss": "format(datum.value, '.4~r')",
    "ratio": "format(datum.value, '.3~r') + '×'",
    "number": "format(datum.value, '.3~f')",
    "percent": "format(datum.value, '.2~f')",
}
"""How the script-free expression language of Vega writes what an axis counts."""


@dataclass(frozen=True)
class Tip:
    """What is told of a mark: (title, field, how it is written); ends of an interval beside it."""

    lines: tuple[tuple[str, str, Kind], ...]
    ends: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """One chart."""

    title: str
    spec: Json
    series: int | None = None
    """The only series that it is of."""
    note: str = ""
    """How many of its budgets are bracketed, in the view that is shown."""


@dataclass(frozen=True)
class Figure:
    """Charts that stand side by side, what they show, and their numbers as tables."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    tables: tuple[tuple[str, Table], ...] = ()
    has_key: bool = False
    """Whether several series are told apart by colour and shape."""


def series_color(number: int) -> str:
    """A colour that follows the theme of the page."""
    return f"var(--series-{number % len(PALETTE)})"


def series_shape(number: int) -> str:
    """A shape; it and the colour together are of one series, up to 64."""
    return list(SHAPES)[(number + number // len(PALETTE)) % len(SHAPES)]


def series_sign(number: int) -> str:
    """The shape as a character."""
    return SHAPES[series_shape(number)]


@dataclass(frozen=True)
class Axis:
    """What one axis shows."""

    field: str
    title: str
    kind: Kind
    scale: Literal["log", "linear"] = "linear"

    def encoded(self) -> Json:
        """As an encoding."""
        axis = {"title": self.title, "labelExpr": LABELS[self.kind]}
        scale = {"type": self.scale, "nice": False, "padding": 12}
        return {"field": self.field, "type": "quantitative", "scale": scale, "axis": axis}


@dataclass(frozen=True)
class Canvas:
    """Two axes, and the marks between them."""

    x: Axis
    y: Axis
    labels: tuple[str, ...]
    """Of all series."""
    series: int | None = None
    height: int = 300

    def mark(self, name: str, frame: str, mark: Json, **encoding: Json) -> Json:
        """A layer; marks whose name is in the tips can be pointed at."""
        where = {"x": self.x.encoded(), "y": self.y.encoded()} | encoding
        where = {channel: each for channel, each in where.items() if each is not None}
        return {"name": name, "data": {"name": frame}, "mark": mark, "encoding": where}

    def interval(self, name: str, frame: str, field_: str, mark: Json | None = None) -> Json:
        """A vertical line from `<field>_low` to `<field>_high`."""
        low = self.y.encoded() | {"field": f"{field_}_low" if field_ else "low"}
        high = {"field": f"{field_}_high" if field_ else "high"}
        look = {"type": "rule", "strokeWidth": 1.3} | (mark or {})
        return self.mark(name, frame, look, y=low, y2=high, color=self.color())

    def color(self) -> Json:
        """By series, in every chart alike."""
        if self.series is not None:
            return {"value": series_color(self.series)}
        numbers = range(len(self.labels))
        scale = {"domain": [*numbers], "range": [series_color(n) for n in numbers]}
        return {"field": "series", "type": "nominal", "scale": scale, "legend": None}

    def shape(self) -> Json:
        """By series, for those who see few colours."""
        if self.series is not None:
            return {"value": series_shape(self.series)}
        numbers = range(len(self.labels))
        scale = {"domain": [*numbers], "range": [series_shape(n) for n in numbers]}
        return {"field": "series", "type": "nominal", "scale": scale, "legend": None}

    def spec(
        self,
        layers: Sequence[Json],
        description: str,
        tips: Mapping[str, Tip] | None = None,
        losses: Sequence[str] = (),
    ) -> Json:
        """The whole chart; `losses` are fields of its frames that change with the unit."""
        told = {
            name: [[*line, *tip.ends.get(line[1], ())] for line in tip.lines]
            for name, tip in (tips or {}).items()
        }
        usermeta = {
            "x": self.x.kind, "y": self.y.kind, "losses": [*losses], "series": self.series,
            "tips": told,
        }  # fmt: skip
        return {
            "description": description,
            "height": self.height,
            "layer": [*layers],
            "usermeta": usermeta,
        }


def filtered(layer: Json, **values: Any) -> Json:
    """A layer of the rows with these values alone."""
    tests = [{"field": name, "equal": value} for name, value in values.items()]
    return layer | {"transform": [{"filter": {"and": tests}}]}


def _level(value: float, color: str) -> Json:
    """A line all across a chart."""
    return {
        "name": "level",
        "data": {"values": [{"y": value}]},
        "mark": {"type": "rule", "color": color},
        "encoding": {"y": {"field": "y", "type": "quantitative"}},
    }


def line(width: float = 1.8, **look: Any) -> Json:
    """A line that is not smoothed: its points are dense."""
    return {"type": "line", "strokeWidth": width, "clip": True, **look}


def point(size: int = 55, **look: Any) -> Json:
    """A filled mark, with a rim of paper that sets it off from its neighbours."""
    return {"type": "point", "filled": True, "size": size, "opacity": 1, "clip": True, **look}


POINT_TIP = Tip(
    (
        ("series", "series", "series"),
        ("run", "run", "run"),
        ("size", "params", "count"),
        ("tokens", "tokens", "count"),
        ("FLOPs", "flops", "flops"),
        ("loss", "loss", "loss"),
    ),
    {"loss": ("low", "high")},
)


def valleys(fit: FitResult, tables: tuple[tuple[str, Table], ...], remark: str) -> Figure:
    """Loss against size at every budget, a chart for each series."""
    labels = tuple(fit.families)
    size = Axis("params", "{params}", "count", "log")
    loss = Axis("loss", "loss", "loss")
    panels = []
    for number, (label, family) in enumerate(fit.families.items()):
        if not any(optimum.curve_params for optimum in family.optima):
            continue
        on = Canvas(size, loss, labels, number)
        noted = bracketed(family.optima)
        by_budget = {"field": "budget", "type": "nominal"}
        look = _if_bracketed(series_color(number))
        dashes = {"condition": {"test": "datum.bracketed", "value": [1, 0]}, "value": DASHES}
        text = {"type": "text", "align": "left", "dx": 5, "fontSize": 10, "clip": False}
        star = {"stroke": INK, "fill": PAPER, "strokeWidth": 1.6, "shape": "diamond"}
        layers = [
            on.mark("curve", "curves", line(), detail=by_budget, color=look, strokeDash=dashes),
            on.interval("error", "points", "", {"strokeWidth": 1, "opacity": 0.6}),
            on.mark("points", "points", point(38), color=on.color(), shape=on.shape()),
            on.mark("best", "optima", {"type": "point", "size": 85, "opacity": 1} | star),
            on.mark("end", "ends", text, text={"field": "text"}, color=look),
        ]
        tips = {
            "points": POINT_TIP,
            "best": Tip(
                (
                    ("optimum of", "series", "series"),
                    ("FLOPs", "flops", "flops"),
                    ("N*", "params", "count"),
                    ("D*", "tokens", "count"),
                    ("L*", "loss", "loss"),
                ),
                {name: (f"{name}_low", f"{name}_high") for name in ("params", "tokens", "loss")},
            ),
        }
        losses = ("loss", "low", "high", "loss_low", "loss_high")
        described = f"Loss against size of {label} at each budget; {noted}."
        panels.append(Panel(label, on.spec(layers, described, tips, losses), number, noted))
    caption = (
        "Loss against model size at equal compute. Diamonds are compute-optimal sizes. A budget "
        "counts only when its minimum is bracketed: sizes on both sides rise above the noise; "
        f"grey and dashed ones enter no law.{remark}"
    )
    return Figure("valleys", "Loss against size at every budget", caption, tuple(panels), tables)


def _if_bracketed(color: str) -> Json:
    return {"condition": {"test": "datum.bracketed", "value": color}, "value": MUTED}


def frontiers(fit: FitResult, tables: tuple[tuple[str, Table], ...]) -> Figure:
    """Compute-optimal loss, size and tokens against compute, and what the loss law misses."""
    labels = tuple(fit.families)
    flops = Axis("flops", "{flops}", "flops", "log")
    axes = {
        "loss": ("Compute-optimal loss", Axis("value", "L*", "loss", "log")),
        "params": ("Compute-optimal size", Axis("value", "N* ({params})", "count", "log")),
        "tokens": ("Compute-optimal tokens", Axis("value", "D* (tokens)", "count", "log")),
    }
    optima = [optimum for family in fit.families.values() for optimum in family.optima]
    panels = [
        Panel(title, _law_chart(Canvas(flops, axis, labels), name))
        for name, (title, axis) in axes.items()
        # The lowest loss of a budget is drawn where it is not bracketed, too.
        if any(each.bracketed or (name == "loss" and each.curve_params) for each in optima)
    ]
    if any(family.isoflop and family.isoflop.loss_law for family in fit.families.values()):
        panels.append(Panel("What the loss law misses", _residual_chart(flops, labels)))
    caption = (
        "Lines are power laws through the bracketed budgets, dashed beyond them; bands hold 95 % "
        "of the bootstrap laws. Hollow: the lowest loss of a budget that is not bracketed, or "
        "a residual that the smaller budgets alone had to predict. Grey: published laws."
    )
    name = "Compute-optimal loss, size and tokens"
    return Figure("frontiers", name, caption, tuple(panels), tables, has_key=True)


def _law_chart(on: Canvas, quantity: str) -> Json:
    at = Axis(quantity, on.y.title, on.y.kind, "log")
    measured = Canvas(on.x, at, on.labels)
    band = {"type": "area", "opacity": 0.16, "clip": True}
    low, high = on.y.encoded() | {"field": "low"}, {"field": "high"}
    part = {"field": "part", "type": "nominal"}
    dashes = {"condition": {"test": "datum.part == 'within'", "value": [1, 0]}, "value": DASHES}
    published = {
        "condition": {"test": "datum.part == 'within its range'", "value": [1, 0]},
        "value": [2, 3],
    }
    layers = [
        filtered(
            on.mark("published", "published", line(1.4, color=MUTED),
                    detail={"field": "name", "type": "nominal"}, strokeDash=published),
            quantity=quantity,
        ),
        filtered(
            on.mark("band", "laws", band, y=low, y2=high, color=on.color(), detail=part),
            quantity=quantity,
        ),
        filtered(
            on.mark("law", "laws", line(), color=on.color(), detail=part, strokeDash=dashes),
            quantity=quantity,
        ),
        measured.interval("error", "optima", quantity),
        measured.mark("best", "optima", point(60), color=on.color(), shape=on.shape()),
    ]  # fmt: skip
    tips = {
        "best": Tip(
            (
                ("series", "series", "series"),
                ("FLOPs", "flops", "flops"),
                (f"{quantity}*", quantity, on.y.kind),
            ),
            {quantity: (f"{quantity}_low", f"{quantity}_high")},
        )
    }
    losses: tuple[str, ...] = ()
    if quantity == "loss":
        losses = ("value", "low", "high", "loss", "loss_low", "loss_high")
        hollow = point(48, filled=False, strokeWidth=1.4)
        layers.append(measured.mark("open", "open", hollow, color=on.color(), shape=on.shape()))
        tips["open"] = Tip(
            (
                ("series", "series", "series"),
                ("lowest loss", "loss", "loss"),
                ("not bracketed", "why", "text"),
            )
        )
    return on.spec(layers, f"{on.y.title} against compute, by series.", tips, losses)


def _residual_chart(flops: Axis, labels: tuple[str, ...]) -> Json:
    on = Canvas(flops, Axis("percent", "L* − law (%)", "percent"), labels)
    hollow = {
        "condition": {"test": "datum.kind == 'fitted'", "value": 1},
        "value": 0,
    }
    side_by_side = {"type": "point", "size": 60, "opacity": 1, "strokeWidth": 1.4}
    color = on.color()
    layers = [
        _level(0, MUTED),
        on.interval("error", "residuals", "", {"opacity": 0.7}),
        on.mark("residual", "residuals", side_by_side, stroke=color, fill=color,
                fillOpacity=hollow, shape=on.shape()),
    ]  # fmt: skip
    tip = Tip(
        (
            ("series", "series", "series"),
            ("FLOPs", "flops", "flops"),
            ("off the law, %", "percent", "percent"),
            ("", "kind", "text"),
        ),
        {"percent": ("low", "high")},
    )
    return on.spec(layers, "Distance of each optimum from its law.", {"residual": tip})


def multipliers(fit: FitResult, baselines: Sequence[str], table: Table) -> Figure:
    """How much compute other series need for the loss of a baseline, a chart for each baseline."""
    labels = tuple(fit.families)
    flops = Axis("flops", "compute of the baseline ({flops})", "flops", "log")
    ratio = Axis("multiplier", "compute for equal L*", "ratio", "log")
    panels = []
    for baseline in baselines:
        of = {"baseline": labels.index(baseline)}
        on = Canvas(flops, ratio, labels)
        band = {"type": "area", "opacity": 0.16, "clip": True}
        low, high = ratio.encoded() | {"field": "low"}, {"field": "high"}
        part = {"field": "part", "type": "nominal"}
        extrapolated = "indexof(datum.part, 'extrapolated') >= 0"
        dashes = {"condition": {"test": extrapolated, "value": DASHES}, "value": [1, 0]}
        hollow = {"condition": {"test": "datum.extrapolated", "value": 0}, "value": 1}
        color = on.color()
        dot = {"type": "point", "size": 60, "opacity": 1, "strokeWidth": 1.4}
        layers = [
            _level(1, INK),
            filtered(on.mark("band", "stretches", band, y=low, y2=high, color=color, detail=part),
                     **of),
            filtered(on.mark("law", "stretches", line(), color=color, detail=part,
                             strokeDash=dashes), **of),
            filtered(on.interval("error", "multipliers", ""), **of),
            filtered(on.mark("multiplier", "multipliers", dot, stroke=color, fill=color,
                             fillOpacity=hollow, shape=on.shape()), **of),
        ]  # fmt: skip
        tip = Tip(
            (
                ("series", "series", "series"),
                ("FLOPs of the baseline", "flops", "flops"),
                ("compute for its loss", "multiplier", "ratio"),
            ),
            {"multiplier": ("low", "high")},
        )
        described = f"Compute that other series need for the loss of {baseline}."
        panels.append(Panel(f"against {baseline}", on.spec(layers, described, {"multiplier": tip})))
    caption = (
        "Compute that a series needs to reach the compute-optimal loss of the baseline, as a "
        "multiple of the baseline's. Above 1× the baseline is better. Dashed and hollow: one of "
        "the two never observed that loss."
    )
    tables = (("Compute multipliers at equal loss", table),) if table.rows else ()
    return Figure("multiplier", "Compute multipliers", caption, tuple(panels), tables, has_key=True)


def trajectories(fit: FitResult, table: Table, remark: str) -> Figure:
    """Every measured loss against compute, a chart for each series."""
    labels = tuple(fit.families)
    flops = Axis("flops", "{flops}", "flops", "log")
    panels = []
    for number, (label, family) in enumerate(fit.families.items()):
        on = Canvas(flops, Axis("loss", "loss", "loss", "log"), labels, number)
        by_run = {"field": "run", "type": "nominal"}
        wide = {"type": "line", "strokeWidth": 6, "opacity": 0.25, "strokeCap": "round"}
        layers = [
            on.mark("lowest", "records", wide, color=on.color()),
            on.mark("points", "points", point(26), color=on.color(), shape=on.shape()),
        ]
        if family.points.has_shared_runs:
            thin = line(1, opacity=0.55)
            layers.insert(1, on.mark("run", "points", thin, detail=by_run, color=on.color()))
        described = f"Every measured loss of {label} against compute, by run."
        spec = on.spec(layers, described, {"points": POINT_TIP}, ("loss", "low", "high"))
        panels.append(Panel(label, spec, number))
    caption = (
        "Every measured loss against compute, over the lowest that any size reached with as much. "
        f"Choose a point for the loss curve of its run.{remark}"
    )
    tables = (("Runs", table),)
    return Figure("trajectories", "Loss against compute", caption, tuple(panels), tables)


def loss_curve() -> Json:
    """The chart of the one run that was chosen."""
    on = Canvas(Axis("tokens", "tokens", "count"), Axis("loss", "loss", "loss"), (), 0, 260)
    layers = [
        on.mark("training", "training", line(1.2, color=MUTED)),
        on.interval("error", "observed", "", {"color": INK}),
        on.mark("observed", "observed", point(60, color=INK)),
    ]
    for layer in layers:
        layer["encoding"].pop("color", None)
    tip = Tip((("tokens", "tokens", "count"), ("loss", "loss", "loss")), {"loss": ("low", "high")})
    spec = on.spec(layers, "Loss of the chosen run.", {"observed": tip}, ("loss", "low", "high"))
    spec["usermeta"]["series"] = None
    return spec
