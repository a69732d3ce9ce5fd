"""A driver process for tests: `python planted_driver.py FOLDER EXECUTOR RUN_TRIAL`.

Prints one line per event and ends with the exit code of the sweep.
"""

import sys

import planted
from rich.console import Console

from sweeper.driver import Run, run_sweep
from sweeper.executors.base import Executor
from sweeper.executors.inline import InlineExecutor
from sweeper.executors.ray_actors import RayExecutor
from sweeper.lease import held
from sweeper.places import place
from sweeper.progress import shown
from sweeper.stop_signal import StopSignal
from sweeper.store import store_at
from sweeper.submission import submit


def main(folder: str, executor_name: str, run_trial_name: str) -> int:
    plan = planted.planned_sweep()
    results = place(folder)
    store = store_at(results.parent, results.name)
    stop = StopSignal()
    run_trial = getattr(planted, run_trial_name)
    executor: Executor
    if executor_name == "inline":
        executor = InlineExecutor(run_trial, stop.is_requested)
    else:
        executor = RayExecutor(run_trial)
    with held(store) as lease, shown(Console(), store) as show:
        submit(store, plan, "name: planted\n")
        run = Run(
            store=store,
            plan=plan,
            executor=executor,
            stop=stop,
            on_event=show,
            order=lease.order,
        )
        return run_sweep(run).exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
