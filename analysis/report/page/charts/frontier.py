"""Compute-optimal loss, size and tokens against compute, and what the loss law misses."""

from analysis.fitting.fit import FitResult
from analysis.report.page.charts.figure import Figure, Panel
from analysis.report.page.charts.vega import (
    DASHES,
    MUTED,
    Axis,
    Canvas,
    Json,
    Tip,
    filtered,
    level,
    line,
    point,
)
from analysis.report.tables import Table


def frontiers(fit: FitResult, tables: tuple[tuple[str, Table], ...]) -> Figure:
    """Compute-optimal loss, size and tokens against compute, and what the loss law misses."""
    labels = tuple(fit.families)
    flops = Axis("flops", "{flops}", "flops", "log")
    axes = {
        "loss": ("Compute-optimal loss", Axis("value", "L*", "loss", "log")),
        "params": ("Compute-optimal size", Axis("value", "N* ({params})", "count", "log")),
        "tokens": ("Compute-optimal tokens", Axis("value", "D* (tokens)", "count", "log")),
    }
    optima = [optimum for family in fit.families.values() for optimum in family.optima]
    panels = [
        Panel(title, _law_chart(Canvas(flops, axis, labels), name))
        for name, (title, axis) in axes.items()
        # The lowest loss of a budget is drawn where it is not bracketed, too.
        if any(each.bracketed or (name == "loss" and each.curve_params) for each in optima)
    ]
    if any(family.isoflop and family.isoflop.loss_law for family in fit.families.values()):
        panels.append(Panel("What the loss law misses", _residual_chart(flops, labels)))
    caption = (
        "Lines are power laws through the bracketed budgets, dashed beyond them; bands hold 95 % "
        "of the bootstrap laws. Hollow: the lowest loss of a budget that is not bracketed, or "
        "a residual that the smaller budgets alone had to predict. Grey: published laws."
    )
    name = "Compute-optimal loss, size and tokens"
    return Figure("frontiers", name, caption, tuple(panels), tables, has_key=True)


def _law_chart(on: Canvas, quantity: str) -> Json:
    at = Axis(quantity, on.y.title, on.y.kind, "log")
    measured = Canvas(on.x, at, on.labels)
    band = {"type": "area", "opacity": 0.16, "clip": True}
    low, high = on.y.encoded() | {"field": "low"}, {"field": "high"}
    part = {"field": "part", "type": "nominal"}
    dashes = {"condition": {"test": "datum.part == 'within'", "value": [1, 0]}, "value": DASHES}
    published = {
        "condition": {"test": "datum.part == 'within its range'", "value": [1, 0]},
        "value": [2, 3],
    }
    layers = [
        filtered(
            on.mark("published", "published", line(1.4, color=MUTED),
                    detail={"field": "name", "type": "nominal"}, strokeDash=published),
            quantity=quantity,
        ),
        filtered(
            on.mark("band", "laws", band, y=low, y2=high, color=on.color(), detail=part),
            quantity=quantity,
        ),
        filtered(
            on.mark("law", "laws", line(), color=on.color(), detail=part, strokeDash=dashes),
            quantity=quantity,
        ),
        measured.interval("error", "optima", quantity),
        measured.mark("best", "optima", point(60), color=on.color(), shape=on.shape()),
    ]  # fmt: skip
    tips = {
        "best": Tip(
            (
                ("series", "series", "series"),
                ("FLOPs", "flops", "flops"),
                (f"{quantity}*", quantity, on.y.kind),
            ),
            {quantity: (f"{quantity}_low", f"{quantity}_high")},
        )
    }
    losses: tuple[str, ...] = ()
    if quantity == "loss":
        losses = ("value", "low", "high", "loss", "loss_low", "loss_high")
        hollow = point(48, filled=False, strokeWidth=1.4)
        layers.append(measured.mark("open", "open", hollow, color=on.color(), shape=on.shape()))
        tips["open"] = Tip(
            (
                ("series", "series", "series"),
                ("lowest loss", "loss", "loss"),
                ("not bracketed", "why", "text"),
            )
        )
    return on.spec(layers, f"{on.y.title} against compute, by series.", tips, losses)


def _residual_chart(flops: Axis, labels: tuple[str, ...]) -> Json:
    on = Canvas(flops, Axis("percent", "L* − law (%)", "percent"), labels)
    hollow = {
        "condition": {"test": "datum.kind == 'fitted'", "value": 1},
        "value": 0,
    }
    side_by_side = {"type": "point", "size": 60, "opacity": 1, "strokeWidth": 1.4}
    color = on.color()
    layers = [
        level(0, MUTED),
        on.interval("error", "residuals", "", {"opacity": 0.7}),
        on.mark("residual", "residuals", side_by_side, stroke=color, fill=color,
                fillOpacity=hollow, shape=on.shape()),
    ]  # fmt: skip
    tip = Tip(
        (
            ("series", "series", "series"),
            ("FLOPs", "flops", "flops"),
            ("off the law, %", "percent", "percent"),
            ("", "kind", "text"),
        ),
        {"percent": ("low", "high")},
    )
    return on.spec(layers, "Distance of each optimum from its law.", {"residual": tip})
