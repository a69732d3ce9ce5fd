"""Axes, marks and whole charts in the grammar of Vega-Lite.

A specification names the frames it draws. What the page's script needs to know beside it stands in
its `usermeta`: what the axes count (`x`, `y`), which fields are losses and change with the unit,
which series a chart is of, and what is told of a mark that is pointed at. In titles `{params}` and
`{flops}` stand for what the view that is shown counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from analysis.figures.palette import PALETTE

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


def level(value: float, color: str) -> Json:
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
