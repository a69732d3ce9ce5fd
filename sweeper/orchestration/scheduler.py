"""What to start next, and where. Pure: no clock, no Ray, no files."""

import bisect
import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from sweeper.executors.base import Failure
from sweeper.executors.placement import Demand, FreeResources, Node, Placement, occupied, place
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.resources import Resources

# Time that a token costs beside its matrix products, in FLOPs of the same worker. One CPU core
# took 9, 11, 20 and 42 µs per token for 0.09, 0.25, 0.8 and 2.8 MFLOPs per token (6K to 394K
# parameters): about 7 µs plus the FLOPs at 80 GFLOP/s. Without it the smallest models, by far the
# longest runs at equal FLOPs, would start last. At sizes worth a GPU it vanishes.
OVERHEAD_FLOPS_PER_TOKEN = 6e5
ASSUMED_SPEED = 8e10  # work per second and rank where nothing has been measured yet
MAX_RESERVATIONS = 64  # trials that may wait for a better place before no more are looked at
NEWS_WEIGHT = 0.3  # of the latest measurement in the average speed of a node


@dataclass(frozen=True)
class Job:
    """A trial that is pending or running, as its next attempt runs it."""

    planned: PlannedTrial
    """With the resources of that attempt: as planned, or less after its GPU ran out of memory."""
    demand: Demand
    share_done: float = 0.0
    """Share of its steps that a checkpoint has behind it."""
    failures: tuple[Failure, ...] = ()
    """Of this run of the driver, oldest first."""
    is_paid: bool = False
    """Whether it has been started before, and counts as spent."""
    share_paid: float = 0.0
    """Share of its steps that were taken for the published trial from which it goes on."""

    @property
    def trial_id(self) -> str:
        """Hash of the trial."""
        return self.planned.trial_id

    @property
    def train_flops(self) -> float:
        """Training FLOPs from the first step that is its own."""
        return (1 - self.share_paid) * self.planned.train_flops

    @property
    def work(self) -> float:
        """Expected duration from the start, in FLOPs of a worker."""
        return expected_work(self.planned)

    @property
    def work_left(self) -> float:
        """Expected duration from the checkpoint on, in FLOPs of a worker."""
        return (1 - self.share_done) * self.work

    def with_plan(self, planned: PlannedTrial) -> "Job":
        """The job after its sweep was planned again."""
        return dataclasses.replace(self, planned=planned).with_resources(self.planned.resources)

    def with_resources(self, resources: Resources) -> "Job":
        """The job with other resources for its next attempt."""
        planned = dataclasses.replace(self.planned, resources=resources)
        return dataclasses.replace(self, planned=planned)


@dataclass(frozen=True)
class Running:
    """An attempt at work."""

    job: Job
    placement: Placement
    end_s: float
    """When it is expected to end, on the clock of `starts`."""


@dataclass(frozen=True)
class Speeds:
    """Work per second and rank, by node, as measured."""

    measured: dict[str, float] = field(default_factory=dict)

    def of(self, node_id: str) -> float:
        """Speed of a node; of an average one where it has not been measured."""
        known = self.measured.values()
        average = sum(known) / len(known) if known else ASSUMED_SPEED
        return self.measured.get(node_id, average)

    def after(self, node_id: str, work: float, time_s: float) -> "Speeds":
        """The speeds once a rank on a node has done `work` in `time_s`."""
        if work <= 0 or time_s <= 0:
            return self
        new = work / time_s
        old = self.measured.get(node_id, new)
        return Speeds({**self.measured, node_id: old + NEWS_WEIGHT * (new - old)})

    def duration_s(self, job: Job, placement: Placement) -> float:
        """Expected seconds of a job; ranks wait for the slowest of them."""
        return job.work_left / (len(placement) * min(map(self.of, placement)))


@dataclass(frozen=True)
class Cluster:
    """Where trials run, and what runs there, as seen at one moment."""

    nodes: Sequence[Node]
    running: Collection[Running]
    speeds: Speeds
    now_s: float


def starts(pending: Iterable[Job], demands: Collection[Demand], cluster: Cluster) -> list[Running]:
    """What to start now, of jobs in the order in which they should run; `demands`: of them all."""
    free = _ClusterTimeline(cluster)
    found: list[Running] = []
    n_reserved = 0
    for job in pending:
        # A full cluster costs no search.
        if n_reserved >= MAX_RESERVATIONS or not free.fit_any_now(demands):
            break
        # What does not fit now, say several ranks, gets a reservation at the earliest time at which
        # running trials leave it room; later ones start only where they do not delay it
        # (backfilling, Lifka 1995). What ends sooner on a faster, busy node waits for that node.
        option = free.best_option(job)
        if option is None:
            continue
        free.reserve(option.start_s, option.running)
        if option.start_s <= cluster.now_s:
            found.append(option.running)
        else:
            n_reserved += 1
    return found


def expected_work(planned: PlannedTrial) -> float:
    """Expected duration of a whole trial, in FLOPs of a worker."""
    return planned.trial.n_steps * planned.trial.tokens_per_step * work_per_token(planned)


def work_per_token(planned: PlannedTrial) -> float:
    """Expected duration of training on one token, in FLOPs of a worker."""
    return planned.flops_per_token.total + OVERHEAD_FLOPS_PER_TOKEN


@dataclass(frozen=True, order=True)
class _Option:
    """One way to run a job; the smaller, the better."""

    rank: tuple[float, ...]
    """Its end, and what decides between equal ends."""
    start_s: float = field(compare=False)
    running: Running = field(compare=False)


class _ClusterTimeline:
    """What is free on every node from now on, as far as it is known."""

    def __init__(self, cluster: Cluster) -> None:
        self.nodes, self.speeds, self.now_s = cluster.nodes, cluster.speeds, cluster.now_s
        self.timelines = {node.node_id: _Timeline(node, self.now_s) for node in self.nodes}
        for running in cluster.running:
            self.reserve(self.now_s, running)

    def reserve(self, start_s: float, running: Running) -> None:
        """Take the resources of an attempt from `start_s` to its expected end."""
        # What should have ended by now still runs, and may end at any moment.
        end_s = max(running.end_s, math.nextafter(self.now_s, math.inf))
        for node_id in set(running.placement) & set(self.timelines):
            self.timelines[node_id].reserve(start_s, end_s, running)

    def fit_any_now(self, demands: Collection[Demand]) -> bool:
        """Whether a rank of any of these fits now."""
        now = [timeline.free[0] for timeline in self.timelines.values()]
        return any(room.holds(demand) for room in now for demand in demands)

    def best_option(self, job: Job) -> _Option | None:
        """Where and when to start a job so that it ends first; None if it is too large."""
        if job.demand.n_ranks > 1:
            return self._several_ranks(job)
        options = (self._one_rank(job, node) for node in self.nodes)
        return min(filter(None, options), default=None)

    def _one_rank(self, job: Job, node: Node) -> _Option | None:
        duration_s = self.speeds.duration_s(job, (node.node_id,))
        timeline = self.timelines[node.node_id]
        start_s = timeline.first_fit(job.demand, duration_s)
        if start_s is None:
            return None
        end_s = start_s + duration_s
        # At equal ends take a node without GPUs, and one that is used already.
        room = timeline.least_free(job.demand, start_s, duration_s)
        rank = (end_s, float(node.gpus), sum(room.gpus), room.cpus)
        return _Option(rank, start_s, Running(job, (node.node_id,), end_s))

    def _several_ranks(self, job: Job) -> _Option | None:
        everywhere = tuple(self.timelines)
        # Ranks wait for the slowest of them, so this is the longest it may take.
        longest_s = self.speeds.duration_s(job, everywhere) * len(everywhere) / job.demand.n_ranks
        timelines = self.timelines.values()
        for start_s in sorted({time_s for timeline in timelines for time_s in timeline.times_s}):
            rooms = [timeline.least_free(job.demand, start_s, longest_s) for timeline in timelines]
            placement = place(job.demand, rooms)
            if placement is not None:
                end_s = start_s + self.speeds.duration_s(job, placement)
                return _Option((end_s,), start_s, Running(job, placement, end_s))
        return None


class _Timeline:
    """What is free on one node from now on: `free[i]` from `times_s[i]` to the next time."""

    def __init__(self, node: Node, now_s: float) -> None:
        self.times_s, self.free = [now_s], [FreeResources.of(node)]

    def reserve(self, start_s: float, end_s: float, running: Running) -> None:
        first, last = self._split(start_s), self._split(end_s)
        demand, placement = running.job.demand, running.placement
        self.free[first:last] = occupied(self.free[first:last], demand, placement)

    def first_fit(self, demand: Demand, duration_s: float) -> float | None:
        """The first time from which a rank fits for so long; None if it never does."""
        start_s = None
        for time_s, room in zip(self.times_s, self.free, strict=True):
            if start_s is not None and time_s >= start_s + duration_s:
                break
            if not room.holds(demand):
                start_s = None
            elif start_s is None:
                start_s = time_s
        return start_s

    def least_free(self, demand: Demand, start_s: float, duration_s: float) -> FreeResources:
        first = bisect.bisect_right(self.times_s, start_s) - 1
        last = bisect.bisect_left(self.times_s, start_s + duration_s)
        rooms = self.free[first : max(last, first + 1)]
        return min(rooms, key=lambda room: (room.n_ranks(demand), sum(room.gpus), room.cpus))

    def _split(self, time_s: float) -> int:
        """Index of a time, after which something else may be free than before."""
        i = bisect.bisect_left(self.times_s, time_s)
        if i == len(self.times_s) or self.times_s[i] != time_s:
            self.times_s.insert(i, time_s)
            self.free.insert(i, self.free[i - 1])
        return i
