"""What a driver wants of its plan, while the plan changes and others publish beside it."""

from collections.abc import Iterable

from sweeper.orchestration.events import PlanChanged
from sweeper.orchestration.scheduler import Running
from sweeper.store.layout import Store
from sweeper.store.pending import Remaining, Settled, missing
from sweeper.store.plan_file import StoredPlan, StoredTrial
from sweeper.store.results import Published
from sweeper.store.sharing import adopt


class Wanted:
    """A plan, less what is published or given up."""

    def __init__(self, store: Store, plan: StoredPlan) -> None:
        """Takes over what siblings have of it."""
        self._store, self.plan = store, plan
        self._taken = adopt(store, plan)
        self._held_back: set[str] = set()
        self.given_up: set[str] = set()
        """Trials that this driver starts no more."""

    def change(self, plan: StoredPlan) -> PlanChanged:
        """Want another plan from now on."""
        before, after = ({each.trial_id for each in p.trials} for p in (self.plan, plan))
        self.plan, self._taken = plan, self._taken + adopt(self._store, plan)
        return PlanChanged(len(after - before), len(before - after))

    def taken(self) -> tuple[Published, ...]:
        """What was taken over from siblings since this was last asked."""
        taken, self._taken = self._taken, ()
        return taken

    def done(self, records: Iterable[Published]) -> list[StoredTrial]:
        """Planned trials that need no training any more."""
        settled = Settled.by(records)
        return [planned for planned in self.plan.trials if settled.has_all(planned)]

    def lacking(
        self, records: Iterable[Published], running: Iterable[Running] = ()
    ) -> list[Remaining]:
        """What is to wait, given what is published and what runs.

        Nothing of a run that is being trained: two workers would share its checkpoints.
        """
        busy = {each.job.remaining.planned.trajectory_id for each in running}
        left = [
            each
            for each in missing(self.plan.trials, records)
            if each.trial_id not in self.given_up
        ]
        self._held_back = busy & {each.planned.trajectory_id for each in left}
        return [each for each in left if each.planned.trajectory_id not in busy]

    def holds_back(self, trajectory_id: str) -> bool:
        """Whether more is wanted of a run, once what runs of it has ended."""
        return trajectory_id in self._held_back
