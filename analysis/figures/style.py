"""The look that all figures share: blank figures that lay themselves out, the settings under which
they are drawn, one colour and marker per series.

Every colour keeps a contrast of 3 : 1 with its page.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.figures.palette import GRID, INK, MUTED, PALETTE, PAPER

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = (0.0, (3.5, 2.5))
"""Whatever lies outside the data."""
FONT = "DejaVu Sans"
MAX_LABEL = 22
"""Characters of a series label that a figure has room for."""


@dataclass(frozen=True)
class SeriesStyle:
    """How one series is drawn everywhere."""

    color: str
    marker: str
    label: str
    """Its label as far as the font and the room go."""


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
    glyphs = get_font(findfont(FONT)).get_charmap()
    shown = "".join(char if ord(char) in glyphs else "?" for char in " ".join(label.split()))
    half = MAX_LABEL // 2
    return shown if len(shown) <= MAX_LABEL else f"{shown[:half]}…{shown[1 - half :]}"


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
