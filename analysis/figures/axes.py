"""Axes of figures: few, round, readable ticks, also where the scale is logarithmic."""

from collections.abc import Callable, Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from analysis import notation
from analysis.notation import Interval
from analysis.tables.points import FloatArray

_STEPS = (
    np.arange(10, 100) / 10,
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)
"""Round numbers of a decade, the densest first."""


def log_ticks(low: float, high: float, at_most: int = 6) -> FloatArray:
    """The densest round numbers on a log axis that are few enough: down to every few decades."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    decades = 10.0 ** np.arange(first, last + 1)
    for steps in _STEPS:
        ticks = _within(np.sort(np.outer(decades, steps).ravel()), low, high)
        if len(ticks) < 2:  # so narrow that the axis is linear to the eye
            return _within(np.asarray(MaxNLocator(at_most - 1).tick_values(low, high)), low, high)
        if len(ticks) <= at_most:
            return ticks
    return ticks[:: -(-len(ticks) // at_most)]


def _within(ticks: FloatArray, low: float, high: float) -> FloatArray:
    return ticks[(ticks >= low * 0.999) & (ticks <= high * 1.001)]


def set_log_axis(
    axes: Axes, axis: str, limits: Interval, write: Callable[[float], str], n: int = 6
) -> None:
    """A log axis with few, round, written-out ticks."""
    _set_scale(axes, axis, "log", limits, log_ticks(*limits, n), write)


def set_loss_axis(axes: Axes, limits: Interval, scale: str = "linear") -> None:
    """The vertical axis of a loss, with round ticks also where it is logarithmic."""
    ticks = np.asarray(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(*limits))
    step = float(ticks[1] - ticks[0])
    decimals = next(d for d in range(9) if abs(round(step, d) - step) < 1e-9 * step or d == 8)
    _set_scale(axes, "y", scale, limits, ticks, lambda value: f"{value:.{decimals}f}")


def _set_scale(
    axes: Axes,
    axis: str,
    scale: str,
    limits: Interval,
    ticks: FloatArray,
    write: Callable[[float], str],
) -> None:
    axes.set(**{f"{axis}scale": scale, f"{axis}lim": limits})
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_locator(FixedLocator(_within(ticks, *limits).tolist()))
    chosen.set_major_formatter(FuncFormatter(lambda value, _: write(float(value))))
    chosen.set_minor_locator(NullLocator())
    chosen.set_minor_formatter(NullFormatter())


def widened(values: Iterable[float], share: float = 0.06, least: float = 0.02) -> Interval:
    """Limits of a log axis around positive values, `share` of their log range wider."""
    logs = np.log(np.array(list(values)))
    pad = max(share * float(np.ptp(logs)), least)
    return float(np.exp(logs.min() - pad)), float(np.exp(logs.max() + pad))


def set_flops_axis(axes: Axes, limits: Interval, convention: str) -> None:
    """The horizontal axis of a budget."""
    set_log_axis(axes, "x", limits, notation.flops, 5)
    axes.set_xlabel(f"training compute C ({notation.flops_unit(convention)})")


def set_exponents_axis(axes: Axes) -> None:
    """A horizontal axis of small numbers of either sign."""
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "−"))
