"""The multiplier figure: how much more compute a series needs than another for equal loss."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import notation
from analysis.answers.compare import Comparison, stretches
from analysis.errors import NothingToDraw
from analysis.figures.axes import set_log_axis, widened
from analysis.figures.labels import CurveLabel, label_curves
from analysis.figures.marks import MANY_BUDGETS, Mark, draw_mark, hollow_entry
from analysis.figures.style import (
    DASHES,
    HOUSE,
    Look,
    SeriesStyle,
    add_key,
    ink,
    name_once,
    paper,
    sized,
)
from analysis.fitting.fit import FitResult


def multiplier(comparisons: Sequence[Comparison], fit: FitResult, look: Look = HOUSE) -> Figure:
    """One panel per baseline: the compute that each other series needs for its loss."""
    drawable = [c for c in comparisons if any(p.multiplier is not None for p in c.curve)]
    if not drawable:
        raise NothingToDraw("no comparison has a multiplier at any budget")
    by_baseline: dict[str, list[Comparison]] = {}
    for comparison in drawable:
        by_baseline.setdefault(comparison.baseline, []).append(comparison)
    with look.settings():
        styles = look.styles(fit.families)
        longest = max(len(style.label) for style in styles.values())
        # Labels of 12 characters leave room for three panels side by side.
        n_columns = min(look.columns(len(by_baseline)), 3 if longest <= 12 else 2)
        figure, grid = look.panels(len(by_baseline), 3.0, n_columns)
        labels = {}
        for place, (axes, (baseline, group)) in enumerate(
            zip(grid, by_baseline.items(), strict=True)
        ):
            _set_axes(axes, group, n_columns)
            style = styles[baseline]
            axes.set_title(f"against {style.label}", color=style.color, parse_math=False)
            unit = notation.flops_unit(fit.flops_convention)
            axes.set_xlabel(f"compute of the baseline ({unit})")
            labels[axes] = [_curve(axes, each, styles[each.against]) for each in group]
            if place % n_columns == 0:
                axes.set_ylabel("compute needed for equal L*\n(multiple of the baseline's)")
        observed = "both series observed this loss, 95 % band"
        key = [
            Line2D([], [], color=ink(), marker="o", markersize=5.0, linewidth=1.6, label=observed),
            hollow_entry("extrapolated", ink()),
            Line2D([], [], label="1× = equal compute", color=ink(), linewidth=0.9),
        ]
        name_once(look, grid)
        add_key(figure, key)
        label_curves(figure, labels, sized(9.0))
        return figure


def _set_axes(axes: Axes, group: Sequence[Comparison], n_columns: int) -> None:
    points = [point for comparison in group for point in (*comparison.curve, *comparison.points)]
    reached = [point for point in points if point.multiplier is not None]
    # The line of equal compute belongs into every panel.
    seen = [1.0, *(point.multiplier or 1.0 for point in reached)]
    seen += [end for point in reached for end in point.ci or ()]
    limits = widened([point.flops for point in points], 0.05)
    set_log_axis(axes, "x", limits, notation.flops, 7 - n_columns)
    set_log_axis(axes, "y", widened(seen, 0.08, least=0.08), notation.ratio, 7)
    axes.axhline(1.0, color=ink(), linewidth=0.9)


def _curve(axes: Axes, comparison: Comparison, style: SeriesStyle) -> CurveLabel:
    for stretch in stretches(comparison.curve):
        line = [(p.flops, p.multiplier) for p in stretch.points if p.multiplier is not None]
        band = [(p.flops, *p.ci) for p in stretch.points if p.ci is not None]
        is_dashed = stretch.is_extrapolated
        axes.plot(
            *np.transpose(line),
            color=style.color,
            linestyle=DASHES if is_dashed else "-",
            linewidth=1.3 if is_dashed else 1.6,
        )
        flops, low, high = np.reshape(band, (-1, 3)).T  # three empty arrays without intervals
        alpha = 0.10 if is_dashed else 0.22
        axes.fill_between(flops, low, high, color=style.color, alpha=alpha, linewidth=0)
    size = 5.5 if len(comparison.points) <= MANY_BUDGETS else 4.0
    for point in comparison.points:
        if point.multiplier is not None:
            face = paper() if point.extrapolated else style.color
            mark = Mark(point.flops, point.multiplier, y_ends=point.ci)
            draw_mark(axes, mark, style, size, face)
    end = [(p.flops, p.multiplier) for p in comparison.curve if p.multiplier is not None][-1]
    return CurveLabel(*end, style.label, style.color)
