"""Published laws in a panel of the frontier figure: thin, grey, labelled where they leave it."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.figures.style import MUTED, CurveLabel, set_log_axis, set_loss_axis, widened
from analysis.notation import Interval, count
from analysis.tables.points import BoolArray, FloatArray
from analysis.tables.published import PublishedLaw, Quantity

WITHIN, BEYOND = (0.0, (6.0, 1.5)), (0.0, (1.0, 2.0))
"""Dashes inside the range that a law was fitted over, dots outside it or where it is unknown."""
REACH: dict[Quantity, float] = {"loss": 1.25, "params": 10.0, "tokens": 10.0}
"""How far a panel is opened for laws beside its own curves. The levels of losses do not compare
across corpora, so these are not worth squeezing our own curves for."""
WIDTH = 0.9
N_LINE = 101
NOTE_COLUMNS = 56
"""Characters of a note that a panel has room for."""


def draw_published(
    axes: Axes, quantity: Quantity, laws: Sequence[PublishedLaw]
) -> list[CurveLabel]:
    """Draw what passes near a panel's own curves, and name in its corner what does not.

    The panel's limits must be set; they are opened to hold what is drawn.
    """
    limits, (low, high) = axes.get_xlim(), axes.get_ylim()
    flops = np.geomspace(*limits, N_LINE)
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
        _draw(axes, flops, value, np.array([law.covers(c) for c in flops]))
        seen += value[near].tolist()
        last = N_LINE - 1 - int(np.argmax(near[::-1]))
        labels.append(CurveLabel(float(flops[last]), float(value[last]), law.name, MUTED))
    if labels:
        _open(axes, quantity, (min(seen), max(seen)))
    if far:
        _note(axes, far)
    return labels


def published_key(laws: Sequence[PublishedLaw]) -> list[Line2D]:
    """Entries of the figure's key; none without laws."""
    if not laws:
        return []
    return [
        Line2D([], [], label=label, color=MUTED, linestyle=dashes, linewidth=WIDTH)
        for label, dashes in (
            ("published, within its range", WITHIN),
            ("published, outside it or unknown", BEYOND),
        )
    ]


def _draw(axes: Axes, flops: FloatArray, value: FloatArray, covered: BoolArray) -> None:
    for dashes, part in ((BEYOND, ~covered), (WITHIN, covered)):
        shown = np.where(part, value, np.nan)
        axes.plot(flops, shown, color=MUTED, linestyle=dashes, linewidth=WIDTH, zorder=1.5)


def _open(axes: Axes, quantity: Quantity, ends: Interval) -> None:
    if ends == axes.get_ylim():
        return
    limits = widened(ends, 0.02)
    if quantity == "loss":
        set_loss_axis(axes, limits, "log")
    else:
        set_log_axis(axes, "y", limits, count)


def _note(axes: Axes, names: Sequence[str]) -> None:
    text = f"off this panel: {', '.join(names)}"
    lines = textwrap.wrap(text, NOTE_COLUMNS, break_on_hyphens=False)
    note = axes.text(
        0.02, 0.02, "\n".join(lines), transform=axes.transAxes,
        color=MUTED, fontsize=7.0, va="bottom",
    )  # fmt: skip
    note.set_in_layout(False)
