"""A driver process for tests: `python planted_driver.py FOLDER EXECUTOR RUN_TRIAL [OPTIONS]`.

RUN_TRIAL is a function of `planted`, or `module.function`. OPTIONS is JSON: `address` of a Ray
cluster, `takeover`, `patience` (the fields of `Patience`), and `plan`, a function. Prints one line
per event, and ends with the exit code of the sweep.
"""

import importlib
import json
import sys
from typing import Any

from rich.console import Console

from sweeper.executors.base import Executor
from sweeper.executors.inline import InlineExecutor
from sweeper.executors.ray_executor import RayExecutor
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.lease import held
from sweeper.orchestration.monitor import Patience
from sweeper.store.layout import store_at
from sweeper.store.storage import place
from sweeper.store.submission import submit
from sweeper.verbs.progress import shown


def main(folder: str, executor_name: str, run_trial_name: str, options_json: str = "{}") -> int:
    options = json.loads(options_json)
    plan = _named(options.get("plan", "planned_sweep"))()
    results = place(folder)
    store = store_at(results.parent, results.name)
    stop = StopSignal()
    run_trial = _named(run_trial_name)
    executor: Executor
    if executor_name == "inline":
        executor = InlineExecutor(run_trial, stop.is_requested)
    else:
        executor = RayExecutor(run_trial, address=options.get("address"))
    takeover = options.get("takeover", False)
    with held(store, takeover=takeover) as lease, shown(Console(), store) as show:
        submit(store, plan, "name: planted\n")
        run = SweepRun(
            store=store,
            plan=plan,
            executor=executor,
            stop=stop,
            on_event=show,
            stop_request=lease.stop_request,
            patience=Patience(**options.get("patience", {})),
        )
        return run_sweep(run).exit_code


def _named(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module or "planted"), function)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
