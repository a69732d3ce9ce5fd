"""The actor that runs one attempt at a trial of several ranks, and hears and answers meanwhile.

What it runs, and with it torch and Ray Train, is imported when it runs: `ray_ranks.py`.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Collection
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)

from sweeper.executors.base import Failure
from sweeper.executors.ray_worker import Listener
from sweeper.store.assignment import Assignment, Outcome, RunTrial


class Gang(Listener):
    """The body of an actor of three threads that takes no CPU itself."""

    def __init__(self, environment: dict[str, str]) -> None:
        """`environment` is set in each rank before it imports torch."""
        super().__init__(environment)
        self._environment = environment
        self._held: Any = None
        self._folder = ""

    def run(self, run_trial: RunTrial, assignment: Assignment) -> Outcome | Failure:
        """Run an attempt by all its ranks."""
        from sweeper.executors.ray_ranks import Place, run_ranks

        self._result = None
        itself = ray.get_runtime_context().current_actor
        self._folder = tempfile.mkdtemp(prefix="sweeper-gang-")
        try:
            place = Place(self._folder, self._environment)
            self._result = run_ranks(run_trial, assignment, itself, place)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._result

    def is_stopping(self) -> bool:
        """What the first rank asks from time to time."""
        return self._stop.is_set()

    def hold(self, placement_group: Any) -> None:
        """Remember what the ranks occupy."""
        self._held = placement_group

    def held(self) -> str:
        """Id of what the ranks occupy; empty before they have started."""
        return "" if self._held is None else str(self._held.id.hex())

    def end(self) -> None:
        """End the ranks at once and free what they occupy. Call this before the actor is killed:
        what Train reserves outlives the actor that asked for it."""
        if self._held is not None:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                remove_placement_group(self._held)
        shutil.rmtree(self._folder, ignore_errors=True)


def free_reservations(held: Collection[str]) -> None:
    """Remove all placement groups of this driver but those `held`, by id."""
    own_job = ray.get_runtime_context().get_job_id()  # with which ids of its groups end
    for id_, entry in placement_group_table().items():
        if id_.endswith(own_job) and id_ not in held and entry["state"] != "REMOVED":
            group_id = ray.PlacementGroupID(bytes.fromhex(id_))
            remove_placement_group(PlacementGroup(group_id))
