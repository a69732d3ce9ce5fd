"""Compute that other series need for the loss of a baseline."""

from collections.abc import Sequence

from analysis.fitting.fit import FitResult
from analysis.report.page.charts.figure import Figure, Panel
from analysis.report.page.charts.vega import DASHES, INK, Axis, Canvas, Tip, filtered, level, line
from analysis.report.tables import Table


def multipliers(fit: FitResult, baselines: Sequence[str], table: Table) -> Figure:
    """How much compute other series need for the loss of a baseline, a chart for each baseline."""
    labels = tuple(fit.families)
    flops = Axis("flops", "compute of the baseline ({flops})", "flops", "log")
    ratio = Axis("multiplier", "compute for equal L*", "ratio", "log")
    panels = []
    for baseline in baselines:
        of = {"baseline": labels.index(baseline)}
        on = Canvas(flops, ratio, labels)
        band = {"type": "area", "opacity": 0.16, "clip": True}
        low, high = ratio.encoded() | {"field": "low"}, {"field": "high"}
        part = {"field": "part", "type": "nominal"}
        extrapolated = "indexof(datum.part, 'extrapolated') >= 0"
        dashes = {"condition": {"test": extrapolated, "value": DASHES}, "value": [1, 0]}
        hollow = {"condition": {"test": "datum.extrapolated", "value": 0}, "value": 1}
        color = on.color()
        dot = {"type": "point", "size": 60, "opacity": 1, "strokeWidth": 1.4}
        layers = [
            level(1, INK),
            filtered(on.mark("band", "stretches", band, y=low, y2=high, color=color, detail=part),
                     **of),
            filtered(on.mark("law", "stretches", line(), color=color, detail=part,
                             strokeDash=dashes), **of),
            filtered(on.interval("error", "multipliers", ""), **of),
            filtered(on.mark("multiplier", "multipliers", dot, stroke=color, fill=color,
                             fillOpacity=hollow, shape=on.shape()), **of),
        ]  # fmt: skip
        tip = Tip(
            (
                ("series", "series", "series"),
                ("FLOPs of the baseline", "flops", "flops"),
                ("compute for its loss", "multiplier", "ratio"),
            ),
            {"multiplier": ("low", "high")},
        )
        described = f"Compute that other series need for the loss of {baseline}."
        panels.append(Panel(f"against {baseline}", on.spec(layers, described, {"multiplier": tip})))
    caption = (
        "Compute that a series needs to reach the compute-optimal loss of the baseline, as a "
        "multiple of the baseline's. Above 1× the baseline is better. Dashed and hollow: one of "
        "the two never observed that loss."
    )
    tables = (("Compute multipliers at equal loss", table),) if table.rows else ()
    return Figure("multiplier", "Compute multipliers", caption, tuple(panels), tables, has_key=True)
