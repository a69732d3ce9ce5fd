"""Runs trials in this process, one at a time: for debugging, and where Ray is not wanted."""

from types import TracebackType
from typing import Self

from sweeper.executors.base import Executor, Failure, Finished
from sweeper.executors.machine import available_cores
from sweeper.executors.placement import Demand, Node, Placement
from sweeper.store.assignment import Assignment, Device, RunTrial, StopRequested


class InlineExecutor(Executor):
    """One attempt at a time, which computes while it is polled.

    A running trial hears of a stop only through `stop_requested`, because nobody else gets to run
    meanwhile.
    """

    name = "inline"
    max_running = 1
    max_ranks = 1

    def __init__(
        self, run_trial: RunTrial, stop_requested: StopRequested, device: Device = "cpu"
    ) -> None:
        self._node = Node("here", available_cores(), gpus=1 if device == "cuda" else 0)
        self._run_trial = run_trial
        self._stop_requested = stop_requested
        self._next: Assignment | None = None

    def nodes(self) -> tuple[Node, ...]:
        """This machine."""
        return (self._node,)

    def start(self, assignment: Assignment, demand: Demand, placement: Placement) -> None:  # noqa: ARG002 (there is one place)
        """Remember what the next poll runs."""
        self._next = assignment

    def poll(self, timeout_s: float) -> list[Finished]:  # noqa: ARG002 (a trial takes its time)
        """Run what was started, to its end."""
        if self._next is None:
            return []
        assignment, self._next = self._next, None
        try:
            return [Finished(assignment, self._run_trial(assignment, stop=self._stop_requested))]
        except Exception as error:  # noqa: BLE001 (recorded with the attempt; the sweep goes on)
            return [Finished(assignment, Failure.of(error))]

    def stop(self) -> None:
        """Nothing to do: no trial runs while this is called."""

    def kill(self, trial_id: str) -> str:  # noqa: ARG002
        """Nothing to do: no trial runs while this is called."""
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to end."""
