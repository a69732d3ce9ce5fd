"""The look that all figures share: ink, palette, readable log ticks, labels beside their curves.

Colours and markers follow the sorted labels of the data. Every colour keeps a contrast of 3 : 1
with its page.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from analysis import notation
from analysis.notation import Interval
from analysis.tables.points import FloatArray, IntArray

INK, MUTED, GRID, PAPER = "#1f2329", "#7a828c", "#d5dae0", "#ffffff"
"""Text and axes; what is left out; grid lines; background."""
PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#c2609a", "#332288", "#0f4c5c", "#a02c2c", "#6a51c8",
)  # fmt: skip
"""Any two differ by 15 or more in CIELAB (1976) also for a reader who lacks one kind of cone
(simulated after Machado et al. 2009)."""
DARK_PALETTE = (
    "#4ba8e0", "#f08a45", "#8fe3c4", "#d060a0", "#8a7be8", "#c8a482", "#e05050", "#ffffff",
)  # fmt: skip
"""What they become on the dark page of the report."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH_INCHES = 9.0
DPI = 160
FONT = "DejaVu Sans"
OFFSET_POINTS = 7.0
"""From a curve's end to its label."""
MAX_LABEL = 22
"""Characters of a series label that a figure has room for."""

_RC = {
    "font.family": FONT,
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "savefig.dpi": DPI,
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class SeriesStyle:
    """How one series is drawn everywhere."""

    color: str
    marker: str
    label: str
    """Its label as far as the font and the room go."""


def house_style() -> AbstractContextManager[None]:
    """The settings under which figures are made and rendered, whatever the user's own are."""
    return matplotlib.style.context(["default", _RC])


def series_styles(labels: Iterable[str]) -> dict[str, SeriesStyle]:
    """Colour and marker of every series by its rank among the sorted labels."""
    styles = {}
    for rank, label in enumerate(sorted(labels)):
        lap = rank // len(PALETTE)
        marker = MARKERS[(rank + lap) % len(MARKERS)]
        styles[label] = SeriesStyle(PALETTE[rank % len(PALETTE)], marker, drawn_label(label))
    return styles


def drawn_label(label: str) -> str:
    """A label cut to the room in its middle, with `?` for what the font lacks."""
    shown = "".join(char if ord(char) in _glyphs() else "?" for char in " ".join(label.split()))
    half = MAX_LABEL // 2
    return shown if len(shown) <= MAX_LABEL else f"{shown[:half]}…{shown[1 - half :]}"


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def new_figure(height_inches: float, width_inches: float = WIDTH_INCHES) -> Figure:
    """A blank figure that lays itself out."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width_inches, height_inches), dpi=DPI, layout=layout)


def log_ticks(low: float, high: float, at_most: int = 6) -> FloatArray:
    """The densest round numbers on a log axis that are few enough: down to every few decades."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    decades = 10.0 ** np.arange(first, last + 1)
    for steps in _STEPS:
        ticks = _within(np.sort(np.outer(decades, steps).ravel()), low, high)
        if len(ticks) < 2:  # so narrow that the axis is linear to the eye
            return _within(np.asarray(MaxNLocator(at_most - 1).tick_values(low, high)), low, high)
        if len(ticks) <= at_most:
            return ticks
    return ticks[:: -(-len(ticks) // at_most)]


_STEPS = (
    np.arange(10, 100) / 10,
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)


def _within(ticks: FloatArray, low: float, high: float) -> FloatArray:
    return ticks[(ticks >= low * 0.999) & (ticks <= high * 1.001)]


def set_log_axis(
    axes: Axes, axis: str, limits: tuple[float, float], write: Callable[[float], str], n: int = 6
) -> None:
    """A log axis with few, round, written-out ticks."""
    _set_scale(axes, axis, "log", limits, log_ticks(*limits, n), write)


def set_loss_axis(axes: Axes, limits: tuple[float, float], scale: str = "linear") -> None:
    """The vertical axis of a loss, with round ticks also where it is logarithmic."""
    ticks = np.asarray(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(*limits))
    step = float(ticks[1] - ticks[0])
    decimals = next(d for d in range(9) if abs(round(step, d) - step) < 1e-9 * step or d == 8)
    _set_scale(axes, "y", scale, limits, ticks, lambda value: f"{value:.{decimals}f}")


def _set_scale(
    axes: Axes,
    axis: str,
    scale: str,
    limits: tuple[float, float],
    ticks: FloatArray,
    write: Callable[[float], str],
) -> None:
    axes.set(**{f"{axis}scale": scale, f"{axis}lim": limits})
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_locator(FixedLocator(_within(ticks, *limits).tolist()))
    chosen.set_major_formatter(FuncFormatter(lambda value, _: write(float(value))))
    chosen.set_minor_locator(NullLocator())
    chosen.set_minor_formatter(NullFormatter())


def widened(values: Iterable[float], share: float = 0.06, least: float = 0.02) -> Interval:
    """Limits of a log axis around positive values, `share` of their log range wider."""
    logs = np.log(np.array(list(values)))
    pad = max(share * float(np.ptp(logs)), least)
    return float(np.exp(logs.min() - pad)), float(np.exp(logs.max() + pad))


@dataclass(frozen=True)
class CurveLabel:
    """A text to stand beside a point in data coordinates."""

    x: float
    y: float
    text: str
    color: str
    side: Literal["left", "right"] = "right"


def label_curves(figure: Figure, labels: Mapping[Axes, Sequence[CurveLabel]], size: float) -> None:
    """Write labels beside their points, moved up or down until none overlap.

    Lays the figure out first, because only then is it known how far apart the points are.
    """
    texts = {axes: [_write(axes, label, size) for label in mine] for axes, mine in labels.items()}
    figure.draw_without_rendering()
    scale = 72.0 / figure.dpi
    for axes, mine in labels.items():
        if mine:
            at = axes.transData.transform([(label.x, label.y) for label in mine]) * scale
            _untangle(axes, texts[axes], at, size)


def _untangle(axes: Axes, texts: Sequence[Annotation], at: FloatArray, size: float) -> None:
    """Move texts that stand at points `at`, in typographic points, or remove those without room."""
    scale = 72.0 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    bottom, top = axes.get_window_extent().intervaly * scale
    low, high = bottom + 0.6 * size, top
    width = max(text.get_window_extent().width for text in texts) * scale
    for column in columns_of(at[:, 0], width):
        wanted, gap = at[column, 1], 1.15 * size
        kept = thinned(wanted, gap, high - low)
        for index, height in zip(kept, spread(wanted[kept], gap, low, high), strict=True):
            text = texts[column[index]]
            text.set_position((text.get_position()[0], float(height - wanted[index])))
        for index in set(range(len(column))) - set(kept.tolist()):
            texts[column[index]].remove()


def columns_of(across: FloatArray, width: float) -> list[IntArray]:
    """Indices of the labels that may overlap: neighbours closer than a label is wide."""
    order = np.argsort(across, kind="stable")
    breaks = np.flatnonzero(np.diff(across[order]) > width) + 1
    return [part.astype(np.int64) for part in np.split(order, breaks)]


def _write(axes: Axes, label: CurveLabel, size: float) -> Annotation:
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(OFFSET_POINTS if label.side == "right" else -OFFSET_POINTS, 0.0),
        textcoords="offset points",
        ha="left" if label.side == "right" else "right",
        va="center",
        color=label.color,
        fontsize=size,
        parse_math=False,
        annotation_clip=False,
        path_effects=[withStroke(linewidth=2.5, foreground=PAPER)],
    )


def thinned(wanted: FloatArray, gap: float, room: float) -> IntArray:
    """Indices of the labels that fit, evenly chosen, both extremes among them."""
    order = np.argsort(wanted, kind="stable").astype(np.int64)
    most = max(2, int(room / gap) + 1)
    if len(order) <= most:
        return order
    chosen: IntArray = order[np.unique(np.linspace(0, len(order) - 1, most).round().astype(int))]
    return chosen


def spread(wanted: FloatArray, gap: float, low: float, high: float) -> FloatArray:
    """Ascending positions at least `gap` apart and closest to those wanted, within bounds.

    With i·gap taken off, it is a monotone regression: pool neighbours while they decrease.
    """
    blocks: list[tuple[float, int]] = []
    for place, position in enumerate(wanted):
        blocks.append((float(position) - place * gap, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
    levels = np.repeat([level for level, _ in blocks], [n for _, n in blocks])
    top = high - (len(wanted) - 1) * gap
    result: FloatArray = np.clip(levels, low, top) + gap * np.arange(len(wanted))
    return result


def set_flops_axis(axes: Axes, limits: Interval, convention: str, n: int = 6) -> None:
    """The horizontal axis of a budget."""
    set_log_axis(axes, "x", limits, notation.flops, n)
    axes.set_xlabel(f"training compute C ({notation.flops_unit(convention)})")


def set_exponents_axis(axes: Axes) -> None:
    """A horizontal axis of small numbers of either sign."""
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "−"))
