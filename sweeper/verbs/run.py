"""The verb that trains: `run`."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.store.storage import StoragePath, is_of_one_process
from sweeper.verbs.cost import cost_here, limit_warnings
from sweeper.verbs.options import results_option, sweep_arguments, takeover_option
from sweeper.verbs.output import say
from sweeper.verbs.plan import has_gpu, planned_sweep

if TYPE_CHECKING:
    from sweeper.executors.base import Executor
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.schema import LoadedSweep


@click.command()
@sweep_arguments
@results_option
@click.option("--executor", default="ray", show_default=True, type=click.Choice(["ray", "inline"]))
@click.option("--address", metavar="A", help="Ray cluster to use; without it, Ray is embedded.")
@takeover_option
@click.pass_context
def run(context: click.Context, /, sweep_file: Path, results: StoragePath, **options: Any) -> None:
    """Train what is missing of a sweep. Run it again to resume or to extend.

    While a driver is at work on the sweep, an edited file is handed to it: it continues with the
    new plan, within the limits it was started with.

    Ctrl-C once: write checkpoints and stop. Twice: stop now.

    Example: sweeper run sweeps/quick.yaml --set train.seeds=[0,1]
    """
    from rich.console import Console

    from sweeper.executors.stop import StopSignal
    from sweeper.orchestration.driver import SweepRun, run_sweep
    from sweeper.orchestration.lease import held
    from sweeper.orchestration.replan import new_plan, replan
    from sweeper.planning.planner import plan_sweep
    from sweeper.store.layout import store_at
    from sweeper.store.submission import submit
    from sweeper.verbs.progress import shown

    if is_of_one_process(results) and options["executor"] != "inline":
        raise click.UsageError(f"{results} is seen by one process alone; add --executor inline")
    is_on_gpus = None
    if options["address"]:
        from sweeper.executors.ray_executor import nodes_at

        # Nodes that a cluster may start count, too.
        is_on_gpus = any(node.gpus for node in nodes_at(options["address"]))
    loaded, planned = planned_sweep(
        sweep_file, options["overrides"], results, plan_sweep, is_on_gpus=is_on_gpus
    )
    _say_warnings(loaded, planned, None if options["address"] else results)
    store, stop = store_at(results, loaded.sweep.name), StopSignal()
    plan, text = planned.plan, loaded.document.as_submitted()
    if not options["takeover"] and (replanned := replan(store, plan, text)):
        driver = replanned.driver
        when = "goes on" if replanned.is_taken else "has not looked yet, and will go on"
        say(
            f"the driver at work, process {driver.pid} on {driver.host}, {when} with the new plan, "
            f"within the limits it was started with; next: sweeper status {store.folder}"
        )
        return
    with held(store, takeover=options["takeover"]) as lease, shown(Console(), store) as on_event:

        def is_stopped() -> bool:
            if request := lease.stop_request():
                stop.request(request)
            return stop.is_requested()

        executor = _executor(options["executor"], options["address"], is_stopped, loaded)
        submit(store, plan, text)
        outcome = run_sweep(
            SweepRun(
                store=store,
                plan=plan,
                executor=executor,
                stop=stop,
                on_event=on_event,
                limits=loaded.sweep.limits,
                retries=loaded.sweep.retry,
                stop_request=lease.stop_request,
                new_plan=lambda: new_plan(store, lease.epoch),
            )
        )
    folder = results / loaded.sweep.name
    if outcome.n_left:
        say("run the same command again to finish what is missing")
    elif outcome.n_failed:
        say(f"{outcome.n_failed} trials failed, see above; next: sweeper status {folder}")
    else:
        say(f"results in {folder}; next: sweeper fit {folder}")
    context.exit(outcome.exit_code)


def _say_warnings(
    loaded: "LoadedSweep", planned: "PlannedSweep", results: StoragePath | None
) -> None:
    """What the plan warns of and, where it runs here, limits that it is likely to meet."""
    for warning in planned.warnings:
        say(f"warning: {warning.message} [{warning.code}]", err=True)
    limits = loaded.sweep.limits
    if results and math.isfinite(min(limits.wall_s, limits.device_hours, limits.cost)):
        cost = cost_here(planned.plan, results, is_on_gpus=has_gpu(loaded))
        for text in limit_warnings(cost, limits) if cost else ():
            say(f"warning: {text}", err=True)


def _executor(
    name: str, address: str | None, is_stopped: Callable[[], bool], loaded: "LoadedSweep"
) -> "Executor":
    from sweeper.verbs.worker_entry import run_trial

    if name == "inline":
        from sweeper.executors.inline import InlineExecutor

        if address is not None:
            raise click.UsageError("--address is for --executor ray; inline runs in this process")
        return InlineExecutor(run_trial, is_stopped, "cuda" if has_gpu(loaded) else "cpu")
    from sweeper.executors.ray_executor import RayExecutor

    return RayExecutor(run_trial, address=address)
