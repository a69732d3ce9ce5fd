"""A cluster that exists on paper: nodes that are slow, come and go, and trials that crash.

Time is a number that `poll` moves on to the next thing that happens, so that a sweep of days takes
seconds and the same seed gives the same sweep. What happens to an attempt is drawn from its trial
and its number; results come from the planted law, and lie in a real store.
"""

import bisect
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from planted import planted_result

from sweeper.executors.base import Executor, Failure, Finished
from sweeper.executors.placement import Demand, Node, Placement
from sweeper.orchestration.scheduler import expected_work
from sweeper.store import files
from sweeper.store.assignment import Assignment
from sweeper.store.attempts import Progress, progress_reporter
from sweeper.store.layout import Store
from sweeper.store.results import publish

SPEED = 5e9
"""Work per virtual second of a node of speed 1."""

CHECKPOINT_EVERY_S = 30.0
REPORT_EVERY_S = 10.0


@dataclass(frozen=True)
class SimulatedNode:
    """A machine, and when it is away."""

    node: Node
    speed: float = 1.0
    away: tuple[tuple[float, float], ...] = ()
    """Intervals of time, in order."""

    def is_there(self, now_s: float) -> bool:
        """Whether it takes trials."""
        return not any(start_s <= now_s < end_s for start_s, end_s in self.away)

    def next_change_s(self, now_s: float) -> float:
        """When it next goes or comes back."""
        changes = [moment for interval in self.away for moment in interval]
        i = bisect.bisect_right(changes, now_s)
        return changes[i] if i < len(changes) else math.inf


@dataclass(frozen=True)
class Fates:
    """How likely things go wrong."""

    seed: int = 0
    crash: float = 0.0
    """Of one attempt."""
    diverge: float = 0.0
    """Of a trial."""
    misjudged: float = 0.0
    """Spread of the logarithm of true over expected durations."""

    def duration_s(self, assignment: Assignment, speed: float) -> float:
        """True duration of a whole trial."""
        rng = self._rng(assignment, 1)
        work = expected_work(assignment.planned)
        return float(work / SPEED / speed * math.exp(self.misjudged * rng.standard_normal()))

    def diverges_at(self, assignment: Assignment) -> float:
        """Share of its steps after which a trial diverges; infinite if it does not."""
        rng = self._rng(assignment, 2)
        return float(rng.uniform(0.1, 0.9)) if rng.uniform() < self.diverge else math.inf

    def crashes_at(self, assignment: Assignment) -> float:
        """Share of its steps at which an attempt crashes; infinite if it does not."""
        rng = self._rng(assignment, 3, assignment.attempt.number)
        return float(rng.uniform()) if rng.uniform() < self.crash else math.inf

    def _rng(self, assignment: Assignment, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(assignment.trial.trial_id, 16), *purpose])


@dataclass
class _Attempt:
    """One at work."""

    assignment: Assignment
    node: SimulatedNode
    start_s: float
    start_share: float
    duration_s: float
    """Of the whole trial, on this node."""
    reported_s: float = -math.inf

    def share(self, now_s: float) -> float:
        return min(1.0, self.start_share + (now_s - self.start_s) / self.duration_s)

    def reaches_s(self, share: float) -> float:
        return self.start_s + max(0.0, share - self.start_share) * self.duration_s

    def saved_share(self, now_s: float) -> float:
        """Share behind the last checkpoint."""
        n_saved = math.floor((now_s - self.start_s) / CHECKPOINT_EVERY_S)
        return self.share(self.start_s + n_saved * CHECKPOINT_EVERY_S)


@dataclass
class SimulatedCluster(Executor):
    """Runs attempts on paper."""

    simulated: Sequence[SimulatedNode]
    fates: Fates
    now_s: float = 0.0
    busy_s: float = 0.0
    """Rank-seconds of work at speed 1 that were really done, lost ones included."""
    lost_s: float = 0.0
    """Of these, done again."""
    log: list[tuple[str, str, float, float]] = field(default_factory=list)
    """Trial, node, start and end of every attempt."""
    name = "simulated"

    def __post_init__(self) -> None:
        self._running: dict[str, _Attempt] = {}

    def clock(self) -> float:
        """Virtual time, in seconds."""
        return self.now_s

    def nodes(self) -> tuple[Node, ...]:
        return tuple(each.node for each in self.simulated if each.is_there(self.now_s))

    def start(self, assignment: Assignment, demand: Demand, placement: Placement) -> None:
        (node,) = (each for each in self.simulated if each.node.node_id == placement[0])
        there = [each for each in self._running.values() if each.node is node]
        assert (len(there) + 1) * demand.cpus <= node.node.cpus, f"{node} is overbooked"
        assert node.is_there(self.now_s)
        self._running[assignment.trial.trial_id] = _Attempt(
            assignment,
            node,
            self.now_s,
            self._saved(assignment),
            self.fates.duration_s(assignment, node.speed),
        )

    def poll(self, timeout_s: float) -> list[Finished]:
        """Move on to whatever happens next, however long that takes."""
        ends = {trial_id: self._end(each) for trial_id, each in self._running.items()}
        changes = [node.next_change_s(self.now_s) for node in self.simulated]
        report_s = self.now_s + REPORT_EVERY_S if self._running else math.inf
        next_s = min([end_s for end_s, _ in ends.values()] + changes + [report_s])
        assert next_s < math.inf, "nothing will ever happen again"
        self.now_s = max(self.now_s, next_s)
        for each in self._running.values():
            if self.now_s - each.reported_s >= REPORT_EVERY_S:
                self._report(each)
        return [
            self._finish(trial_id, result)
            for trial_id, (end_s, result) in ends.items()
            if end_s <= self.now_s
        ]

    def stop(self) -> None:
        raise NotImplementedError("nobody stops a simulated sweep")

    def kill(self, trial_id: str) -> str:
        raise NotImplementedError("no simulated trial stalls")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert error or not self._running

    def _end(self, attempt: _Attempt) -> tuple[float, str]:
        """When and how an attempt ends."""
        ends = [(attempt.reaches_s(1.0), "published")]
        share = self.fates.diverges_at(attempt.assignment)
        if share < 1:
            ends.append((attempt.reaches_s(share), "diverged"))
        share = self.fates.crashes_at(attempt.assignment)
        if attempt.start_share < share < 1:
            ends.append((attempt.reaches_s(share), "crashed"))
        ends += [
            (start_s, "preempted") for start_s, _ in attempt.node.away if start_s > attempt.start_s
        ]
        return min(ends)

    def _finish(self, trial_id: str, result: str) -> Finished:
        attempt = self._running.pop(trial_id)
        assignment, node = attempt.assignment, attempt.node
        self.log.append((trial_id, node.node.node_id, attempt.start_s, self.now_s))
        self.busy_s += (self.now_s - attempt.start_s) * node.speed
        if result == "published":
            planted = planted_result(assignment)
            row = dataclasses.replace(
                planted.trial, train_time_s=attempt.duration_s, eval_time_s=0.0
            )
            publish(assignment, dataclasses.replace(planted, trial=row))
            return Finished(assignment, "published")
        if result == "diverged":
            n_steps = assignment.trial.n_steps
            last_step = min(n_steps - 1, math.ceil(attempt.share(self.now_s) * n_steps))
            publish(assignment, planted_result(assignment, until_step=last_step))
            return Finished(assignment, "diverged")
        saved = attempt.saved_share(self.now_s)
        self._save(assignment, saved)
        self.lost_s += (attempt.share(self.now_s) - saved) * attempt.duration_s * node.speed
        if result == "crashed":
            return Finished(assignment, Failure("crashed", "ActorDiedError", "killed"))
        return Finished(assignment, Failure("preempted", "NodeDiedError", "node gone"))

    def _report(self, attempt: _Attempt) -> None:
        attempt.reported_s = self.now_s
        self._write_progress(attempt.assignment, attempt.share(self.now_s), attempt.duration_s)

    def _write_progress(
        self, assignment: Assignment, share: float, duration_s: float = 0.0
    ) -> None:
        n_steps = assignment.trial.n_steps
        progress = Progress(
            step=math.floor(share * n_steps),
            n_steps=n_steps,
            flops_done=share * assignment.planned.train_flops,
            loss_nats_per_token=None,
            train_time_s=share * duration_s,
            eval_time_s=0.0,
        )
        progress_reporter(assignment)(progress)  # a new reporter writes at once

    def _save(self, assignment: Assignment, share: float) -> None:
        if share > 0:
            folder = Store(assignment.store_folder).checkpoints(assignment.trial)
            files.replace(folder / "share.json", json.dumps(share).encode())
        self._write_progress(assignment, share)

    def _saved(self, assignment: Assignment) -> float:
        path = Store(assignment.store_folder).checkpoints(assignment.trial) / "share.json"
        return float(files.read_json(path)) if path.exists() else 0.0


def with_absences(node: SimulatedNode, seed: int, *, mean_there_s: float, mean_away_s: float,
                  until_s: float) -> SimulatedNode:  # fmt: skip
    """A node that is taken away and comes back at random."""
    rng, now_s, away = np.random.default_rng(seed), 0.0, []
    while now_s < until_s:
        start_s = now_s + float(rng.exponential(mean_there_s))
        now_s = start_s + float(rng.exponential(mean_away_s))
        away.append((start_s, now_s))
    return dataclasses.replace(node, away=tuple(away))
