"""What to start next, and where. Pure: no clock, no Ray, no files.

Longest first: with m equal workers a sweep then takes at most 4/3 of the shortest possible time
(Graham 1969), and does not end with one worker on its largest trial while the others idle.

A trial that does not fit now, say one of several ranks, gets a reservation at the earliest time
at which running trials leave it room; later ones start only where they do not delay it
(backfilling, Lifka 1995). One that would end sooner by waiting for a faster node waits for it.
"""

import bisect
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sweeper.executors.base import Failure
from sweeper.executors.placement import Demand, FreeResources, Node, Placement, occupied, place
from sweeper.store.pending import Remaining
from sweeper.trials.flops import FlopsPerToken
from sweeper.trials.resources import Resources
from sweeper.trials.trial import Trial

OVERHEAD_FLOPS_PER_TOKEN = 6e5
"""Time that a token costs beside its matrix products, in FLOPs of the same worker.

One CPU core took 9, 11, 20 and 42 µs per token for 0.09, 0.25, 0.8 and 2.8 MFLOPs per token (6K
to 394K parameters): about 7 µs plus the FLOPs at 80 GFLOP/s. Without it the smallest models, by
far the longest runs at equal FLOPs, would start last. At sizes worth a GPU it vanishes.
"""

ASSUMED_SPEED = 8e10
"""Work per second and rank where nothing has been measured yet."""

MAX_RESERVATIONS = 64
"""Trials that may wait for a better place before the scheduler looks no further."""

NEWS_WEIGHT = 0.3
"""Of the latest measurement in the average speed of a node."""


@dataclass(frozen=True)
class Limits:
    """Hard stops of a sweep."""

    flops: float = math.inf
    """Training FLOPs of the whole sweep, published results included."""
    wall_s: float = math.inf
    """Seconds of one run of the driver."""
    n_trials: float = math.inf
    """Trials of the whole sweep, published results included."""


@dataclass(frozen=True)
class Spending:
    """What counts against the limits: published results and trials started since."""

    flops: float
    n_trials: int

    def plus(self, remaining: Remaining) -> "Spending":
        """Spending once this trial has run, too."""
        return Spending(self.flops + remaining.train_flops, self.n_trials + 1)

    def is_within(self, limits: Limits) -> bool:
        """Whether no limit is passed."""
        return self.flops <= limits.flops and self.n_trials <= limits.n_trials


@dataclass(frozen=True)
class Job:
    """A trial that waits for a place."""

    remaining: Remaining
    demand: Demand
    resources: Resources
    """Of its next attempt: as planned, or less after its GPU ran out of memory."""
    share_done: float = 0.0
    """Share of its steps that a checkpoint has behind it."""
    failures: tuple[Failure, ...] = ()
    """Of this run of the driver, oldest first."""
    is_paid: bool = False
    """Whether it has been started before, and counts as spent."""

    @property
    def trial_id(self) -> str:
        """Of the trial that yields what is missing."""
        return self.remaining.trial_id

    @property
    def whole_work(self) -> float:
        """Expected duration from the start, in FLOPs of a worker."""
        return expected_work(self.remaining.trial, self.remaining.planned.flops_per_token)

    @property
    def work_left(self) -> float:
        """Expected duration from the checkpoint on, in FLOPs of a worker."""
        return (1 - self.share_done) * self.whole_work


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


def starts(waiting: Iterable[Job], demands: Collection[Demand], cluster: Cluster) -> list[Running]:
    """What to start now, of jobs in the order in which they should run.

    `demands` are those of all that wait, so that a full cluster is left alone at once.
    """
    books = _Books(cluster)
    found: list[Running] = []
    n_reserved = 0
    for job in waiting:
        if n_reserved >= MAX_RESERVATIONS or not books.have_room_for_any(demands):
            break
        start_s, planned = books.best(job)
        if planned is None:
            continue
        books.enter(start_s, planned)
        if start_s <= cluster.now_s:
            found.append(planned)
        else:
            n_reserved += 1
    return found


def expected_work(trial: Trial, flops_per_token: FlopsPerToken) -> float:
    """Expected duration of a whole trial, in FLOPs of a worker."""
    tokens = trial.n_steps * trial.tokens_per_step
    return tokens * (flops_per_token.total + OVERHEAD_FLOPS_PER_TOKEN)


def expected_time_left(
    running: Sequence[float], waiting: float, n_slots: int, time_per_work_s: float
) -> float:
    """Seconds until everything is done.

    `running` is the work left in each running trial, `waiting` that of all which wait. Longest
    first keeps all slots busy, but no trial ends before its own work is done.
    """
    shared = (sum(running) + waiting) / max(1, n_slots)
    return time_per_work_s * max(shared, *running, 0.0)


def longest_first(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in the order in which to start them; ties by trial, so that the order is the plan's."""
    return sorted(jobs, key=lambda job: (-job.work_left, job.trial_id))


def allowed(waiting: Iterable[Job], spent: Spending, limits: Limits) -> Iterator[Job]:
    """The waiting jobs that the limits allow together, first come, first served.

    One that was started before has been paid for.
    """
    for job in waiting:
        after = spent if job.is_paid else spent.plus(job.remaining)
        if job.is_paid or after.is_within(limits):
            yield job
            spent = after


class _Books:
    """What is free when, as far as it is known."""

    def __init__(self, cluster: Cluster) -> None:
        self.nodes, self.speeds, self.now_s = cluster.nodes, cluster.speeds, cluster.now_s
        self.calendars = {node.node_id: _Calendar(node, self.now_s) for node in self.nodes}
        for each in cluster.running:
            self.enter(self.now_s, each)

    def enter(self, start_s: float, running: Running) -> None:
        """Book an attempt from `start_s` to its expected end."""
        # What should have ended by now still runs, and may end at any moment.
        end_s = max(running.end_s, math.nextafter(self.now_s, math.inf))
        for node_id in set(running.placement) & set(self.calendars):
            self.calendars[node_id].enter(start_s, end_s, running)

    def have_room_for_any(self, demands: Collection[Demand]) -> bool:
        """Whether a rank of any of these fits now."""
        rooms = [calendar.rooms[0] for calendar in self.calendars.values()]
        return any(room.holds(demand) for room in rooms for demand in demands)

    def best(self, job: Job) -> tuple[float, Running | None]:
        """When and where to start a job so that it ends first; nowhere if it is too large."""
        if job.demand.n_ranks > 1:
            return self._together(job)
        options = (self._alone(job, node) for node in self.nodes)
        first = min(filter(None, options), key=lambda option: option[:2], default=None)
        return (math.inf, None) if first is None else first[2:]

    def _alone(
        self, job: Job, node: Node
    ) -> tuple[float, tuple[float, ...], float, Running] | None:
        """End, rank among equal ends, start and placement of a job of one rank on a node."""
        duration_s = self.speeds.duration_s(job, (node.node_id,))
        calendar = self.calendars[node.node_id]
        start_s = calendar.first_fit(job.demand, duration_s)
        if start_s is None:
            return None
        end_s = start_s + duration_s
        # At equal ends take a node without GPUs, and one that is used already.
        room = calendar.tightest(job.demand, start_s, duration_s)
        rank = (float(node.gpus), sum(room.gpus), room.cpus)
        return end_s, rank, start_s, Running(job, (node.node_id,), end_s)

    def _together(self, job: Job) -> tuple[float, Running | None]:
        everywhere = tuple(self.calendars)
        # Ranks wait for the slowest of them, so this is the longest it may take.
        longest_s = self.speeds.duration_s(job, everywhere) * len(everywhere) / job.demand.n_ranks
        calendars = self.calendars.values()
        for start_s in sorted({time_s for calendar in calendars for time_s in calendar.times_s}):
            rooms = [calendar.tightest(job.demand, start_s, longest_s) for calendar in calendars]
            placement = place(job.demand, rooms)
            if placement is not None:
                end_s = start_s + self.speeds.duration_s(job, placement)
                return start_s, Running(job, placement, end_s)
        return math.inf, None


class _Calendar:
    """What is free on one node from now on, between times at which that changes."""

    def __init__(self, node: Node, now_s: float) -> None:
        self.times_s, self.rooms = [now_s], [FreeResources.of(node)]

    def enter(self, start_s: float, end_s: float, running: Running) -> None:
        """Take the room of an attempt for a time."""
        first, last = self._split(start_s), self._split(end_s)
        demand, placement = running.job.demand, running.placement
        self.rooms[first:last] = occupied(self.rooms[first:last], demand, placement)

    def first_fit(self, demand: Demand, duration_s: float) -> float | None:
        """The first time at which a rank has room for so long; None if it never has."""
        start_s = None
        for time_s, room in zip(self.times_s, self.rooms, strict=True):
            if start_s is not None and time_s >= start_s + duration_s:
                break
            if not room.holds(demand):
                start_s = None
            elif start_s is None:
                start_s = time_s
        return start_s

    def tightest(self, demand: Demand, start_s: float, duration_s: float) -> FreeResources:
        """The least room for a demand during a time."""
        first = bisect.bisect_right(self.times_s, start_s) - 1
        last = bisect.bisect_left(self.times_s, start_s + duration_s)
        rooms = self.rooms[first : max(last, first + 1)]
        return min(rooms, key=lambda room: (room.n_ranks(demand), sum(room.gpus), room.cpus))

    def _split(self, time_s: float) -> int:
        """Index of a time, which is made one at which something may change."""
        i = bisect.bisect_left(self.times_s, time_s)
        if i == len(self.times_s) or self.times_s[i] != time_s:
            self.times_s.insert(i, time_s)
            self.rooms.insert(i, self.rooms[i - 1])
        return i
