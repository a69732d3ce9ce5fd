"""What processes that were killed leave behind, and its removal."""

from collections.abc import Container, Iterable

from sweeper.store import files
from sweeper.store.attempt_archive import archive_attempts
from sweeper.store.layout import Store
from sweeper.store.pending import pending_trials
from sweeper.store.record_index import record_stamps
from sweeper.store.results import Published
from sweeper.trials.plan import Plan

MANY = 500
"""Attempts at so many published trials are worth archiving while a sweep runs."""


def tidy(store: Store, plan: Plan, published: Iterable[Published], *, before_s: float) -> None:
    """Remove temporary files older than `before_s`, checkpoints that nothing resumes from, and
    attempts that can be archived.

    `before_s` is in seconds since the epoch: when the driver that asks started. Nobody is left who
    would finish an older file; an orphaned worker that tries finds it gone, and publishes nothing.
    """
    records = tuple(published)
    files.remove_temporaries(store.folder, before_s)
    wanted = {each.trajectory_id for each in pending_trials(plan.trials, records)}
    settled = {record.trajectory_id for record in records} - wanted
    checkpoints = store.folder / "checkpoints"
    for trajectory_id in settled.intersection(path.name for path in checkpoints.glob("*")):
        files.remove_folder(checkpoints / trajectory_id)
    archive_attempts(store, {record.trial_id for record in records})


def archive_when_many(store: Store, running: Container[str]) -> None:
    """Archive attempts at published trials other than the running ones, once there are MANY."""
    published = {trial_id for trial_id in record_stamps(store) if trial_id not in running}
    archive_attempts(store, published, at_least=MANY)
