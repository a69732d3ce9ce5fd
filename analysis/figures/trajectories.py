"""The trajectories figure: every measured loss against compute, by size, over their envelope."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import notation
from analysis.figures.axes import set_flops_axis, set_loss_axis, widened
from analysis.figures.labels import CurveLabel, label_curves
from analysis.figures.marks import key_entry
from analysis.figures.style import (
    HOUSE,
    Look,
    SeriesStyle,
    add_key,
    ink,
    muted,
    name_once,
    sized,
)
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.tables.points import Points, records


def trajectories(fit: FitResult, look: Look = HOUSE) -> Figure:
    """One panel per series: every size's loss against compute, over the lower envelope."""
    shown = list(fit.families.values())
    with look.settings():
        styles = look.styles(fit.families)
        figure, grid = look.panels(len(shown), 2.9, look.columns(len(shown)))
        low, high = widened(np.concatenate([family.points.flops_P for family in shown]), 0.04)
        reach = max(0.02, *(float(np.ptp(np.log(family.points.loss_P))) for family in shown))
        labels = {}
        for axes, family in zip(grid, shown, strict=True):
            # An eighth of the axis is left for the labels at the right.
            set_flops_axis(axes, (low, float(high * (high / low) ** 0.12)), fit.flops_convention)
            # Equal ratios of loss per inch in all panels: slopes can be compared by eye.
            bottom = float(family.points.loss_P.min() * np.exp(-0.07 * reach))
            set_loss_axis(axes, (bottom, float(bottom * np.exp(1.14 * reach))), "log")
            axes.set_ylabel(f"loss ({notation.LOSS_UNIT})")
            labels[axes] = _panel(axes, family.points, styles[family.family])
        name_once(look, grid)
        add_key(figure, _key(shown))
        label_curves(figure, labels, sized(8.0))
        return figure


def _panel(axes: Axes, points: Points, style: SeriesStyle) -> list[CurveLabel]:
    axes.set_title(style.label, color=style.color, parse_math=False)
    axes.plot(
        *records(points), color=style.color, alpha=0.3, linewidth=6.0,
        solid_capstyle="round", solid_joinstyle="round",
    )  # fmt: skip
    order = np.argsort(points.flops_P, kind="stable")
    ends = []
    for params in np.unique(points.params_P):
        mine = points.take(order[points.params_P[order] == params])
        axes.plot(mine.flops_P, mine.loss_P, style.marker, color=ink(), markersize=2.2, alpha=0.9)
        if mine.has_shared_runs:
            for run in np.unique(mine.run_P):
                x, y = mine.flops_P[mine.run_P == run], mine.loss_P[mine.run_P == run]
                axes.plot(x, y, color=ink(), linewidth=0.9, alpha=0.8)
        else:  # each run is one point: dotted from run to run
            axes.plot(
                mine.flops_P, mine.loss_P, color=ink(), linewidth=0.8, alpha=0.6, linestyle=":"
            )
        if len(mine.loss_P) > 1 or points.has_shared_runs:
            ends.append((float(mine.flops_P[-1]), float(mine.loss_P[-1]), float(params)))
    # Of more than 8 sizes, up to 8 are labelled, evenly chosen.
    stride = -(-len(ends) // 8) or 1
    return [CurveLabel(x, y, notation.count(params), ink()) for x, y, params in ends[::stride]]


def _key(shown: list[FamilyFit]) -> list[Line2D]:
    key = []
    if any(family.points.has_shared_runs for family in shown):
        key.append(Line2D([], [], color=ink(), linewidth=0.9, label="one run"))
    alone = [family.points for family in shown if not family.points.has_shared_runs]
    if any(len(np.unique(points.params_P)) < len(points.params_P) for points in alone):
        label = "separate runs of one size"
        key.append(Line2D([], [], color=ink(), linestyle=":", linewidth=0.9, label=label))
    envelope = Line2D([], [], color=muted(), alpha=0.5, linewidth=6.0, label="lower envelope")
    note = [key_entry("labels: size in parameters")] if key else []
    return [*key, envelope, *note]
