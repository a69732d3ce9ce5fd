"""Verbs that look at a results folder: `status` and `verify`. They need no running driver."""

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from sweeper.store.storage import StoragePath
from sweeper.verbs.cancel import how_to_resume
from sweeper.verbs.options import PLACE, json_option
from sweeper.verbs.output import TextTable, plain, print_json, say, show

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sweeper.orchestration.status import SweepCost, SweepStatus


@click.command()
@click.argument("folder", type=PLACE)
@click.option(
    "--watch", "is_watched", is_flag=True, help="Follow it until it is complete, or Ctrl-C."
)
@json_option
def status(folder: StoragePath, is_watched: bool, as_json: bool) -> None:
    """Show which trials are done, running, failed and waiting. Needs no running driver.

    With --watch, a view in the terminal that follows the sweep: progress, time left, spend against
    limits, running trials with their losses, curves so far and what happened last. In a pipe it is
    one plain block per change.

    Example: sweeper status results/quick --watch
    """
    from sweeper.orchestration.status import status as status_of
    from sweeper.orchestration.status import to_json
    from sweeper.store.layout import open_store

    if is_watched:
        if as_json:
            raise click.UsageError("--watch is for people; for scripts ask again without it")
        from sweeper.verbs.watching.terminal import watch

        watch(open_store(folder))
        return
    found = status_of(open_store(folder))
    if as_json:
        print_json(to_json(found))
        return
    show(status_view(found))
    if not found.is_driver_alive and found.flops_done < found.flops_planned:
        say(how_to_resume(folder))


@click.command()
@click.argument("folder", type=PLACE)
@json_option
@click.pass_context
def verify(context: click.Context, /, folder: StoragePath, as_json: bool) -> None:
    """Check a results folder: list what is torn, orphaned, duplicated or inconsistent.

    Exit code 1 when something is found.

    Example: sweeper verify results/quick
    """
    from sweeper.orchestration.verify import to_json
    from sweeper.orchestration.verify import verify as verify_folder

    findings = verify_folder(folder)
    if as_json:
        say(to_json(findings))
    else:
        for finding in findings:
            say(f"{finding.file}: {finding.message} [{finding.code}]")
        noun = "finding" if len(findings) == 1 else "findings"
        say(f"{folder}: {len(findings)} {noun}" if findings else f"{folder}: sound")
    context.exit(1 if findings else 0)


def cost_line(cost: "SweepCost") -> str:
    """Device-hours spent and left, and their price where there is one."""
    parts = [(cost.device_hours_spent, "spent")]
    if cost.device_hours_left is not None:
        parts.append((cost.device_hours_left, "left"))
    shown = [f"{hours:.3g} {what}" for hours, what in parts]
    if (price := cost.price_per_hour) is None:
        return f"device-hours: {', '.join(shown)}"
    money = [f"{hours * price:.2f} {what}" for hours, what in parts]
    return f"device-hours: {', '.join(shown)}; money at {price:g} an hour: {', '.join(money)}"


def status_view(status: "SweepStatus") -> "Iterator[RenderableType]":
    """Counts, progress and driver of a sweep, then one line per trial."""
    from rich.text import Text

    from sweeper.sweepfile.quantities import count, duration

    counts = ", ".join(f"{n} {state}" for state, n in status.counts.items() if n)
    share = status.flops_done / status.flops_planned if status.flops_planned else 1.0
    done = f"{counts}; {share:.0%} of {status.flops_planned:.3g} FLOPs"
    if status.time_left:
        p50, p90 = duration(status.time_left.p50_s), duration(status.time_left.p90_s)
        done += f", about {p50} left (p90 {p90})"
    yield Text(plain(f"{status.name}: {done}"))
    yield Text(cost_line(status.cost))
    driver_line = "no driver at work"
    if (driver := status.driver) is not None:
        since = datetime.datetime.fromtimestamp(driver.started_s, datetime.UTC)
        at_work = f"process {driver.pid} on {driver.host}"
        driver_line = f"driver: {at_work} since {since:%Y-%m-%d %H:%M:%S} UTC"
    yield Text(plain(driver_line))
    styles = {"done": "green", "diverged": "magenta", "failed": "red", "running": "cyan"}
    numbers = ("params", "FLOPs", "done", "bound")
    table = TextTable("trial", "series", *numbers, "state", "error", numbers=numbers)
    for trial in status.trials:
        bound = trial.bound_nats_per_token
        table.add(
            trial.trial_id,
            plain(trial.series),
            count(trial.params_trunk),
            f"{trial.train_flops:.2g}",
            f"{trial.share_done:.0%}",
            "" if bound is None else f"{bound:.3f}",
            trial.state + (f" ({trial.n_attempts} attempts)" if trial.n_attempts > 1 else ""),
            plain(trial.error or ""),
            style=styles.get(trial.state),
        )
    yield table
