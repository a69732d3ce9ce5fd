"""The exponents figure, a forest plot: every estimate of every exponent beside its interval.

An exponent on which the methods agree may be believed; another is a fact about the method.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.errors import NothingToDraw
from analysis.figures.axes import set_exponents_axis
from analysis.figures.marks import Mark, draw_mark, key_entry
from analysis.figures.style import (
    HOUSE,
    Look,
    SeriesStyle,
    add_key,
    muted,
    name_once,
    paper,
)
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.stats.power_law import PowerLaw
from analysis.tables.published import PublishedLaw

METHODS = ("isoFLOP", "envelope", "surface")
"""Approaches 2, 1 and 3 of Hoffmann et al., the one that the report trusts first."""
PUBLISHED = "published"
PANELS = {"params": "N* ∝ Cᵃ", "tokens": "D* ∝ Cᵇ", "loss": "L* ∝ Cᶜ"}
MARK_SIZE = 5.0

Row = tuple[str, str]
"""A series and a method, or the name of a published law and `PUBLISHED`."""


def exponents(fit: FitResult, look: Look = HOUSE) -> Figure:
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
    with look.settings():
        styles = look.styles(fit.families)
        others = [name for name, method in rows if method == PUBLISHED]
        styles |= {name: SeriesStyle(muted(), "o", name) for name in others}
        if look.is_narrow:  # below each other, each with rows of its own
            shown = {quantity: _rows_of(fit, rows, quantity) for quantity in PANELS}
            shown = {quantity: mine for quantity, mine in shown.items() if mine}
            inches = [0.55 + 0.15 * _n_lines(mine) for mine in shown.values()]
            figure = look.figure(sum(inches))
            grid = (
                figure.subplots(len(shown), 1, squeeze=False, height_ratios=inches).ravel().tolist()
            )
        else:
            shown = dict.fromkeys(PANELS, rows)
            figure = look.figure(1.2 + look.panel_inches(0.24) * _n_lines(rows))
            grid = figure.subplots(1, len(PANELS), sharey=True).tolist()
        for place, (axes, (quantity, mine)) in enumerate(zip(grid, shown.items(), strict=True)):
            axes.set_title(PANELS[quantity], parse_math=False)
            _panel(axes, fit, quantity, _heights(mine), styles)
            if place == 0 or look.is_narrow:
                _name_rows(axes, _heights(mine), styles)
            axes.tick_params(axis="y", length=0)
        name_once(look, grid)
        key = [key_entry("estimate, 95 % interval", marker="o")]
        if any(method != METHODS[0] for _, method in rows):
            key.append(key_entry("by another method than isoFLOP", marker="o", face=paper()))
        even = Line2D([], [], color=muted(), linewidth=0.9, label="size and tokens grow alike")
        add_key(figure, [*key, even])
        return figure


def _rows_of(fit: FitResult, rows: Sequence[Row], quantity: str) -> list[Row]:
    """The rows that one panel has a mark for."""
    published = {law.name for law in fit.published if _is_pure(law, quantity)}
    return [
        (label, method)
        for label, method in rows
        if (label in published if method == PUBLISHED
            else _estimate(fit.families[label], method, quantity, 0.0))
    ]  # fmt: skip


def _name_rows(axes: Axes, heights: dict[Row, float], styles: dict[str, SeriesStyle]) -> None:
    """Series and method at the left, in the colour of the series."""
    names = [f"{styles[label].label}, {method}" for label, method in heights]
    axes.set_yticks(list(heights.values()), names)
    for text, (label, _) in zip(axes.get_yticklabels(), heights, strict=True):
        text.set(color=styles[label].color, parse_math=False)


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


def _is_pure(law: PublishedLaw, quantity: str) -> bool:
    """Whether its exponent compares: beside an offset it means another thing."""
    return law.quantity == quantity and law.against == "flops" and not law.offset


def _n_lines(rows: Sequence[Row]) -> float:
    """Rows and the gaps between them."""
    return -min(_heights(rows).values())


def _heights(rows: Sequence[Row]) -> dict[Row, float]:
    """Where each row stands, top down, with a gap between series and before what is published."""
    heights: dict[Row, float] = {}
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
    heights: dict[Row, float],
    styles: dict[str, SeriesStyle],
) -> None:
    for (label, method), height in heights.items():
        if method == PUBLISHED:
            continue
        mark = _estimate(fit.families[label], method, quantity, height)
        if mark is not None:
            face = styles[label].color if method == METHODS[0] else paper()
            draw_mark(axes, mark, styles[label], MARK_SIZE, face)
    for law in fit.published:  # in grey with the interval they claim
        if _is_pure(law, quantity):
            mark = Mark(law.exponent, heights[law.name, PUBLISHED], x_ends=law.exponent_ci)
            draw_mark(axes, mark, styles[law.name], 0.8 * MARK_SIZE, muted())
    if quantity != "loss":  # at 1/2 size and tokens grow alike
        axes.axvline(0.5, color=muted(), linewidth=0.9, zorder=1)
    axes.set_ylim(min(heights.values()) - 0.8, max(heights.values()) + 0.8)
    axes.grid(visible=False, axis="y")
    set_exponents_axis(axes)
    axes.set_xlabel("exponent")
