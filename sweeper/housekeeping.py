"""What processes that were killed leave behind, and its removal."""

from collections.abc import Iterable

from sweeper import durable
from sweeper.plan_file import StoredPlan
from sweeper.publication import Published
from sweeper.remaining import missing
from sweeper.store import Store


def tidy(
    store: Store, plan: StoredPlan, published: Iterable[Published], *, before_s: float
) -> None:
    """Remove temporary files older than `before_s` and checkpoints that nothing resumes from.

    `before_s` is in seconds since the epoch: when the driver that asks started. Nobody is left who
    would finish an older file; an orphaned worker that tries finds it gone, and publishes nothing.
    """
    records = tuple(published)
    durable.remove_temporaries(store.folder, before_s)
    wanted = {each.planned.trajectory_id for each in missing(plan.trials, records)}
    for trajectory_id in {record.trajectory_id for record in records} - wanted:
        durable.remove_folder(store.folder / "checkpoints" / trajectory_id)
