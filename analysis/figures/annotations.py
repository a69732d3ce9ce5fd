"""What several figures draw: values with intervals, keys, small multiples."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.errors import FitError
from analysis.figures.style import INK, MUTED, PAPER, SeriesStyle, new_figure
from analysis.fitting.fit import FamilyFit
from analysis.isoflop.isoflop import Optimum
from analysis.notation import Interval
from analysis.tables.points import FloatArray

DASHES = (0.0, (3.5, 2.5))
"""Whatever lies outside the data."""
MANY_BUDGETS = 8
"""With more budgets than this, marks are small and only some budgets are labelled."""


class NothingToDraw(FitError):
    """A figure for which the fit has no part; the message says which part and why."""


@dataclass(frozen=True)
class Mark:
    """A value with the ends of its intervals."""

    x: float
    y: float
    x_ends: Interval | None = None
    y_ends: Interval | None = None


def draw_mark(axes: Axes, mark: Mark, style: SeriesStyle, size: float, face: str) -> None:
    """A filled mark (`face` is the colour of its series) or a hollow one (`face` is the paper)."""
    is_hollow = face == PAPER
    axes.errorbar(
        [mark.x],
        [mark.y],
        xerr=_arms(mark.x, mark.x_ends),
        yerr=_arms(mark.y, mark.y_ends),
        fmt=style.marker,
        markersize=size,
        color=style.color,
        markerfacecolor=face,
        markeredgecolor=style.color if is_hollow else PAPER,
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
    label: str, color: str = INK, marker: str = "", size: float = 5.0, face: str = "auto"
) -> Line2D:
    """An entry of a figure's key without a line."""
    return Line2D(
        [], [], color=color, marker=marker, markersize=size, linestyle="", label=label,
        markerfacecolor=face,
    )  # fmt: skip


def hollow_entry(label: str, color: str = MUTED) -> Line2D:
    """An entry for what is dashed and hollow."""
    return Line2D(
        [], [], color=color, marker="o", markersize=5.0, markerfacecolor=PAPER,
        linestyle=DASHES, linewidth=1.1, label=label,
    )  # fmt: skip


def columns_for(n: int) -> int:
    """Small multiples that stand side by side."""
    return 2 if n == 4 else min(n, 3)


def panels(n: int, height_inches: float, n_columns: int) -> tuple[Figure, list[Axes]]:
    """A figure of n small multiples."""
    n_rows = -(-n // n_columns)
    figure = new_figure(1.0 + height_inches * n_rows)
    grid = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
    for axes in grid[n:]:
        axes.remove()
    return figure, grid[:n]


def optima_of(family: FamilyFit) -> tuple[Optimum, ...]:
    """Optima of all budgets, none where the table has no isoFLOP structure."""
    return () if family.isoflop is None else family.isoflop.optima
