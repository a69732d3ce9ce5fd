"""The look that all figures share: ink, palette, one colour and marker per series.

Every colour keeps a contrast of 3 : 1 with its page.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.font_manager import findfont, get_font

from analysis.figures.palette import PALETTE

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
