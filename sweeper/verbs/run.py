"""The verb that trains: `run`."""

from pathlib import Path
from typing import Any

import click

from sweeper.store.storage import StoragePath
from sweeper.verbs.driving import Machines, drive, machine_options, say_outcome
from sweeper.verbs.options import results_option, sweep_arguments
from sweeper.verbs.output import say
from sweeper.verbs.plan import planned_sweep


@click.command()
@sweep_arguments
@results_option
@machine_options
@click.pass_context
def run(context: click.Context, /, sweep_file: Path, results: StoragePath, **options: Any) -> None:
    """Train what is missing of a sweep. Run it again to resume or to extend.

    While a driver is at work on the sweep, an edited file is handed to it: it continues with the
    new plan, within the limits it was started with.

    Ctrl-C once: write checkpoints and stop. Twice: stop now.

    Example: sweeper run sweeps/quick.yaml --set train.seeds=[0,1]
    """
    from sweeper.planning.planner import plan_sweep
    from sweeper.store.layout import store_at

    machines = Machines.of(options)
    machines.check(results)
    loaded, planned = planned_sweep(
        sweep_file, options["overrides"], results, plan_sweep, is_on_gpus=machines.is_on_gpus()
    )
    for warning in planned.warnings:
        say(f"warning: {warning.message} [{warning.code}]", err=True)
    if (outcome := drive(loaded, planned, results, machines)) is not None:
        say_outcome(outcome, store_at(results, loaded.sweep.name))
        context.exit(outcome.exit_code)
