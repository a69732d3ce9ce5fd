"""Labels beside the ends of curves, moved or thinned until none overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from scipy.optimize import isotonic_regression

from analysis.figures.style import paper
from analysis.tables.points import FloatArray, IntArray


@dataclass(frozen=True)
class CurveLabel:
    """A text to stand beside a point in data coordinates."""

    x: float
    y: float
    text: str
    color: str
    side: Literal["left", "right"] = "right"


def label_curves(figure: Figure, labels: Mapping[Axes, Sequence[CurveLabel]], size: float) -> None:
    """Write labels beside their points, moved up or down until none overlap; some are dropped."""
    texts = {axes: [_write(axes, label, size) for label in mine] for axes, mine in labels.items()}
    # Only a figure that is laid out knows how far apart its points are.
    figure.draw_without_rendering()
    # From pixels to typographic points.
    scale, gap = 72.0 / figure.dpi, 1.15 * size
    for axes, mine in labels.items():
        if not mine:
            continue
        at = axes.transData.transform([(label.x, label.y) for label in mine]) * scale
        bottom, high = axes.get_window_extent().intervaly * scale
        # Texts are centred on their height, so the lowest needs room below it.
        low = bottom + 0.6 * size
        width = max(text.get_window_extent().width for text in texts[axes]) * scale
        for column in columns_of(at[:, 0], width):
            wanted = at[column, 1]
            kept = thinned(wanted, gap, high - low)
            for index, height in zip(kept, spread(wanted[kept], gap, low, high), strict=True):
                text = texts[axes][column[index]]
                text.set_position((text.get_position()[0], float(height - wanted[index])))
            for index in set(range(len(column))) - set(kept.tolist()):
                texts[axes][column[index]].remove()


def columns_of(across: FloatArray, width: float) -> list[IntArray]:
    """Indices of the labels that may overlap: neighbours closer than a label is wide."""
    order = np.argsort(across, kind="stable")
    breaks = np.flatnonzero(np.diff(across[order]) > width) + 1
    return [part.astype(np.int64) for part in np.split(order, breaks)]


def _write(axes: Axes, label: CurveLabel, size: float) -> Annotation:
    is_right = label.side == "right"
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(7.0 if is_right else -7.0, 0.0),
        textcoords="offset points",
        ha="left" if is_right else "right",
        va="center",
        color=label.color,
        fontsize=size,
        parse_math=False,
        annotation_clip=False,
        path_effects=[withStroke(linewidth=2.5, foreground=paper())],
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
    """Ascending positions at least `gap` apart and closest to those wanted, within bounds."""
    shift = gap * np.arange(len(wanted))
    # With i·gap taken off, "at least gap apart" is "not decreasing": a monotone regression.
    levels = isotonic_regression(wanted - shift).x
    result: FloatArray = np.clip(levels, low, high - (len(wanted) - 1) * gap) + shift
    return result
