"""Loss against compute of every run, and the loss curve of the one that was chosen."""

from analysis.fitting.fit import FitResult
from analysis.report.page.charts.figure import Figure, Panel
from analysis.report.page.charts.vega import (
    INK,
    MUTED,
    POINT_TIP,
    Axis,
    Canvas,
    Json,
    Tip,
    line,
    point,
)
from analysis.report.tables import Table


def trajectories(fit: FitResult, table: Table, remark: str) -> Figure:
    """Every measured loss against compute, a chart for each series."""
    labels = tuple(fit.families)
    flops = Axis("flops", "{flops}", "flops", "log")
    panels = []
    for number, (label, family) in enumerate(fit.families.items()):
        on = Canvas(flops, Axis("loss", "loss", "loss", "log"), labels, number)
        by_run = {"field": "run", "type": "nominal"}
        wide = {"type": "line", "strokeWidth": 6, "opacity": 0.25, "strokeCap": "round"}
        layers = [
            on.mark("lowest", "records", wide, color=on.color()),
            on.mark("points", "points", point(26), color=on.color(), shape=on.shape()),
        ]
        if family.points.has_shared_runs:
            thin = line(1, opacity=0.55)
            layers.insert(1, on.mark("run", "points", thin, detail=by_run, color=on.color()))
        described = f"Every measured loss of {label} against compute, by run."
        spec = on.spec(layers, described, {"points": POINT_TIP}, ("loss", "low", "high"))
        panels.append(Panel(label, spec, number))
    caption = (
        "Every measured loss against compute, over the lowest that any size reached with as much. "
        f"Choose a point for the loss curve of its run.{remark}"
    )
    tables = (("Runs", table),)
    return Figure("trajectories", "Loss against compute", caption, tuple(panels), tables)


def loss_curve() -> Json:
    """The chart of the one run that was chosen."""
    on = Canvas(Axis("tokens", "tokens", "count"), Axis("loss", "loss", "loss"), (), 0, 260)
    layers = [
        on.mark("training", "training", line(1.2, color=MUTED)),
        on.interval("error", "observed", "", {"color": INK}),
        on.mark("observed", "observed", point(60, color=INK)),
    ]
    for layer in layers:
        layer["encoding"].pop("color", None)
    tip = Tip((("tokens", "tokens", "count"), ("loss", "loss", "loss")), {"loss": ("low", "high")})
    spec = on.spec(layers, "Loss of the chosen run.", {"observed": tip}, ("loss", "low", "high"))
    spec["usermeta"]["series"] = None
    return spec
