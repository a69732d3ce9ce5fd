"""Runs trials in Ray actors: embedded on this machine, or on a cluster.

Each rank of an attempt is an actor, on the node that the scheduler chose. Ray's own retries are
off: the driver decides what is tried again.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sweeper.errors import ConfigError
from sweeper.executors import ray_private
from sweeper.executors.base import Executor, Failure, Finished, failure_of_process
from sweeper.executors.placement import Demand, Node, Placement
from sweeper.executors.ray_nodes import (
    ClusterNodes,
    bundles_of,
    cluster_nodes,
    nodes_of_autoscaler,
)
from sweeper.executors.ray_session import joined
from sweeper.executors.ray_worker import ENVIRONMENT, Worker
from sweeper.store.assignment import Assignment, FailureKind, Outcome, RunTrial, StopRequested

NODES_EVERY_S = 1.0
"""Shortest time between two looks at the nodes of a cluster."""

PROBE_EVERY_S = 2.0
"""Time between two questions to an actor that could not be reached."""

ANSWER_S = 5.0
"""How long an actor may take to answer one."""

MAX_RESTARTS = 3
"""Of embedded Ray in a row, without any attempt that ended by itself in between."""

LOST: tuple[FailureKind, ...] = ("crashed", "preempted")
"""Kinds of failures that may be due to Ray."""


@dataclass(frozen=True)
class _Slot:
    """What an actor occupies."""

    node_id: str
    demand: Demand


@dataclass
class _Rank:
    """An actor that runs an attempt, or its share of one."""

    actor: Any
    future: Any
    """What `Worker.run` will return."""
    result: Outcome | Failure | None = None
    asked_at_s: float | None = None
    """When it was last asked how it is; None while it can be reached."""


@dataclass
class _Attempt:
    """An attempt that runs."""

    assignment: Assignment
    demand: Demand
    node_ids: Placement
    ranks: list[_Rank]


class RayExecutor(Executor):
    """Attempts in Ray actors.

    Unknown is not dead: an actor that cannot be reached is asked again until it answers, is known
    to be dead, or its trial has been silent for so long that the driver gives it up.
    """

    name = "ray"

    def __init__(
        self,
        run_trial: RunTrial,
        *,
        address: str | None = None,
        reuse_workers: bool | None = None,
    ) -> None:
        """Without an `address`, Ray is started here and ends with the executor.

        Processes of workers are used again if `reuse_workers`; None: those that had no GPU, whose
        memory a process would keep.
        """
        self._run_trial = run_trial
        self._address, self._reuse_workers = address, reuse_workers
        self._nodes = ClusterNodes()
        self._potential: tuple[Node, ...] = ()
        self._announced: list[dict[str, float]] = []
        self._nodes_at_s = 0.0
        self._idle: dict[_Slot, list[Any]] = {}
        self._running: dict[str, _Attempt] = {}
        self._lost: list[Finished] = []
        """Attempts that ended with embedded Ray, to be reported by the next `poll`."""
        self._is_dying = False
        """Whether embedded Ray has said that its node is gone, whose process still ends."""
        self._death, self._n_restarts = "", 0
        self._cleanup = contextlib.ExitStack()
        self._ray: Any = None

    def __enter__(self) -> Self:
        """Start or join Ray; raises ConfigError when that fails."""
        with contextlib.ExitStack() as cleanup:
            self._ray = cleanup.enter_context(joined(self._address))
            self._look_at_nodes()
            self._potential = nodes_of_autoscaler(self._ray) if self._address else ()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all actors, and Ray where it was started here."""
        with self._cleanup:
            if self._announced:
                self.announce(())
            self._end_idle()
            for attempt in self._running.values():
                self._kill(attempt)
        self._running = {}

    def nodes(self) -> tuple[Node, ...]:
        """Nodes that are alive and not about to be taken away; attempts on the latter stop.

        Embedded Ray that has died is started again.
        """
        if self._address is None:
            self._end_dead_ray()
            if self._ray is None and not self.failure:
                self._start_again()
        elif time.monotonic() - self._nodes_at_s > NODES_EVERY_S:
            self._look_at_nodes()
        return self._nodes.usable

    def potential_nodes(self) -> tuple[Node, ...]:
        """Nodes that the autoscaler of a cluster may start; none where there is no autoscaler."""
        return self._potential

    def announce(self, waiting: Sequence[Demand]) -> None:
        """Tell the autoscaler what waits; it sees only what is started."""
        if (bundles := bundles_of(waiting)) != self._announced:
            self._ray.autoscaler.sdk.request_resources(bundles=bundles)
            self._announced = bundles

    def start(self, assignment: Assignment, demand: Demand, placement: Placement) -> None:
        """Hand an attempt to an idle actor of its slot, or to new ones."""
        idle = self._idle.get(_Slot(placement[0], demand)) if demand.n_ranks == 1 else None
        if idle:
            actors = [idle.pop()]
        else:
            self._end_idle(set(placement))  # what they hold is needed now
            actors = [self._new_actor(node_id, demand) for node_id in placement]
        # Ray hands the address to all ranks once the first one is there to tell it.
        address = None
        if len(actors) > 1:
            address = actors[0].address.remote(self._nodes.host_by_id[placement[0]])
        ranks = [
            _Rank(actor, actor.run.remote(self._run_trial, assignment, number, address))
            for number, actor in enumerate(actors)
        ]
        attempt = _Attempt(assignment, demand, placement, ranks)
        self._running[assignment.task_id] = attempt

    def poll(self, timeout_s: float) -> list[Finished]:
        """Wait for the first attempt to end, then take all that have."""
        if self._address is not None:
            self.nodes()
        if reachable := [rank.future for rank in self._ranks() if rank.asked_at_s is None]:
            self._ray.wait(reachable, num_returns=1, timeout=timeout_s)
        elif not self._lost:  # time has to pass, for nodes, or for actors that cannot be reached
            time.sleep(timeout_s)
        self._take_results()
        self._ask_unreachable()
        finished = self._take_ended()
        if self._address is None:
            self._end_dead_ray()
        lost, self._lost = self._lost, []
        return finished + lost

    def stop(self) -> None:
        """Ask every running attempt to stop; its actors hear it in their other threads."""
        for rank in self._ranks():
            rank.actor.stop.remote()

    def kill(self, trial_id: str) -> str:
        """End an attempt at once; returns the stacks of its threads, if it still answers."""
        attempt, stacks = self._running.pop(trial_id), ""
        with contextlib.suppress(Exception):  # whatever keeps it from answering is why it is killed
            stacks = self._ray.get(attempt.ranks[0].actor.stacks.remote(), timeout=ANSWER_S)
        self._kill(attempt)
        return stacks

    def _ranks(self) -> Iterator[_Rank]:
        """The ranks of all attempts that have not ended."""
        for attempt in self._running.values():
            yield from (rank for rank in attempt.ranks if rank.result is None)

    def _take_results(self) -> None:
        """Take what those ranks have returned that have ended."""
        ranks = {rank.future: rank for rank in self._ranks() if rank.asked_at_s is None}
        ready, _ = (
            self._ray.wait(list(ranks), num_returns=len(ranks), timeout=0) if ranks else ([], 0)
        )
        for future in ready:
            try:
                ranks[future].result = self._ray.get(future)
            except self._ray.exceptions.ActorUnavailableError:
                ranks[future].asked_at_s = time.monotonic()
            except self._ray.exceptions.RayError as error:
                ranks[future].result = self._failure(error)

    def _ask_unreachable(self) -> None:
        """Ask those that could not be reached whether they have ended."""
        for rank in self._ranks():
            now_s = time.monotonic()
            if rank.asked_at_s is None or now_s - rank.asked_at_s < PROBE_EVERY_S:
                continue
            rank.asked_at_s = now_s
            try:
                rank.result = self._ray.get(rank.actor.result.remote(), timeout=ANSWER_S)
            except (
                self._ray.exceptions.ActorUnavailableError,
                self._ray.exceptions.GetTimeoutError,
            ):
                continue
            except self._ray.exceptions.RayError as error:
                rank.result = self._failure(error)

    def _take_ended(self) -> list[Finished]:
        """The attempts that have ended, which make room for others."""
        finished = []
        for trial_id, attempt in list(self._running.items()):
            if (result := self._result(attempt)) is None:
                continue
            del self._running[trial_id]
            if not isinstance(result, Failure) or result.kind not in LOST:
                self._n_restarts = 0
            if self._may_reuse(attempt, result):
                slot = _Slot(attempt.node_ids[0], attempt.demand)
                self._idle.setdefault(slot, []).append(attempt.ranks[0].actor)
            else:
                self._kill(attempt)
            finished.append(Finished(attempt.assignment, result))
        return finished

    def _result(self, attempt: _Attempt) -> Outcome | Failure | None:
        """How an attempt has ended; None while it runs. Its first rank is the one that publishes.

        A rank that fails ends the attempt, whose others may wait for it in vain.
        """
        first = attempt.ranks[0].result
        failures = _failures(attempt)
        if not failures or isinstance(first, str):
            return first
        others = [rank.future for rank in attempt.ranks if rank.result is None]
        if others and all(map(_has_lost_another, failures)):  # Ray is about to say which one
            self._ray.wait(others, num_returns=1, timeout=ANSWER_S)
            self._take_results()
            failures = _failures(attempt)
        failure = min(failures, key=_has_lost_another)
        # Asked whatever Ray said of it, so that nothing is started on a node that is gone.
        if failure.kind in LOST and self._has_lost_node(attempt):
            return dataclasses.replace(failure, kind="preempted")
        return failure

    def _may_reuse(self, attempt: _Attempt, result: Outcome | Failure) -> bool:
        if attempt.demand.n_ranks > 1 or result == "interrupted":
            return False
        if isinstance(result, Failure) and result.kind != "error":
            return False
        return not attempt.demand.gpus if self._reuse_workers is None else self._reuse_workers

    def _failure(self, error: Exception) -> Failure:
        """What it was that ended an actor."""
        exceptions = self._ray.exceptions
        if isinstance(error, exceptions.RayTaskError):  # before the worker's own code: an import
            return Failure.of(error.cause if isinstance(error.cause, Exception) else error)
        is_unplaced = isinstance(error, exceptions.ActorUnschedulableError)
        failure = failure_of_process(error, has_lost_node=is_unplaced)
        if self._address is None and failure.kind == "preempted":  # there is one node
            self._is_dying = True
        return failure

    def _has_lost_node(self, attempt: _Attempt) -> bool:
        """Whether a node of an attempt is gone, or about to go."""
        if self._address is None:
            return self._has_died()
        self._look_at_nodes()
        return not set(attempt.node_ids) <= {node.node_id for node in self._nodes.usable}

    def _has_died(self) -> bool:
        """Whether embedded Ray is gone, as far as can be told without asking it."""
        is_embedded = self._address is None
        return is_embedded and (self._ray is None or bool(self._dead_processes()))

    def _dead_processes(self) -> tuple[str, ...]:
        return ray_private.dead_processes(self._ray) or (("raylet",) if self._is_dying else ())

    def _end_dead_ray(self) -> None:
        """End what is left of embedded Ray that has died, and all attempts with it.

        At once: Ray ends a process that has been without its GCS for a minute.
        """
        if self._ray is None or not (dead := self._dead_processes()):
            return
        self._death = f"Ray's {' and '.join(dead)} on this machine died"
        failure = Failure("preempted", "RayDied", self._death)
        self._take_results()  # which have come, and need no Ray any more
        self._lost += self._take_ended()
        self._lost += [Finished(each.assignment, failure) for each in self._running.values()]
        self._running, self._idle, self._ray, self._is_dying = {}, {}, None, False
        self._cleanup.close()

    def _start_again(self) -> None:
        """Start embedded Ray again, unless that has not helped."""
        self._nodes = ClusterNodes()
        if self._n_restarts == MAX_RESTARTS:
            self.failure = f"{self._death}, as it did after each of {MAX_RESTARTS} restarts"
            return
        self._n_restarts += 1
        try:
            self.__enter__()
        except ConfigError as error:
            self.failure = f"{self._death}, and cannot be started again: {error}"

    def _look_at_nodes(self) -> None:
        """Look at the nodes again; attempts on those about to go are asked to stop."""
        self._nodes = cluster_nodes(self._ray)
        self._nodes_at_s = time.monotonic()
        for attempt in self._running.values():
            if self._nodes.draining_ids.intersection(attempt.node_ids):
                attempt.ranks[0].actor.stop.remote()

    def _new_actor(self, node_id: str, demand: Demand) -> Any:
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        remote = self._ray.remote(
            num_cpus=demand.cpus,
            num_gpus=demand.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=3,
            scheduling_strategy=affinity(node_id, soft=False),
        )
        return remote(Worker).remote(ENVIRONMENT)

    def _end_idle(self, node_ids: set[str] | None = None) -> None:
        """End the idle actors of some nodes, or of all."""
        for slot in [slot for slot in self._idle if not node_ids or slot.node_id in node_ids]:
            for actor in self._idle.pop(slot):
                self._kill_actor(actor)

    def _kill(self, attempt: _Attempt) -> None:
        for rank in attempt.ranks:
            self._kill_actor(rank.actor)

    def _kill_actor(self, actor: Any) -> None:
        if self._has_died():
            return  # and would not answer
        with contextlib.suppress(Exception):  # it may be dead
            self._ray.kill(actor, no_restart=True)


def _failures(attempt: _Attempt) -> list[Failure]:
    return [rank.result for rank in attempt.ranks if isinstance(rank.result, Failure)]


def _has_lost_another(failure: Failure) -> bool:
    """Whether a rank has failed because another had: what it reports itself is no crash."""
    return failure.kind == "crashed" and bool(failure.fingerprint)


def nodes_at(address: str) -> tuple[Node, ...]:
    """Nodes of a cluster, and those it may start. Raises ConfigError when it cannot be reached."""
    with RayExecutor(_no_trial, address=address) as executor:
        return (*executor.nodes(), *executor.potential_nodes())


def _no_trial(assignment: Assignment, *, stop: StopRequested) -> Outcome:  # noqa: ARG001
    raise RuntimeError("only the nodes are looked at here; no trial was to start")
