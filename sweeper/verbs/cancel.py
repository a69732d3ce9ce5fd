"""The verb that stops a driver, wherever it is: `cancel`."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.errors import ExitCode
from sweeper.store.storage import StoragePath
from sweeper.verbs.options import PLACE, json_option
from sweeper.verbs.output import print_json, say

if TYPE_CHECKING:
    from sweeper.orchestration.lease import DriverAtWork
    from sweeper.store.layout import Store

# Longest wait for a driver to stop: as long as it waits for its trials, plus two evaluations.
WAIT_S = 180.0
SAY_INTERVAL_S = 15.0


@click.command()
@click.argument("folder", type=PLACE)
@click.option(
    "--now", "is_now", is_flag=True, help="Lose what was trained since the last checkpoints."
)
@click.option("--no-wait", is_flag=True, help="Do not wait until the driver has stopped.")
@json_option
@click.pass_context
def cancel(context: click.Context, /, folder: StoragePath, as_json: bool, **options: Any) -> None:
    """Stop the driver of a sweep through its results folder, on this machine or on a cluster.

    Running trials write a checkpoint first. Nothing that is published is touched, and the sweep
    can be run or submitted again to continue. Exit code 4 when the driver has not stopped in time.

    Example: sweeper cancel results/quick
    """
    from sweeper.orchestration.lease import request_stop
    from sweeper.store.layout import open_store

    store = open_store(folder)
    driver = request_stop(store, "stop_now" if options["is_now"] else "stop")
    if driver is not None and not as_json:
        how = "stop at once" if options["is_now"] else "let its trials write checkpoints and stop"
        say(f"asked process {driver.pid} on {driver.host} to {how}")
    has_stopped = driver is None or (not options["no_wait"] and _wait_until_stopped(store, driver))
    if as_json:
        asked = None if driver is None else {"host": driver.host, "pid": driver.pid}
        print_json({"driver": asked, "is_stopped": has_stopped})
    elif has_stopped:
        say(f"no driver is at work on {folder}" if driver is None else "it has stopped")
        say(how_to_resume(folder))
    else:
        say(f"it is still at work; see `sweeper status {folder}`, or cancel with --now")
    is_ok = has_stopped or options["no_wait"]
    context.exit(ExitCode.DONE if is_ok else ExitCode.LIMIT_REACHED)


def how_to_resume(folder: StoragePath) -> str:
    """What to type to resume the sweep of a results folder."""
    if isinstance(folder, Path) and (folder / "sweep.yaml").is_file():
        words = ["sweeper", "run", str(folder / "sweep.yaml"), "--results", str(folder.parent)]
        return f"to go on: {shlex.join(words)}"
    return "to go on, run or submit the sweep again"


def _wait_until_stopped(store: "Store", driver: "DriverAtWork") -> bool:
    from sweeper.orchestration.lease import driver_at_work

    start_s = said_s = time.monotonic()
    while (at_work := driver_at_work(store)) and at_work.epoch == driver.epoch:
        now_s = time.monotonic()
        if now_s - start_s > WAIT_S:
            return False
        if now_s - said_s > SAY_INTERVAL_S:
            said_s = now_s
            say(f"waiting for its trials to stop, {now_s - start_s:.0f} s so far", err=True)
        time.sleep(0.2)
    return True
