"""The sensitivity figure: every conclusion's number under every variation, beside the fit's own.

One row per variation, grouped by kind; one panel per quantity. A cross contradicts the fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from analysis import notation
from analysis.errors import NothingToDraw
from analysis.figures.axes import set_exponents_axis, set_log_axis, widened
from analysis.figures.marks import key_entry
from analysis.figures.style import (
    HOUSE,
    HOUSE_INCHES,
    TALLEST_INCHES,
    Look,
    SeriesStyle,
    add_key,
    drawn_label,
    ink,
    muted,
    paper,
    series_colors,
    sized,
)
from analysis.fitting.fit import FitResult
from analysis.sensitivity.conclusions import KIND_TITLES, SYMBOLS, Conclusion, Row, Sensitivity
from analysis.sensitivity.variations import Variation

MAX_PAIRS = 3
"""Pairs of series that one figure holds; one for a paper fewer, as many as its page holds."""


@dataclass(frozen=True)
class _Strip:
    title: str
    groups: tuple[tuple[Conclusion, ...], ...]
    """Of each panel: one difference, or the exponents of every series."""
    variations: tuple[Variation, ...]
    """Rows that the panels share."""

    @property
    def entries(self) -> list[str | Variation]:
        """Rows from the top: headings of kinds, and the variations under each."""
        rows: list[str | Variation] = ["as fitted"]
        for kind, members in groupby(self.variations, key=lambda variation: variation.kind):
            rows += [KIND_TITLES[kind], *members]
        return rows


def sensitivity(tried: Sequence[Sensitivity], fit: FitResult, look: Look = HOUSE) -> Figure:
    """Differences of up to `MAX_PAIRS` pairs; of a single pair also each series' exponents."""
    if not tried:
        raise NothingToDraw("no sensitivity: there are no two series with isoFLOP budgets")
    n_columns = 2 if look.is_narrow else 4
    with look.settings():
        strips = _strips(tried)
        if not strips:
            raise NothingToDraw("no sensitivity: no law of any two series can be varied")
        # 0.165 inches a row.
        heights = [sized(0.165 * len(strip.entries) + 0.75) for strip in strips]
        if look.width_inches < HOUSE_INCHES:  # as many as a page of a paper holds
            n_fitting = np.searchsorted(np.cumsum(heights) * 4 / n_columns, TALLEST_INCHES)
            strips = strips[: max(1, int(n_fitting))]
        heights = [height for height in heights[: len(strips)] for _ in range(4 // n_columns)]
        figure = look.figure(sum(heights))
        grid = figure.subplots(len(heights), n_columns, squeeze=False, height_ratios=heights)
        # Four panels a strip, in narrow figures two by two.
        for strip, row in zip(strips, grid.reshape(len(strips), 4), strict=True):
            _draw_strip(strip, list(row), look.styles(fit.families), n_columns)
        add_key(figure, _key(tried[0]))
        return figure


def _strips(tried: Sequence[Sensitivity]) -> list[_Strip]:
    """One for each pair; of a single pair also one of each series' exponents."""
    drawn = [found for found in tried if _has_numbers(found.comparisons)]
    strips = [
        _Strip(
            f"{drawn_label(found.against)} against {drawn_label(found.baseline)}",
            tuple((conclusion,) for conclusion in found.comparisons),
            found.variations,
        )
        for found in drawn[:MAX_PAIRS]
    ]
    if len(tried) == 1 and _has_numbers(tried[0].exponents):
        groups = [
            tuple(each for each in tried[0].exponents if each.quantity == quantity)
            for quantity in ("params", "tokens", "loss")
        ]
        strips.append(_Strip("each series", tuple(groups), tried[0].variations))
    return strips


def _has_numbers(conclusions: Sequence[Conclusion]) -> bool:
    return any(row.value is not None for each in conclusions for row in each.rows)


def _draw_strip(
    strip: _Strip, panels: Sequence[Axes], styles: Mapping[str, SeriesStyle], n_columns: int
) -> None:
    for place, (axes, conclusions) in enumerate(zip(panels, strip.groups, strict=False)):
        _draw_panel(axes, conclusions, strip.entries, styles)
        title = f"{SYMBOLS[conclusions[0].quantity]} exponent"
        if conclusions[0].quantity == "multiplier":
            title = "multiplier" if n_columns == 2 else "compute multiplier"
        elif conclusions[0].series is None:
            title = f"Δ {title}"
        axes.set_title(title)
        _set_rows(axes, strip.entries, labelled=place % n_columns == 0)
    for axes in panels[: len(strip.groups) : n_columns]:
        axes.set_ylabel(strip.title, fontweight="bold")
    for axes in panels[len(strip.groups) :]:
        axes.set_axis_off()
    if len(strip.groups) < len(panels):
        own = [styles[each.series] for each in strip.groups[0] if each.series]
        key = [key_entry(style.label, style.color, style.marker) for style in own]
        panels[-1].legend(handles=key, loc="upper left", title="series")


def _draw_panel(
    axes: Axes,
    conclusions: Sequence[Conclusion],
    entries: Sequence[str | Variation],
    styles: Mapping[str, SeriesStyle],
) -> None:
    is_ratio = conclusions[0].quantity == "multiplier"
    _set_values_axis(axes, conclusions)
    if conclusions[0].series is None:
        axes.axvline(1.0 if is_ratio else 0.0, color=ink(), linewidth=0.9, linestyle=(0, (2, 2)))
    for rank, conclusion in enumerate(conclusions):
        shift = 0.26 * (rank - 0.5 * (len(conclusions) - 1))
        color = ink() if conclusion.series is None else styles[conclusion.series].color
        marker = "o" if conclusion.series is None else styles[conclusion.series].marker
        if conclusion.value is None:
            continue
        # The line and the band are the fit with its interval.
        axes.axvline(conclusion.value, color=color, linewidth=0.8, alpha=0.75, zorder=1.5)
        if conclusion.ci is not None:
            axes.axvspan(*conclusion.ci, color=color, alpha=0.09, linewidth=0, zorder=0.5)
        _draw_number(axes, shift, conclusion, color, marker)
        rows = {row.variation: row for row in conclusion.rows}
        for height, entry in enumerate(entries):
            if isinstance(entry, Variation) and (row := rows.get(entry)) is not None:
                contrary = _contrary() if conclusion.series is None else color
                look = (contrary, "X") if row.is_changed else (color, marker)
                _draw_number(axes, height + shift, row, *look)


def _contrary() -> str:
    """The colour of what contradicts the fit."""
    colors = series_colors()
    return colors[1 % len(colors)]


def _draw_number(
    axes: Axes, height: float, number: Conclusion | Row, color: str, marker: str
) -> None:
    if number.value is None:
        axes.annotate(
            "not supported", (0.99, height), xycoords=("axes fraction", "data"),
            ha="right", va="center", fontsize=sized(7.5),
            color=muted() if color == ink() else color,
            path_effects=[withStroke(linewidth=2.0, foreground=paper())],
        )  # fmt: skip
        return
    if number.ci is not None:
        axes.plot(number.ci, (height, height), color=color, linewidth=1.0, solid_capstyle="butt")
    axes.plot(
        [number.value], [height], marker=marker, markersize=5.5 if marker == "X" else 4.2,
        color=color, markeredgecolor=paper(), markeredgewidth=0.4, zorder=4,
    )  # fmt: skip


def _set_rows(axes: Axes, entries: Sequence[str | Variation], *, labelled: bool) -> None:
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    # Under the headings of left out sizes and budgets "without" goes without saying.
    texts = [
        entry
        if isinstance(entry, str)
        else entry.label.removeprefix("without " if entry.kind in ("size", "budget") else "")
        for entry in entries
    ]
    axes.set_yticks(range(len(entries)), texts if labelled else [""] * len(entries))
    axes.tick_params(axis="y", length=0, labelsize=sized(7.5))
    for text, entry in zip(axes.get_yticklabels(), entries, strict=True):
        text.set_fontweight("bold" if isinstance(entry, str) else "normal")


def _set_values_axis(axes: Axes, conclusions: Sequence[Conclusion]) -> None:
    """Limits around every number and the fit's interval; wider intervals run off."""
    is_ratio = conclusions[0].quantity == "multiplier"
    values = [1.0] if is_ratio else [0.0] if conclusions[0].series is None else []
    for conclusion in conclusions:
        values += [row.value for row in conclusion.tried if row.value is not None]
        values += conclusion.ci or ()
    axes.tick_params(axis="x", labelsize=sized(7.5))
    if is_ratio:
        set_log_axis(axes, "x", widened(values, 0.08, least=0.05), notation.ratio, 4)
        return
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = 0.08 * max(high - low, 1e-6)
    axes.set_xlim(low - pad, high + pad)
    set_exponents_axis(axes)


def _key(found: Sensitivity) -> list[Line2D | Patch]:
    draws = f"variation, 95 % of {found.n_draws} resamples"
    return [
        Line2D([], [], color=ink(), marker="o", markersize=4.2, linewidth=1.0, label=draws),
        Line2D([], [], color=_contrary(), marker="X", markersize=5.5, linewidth=1.0,
               label="other sign, or outside the fit's interval"),
        Patch(color=ink(), alpha=0.12, linewidth=0, label="the fit, 95 %"),
        Line2D([], [], color=ink(), linewidth=0.9, linestyle=(0, (2, 2)), label="no difference"),
    ]  # fmt: skip
