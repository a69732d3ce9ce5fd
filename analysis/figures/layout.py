"""Blank figures that lay themselves out, and the settings under which they are drawn."""

from contextlib import AbstractContextManager

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.figures.palette import GRID, INK, MUTED, PAPER
from analysis.figures.style import FONT

WIDTH_INCHES = 9.0
DPI = 160
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


def house_style() -> AbstractContextManager[None]:
    """The settings under which figures are made and rendered, whatever the user's own are."""
    return matplotlib.style.context(["default", _RC])


def new_figure(height_inches: float) -> Figure:
    """A blank figure that lays itself out."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout=layout)


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
