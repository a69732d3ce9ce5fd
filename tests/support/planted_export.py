"""A planted store as exports meet it: odd labels, a diverged and a failed trial."""

from pathlib import Path

from planted import assignment_of, planned_sweep, planted_result, refresh, submitted_store

from sweeper.exports.runs import Run, runs_of
from sweeper.exports.source import published_tables
from sweeper.store.attempts import begin_attempt, end_attempt
from sweeper.store.layout import Store
from sweeper.store.results import publish
from sweeper.store.storage import StoragePath
from sweeper.store.submission import submit
from sweeper.trials.plan import Plan, PlannedTrial

SERIES = ("masked", "a/b: c?", "ünï ☃")
STARTED = "2025-01-02T03:04:05+00:00"


def publish_trial(store: Store, planned: PlannedTrial, until_step: int | None = None) -> None:
    assignment = assignment_of(store, planned)
    publish(assignment, planted_result(assignment, until_step=until_step, started_at=STARTED))


def grown_store(folder: StoragePath, series: tuple[str, ...] = SERIES) -> Store:
    """Two sizes of each series; the first trial diverged, the last one failed."""
    plan = planned_sweep(series, widths=(8, 16), steps=(10, 20))
    store = submitted_store(folder / "planted", plan)
    first, *others, last = plan.trials
    publish_trial(store, first, until_step=10)
    for planned in others:
        publish_trial(store, planned)
    begin_attempt(store, last.trial_id, executor="inline", device="cpu", n_threads=1)
    end_attempt(store, last.trial_id, 1, "error", error=("RuntimeError", "planted", "Traceback"))
    refresh(store)
    return store


def grow(store: Store, plan: Plan) -> None:
    """Submit a plan and publish what is missing of it."""
    submit(store, plan, "name: planted\n")
    for planned in plan.trials:
        if not store.record(planned.trial_id).exists():
            publish_trial(store, planned)
    refresh(store)


def runs(store: Store) -> list[Run]:
    """What is exported of a store to trackers."""
    with published_tables(store) as tables:
        return list(runs_of(tables))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
