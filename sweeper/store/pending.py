"""What is left to run: the plan minus the published results. Pure."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from sweeper.store.results import Published
from sweeper.trials.plan import PlannedTrial


def pending_trials(
    planned_trials: Iterable[PlannedTrial], published: Iterable[Published]
) -> tuple[PlannedTrial, ...]:
    """What to run so that every planned cell is published, in the order of the plan.

    A trial that is done in part is observed at its missing steps only. Several planned trials of
    one trajectory are trained together, once.
    """
    # This one rule gives resuming, deduplication, adding a size or a budget, and recovery from a
    # driver that died.
    done = DonePoints.of(published)
    by_trajectory: dict[str, list[PlannedTrial]] = {}
    for planned in planned_trials:
        if not done.cover(planned):
            by_trajectory.setdefault(planned.trajectory_id, []).append(planned)
    pending: list[PlannedTrial] = []
    for first, *others in by_trajectory.values():
        cells = {cell.step: cell for each in (*reversed(others), first) for cell in each.cells}
        steps = tuple(s for s in sorted(cells) if not done.include(first.trajectory_id, s))
        if steps and steps != first.trial.observe_at_steps:
            trial = dataclasses.replace(first.trial, observe_at_steps=steps)
            left = tuple(cells[step] for step in steps)
            first = dataclasses.replace(first, trial=trial, cells=left)
        if steps and first.trial_id not in done.trial_ids:
            pending.append(first)
    return tuple(pending)


@dataclass(frozen=True)
class DonePoints:
    """The steps of trajectories that have a result."""

    trial_ids: frozenset[str]
    """A trial is done by its own record, whatever that holds."""
    observed: frozenset[tuple[str, int]]
    """Trajectory and step: done by any record that observed it."""
    diverged_at: dict[str, int]
    """Steps taken until divergence, by trajectory; every later step is done, too."""

    @classmethod
    def of(cls, published: Iterable[Published]) -> "DonePoints":
        """What a set of records holds."""
        records = tuple(published)
        return cls(
            trial_ids=frozenset(record.trial_id for record in records),
            observed=frozenset(
                (record.trajectory_id, step) for record in records for step in record.observed_steps
            ),
            diverged_at={
                record.trajectory_id: record.steps for record in records if record.is_diverged
            },
        )

    def include(self, trajectory_id: str, step: int) -> bool:
        """Whether a point needs no training any more."""
        return (trajectory_id, step) in self.observed or step >= self.diverged_at.get(
            trajectory_id, step + 1
        )

    def cover(self, planned: PlannedTrial) -> bool:
        """Whether a planned trial needs no training any more."""
        return planned.trial_id in self.trial_ids or all(
            self.include(planned.trajectory_id, cell.step) for cell in planned.cells
        )
