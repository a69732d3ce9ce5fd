"""The look that all figures share: ink, palette, one colour and marker per series.

Every colour keeps a contrast of 3 : 1 with its page.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.font_manager import findfont, get_font

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
