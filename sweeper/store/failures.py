"""The rows that failed trials leave in `trials`."""

from collections.abc import Iterable

from sweeper.store.assignment import Assignment, Attempt
from sweeper.store.attempt_archive import begun_trials
from sweeper.store.attempts import attempts, read_progress
from sweeper.store.files import read_json
from sweeper.store.layout import Store
from sweeper.store.pending import pending_trials
from sweeper.store.results import Published
from sweeper.store.rows import Ending, trial_row
from sweeper.trials.plan import Plan, PlannedTrial
from sweeper.trials.records import TrialRow


def failed_rows(store: Store, plan: Plan, published: Iterable[Published]) -> tuple[TrialRow, ...]:
    """One row per planned trial without a result whose latest attempt failed."""
    rows = []
    begun = begun_trials(store)
    for planned in pending_trials(plan.trials, published):
        if planned.trial_id not in begun:
            continue
        history = attempts(store, planned.trial_id)
        if history and history[-1].has_failed:
            rows.append(_failed_row(store, plan, planned, history))
    return tuple(rows)


def _failed_row(
    store: Store, plan: Plan, planned: PlannedTrial, history: tuple[Attempt, ...]
) -> TrialRow:
    last = history[-1]
    reported = read_progress(store, planned.trial_id)
    ending = Ending(
        status="failed",
        steps=reported.progress.step if reported else 0,
        train_time_s=reported.progress.train_time_s if reported else 0.0,
        eval_time_s=reported.progress.eval_time_s if reported else 0.0,
        started_at=history[0].started_at,
        finished_at=last.ended_at or last.started_at,
        torch_version=str(read_json(store.manifest)["packages"]["torch"]),
        error_class=last.error_class,
        error_message=last.error_message,
    )
    return trial_row(Assignment(store.folder, plan.name, planned, last), ending)
