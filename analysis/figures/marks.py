"""What several figures draw: values with intervals, entries of keys."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.figures.style import DASHES, SeriesStyle, ink, paper, sized
from analysis.notation import Interval
from analysis.tables.points import FloatArray

MANY_BUDGETS = 8
"""With more budgets than this, marks are small and only some budgets are labelled."""


@dataclass(frozen=True)
class Mark:
    """A value with the ends of its intervals."""

    x: float
    y: float
    x_ends: Interval | None = None
    y_ends: Interval | None = None


def draw_mark(axes: Axes, mark: Mark, style: SeriesStyle, size: float, face: str) -> None:
    """A filled mark (`face` is the colour of its series) or a hollow one (`face` is the paper).

    `size` is what it has beside 9-point type.
    """
    is_hollow = face == paper()
    axes.errorbar(
        [mark.x],
        [mark.y],
        xerr=_arms(mark.x, mark.x_ends),
        yerr=_arms(mark.y, mark.y_ends),
        fmt=style.marker,
        markersize=sized(size),
        color=style.color,
        markerfacecolor=face,
        markeredgecolor=style.color if is_hollow else paper(),
        markeredgewidth=1.0 if is_hollow else 0.1 * size,
        elinewidth=0.25 * min(size, 5.0),
        zorder=4,
    )


def _arms(value: float, ends: Interval | None) -> FloatArray | None:
    """Lengths of the error bars below and above, shape (2, 1)."""
    if ends is None:
        return None
    lengths: FloatArray = np.maximum([[value - ends[0]], [ends[1] - value]], 0.0)
    return lengths


def key_entry(
    label: str, color: str = "", marker: str = "", size: float = 5.0, face: str = "auto"
) -> Line2D:
    """An entry of a figure's key without a line; in ink where no colour is given."""
    return Line2D(
        [], [], color=color or ink(), marker=marker, markersize=sized(size), linestyle="",
        label=label, markerfacecolor=face,
    )  # fmt: skip


def hollow_entry(label: str, color: str) -> Line2D:
    """An entry for what is dashed and hollow."""
    return Line2D(
        [], [], color=color, marker="o", markersize=sized(5.0), markerfacecolor=paper(),
        linestyle=DASHES, linewidth=1.1, label=label,
    )  # fmt: skip
