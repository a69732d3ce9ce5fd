"""The verb that trains: `run`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.errors import one_per_kind
from sweeper.store.storage import StoragePath
from sweeper.verbs.cost import cost_here, limit_warnings
from sweeper.verbs.driving.drive import Machines, drive, machine_options, say_outcome
from sweeper.verbs.driving.rounds import Rounds
from sweeper.verbs.options import results_option, sweep_arguments
from sweeper.verbs.output import say
from sweeper.verbs.plan import has_gpu, planned_sweep

if TYPE_CHECKING:
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.schema import LoadedSweep


@click.command()
@sweep_arguments
@results_option
@machine_options
@click.pass_context
def run(context: click.Context, /, sweep_file: Path, results: StoragePath, **options: Any) -> None:
    """Train what is missing of a sweep. Run it again to resume or to extend.

    While a driver is at work on the sweep, an edited file is handed to it: it continues with the
    new plan, within the limits it was started with.

    A sweep that asks a question goes on in rounds: it fits what is done and adds the runs that tell
    most of the answer, until that is narrow enough or a limit is reached.

    Ctrl-C once: write checkpoints and stop. Twice: stop now.

    Example: sweeper run sweeps/quick.yaml --set train.seeds=[0,1]
    """
    from sweeper.planning.planner import plan_sweep
    from sweeper.planning.recipe import bfloat16_from_width
    from sweeper.store.layout import store_at

    machines = Machines.of(options)
    machines.check(results)
    is_on_gpus = machines.is_on_gpus()
    loaded, planned = planned_sweep(
        sweep_file,
        options["overrides"],
        results,
        plan_sweep,
        is_on_gpus=is_on_gpus,
        runs_here=not options["address"],
    )
    _say_warnings(loaded, planned, None if options["address"] else results)
    store = store_at(results, loaded.sweep.name)
    rounds = Rounds(store, bfloat16_from_width(has_gpu=has_gpu(loaded, is_on_gpus)))
    loaded, planned = rounds.latest(loaded, planned)
    if (outcome := drive(loaded, planned, results, machines, rounds.after)) is not None:
        isoflop = loaded.sweep.design.isoflop
        if isoflop is not None and isoflop.on_unbracketed == "propose" and not outcome.n_left:
            say(rounds.proposals(planned))
        say_outcome(outcome, store)
        context.exit(outcome.exit_code)


def _say_warnings(
    loaded: "LoadedSweep", planned: "PlannedSweep", results: StoragePath | None
) -> None:
    """What the plan warns of and, where it runs here, limits that it is likely to meet."""
    for text in one_per_kind((each.code, each.message) for each in planned.warnings):
        say(f"warning: {text}", err=True)
    limits = loaded.sweep.limits
    if results and math.isfinite(min(limits.wall_s, limits.device_hours, limits.cost)):
        cost = cost_here(planned.plan, results, is_on_gpus=has_gpu(loaded))
        for text in limit_warnings(cost, limits) if cost else ():
            say(f"warning: {text}", err=True)
