"""What is left to run: the plan minus the published results. Pure.

That one rule gives resuming, deduplication, adding a size or a budget, and recovery from a driver
that died.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from sweeper.store.assignment import Assignment
from sweeper.store.attempts import Attempt
from sweeper.store.layout import Store
from sweeper.store.plan_file import StoredCell, StoredPlan, StoredTrial
from sweeper.store.results import Published
from sweeper.trials.trial import Trial


@dataclass(frozen=True)
class Remaining:
    """A trajectory with cells that are not published, and the trial that yields them."""

    planned: StoredTrial
    trial: Trial
    """The planned trial, or the same run observed at its missing steps only."""
    trial_id: str
    cells: tuple[StoredCell, ...]
    """The missing cells, one per observed step of `trial`."""

    @property
    def train_flops(self) -> float:
        """Training FLOPs of the trial from its start."""
        return self.cells[-1].flops


def missing(
    planned_trials: Iterable[StoredTrial], published: Iterable[Published]
) -> tuple[Remaining, ...]:
    """What to run so that every planned cell is published, in the order of the plan.

    A cell is settled by any record of its trajectory that observed its step, or that diverged
    before it. A trial is settled by its own record, whatever that holds. What several planned
    trials want of one trajectory is trained once.
    """
    settled = Settled.by(published)
    by_trajectory: dict[str, list[StoredTrial]] = {}
    for planned in planned_trials:
        if not settled.has_all(planned):
            by_trajectory.setdefault(planned.trajectory_id, []).append(planned)
    candidates = (_remaining(group, settled) for group in by_trajectory.values())
    return tuple(
        each for each in candidates if each.cells and each.trial_id not in settled.trial_ids
    )


def _remaining(group: list[StoredTrial], settled: "Settled") -> Remaining:
    """What the planned trials of one trajectory still want of it."""
    planned = group[0]
    wanted = {cell.step: cell for other in reversed(group) for cell in other.cells}
    cells = tuple(
        wanted[step] for step in sorted(wanted) if not settled.has(planned.trajectory_id, step)
    )
    steps = tuple(cell.step for cell in cells)
    if not steps or steps == planned.trial.observe_at_steps:
        return Remaining(planned, planned.trial, planned.trial_id, cells)
    trial = dataclasses.replace(planned.trial, observe_at_steps=steps)
    return Remaining(planned, trial, trial.trial_id, cells)


def assignment(
    store: Store, plan: StoredPlan, remaining: Remaining, attempt: Attempt
) -> Assignment:
    """The assignment of an attempt at a trial."""
    return Assignment(
        store_folder=store.folder,
        sweep=plan.name,
        series=remaining.planned.series,
        source=remaining.planned.source,
        reading=remaining.planned.reading,
        resources=remaining.planned.resources,
        trial=remaining.trial,
        cells=remaining.cells,
        params=remaining.planned.params,
        flops_per_token=remaining.planned.flops_per_token,
        attempt=attempt.number,
        n_threads=attempt.n_threads,
        device=attempt.device,
    )


@dataclass(frozen=True)
class Settled:
    """Which points of which trajectories have a result."""

    trial_ids: frozenset[str]
    observed: frozenset[tuple[str, int]]
    """Trajectory and step."""
    diverged_at: dict[str, int]
    """Steps taken until divergence, by trajectory."""

    @classmethod
    def by(cls, published: Iterable[Published]) -> "Settled":
        """What a set of records settles."""
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

    def has(self, trajectory_id: str, step: int) -> bool:
        """Whether this point needs no training any more."""
        return (trajectory_id, step) in self.observed or step >= self.diverged_at.get(
            trajectory_id, step + 1
        )

    def has_all(self, planned: StoredTrial) -> bool:
        """Whether this planned trial needs no training any more."""
        return planned.trial_id in self.trial_ids or all(
            self.has(planned.trajectory_id, cell.step) for cell in planned.cells
        )
