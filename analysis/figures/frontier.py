"""The frontier figure: compute-optimal loss, size and tokens of all series against compute.

Published laws stand beside them: thin, grey, labelled where they leave the panel.
"""

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import HashableList

from analysis import notation
from analysis.errors import NothingToDraw
from analysis.figures.axes import set_flops_axis, set_log_axis, set_loss_axis, widened
from analysis.figures.labels import CurveLabel, label_curves
from analysis.figures.marks import MANY_BUDGETS, Mark, draw_mark, key_entry
from analysis.figures.style import (
    DASHES,
    HOUSE,
    Look,
    SeriesStyle,
    add_key,
    ink,
    muted,
    paper,
    sized,
)
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.isoflop.isoflop import Optimum
from analysis.notation import Interval
from analysis.stats.power_law import PowerLaw
from analysis.tables.published import PublishedLaw, Quantity

WITHIN, BEYOND = (0.0, (6.0, 1.5)), (0.0, (1.0, 2.0))
"""Dashes inside the range that a law was fitted over, dots outside it or where it is unknown."""
REACH: dict[Quantity, float] = {"loss": 1.25, "params": 10.0, "tokens": 10.0}
"""How far a panel is opened for laws beside its own curves. The levels of losses do not compare
across corpora, so these are not worth squeezing our own curves for."""
PUBLISHED_WIDTH = 0.9

_QUANTITIES: tuple[Quantity, ...] = ("loss", "params", "tokens")
_WIDE: list[HashableList[str]] = [
    ["loss", "params"],
    ["loss", "params"],
    ["loss", "tokens"],
    ["residual", "tokens"],
]
_NARROW: list[HashableList[str]] = [["loss"], ["residual"], ["params"], ["tokens"]]


@dataclass(frozen=True)
class _Content:
    families: tuple[FamilyFit, ...]
    styles: dict[str, SeriesStyle]
    limits: Interval
    published: tuple[PublishedLaw, ...]

    @property
    def mark_size(self) -> float:
        """Smaller where there are many."""
        most = max(len(family.optima) for family in self.families)
        return 5.0 if most <= MANY_BUDGETS else 3.2


def frontier(fit: FitResult, look: Look = HOUSE) -> Figure:
    """L*(C) with residuals beside N*(C) and D*(C): optima, laws, 95 % bands, all series."""
    shown = tuple(f for f in fit.families.values() if any(o.bracketed for o in f.optima))
    if not shown:
        raise NothingToDraw("no series has a bracketed budget")
    flops = [o.flops for family in shown for o in family.optima if o.curve_params]
    # Laws are drawn beyond the budgets by 0.3 of their log range.
    limits = widened(flops, 0.3, least=0.4)
    with look.settings():
        content = _Content(shown, look.styles(fit.families), limits, fit.published)
        figure, axes = _panels(look)
        labels = {axes[name]: _law_panel(axes[name], name, content) for name in _QUANTITIES}
        _residual_panel(axes["residual"], content)
        axes["loss"].set(ylabel=f"L* ({notation.LOSS_UNIT})", title="Compute-optimal loss")
        size = f"N* ({notation.params_unit(fit.params_convention)})"
        axes["params"].set(ylabel=size, title="Compute-optimal size")
        axes["tokens"].set(ylabel="D* (tokens)", title="Compute-optimal tokens")
        last = ("tokens",) if look.is_narrow else ("tokens", "residual")
        for name, panel in axes.items():
            if name in last:
                set_flops_axis(panel, limits, fit.flops_convention)
            else:
                set_log_axis(panel, "x", limits, lambda _: "", 5)
        for name in _QUANTITIES:
            labels[axes[name]] += _draw_published(axes[name], name, content.published)
        add_key(figure, _key(content))
        label_curves(figure, labels, sized(8.0 if content.published else 9.0))
        return figure


def _panels(look: Look) -> tuple[Figure, dict[str, Axes]]:
    """Blank panels by name: two columns, in narrow figures one."""
    if look.is_narrow:
        figure = look.figure(6.4)
        return figure, figure.subplot_mosaic(_NARROW, height_ratios=[1.35, 0.75, 1.0, 1.0])
    figure = look.figure(look.panel_inches(6.25))
    return figure, figure.subplot_mosaic(_WIDE, width_ratios=[1.15, 1.0])


def _law(family: FamilyFit, name: Quantity) -> PowerLaw | None:
    law: PowerLaw | None = getattr(family.isoflop, f"{name}_law", None)
    return law


def _mark(optimum: Optimum, name: Quantity) -> Mark:
    value, ends = getattr(optimum, name), getattr(optimum, f"{name}_ci")
    return Mark(optimum.flops, value, y_ends=ends)


def _law_panel(axes: Axes, name: Quantity, content: _Content) -> list[CurveLabel]:
    """Optima of one quantity and its laws: solid inside the bracketed budgets, dashed outside."""
    seen: list[float] = []
    labels = []
    for family in content.families:
        style, law = content.styles[family.family], _law(family, name)
        marks = [_mark(optimum, name) for optimum in family.optima if optimum.bracketed]
        end = (marks[-1].x, marks[-1].y)
        if law is not None:
            seen += _law_curve(axes, law, (marks[0].x, marks[-1].x), content.limits, style)
            end = (content.limits[1], law(content.limits[1]))
        for mark in marks:
            draw_mark(axes, mark, style, content.mark_size, style.color)
            seen += [mark.y, *(mark.y_ends or ())]
        labels.append(CurveLabel(*end, style.label, style.color))
    if name == "loss":
        seen += _open_budgets(axes, content)
    _set_y_axis(axes, name, widened(seen, 0.03))
    return labels


def _set_y_axis(axes: Axes, name: Quantity, limits: Interval) -> None:
    if name == "loss":
        set_loss_axis(axes, limits, "log")
    else:
        set_log_axis(axes, "y", limits, notation.count)


def _law_curve(
    axes: Axes, law: PowerLaw, inside: Interval, limits: Interval, style: SeriesStyle
) -> list[float]:
    """Draw a law and its band over `limits`; returns values that the axis has to show."""
    flops = np.unique(np.concatenate([np.geomspace(*limits, 81), inside]))
    value = np.array([law(c) for c in flops])
    band = np.array([law.interval(c) for c in flops])
    within = (flops >= inside[0]) & (flops <= inside[1])
    axes.fill_between(flops, band[:, 0], band[:, 1], color=style.color, alpha=0.13, linewidth=0)
    for edge in band.T:
        axes.plot(flops, edge, color=style.color, alpha=0.35, linewidth=0.6)
    axes.plot(flops[within], value[within], color=style.color, linewidth=1.6)
    for part in (flops <= inside[0], flops >= inside[1]):
        axes.plot(flops[part], value[part], color=style.color, linestyle=DASHES, linewidth=1.3)
    return [*value.tolist(), *band[within].ravel().tolist()]


def _is_open(optimum: Optimum) -> bool:
    return bool(optimum.curve_params) and not optimum.bracketed


def _open_budgets(axes: Axes, content: _Content) -> list[float]:
    """Lowest measured loss of the budgets that are not bracketed, as hollow marks."""
    seen = []
    for family in content.families:
        style, points = content.styles[family.family], family.points
        for optimum in filter(_is_open, family.optima):
            lowest = float(points.loss_P[points.budget_P == optimum.budget_flops].min())
            draw_mark(axes, Mark(optimum.flops, lowest), style, 0.9 * content.mark_size, paper())
            seen.append(lowest)
    return seen


def _residual_panel(axes: Axes, content: _Content) -> None:
    """Signed distance of every L* from its law in percent, series side by side."""
    reach = 0.1
    low, high = content.limits
    axes.axhline(0.0, color=muted(), linewidth=0.9)
    for index, family in enumerate(content.families):
        law, style = _law(family, "loss"), content.styles[family.family]
        if law is None:
            continue
        # Side by side: 1.2 % of the width of the axis apart.
        nudge = (high / low) ** (0.012 * (index - (len(content.families) - 1) / 2))
        for mark in (_mark(o, "loss") for o in family.optima if o.bracketed):
            # 100 (L* / L(C) - 1), the ends of the interval likewise: the law counts as exact.
            expected = law(mark.x)
            off, *ends = (100.0 * (y / expected - 1.0) for y in (mark.y, *(mark.y_ends or ())))
            reach = max(reach, abs(off), *map(abs, ends))
            beside = Mark(mark.x * nudge, off, y_ends=(ends[0], ends[1]) if ends else None)
            draw_mark(axes, beside, style, content.mark_size, style.color)
        for mark in _held_out(family):
            reach = max(reach, abs(mark.y))
            beside = Mark(mark.x * nudge, mark.y)
            draw_mark(axes, beside, style, 1.3 * content.mark_size, paper())
    axes.set(ylim=(-1.15 * reach, 1.15 * reach), ylabel="L* − law (%)")
    axes.set_title("Residual of the loss law")
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _held_out(family: FamilyFit) -> list[Mark]:
    """Signed distance in percent of each L* from what the smaller budgets alone predicted."""
    # By the form of law that is shown, fitted to as many budgets as were tried without it.
    law, holdout = _law(family, "loss"), family.holdout
    if law is None or holdout is None or holdout.unit != "budgets":
        return []
    form = "power" if law.offset is None else "offset"
    closest = {made.target: made for made in holdout.predictions if made.form == form}
    return [
        Mark(target.flops, 100.0 * (target.loss / made.loss - 1.0))
        for target, made in closest.items()
    ]


def _key(content: _Content) -> list[Line2D]:
    key = [
        key_entry("optimum, 95 % interval", marker="o"),
        Line2D([], [], label="law within its budgets, 95 % band", color=ink(), linewidth=1.6),
        Line2D([], [], label="extrapolated", color=ink(), linestyle=DASHES, linewidth=1.3),
    ]
    if any(_is_open(optimum) for family in content.families for optimum in family.optima):
        key.append(key_entry("lowest loss, budget not bracketed", marker="o", face=paper()))
    if any(_held_out(family) for family in content.families):
        label = "residual from smaller budgets alone"
        key.append(key_entry(label, marker="o", size=6.5, face=paper()))
    if content.published:
        key += [
            Line2D([], [], label=label, color=muted(), linestyle=dashes, linewidth=PUBLISHED_WIDTH)
            for label, dashes in (
                ("published, within its range", WITHIN),
                ("published, outside it or unknown", BEYOND),
            )
        ]
    return key


def _draw_published(
    axes: Axes, quantity: Quantity, laws: tuple[PublishedLaw, ...]
) -> list[CurveLabel]:
    """Draw what passes near a panel's own curves, and name in its corner what does not."""
    # The panel's limits are set; they are opened to hold what is drawn.
    limits, (low, high) = axes.get_xlim(), axes.get_ylim()
    flops = np.geomspace(*limits, 101)
    reach = REACH[quantity]
    labels, far, seen = list[CurveLabel](), list[str](), [low, high]
    for law in laws:
        if law.quantity != quantity or law.coefficient is None:
            continue
        value = np.array([law(c) for c in flops], dtype=np.float64)
        near = (value > low / reach) & (value < high * reach)
        if not near.any():
            far.append(law.name)
            continue
        covered = np.array([law.covers(c) for c in flops])
        for dashes, part in ((BEYOND, ~covered), (WITHIN, covered)):
            shown = np.where(part, value, np.nan)
            axes.plot(
                flops, shown, color=muted(), linestyle=dashes, linewidth=PUBLISHED_WIDTH, zorder=1.5
            )
        seen += value[near].tolist()
        last = np.flatnonzero(near)[-1]
        labels.append(CurveLabel(float(flops[last]), float(value[last]), law.name, muted()))
    if labels and (ends := (min(seen), max(seen))) != axes.get_ylim():
        _set_y_axis(axes, quantity, widened(ends, 0.02))
    if far:
        text = f"off this panel: {', '.join(far)}"
        # A panel has room for 56 characters of a note.
        lines = textwrap.wrap(text, 56, break_on_hyphens=False)
        note = axes.text(
            0.02, 0.02, "\n".join(lines), transform=axes.transAxes,
            color=muted(), fontsize=sized(7.5), va="bottom",
        )  # fmt: skip
        note.set_in_layout(False)
    return labels
