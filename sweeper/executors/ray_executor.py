"""Runs trials in Ray actors: embedded on this machine, or on a cluster.

One actor per attempt, on the node that the scheduler chose. Ray's own retries are off, because
policy is the driver's. An actor has three threads, so that it hears `stop` and answers questions
while it trains, and heeds SIGTERM as a request to stop behind a checkpoint.

*Unknown is not dead*: an actor that cannot be reached is asked again until it answers, is known
to be dead, or its trial has been silent for so long that the driver gives it up.
"""

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sweeper.executors.base import Executor, Failure, Finished
from sweeper.executors.placement import Demand, Node, Placement
from sweeper.executors.ray_failures import failure_of_process
from sweeper.executors.ray_session import joined
from sweeper.executors.ray_worker import ENVIRONMENT, Listener, Worker
from sweeper.store.assignment import Assignment, Outcome, RunTrial, StopRequested

NODES_EVERY_S = 1.0
"""Shortest time between two looks at which nodes there are."""

PROBE_EVERY_S = 2.0
"""Time between two questions to an actor that could not be reached."""

ANSWER_S = 5.0
"""How long an actor may take to answer one."""

MAX_ANNOUNCED = 1000
"""Waiting trials that the autoscaler is told of."""

MAX_NODES_OF_A_KIND = 64
"""More tell no more about what would fit."""


@dataclass(frozen=True)
class _Place:
    """What an actor holds."""

    node_id: str
    demand: Demand


@dataclass
class _Attempt:
    """An actor at work."""

    actor: Any
    place: _Place
    assignment: Assignment
    node_ids: Placement
    asked_at_s: float | None = None
    """When it was last asked how it is; None while it can be reached."""


class RayExecutor(Executor):
    """Attempts in Ray actors."""

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
        self._nodes: tuple[Node, ...] = ()
        self._potential: tuple[Node, ...] = ()
        self._announced: list[dict[str, float]] = []
        self._nodes_at_s = 0.0
        self._idle: dict[_Place, list[Any]] = {}
        self._running: dict[Any, _Attempt] = {}
        self._cleanup = contextlib.ExitStack()
        self._ray: Any = None

    def __enter__(self) -> Self:
        """Start or join Ray; raises ConfigError when that fails."""
        with contextlib.ExitStack() as cleanup:
            self._ray = cleanup.enter_context(joined(self._address))
            self._nodes = self._look_at_nodes()
            self._potential = self._nodes_of_autoscaler() if self._address else ()
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
                self._kill(attempt.actor)
        self._running = {}

    def nodes(self) -> tuple[Node, ...]:
        """Nodes that are alive and not about to be taken away; attempts on the latter stop."""
        if time.monotonic() - self._nodes_at_s > NODES_EVERY_S:
            self._nodes = self._look_at_nodes()
        return self._nodes

    def potential_nodes(self) -> tuple[Node, ...]:
        """Nodes that the autoscaler of a cluster may start; none where there is no autoscaler."""
        return self._potential

    def announce(self, waiting: Sequence[Demand]) -> None:
        """Tell the autoscaler what waits; it sees only what is started."""
        bundles = [
            {"CPU": demand.cpus} | ({"GPU": demand.gpus} if demand.gpus else {})
            for demand in waiting[:MAX_ANNOUNCED]
            for _ in range(demand.n_ranks)
        ]
        if bundles != self._announced:
            self._ray.autoscaler.sdk.request_resources(bundles=bundles)
            self._announced = bundles

    def start(self, assignment: Assignment, demand: Demand, placement: Placement) -> None:
        """Hand an attempt to an idle actor of its place, or to a new one."""
        place = _Place(placement[0], demand)
        idle = self._idle.get(place)
        if demand.n_ranks > 1:
            self._end_idle(set(placement))
            actor = self._new_gang(place)
            assignment = _as_demanded(assignment, demand)
        elif idle:
            actor = idle.pop()
        else:
            self._end_idle(set(placement))  # what they hold is needed now
            actor = self._new_worker(place)
        future = actor.run.remote(self._run_trial, assignment)
        self._running[future] = _Attempt(actor, place, assignment, placement)

    def poll(self, timeout_s: float) -> list[Finished]:
        """Wait for the first attempt to end, then take all that have."""
        self.nodes()
        reachable = [future for future, each in self._running.items() if each.asked_at_s is None]
        if not reachable:
            time.sleep(timeout_s if self._running else 0)
            return self._ask_unreachable()
        self._ray.wait(reachable, num_returns=1, timeout=timeout_s)
        ready, _ = self._ray.wait(reachable, num_returns=len(reachable), timeout=0)
        finished = [ended for future in ready if (ended := self._take(future))]
        return finished + self._ask_unreachable()

    def stop(self) -> None:
        """Ask every running attempt to stop; its actor hears it in its second thread."""
        for attempt in self._running.values():
            attempt.actor.stop.remote()

    def kill(self, trial_id: str) -> str:
        """End an attempt at once; returns the stacks of its threads, if it still answers."""
        future = next(
            future
            for future, attempt in self._running.items()
            if attempt.assignment.trial.trial_id == trial_id
        )
        attempt, stacks = self._running.pop(future), ""
        with contextlib.suppress(Exception):  # whatever keeps it from answering is why it is killed
            stacks = self._ray.get(attempt.actor.stacks.remote(), timeout=ANSWER_S)
        if attempt.place.demand.n_ranks > 1:
            with contextlib.suppress(Exception):
                self._ray.get(attempt.actor.end.remote(), timeout=ANSWER_S)
        self._kill(attempt.actor)
        return stacks

    def _take(self, future: Any) -> Finished | None:
        """What has become of an attempt whose call has returned; None if nobody knows yet."""
        try:
            return self._end(future, self._ended(self._ray.get(future), self._running[future]))
        except self._ray.exceptions.ActorUnavailableError:
            self._running[future].asked_at_s = time.monotonic()
            return None
        except self._ray.exceptions.RayError as error:
            return self._end(future, self._failure(error, self._running[future]))

    def _ended(self, result: Outcome | Failure, attempt: _Attempt) -> Outcome | Failure:
        """What a gang says of a rank that is gone, which does not know of nodes."""
        if isinstance(result, Failure) and result.kind == "crashed" and self._has_lost(attempt):
            return dataclasses.replace(result, kind="preempted")
        return result

    def _ask_unreachable(self) -> list[Finished]:
        """Ask those that could not be reached whether they have ended."""
        finished = []
        for future, attempt in list(self._running.items()):
            asked_at_s, now_s = attempt.asked_at_s, time.monotonic()
            if asked_at_s is None or now_s - asked_at_s < PROBE_EVERY_S:
                continue
            attempt.asked_at_s = now_s
            exceptions = self._ray.exceptions
            try:
                result = self._ray.get(attempt.actor.result.remote(), timeout=ANSWER_S)
            except (exceptions.ActorUnavailableError, exceptions.GetTimeoutError):
                continue
            except exceptions.RayError as error:
                result = self._failure(error, attempt)
            if result is not None:
                finished.append(self._end(future, result))
        return finished

    def _end(self, future: Any, result: Outcome | Failure) -> Finished:
        attempt = self._running.pop(future)
        if self._may_reuse(attempt, result):
            self._idle.setdefault(attempt.place, []).append(attempt.actor)
        else:
            self._kill(attempt.actor)
        if attempt.place.demand.n_ranks > 1 and isinstance(result, Failure):
            self._free_what_gangs_left()
        return Finished(attempt.assignment, result)

    def _may_reuse(self, attempt: _Attempt, result: Outcome | Failure) -> bool:
        demand = attempt.place.demand
        if demand.n_ranks > 1 or result == "interrupted":
            return False
        if isinstance(result, Failure) and result.kind != "error":
            return False
        return not demand.gpus if self._reuse_workers is None else self._reuse_workers

    def _failure(self, error: Exception, attempt: _Attempt) -> Failure:
        """What it was that ended an actor."""
        exceptions = self._ray.exceptions
        if isinstance(error, exceptions.RayTaskError):  # before the worker's own code: an import
            return Failure.of(error.cause if isinstance(error.cause, Exception) else error)
        is_unplaced = isinstance(error, exceptions.ActorUnschedulableError)
        return failure_of_process(error, has_lost_node=is_unplaced or self._has_lost(attempt))

    def _has_lost(self, attempt: _Attempt) -> bool:
        """Whether a node of an attempt is gone, or about to go."""
        self._nodes = self._look_at_nodes()
        return not set(attempt.node_ids) <= {node.node_id for node in self._nodes}

    def _look_at_nodes(self) -> tuple[Node, ...]:
        draining = self._ray._private.state.state.get_draining_nodes()
        self._nodes_at_s = time.monotonic()
        for attempt in self._running.values():
            if set(attempt.node_ids) & set(draining):
                attempt.actor.stop.remote()
        return tuple(
            Node(
                node_id=entry["NodeID"],
                cpus=entry["Resources"].get("CPU", 0.0),
                gpus=int(entry["Resources"].get("GPU", 0)),
                name=entry["NodeManagerHostname"],
            )
            for entry in self._ray.nodes()
            if entry["Alive"] and entry["NodeID"] not in draining
        )

    def _nodes_of_autoscaler(self) -> tuple[Node, ...]:
        config = self._ray._private.state.state.get_cluster_config()
        return tuple(
            Node(
                node_id=f"{group.name}-{number}",
                cpus=group.resources["CPU"],
                gpus=int(group.resources["GPU"]),
                name=group.name,
            )
            for group in (config.node_group_configs if config else ())
            for number in range(min(group.max_count, MAX_NODES_OF_A_KIND))
        )

    def _new_worker(self, place: _Place) -> Any:
        return self._new_actor(Worker, place.node_id, place.demand.cpus, place.demand.gpus)

    def _new_gang(self, place: _Place) -> Any:
        from sweeper.executors.ray_gang import Gang  # it imports Ray, whose environment is set now

        return self._new_actor(Gang, place.node_id, 0.0, 0.0)

    def _new_actor(self, body: type[Listener], node_id: str, cpus: float, gpus: float) -> Any:
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        remote = self._ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=3,
            scheduling_strategy=affinity(node_id, soft=False),
        )
        return remote(body).remote(ENVIRONMENT)

    def _end_idle(self, node_ids: set[str] | None = None) -> None:
        """End the idle actors of some nodes, or of all."""
        for place in [place for place in self._idle if not node_ids or place.node_id in node_ids]:
            for actor in self._idle.pop(place):
                self._kill(actor)

    def _free_what_gangs_left(self) -> None:
        """Free what gangs that are gone have reserved; Ray would keep it until the driver ends.

        Not while another gang is starting, whose reservation nobody could tell from theirs.
        """
        from sweeper.executors.ray_gang import free_reservations  # see _new_gang

        exceptions = self._ray.exceptions
        gangs = [each for each in self._running.values() if each.place.demand.n_ranks > 1]
        try:
            held = self._ray.get([each.actor.held.remote() for each in gangs], timeout=ANSWER_S)
        except (exceptions.RayError, exceptions.GetTimeoutError):
            return
        if "" not in held:
            free_reservations(held)

    def _kill(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it may be dead, or Ray may be
            self._ray.kill(actor, no_restart=True)


def nodes_at(address: str) -> tuple[Node, ...]:
    """Nodes of a cluster, and those it may start. Raises ConfigError when it cannot be reached."""
    with RayExecutor(_no_trial, address=address) as executor:
        return (*executor.nodes(), *executor.potential_nodes())


def _no_trial(assignment: Assignment, *, stop: StopRequested) -> Outcome:  # noqa: ARG001
    raise RuntimeError("only the nodes are looked at here; no trial was to start")


def _as_demanded(assignment: Assignment, demand: Demand) -> Assignment:
    """The assignment with what it occupies spelled out."""
    resources = dataclasses.replace(
        assignment.planned.resources, cpus=demand.cpus, gpus=demand.n_ranks * demand.gpus
    )
    planned = dataclasses.replace(assignment.planned, resources=resources)
    return dataclasses.replace(assignment, planned=planned)
