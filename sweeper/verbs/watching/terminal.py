"""What `status --watch` shows: a live view in a terminal, else one plain block per change."""

import contextlib
import datetime
import math
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from sweeper.store.layout import Store
from sweeper.sweepfile.quantities import count, duration, three_digits
from sweeper.verbs.output import plain
from sweeper.watching.view import Happened, Running, Valley, View, Watch, sparkline

LOOK_EVERY_S = 2.0
REMOTE_LOOK_EVERY_S = 15.0  # an object store charges for each look
MAX_RUNNING = 8
BAR_COLUMNS = 24
SPARK_COLUMNS = 16
PIPE_COLUMNS = 80


def watch(store: Store) -> None:
    """Show a sweep until it is complete, or until Ctrl-C."""
    console = Console(highlight=False)
    is_live = console.is_terminal and not console.is_dumb_terminal
    watched = Watch(store)
    pause_s = LOOK_EVERY_S if isinstance(store.folder, Path) else REMOTE_LOOK_EVERY_S
    with contextlib.suppress(KeyboardInterrupt):
        (_show_live if is_live else _show_blocks)(console, watched, pause_s)


def _show_live(console: Console, watched: Watch, pause_s: float) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            view = watched.look()
            live.update(block(view), refresh=True)
            if view.is_settled:
                return
            time.sleep(pause_s)


def _show_blocks(console: Console, watched: Watch, pause_s: float) -> None:
    """A block when a trial begins or ends or the driver changes, and no sign to steer a screen."""
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    shown = None
    while True:
        view = watched.look()
        news = view.state, view.status.driver, view.status.counts, view.happened
        if news != shown:
            if shown is not None:
                console.print()
            now = datetime.datetime.now(datetime.UTC)
            console.print(f"{now:%Y-%m-%d %H:%M:%S} UTC")
            console.print(block(view))
            console.file.flush()
            shown = news
        if view.is_settled:
            return
        time.sleep(pause_s)


def block(view: View) -> Group:
    """The view, each line cut at the width of the console."""
    lines = list(_lines(view))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def _lines(view: View) -> Iterator[Text]:
    status = view.status
    n_full = min(BAR_COLUMNS, int(view.share_done * BAR_COLUMNS))
    yield Text.assemble(
        (plain(status.name), "bold"),
        f"  {view.state}  ",
        ("█" * n_full, "green"),
        ("░" * (BAR_COLUMNS - n_full), "dim"),
        f" {view.share_done:.0%} of {three_digits(status.flops_planned)} FLOPs",
    )
    counts = ", ".join(f"{n} {state}" for state, n in status.counts.items() if n)
    left = ""
    if status.time_left:
        p50, p90 = duration(status.time_left.p50_s), duration(status.time_left.p90_s)
        left = f"; about {p50} left (p90 {p90})"
    yield Text(f"{counts}{left}")
    for line in spend_lines(view):
        yield Text(line)
    if view.running:
        yield Text("running", style="bold")
        yield from map(_running_line, view.running[:MAX_RUNNING])
        if (hidden := len(view.running) - MAX_RUNNING) > 0:
            yield Text(f"  … and {hidden} more")
    if view.valleys:
        yield Text(
            "bounds by size at the largest budget; [ ] bracketed (and of all budgets)", style="bold"
        )
        yield from map(_valley_line, view.valleys)
    if view.happened:
        yield Text("last", style="bold")
        yield from map(_happened_line, view.happened)


def spend_lines(view: View) -> Iterator[str]:
    """Device-hours, money and time, each against its limit where there is one."""
    cost, limits, driver = view.status.cost, view.limits, view.status.driver
    parts = [_against(f"{cost.device_hours_spent:.3g}", limits.device_hours, "device-hours")]
    if cost.device_hours_left is not None:
        parts.append(f"{cost.device_hours_left:.3g} to go")
    if cost.price_per_hour is not None:
        money = cost.device_hours_spent * cost.price_per_hour
        parts.append(_against(f"{money:.2f}", limits.cost, "money"))
    yield "spent: " + ", ".join(parts)
    parts = []
    if math.isfinite(limits.flops):
        parts.append(_against(three_digits(view.status.flops_done), limits.flops, "FLOPs"))
    if math.isfinite(limits.wall_s) and driver is not None:
        at_work = duration(max(0.0, time.time() - driver.started_s))
        parts.append(f"{at_work} of {duration(limits.wall_s)} at work")
    if parts:
        yield "limits: " + ", ".join(parts)


def _against(spent: str, limit: float, unit: str) -> str:
    return f"{spent} of {three_digits(limit)} {unit}" if math.isfinite(limit) else f"{spent} {unit}"


def _running_line(running: Running) -> Text:
    progress = running.progress
    steps = f"{progress.step:,}/{progress.n_steps:,}" if progress else "starting"
    loss = f"{running.losses[-1]:.3f}" if running.losses else ""
    spark = sparkline(running.losses, SPARK_COLUMNS)
    what = f"{plain(running.planned.series)[:16]} {count(running.planned.params.trunk)}"
    return Text.assemble(
        (f"  {running.planned.trial_id} ", "dim"),
        f"{what:21} {steps:>15}  ",
        (f"{spark:{SPARK_COLUMNS}}", "cyan"),
        f" {loss}",
    )


def _valley_line(valley: Valley) -> Text:
    n, best = len(valley.bounds), valley.best
    opening, closing = "(" if best == 0 else "[", ")" if best == n - 1 else "]"
    inside = "" if 0 < best < n - 1 else f", open {'below' if best == 0 else 'above'}"
    return Text.assemble(
        f"  {plain(valley.series)[:12]:12} {three_digits(valley.budget_flops):<7} "
        f"{count(valley.sizes[0]):>5} {opening}",
        (sparkline(valley.bounds, n), "magenta"),
        f"{closing} {count(valley.sizes[-1]):5} "
        f"{valley.bounds[best]:.3f} at {count(valley.sizes[best])}{inside}"
        f" ({valley.n_bracketed}/{valley.n_budgets})",
    )


def _happened_line(event: Happened) -> Text:
    at = datetime.datetime.fromisoformat(event.at)
    what = f"{event.planned.series} {count(event.planned.params.trunk)} {event.what}"
    return Text.assemble((f"  {at:%H:%M:%S} ", "dim"), plain(what))
