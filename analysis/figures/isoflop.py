"""The isoFLOP figure: how the loss depends on size at every budget, and where its minimum is."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import notation
from analysis.errors import NothingToDraw
from analysis.figures.axes import set_log_axis, set_loss_axis, widened
from analysis.figures.labels import CurveLabel, label_curves
from analysis.figures.marks import MANY_BUDGETS, Mark, draw_mark, hollow_entry, key_entry
from analysis.figures.style import (
    DASHES,
    HOUSE,
    Look,
    SeriesStyle,
    add_key,
    ink,
    muted,
    name_once,
    paper,
    sized,
)
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.isoflop.isoflop import Optimum
from analysis.tables.points import Points

_FLAGS = {"minimum_at_smallest": "←", "minimum_at_largest": "→"}
"""Where the minimum of an unbracketed budget lies."""


def isoflop(fit: FitResult, look: Look = HOUSE) -> Figure:
    """One panel per series: losses against size at every budget, curves, vertices and flags."""
    shown = [family for family in fit.families.values() if family.optima]
    if not shown:
        raise NothingToDraw("no series has isoFLOP budgets")
    with look.settings():
        styles = look.styles(fit.families)
        n_columns = look.columns(len(shown))
        figure, grid = look.panels(len(shown), 3.4, n_columns)
        losses = [f.points.loss_P[np.isfinite(f.points.budget_P)] for f in shown]
        spans = [(float(loss.min()), float(loss.max())) for loss in losses]
        widest = max(high - low for low, high in spans)
        labels = {}
        for axes, family, (low, high) in zip(grid, shown, spans, strict=True):
            # Equal nats per inch in all panels: curvatures can be compared by eye.
            bottom = low - 0.07 * max(widest, 0.01)
            top = max(bottom + 1.16 * widest, high + 0.09 * (high - bottom))
            set_loss_axis(axes, (bottom, top))
            _set_sizes_axis(axes, family, look.width_inches / n_columns)
            axes.set_xlabel(notation.params_unit(fit.params_convention))
            axes.set_ylabel(f"loss ({notation.LOSS_UNIT})")
            labels[axes] = _panel(axes, family, styles[family.family])
        name_once(look, grid)
        add_key(figure, _key())
        label_curves(figure, labels, sized(8.0))
        return figure


def _set_sizes_axis(axes: Axes, family: FamilyFit, inches: float) -> None:
    """Limits with room for the labels, in a panel so wide."""
    optima = family.optima
    sizes = family.points.params_P[np.isfinite(family.points.budget_P)]
    left, right = widened(sizes, 0.07, least=0.2)
    panel_inches = inches - sized(0.7)
    label_inches = sized(0.68 if all(optimum.bracketed for optimum in optima) else 0.82)
    # On a log axis a share of the width is that power of the ratio of the limits; 0.07 is free
    # already.
    room = (right / left) ** (label_inches / (panel_inches - label_inches) - 0.07)
    limits = (left / room, right) if _side(optima) == "left" else (left, right * room)
    set_log_axis(axes, "x", limits, notation.count, 6 if inches > sized(3.0) else 4)


def _side(optima: tuple[Optimum, ...]) -> Literal["left", "right"]:
    # Budgets are written left of a curve's small end, where nothing else can lie: at equal size the
    # dearer budgets have lower losses, and the cheaper ones climb. But small models hardly tell
    # many budgets apart.
    return "left" if len(optima) <= MANY_BUDGETS else "right"


def _panel(axes: Axes, family: FamilyFit, style: SeriesStyle) -> list[CurveLabel]:
    points, optima = family.points, family.optima
    n_bracketed = sum(optimum.bracketed for optimum in optima)
    axes.set_title(style.label, color=style.color, parse_math=False, pad=sized(16.0))
    note = f"{n_bracketed} of {len(optima)} budgets bracketed"
    axes.text(
        0.0, 1.012, note, transform=axes.transAxes, va="bottom", color=muted(), fontsize=sized(8.5)
    )
    size = 4.2 if len(optima) <= MANY_BUDGETS else 2.4
    at_budget = [points.take(points.budget_P == optimum.budget_flops) for optimum in optima]
    for mine, optimum in zip(at_budget, optima, strict=True):
        _curve(axes, mine, optimum, style, size)
    side = _side(optima)
    labels = [_label(m, o, style, side) for m, o in zip(at_budget, optima, strict=True)]
    if len(optima) <= MANY_BUDGETS:
        return labels
    # Of many budgets about 8 bracketed ones, evenly chosen from the largest down.
    bracketed = [label for label, o in zip(labels, optima, strict=True) if o.bracketed]
    stride = -(-n_bracketed // 8) or 1
    return bracketed[::-stride]


def _curve(axes: Axes, points: Points, optimum: Optimum, style: SeriesStyle, size: float) -> None:
    color, face = (style.color, style.color) if optimum.bracketed else (muted(), paper())
    axes.plot(
        optimum.curve_params,
        optimum.curve_loss,
        color=color,
        linewidth=1.3 if optimum.bracketed else 1.0,
        linestyle="-" if optimum.bracketed else DASHES,
        alpha=0.75,
    )
    axes.errorbar(
        points.params_P,
        points.loss_P,
        yerr=points.stderr_P if points.stderr_P.any() else None,
        fmt=style.marker,
        markersize=sized(size),
        color=color,
        markerfacecolor=face,
        markeredgewidth=1.0,
        elinewidth=1.0,
        capsize=2.0,
        zorder=3,
    )
    if optimum.params is not None and optimum.loss is not None:
        vertex = Mark(optimum.params, optimum.loss, optimum.params_ci, optimum.loss_ci)
        draw_mark(axes, vertex, SeriesStyle(ink(), "*", ""), 2.4 * size, ink())


def _label(
    points: Points, optimum: Optimum, style: SeriesStyle, side: Literal["left", "right"]
) -> CurveLabel:
    """The budget at an end of its curve; an arrow where the minimum lies beyond an end."""
    end = int(np.argmin(points.params_P) if side == "left" else np.argmax(points.params_P))
    height = float(points.loss_P[end])
    if optimum.curve_loss:
        height = optimum.curve_loss[0 if side == "left" else -1]
    text = notation.flops(optimum.budget_flops)
    if not optimum.bracketed:
        text = _FLAGS.get(str(optimum.reason), "?") + " " + text
    color = style.color if optimum.bracketed else muted()
    return CurveLabel(float(points.params_P[end]), height, text, color, side)


def _key() -> list[Line2D]:
    measured = "losses at a budget ± standard error, their fit"
    return [
        Line2D([], [], color=ink(), marker="o", markersize=4.5, linewidth=1.3, label=measured),
        key_entry("compute-optimal size, 95 % intervals", ink(), "*", 9.0),
        hollow_entry("budget not bracketed: enters no law", muted()),
        key_entry("← →  minimum beyond that end;  ?  unclear"),
    ]
