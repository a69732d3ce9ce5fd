"""IsoFLOP curves: loss against size at every budget."""

from analysis.fitting.fit import FitResult
from analysis.report.page.charts.figure import Figure, Panel
from analysis.report.page.charts.vega import (
    DASHES,
    INK,
    MUTED,
    PAPER,
    POINT_TIP,
    Axis,
    Canvas,
    Json,
    Tip,
    line,
    point,
    series_color,
)
from analysis.report.page.frames import bracketed
from analysis.report.tables import Table


def valleys(fit: FitResult, tables: tuple[tuple[str, Table], ...], remark: str) -> Figure:
    """Loss against size at every budget, a chart for each series."""
    labels = tuple(fit.families)
    size = Axis("params", "{params}", "count", "log")
    loss = Axis("loss", "loss", "loss")
    panels = []
    for number, (label, family) in enumerate(fit.families.items()):
        if not any(optimum.curve_params for optimum in family.optima):
            continue
        on = Canvas(size, loss, labels, number)
        noted = bracketed(family.optima)
        by_budget = {"field": "budget", "type": "nominal"}
        look = _if_bracketed(series_color(number))
        dashes = {"condition": {"test": "datum.bracketed", "value": [1, 0]}, "value": DASHES}
        text = {"type": "text", "align": "left", "dx": 5, "fontSize": 10, "clip": False}
        star = {"stroke": INK, "fill": PAPER, "strokeWidth": 1.6, "shape": "diamond"}
        layers = [
            on.mark("curve", "curves", line(), detail=by_budget, color=look, strokeDash=dashes),
            on.interval("error", "points", "", {"strokeWidth": 1, "opacity": 0.6}),
            on.mark("points", "points", point(38), color=on.color(), shape=on.shape()),
            on.mark("best", "optima", {"type": "point", "size": 85, "opacity": 1} | star),
            on.mark("end", "ends", text, text={"field": "text"}, color=look),
        ]
        tips = {
            "points": POINT_TIP,
            "best": Tip(
                (
                    ("optimum of", "series", "series"),
                    ("FLOPs", "flops", "flops"),
                    ("N*", "params", "count"),
                    ("D*", "tokens", "count"),
                    ("L*", "loss", "loss"),
                ),
                {name: (f"{name}_low", f"{name}_high") for name in ("params", "tokens", "loss")},
            ),
        }
        losses = ("loss", "low", "high", "loss_low", "loss_high")
        described = f"Loss against size of {label} at each budget; {noted}."
        panels.append(Panel(label, on.spec(layers, described, tips, losses), number, noted))
    caption = (
        "Loss against model size at equal compute. Diamonds are compute-optimal sizes. A budget "
        "counts only when its minimum is bracketed: sizes on both sides rise above the noise; "
        f"grey and dashed ones enter no law.{remark}"
    )
    return Figure("valleys", "Loss against size at every budget", caption, tuple(panels), tables)


def _if_bracketed(color: str) -> Json:
    return {"condition": {"test": "datum.bracketed", "value": color}, "value": MUTED}
