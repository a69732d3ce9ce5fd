"""A driver of a search with planted bounds: `python planted_search.py SWEEP RESULTS [OPTIONS]`.

OPTIONS is JSON and says when the process kills itself: `trial`, in the n-th trial that it starts;
`plan`, when it has made its n-th plan and not recorded it yet.
"""

import dataclasses
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from planted import planted_result

from sweeper.executors.inline import InlineExecutor
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.lease import held
from sweeper.planning.planner import PlannedSweep, plan_revision, plan_sweep
from sweeper.store.assignment import Assignment, Outcome, StopRequested
from sweeper.store.layout import store_at
from sweeper.store.results import Result, publish
from sweeper.store.submission import record_plan, submit
from sweeper.sweepfile.schema import LoadedSweep, load_sweep
from sweeper.trials.plan import Plan
from sweeper.tuning.search_sweep import (
    SearchSweep,
    next_revision,
    open_revision,
    search_name,
    search_of,
)

DIVERGING_DECAY = 0.5


def search_sweep(
    path: Path, results: Path, on_plan: Callable[[], None] = lambda: None
) -> SearchSweep:
    """The search that a sweep file asks for."""

    loaded = load_sweep(path)
    base = plan_sweep(loaded, bfloat16_from_width=math.inf)

    def plan(loaded: LoadedSweep) -> PlannedSweep:
        planned = plan_revision(loaded, base.corpus, bfloat16_from_width=math.inf)
        on_plan()
        return planned

    return SearchSweep(
        loaded=loaded,
        search=search_of(loaded, base.corpus.vocab_size),
        store=store_at(results, search_name(loaded.sweep.name)),
        plan=plan,
    )


def searched_result(assignment: Assignment) -> Result:
    """A valley at weight decay .05 that beta2 moves and every step lowers; beyond DIVERGING_DECAY,
    divergence."""
    optimizer = assignment.trial.optimizer
    if optimizer.weight_decay > DIVERGING_DECAY:
        return planted_result(assignment, until_step=assignment.trial.n_steps // 2)
    result = planted_result(assignment)
    bound = 2 + 0.1 * math.log(optimizer.weight_decay / 0.05) ** 2 + 10 * (1 - optimizer.betas[1])
    rows = (
        dataclasses.replace(row, bound_nats_per_token=bound + 20 / row.step)
        for row in result.observations
    )
    return dataclasses.replace(result, observations=tuple(rows))


def drive(sweep: SearchSweep, on_trial: Callable[[], None] = lambda: None) -> int:
    """Run a search to its end; `on_trial` is called in each trial."""
    revision = open_revision(sweep)
    if revision is None:
        return 0

    def run_trial(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        on_trial()
        result = searched_result(assignment)
        publish(assignment, result)
        return "published" if result.trial.status == "done" else "diverged"

    def next_round() -> Plan | None:
        following = next_revision(sweep)
        if following is None:
            return None
        text = following.loaded.document.as_submitted()
        record_plan(sweep.store, following.planned.plan, text)
        return following.planned.plan

    stop, plan = StopSignal(), revision.planned.plan
    with held(sweep.store):
        submit(sweep.store, plan, revision.loaded.document.as_submitted())
        return run_sweep(
            SweepRun(
                store=sweep.store,
                plan=plan,
                executor=InlineExecutor(run_trial, stop.is_requested),
                stop=stop,
                on_event=lambda _: None,
                next_round=next_round,
            )
        ).exit_code


def _killing(at: int) -> Callable[[], None]:
    """A function whose call number `at` ends this process at once."""
    n_calls = 0

    def count() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


if __name__ == "__main__":
    kills = json.loads("".join(sys.argv[3:]) or "{}")
    asked = search_sweep(Path(sys.argv[1]), Path(sys.argv[2]), _killing(kills.get("plan", 0)))
    sys.exit(drive(asked, _killing(kills.get("trial", 0))))
