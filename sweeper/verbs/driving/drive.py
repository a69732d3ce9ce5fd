"""How a verb trains a sweep: it takes the lease, submits the plan and drives, round by round."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from sweeper.store.storage import StoragePath, is_of_one_process
from sweeper.verbs.options import takeover_option
from sweeper.verbs.output import say
from sweeper.verbs.plan import has_gpu

if TYPE_CHECKING:
    from sweeper.executors.base import Executor
    from sweeper.orchestration.events import SweepOutcome
    from sweeper.planning.planner import PlannedSweep
    from sweeper.store.assignment import Device, RunTrial
    from sweeper.store.layout import Store
    from sweeper.sweepfile.schema import LoadedSweep
    from sweeper.trials.plan import Plan

NextRound = Callable[
    ["LoadedSweep", "PlannedSweep", Callable[[str], None]],
    "tuple[LoadedSweep, PlannedSweep] | None",
]
"""Asked when every trial of a plan has its result: the next revision of the sweep, if any. It is
given a function that tells the user something."""


def no_rounds(loaded: object, planned: object, tell: object) -> None:
    """For a sweep whose plan is all of it."""


@dataclass(frozen=True)
class Machines:
    """Where a verb trains."""

    executor: str
    address: str | None
    takeover: bool

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Machines":
        """What `machine_options` were given."""
        return cls(options["executor"], options["address"], options["takeover"])

    def check(self, results: StoragePath) -> None:
        """Refuse a results folder that workers could not see; raises click.UsageError."""
        if is_of_one_process(results) and self.executor != "inline":
            message = f"{results} is seen by one process alone; add --executor inline"
            raise click.UsageError(message)

    def is_on_gpus(self) -> bool | None:
        """Whether a named cluster has GPUs, or nodes with some that it may start; else None."""
        if not self.address:
            return None
        from sweeper.executors.ray_executor import nodes_at

        return any(node.gpus for node in nodes_at(self.address))


def machine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say where to train."""
    options = [
        click.option(
            "--executor", default="ray", show_default=True, type=click.Choice(["ray", "inline"])
        ),
        click.option(
            "--address", metavar="A", help="Ray cluster to use; without it, Ray is embedded."
        ),
        takeover_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def drive(
    loaded: "LoadedSweep",
    planned: "PlannedSweep",
    results: StoragePath,
    machines: Machines,
    next_round: NextRound = no_rounds,
) -> "SweepOutcome | None":
    """Train what is missing of a plan, and of the rounds after it; None: a driver at work does."""
    from rich.console import Console

    from sweeper.executors.stop import StopSignal
    from sweeper.orchestration.driver import SweepRun, run_sweep
    from sweeper.orchestration.events import Notice
    from sweeper.orchestration.lease import held
    from sweeper.orchestration.replan import new_plan, replan
    from sweeper.store.layout import store_at
    from sweeper.store.submission import record_plan, submit
    from sweeper.verbs.progress import shown
    from sweeper.verbs.worker_entry import run_trial

    store, stop = store_at(results, loaded.sweep.name), StopSignal()
    text = loaded.document.as_submitted()
    if not machines.takeover and (replanned := replan(store, planned.plan, text)):
        driver = replanned.driver
        when = "goes on" if replanned.is_taken else "has not looked yet, and will go on"
        say(
            f"the driver at work, process {driver.pid} on {driver.host}, {when} with the new plan, "
            f"within the limits it was started with; next: sweeper status {store.folder}"
        )
        return None
    with held(store, takeover=machines.takeover) as lease, shown(Console(), store) as on_event:

        def is_stopped() -> bool:
            if request := lease.stop_request():
                stop.request(request)
            return stop.is_requested()

        is_edited, current = False, (loaded, planned)

        def edited_plan() -> "Plan | None":
            nonlocal is_edited
            plan = new_plan(store, lease.epoch)
            is_edited |= plan is not None
            return plan

        def plan_of_next_round() -> "Plan | None":
            nonlocal current
            # Rounds follow from the file that this driver was started with.
            if is_edited or (revised := next_round(*current, tell)) is None:
                return None
            current = revised
            record_plan(store, current[1].plan, current[0].document.as_submitted())
            return current[1].plan

        def tell(text: str) -> None:
            on_event(Notice(text))

        # Only this process asks whether it has a GPU, which loads torch.
        is_here = machines.executor == "inline"
        device: Device = "cuda" if is_here and has_gpu(loaded) else "cpu"
        executor = executor_of(machines, run_trial, is_stopped, device)
        submit(store, planned.plan, text)
        return run_sweep(
            SweepRun(
                store=store,
                plan=planned.plan,
                executor=executor,
                stop=stop,
                on_event=on_event,
                limits=loaded.sweep.limits,
                retries=loaded.sweep.retry,
                stop_request=lease.stop_request,
                new_plan=edited_plan,
                next_round=plan_of_next_round,
            )
        )


def say_outcome(outcome: "SweepOutcome", store: "Store") -> None:
    """One line on what to do next."""
    if outcome.n_left:
        say("run the same command again to finish what is missing")
    elif outcome.n_failed:
        say(f"{outcome.n_failed} trials failed, see above; next: sweeper status {store.folder}")
    else:
        say(f"results in {store.folder}; next: sweeper fit {store.folder}")


def executor_of(
    machines: Machines, run_trial: "RunTrial", is_stopped: Callable[[], bool], device: "Device"
) -> "Executor":
    """Where to run it; `device` is that of this process, if it runs here."""
    if machines.executor == "inline":
        from sweeper.executors.inline import InlineExecutor

        if machines.address is not None:
            raise click.UsageError("--address is for --executor ray; inline runs in this process")
        return InlineExecutor(run_trial, is_stopped, device)
    from sweeper.executors.ray_executor import RayExecutor

    return RayExecutor(run_trial, address=machines.address)
