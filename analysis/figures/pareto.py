"""The pareto figure: quality of samples against their speed, and their entropy beside it."""

import textwrap
from collections.abc import Mapping
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import notation
from analysis.errors import NothingToDraw
from analysis.figures.axes import set_log_axis, widened
from analysis.figures.labels import CurveLabel, label_curves
from analysis.figures.marks import Mark, draw_mark, hollow_entry
from analysis.figures.style import (
    DASHES,
    HOUSE,
    Look,
    SeriesStyle,
    add_key,
    ink,
    muted,
    paper,
    series_styles,
    sized,
)
from analysis.pareto.answer import MetricAnswer, ParetoAnswer

MAX_PANELS = 2
"""Metrics that stand side by side with the entropies."""
LABEL_CHARACTERS = 40
"""Of a line beside an axis."""


def pareto(found: ParetoAnswer | None, look: Look = HOUSE) -> Figure:
    """One panel per trusted metric, the headline first, and one of entropies."""
    if found is None:
        raise NothingToDraw("the source has no samples; `sweeper pareto` measures them")
    metrics = [each for each in found.metrics if each.points and each.title == each.metric.title]
    if not metrics:
        raise NothingToDraw("no metric ranks the controls last at an entropy that samplers share")
    metrics = metrics[:MAX_PANELS]
    trained = [each for each in found.settings if not each.is_control]
    with look.settings():
        styles = series_styles({each.series for each in trained})
        n = len(metrics) + 1
        figure, grid = look.panels(n, 3.8, look.columns(n))
        labels = {
            axes: _quality_panel(axes, each, styles)
            for axes, each in zip(grid, metrics, strict=False)
        }
        _entropy_panel(grid[-1], found, styles)
        key = [
            Line2D([], [], color=ink(), marker="o", markersize=5.0, linewidth=1.6,
                   label="Pareto front at the common entropy, 95 % band"),
            hollow_entry("beaten by another setting of its series", ink()),
            Line2D([], [], color=muted(), linestyle=DASHES, linewidth=1.1,
                   label="negative control"),
        ]  # fmt: skip
        add_key(figure, key)
        label_curves(figure, labels, sized(8.5))
        return figure


def _quality_panel(
    axes: Axes, metric: MetricAnswer, styles: Mapping[str, SeriesStyle]
) -> list[CurveLabel]:
    """Fronts with bands on log axes; distances may be zero or less, and then are linear."""
    labels = []
    for label, band in metric.bands.items():
        speed, quality, low, high = np.transpose(band)
        axes.plot(speed, quality, color=styles[label].color, linewidth=1.6)
        axes.fill_between(speed, low, high, color=styles[label].color, alpha=0.2, linewidth=0)
    for label, points in groupby(metric.points, key=lambda point: point.series):
        style, mine = styles[label], list(points)
        for point in mine:
            mark = Mark(point.speed, point.quality, point.speed_ci, point.quality_ci)
            draw_mark(axes, mark, style, 5.0, style.color if point.is_on_front else paper())
        last = max(mine, key=lambda point: point.speed)
        labels.append(CurveLabel(last.speed, last.quality, style.label, style.color))
    ends = [end for point in metric.points for end in point.quality_ci]
    speeds = [end for point in metric.points for end in point.speed_ci]
    set_log_axis(axes, "x", widened(speeds, 0.12), notation.count, 5)
    if min(ends) > 0:
        set_log_axis(axes, "y", widened(ends), notation.significant, 6)
    axes.set_xlabel(metric.speed_unit)
    axes.set_title(metric.metric.name.replace("_", " "))
    axes.set_ylabel(textwrap.fill(metric.metric.title, LABEL_CHARACTERS))
    return labels


def _entropy_panel(axes: Axes, found: ParetoAnswer, styles: Mapping[str, SeriesStyle]) -> None:
    """Entropies of everything measured, and the one at which qualities are compared."""
    of = found.entropy.of
    speeds, trained = [], [each for each in found.settings if not each.is_control]
    for each in found.settings:
        if each.is_control or each.speed is None:
            axes.axhline(each.entropies[of], color=muted(), linestyle=DASHES, linewidth=1.1)
            continue
        speeds.append(each.speed.value)
        style = styles[each.series]
        axes.plot(
            each.speed.value, each.entropies[of], style.marker, color=style.color,
            markersize=3.5, markerfacecolor=paper(), markeredgewidth=0.9,
        )  # fmt: skip
    axes.axhline(found.entropy.nats, color=ink(), linewidth=1.2)
    set_log_axis(axes, "x", widened(speeds, 0.12), notation.count, 5)
    axes.set_xlabel(found.metrics[0].speed_unit)
    axes.set_title("entropy")
    unit = "of a sample's histogram (nats)" if of == "unigram" else "by n-grams (nats per token)"
    axes.set_ylabel(f"{unit}\nline: where qualities are compared")
    # Repeated tokens have none at all, which would leave no room for the others.
    seen = [found.entropy.nats, *(each.entropies[of] for each in trained)]
    pad = 0.15 * (max(seen) - min(seen)) + 0.02
    axes.set_ylim(min(seen) - pad, max(seen) + pad)
