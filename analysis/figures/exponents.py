"""The exponents figure, a forest plot: every estimate of every exponent beside its interval.

An exponent on which the methods agree may be believed; another is a fact about the method.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.errors import NothingToDraw
from analysis.figures.axes import set_exponents_axis
from analysis.figures.marks import Mark, draw_mark, key_entry
from analysis.figures.palette import MUTED, PAPER
from analysis.figures.style import SeriesStyle, house_style, new_figure, series_styles
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.stats.power_law import PowerLaw

METHODS = ("isoFLOP", "envelope", "surface")
"""Approaches 2, 1 and 3 of Hoffmann et al., the one that the report trusts first."""
PUBLISHED = "published"
PANELS = {"params": "N* ∝ Cᵃ", "tokens": "D* ∝ Cᵇ", "loss": "L* ∝ Cᶜ"}
MARK_SIZE = 5.0


def exponents(fit: FitResult) -> Figure:
    """One panel per law; series from top to bottom, methods within each."""
    rows = [
        (label, method)
        for label, family in fit.families.items()
        for method in METHODS
        if any(_estimate(family, method, quantity, 0.0) for quantity in PANELS)
    ]
    if not rows:
        raise NothingToDraw("no series has a scaling law")
    rows += [(name, PUBLISHED) for name in dict.fromkeys(law.name for law in fit.published)]
    styles = series_styles(fit.families)
    styles |= {name: SeriesStyle(MUTED, "o", name) for name, method in rows if method == PUBLISHED}
    with house_style():
        heights = _heights(rows)
        figure = new_figure(1.5 - 0.24 * min(heights.values()))  # 0.24 inches a row
        grid = figure.subplots(1, len(PANELS), sharey=True)
        for axes, (quantity, title) in zip(grid, PANELS.items(), strict=True):
            axes.set_title(title, parse_math=False)
            _panel(axes, fit, quantity, heights, styles)
        # Series and method at the left, in the colour of the series.
        names = [f"{styles[label].label}, {method}" for label, method in heights]
        grid[0].set_yticks(list(heights.values()), names)
        for text, (label, _) in zip(grid[0].get_yticklabels(), heights, strict=True):
            text.set(color=styles[label].color, parse_math=False)
        for axes in grid:
            axes.tick_params(axis="y", length=0)
        key = [key_entry("estimate, 95 % interval", marker="o")]
        if any(method != METHODS[0] for _, method in rows):
            key.append(key_entry("by another method than isoFLOP", marker="o", face=PAPER))
        even = Line2D([], [], color=MUTED, linewidth=0.9, label="size and tokens grow alike")
        figure.legend(handles=[*key, even], loc="outside lower center", ncols=3)
        return figure


def _estimate(family: FamilyFit, method: str, quantity: str, height: float) -> Mark | None:
    """One exponent at its height in the panel; None where this method gives no pure power law."""
    if method == "surface":
        if family.surface is None or quantity == "loss":
            return None
        share, (low, high) = family.surface.params_exponent, family.surface.ci["params_exponent"]
        if quantity == "params":
            return Mark(share, height, (low, high))
        return Mark(1.0 - share, height, (1.0 - high, 1.0 - low))  # a + b = 1, as C ∝ N · D
    fitted = family.isoflop if method == "isoFLOP" else family.envelope
    law: PowerLaw | None = getattr(fitted, f"{quantity}_law", None)
    if law is None or law.offset is not None:  # beside an offset the exponent means another thing
        return None
    return Mark(law.exponent, height, law.exponent_ci)


def _heights(rows: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Where each row stands, top down, with a gap between series and before what is published."""
    heights: dict[tuple[str, str], float] = {}
    height, previous = 0.0, rows[0]
    for row in rows:
        is_same_block = row[0] == previous[0] or row[1] == previous[1] == PUBLISHED
        height -= 1.0 if is_same_block else 2.0
        heights[row] = height
        previous = row
    return heights


def _panel(
    axes: Axes,
    fit: FitResult,
    quantity: str,
    heights: dict[tuple[str, str], float],
    styles: dict[str, SeriesStyle],
) -> None:
    for (label, method), height in heights.items():
        if method == PUBLISHED:
            continue
        mark = _estimate(fit.families[label], method, quantity, height)
        if mark is not None:
            face = styles[label].color if method == METHODS[0] else PAPER
            draw_mark(axes, mark, styles[label], MARK_SIZE, face)
    for law in fit.published:
        # In grey with the interval they claim; an exponent beside an offset means another thing.
        if law.quantity == quantity and law.against == "flops" and not law.offset:
            mark = Mark(law.exponent, heights[law.name, PUBLISHED], x_ends=law.exponent_ci)
            draw_mark(axes, mark, styles[law.name], 0.8 * MARK_SIZE, MUTED)
    if quantity != "loss":  # at 1/2 size and tokens grow alike
        axes.axvline(0.5, color=MUTED, linewidth=0.9, zorder=1)
    axes.set_ylim(min(heights.values()) - 0.8, max(heights.values()) + 0.8)
    axes.grid(visible=False, axis="y")
    set_exponents_axis(axes)
    axes.set_xlabel("exponent")
