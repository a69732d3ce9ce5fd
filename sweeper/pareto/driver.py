"""Runs measurements of samples until each has its record; resumes like a sweep.

The same executors, attempts and rules of retrying as for trials: what is pending is what is asked
for minus what is published, so a driver that was killed is continued by the next one. Measurements
are short and all alike in cost, so they run in the order given, wherever there is room.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from sweeper.executors.base import Executor, Failure, Finished
from sweeper.executors.placement import (
    Demand,
    FreeResources,
    Placement,
    demand_of,
    occupied,
    place,
    why_infeasible,
)
from sweeper.executors.stop import StopReason, StopSignal
from sweeper.orchestration.monitor import Monitor, Patience
from sweeper.orchestration.retries import Streak, judged, may_retry
from sweeper.store.assignment import Assignment
from sweeper.store.attempts import archive_attempts, begin_attempt, end_attempt
from sweeper.store.files import remove_temporaries
from sweeper.store.layout import Store
from sweeper.store.measurements import measured_tasks
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.resources import Resources, RetryPolicy
from sweeper.trials.sampling_task import SamplingTask

POLL_S = 0.25
STOP_GRACE_S = 60.0  # for running measurements to notice that they should end
N_THREADS = 1


@dataclass(frozen=True)
class Pending:
    """A task, and a trial of its sweep that says which corpus and which resources."""

    task: SamplingTask
    planned: PlannedTrial


@dataclass(frozen=True, kw_only=True)
class MeasuringRun:
    """What one run of a driver works on."""

    store: Store
    """Of measurements (`sampling_store`)."""
    sweep: str
    wanted: tuple[Pending, ...]
    executor: Executor
    stop: StopSignal
    tell: Callable[[str], None]
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    stop_request: Callable[[], StopReason | None] = lambda: None


@dataclass(frozen=True)
class MeasuringOutcome:
    """What a run leaves behind."""

    n_done: int
    n_failed: int
    n_left: int
    """Tasks that wait for another run."""
    reason: StopReason | None
    """Why it stopped early; None: it did not."""


@dataclass(frozen=True)
class _Running:
    assignment: Assignment
    demand: Demand
    placement: Placement


def run_measurements(run: MeasuringRun) -> MeasuringOutcome:
    """Measure what has no record yet. Call it while holding the store's lease."""
    driver = _Driver(run)
    if driver.pending:
        with run.executor, run.stop.on_signals():
            driver.run_to_the_end()
    return driver.finish()


class _Driver:
    def __init__(self, run: MeasuringRun) -> None:
        self.run, self.store, self.executor = run, run.store, run.executor
        done = measured_tasks(run.store)
        self.pending = [each for each in run.wanted if each.task.task_id not in done]
        self.of_id = {each.task.task_id: each for each in run.wanted}
        self.running: dict[str, _Running] = {}
        self.failures: defaultdict[str, list[Failure]] = defaultdict(list)
        self.failed: set[str] = set()
        self.monitor = Monitor(run.store, Patience(), time.monotonic)
        self.streak = Streak()
        self.started_s = time.time()

    def run_to_the_end(self) -> None:
        give_up_s = None
        while self.running or (self.pending and not self.run.stop.is_requested()):
            if request := self.run.stop_request():
                self.run.stop.request(request)
            if not self.run.stop.is_requested():
                self.start_what_fits()
            elif give_up_s is None:
                give_up_s = time.monotonic() + STOP_GRACE_S
                self.run.tell(f"stopping: {len(self.running)} running measurements end")
                self.executor.stop()
            elif self.run.stop.is_urgent() or time.monotonic() > give_up_s:
                return
            for finished in self.executor.poll(POLL_S):
                self.record(finished)
            self.end_stalled()

    def start_what_fits(self) -> None:
        nodes = self.executor.nodes()
        if self.executor.failure:
            self.run.tell(f"nothing can run any more: {self.executor.failure}")
            self.run.stop.request("executor")
            return
        free = tuple(FreeResources.of(node) for node in nodes)
        for each in self.running.values():
            free = occupied(free, each.demand, each.placement)
        for pending in list(self.pending):
            if len(self.running) >= (self.executor.max_running or len(self.of_id)):
                return
            demand = self.demand_of(pending)
            if reason := why_infeasible(demand, (*nodes, *self.executor.potential_nodes())):
                self.pending.remove(pending)
                self.failed.add(pending.task.task_id)
                self.run.tell(f"{_named(pending.task)} {reason}")
            elif placement := place(demand, free):
                self.pending.remove(pending)
                self.start(pending, demand, placement)
                free = occupied(free, demand, placement)

    def demand_of(self, pending: Pending) -> Demand:
        """One rank; on a CPU, whose cores share caches and memory, alone, so that times hold."""
        gpus = pending.planned.resources.gpus
        share = Resources(gpus="auto" if gpus == "auto" else min(gpus, 1.0))
        demand = demand_of(share, self.executor.nodes())
        return Demand(1, demand.cpus, demand.gpus, is_alone=not demand.gpus)

    def start(self, pending: Pending, demand: Demand, placement: Placement) -> None:
        task = pending.task
        attempt = begin_attempt(
            self.store,
            task.task_id,
            executor=self.executor.name,
            device="cuda" if demand.gpus else "cpu",
            n_threads=N_THREADS,
        )
        assignment = Assignment(
            self.store.folder, self.run.sweep, pending.planned, attempt, sampling=task
        )
        self.running[task.task_id] = _Running(assignment, demand, placement)
        self.monitor.begin(task.task_id, attempt.number)
        self.executor.start(assignment, demand, placement)

    def end_stalled(self) -> None:
        self.monitor.look()
        for task_id in self.monitor.stalled():
            doing = self.executor.kill(task_id)
            failure = Failure("stalled", "Stalled", "it made no progress for too long", doing)
            self.record(Finished(self.running[task_id].assignment, failure))

    def record(self, finished: Finished) -> None:
        """Write down how an attempt ended, and decide what becomes of its task."""
        if self.run.stop.reason == "superseded":
            return  # the store is another driver's now
        task_id, number = finished.assignment.task_id, finished.assignment.attempt.number
        pending = self.of_id[task_id]
        result = judged(
            finished.result,
            has_record=self.store.record(task_id).exists(),
            is_stopping=self.run.stop.is_requested(),
        )
        del self.running[task_id]
        self.monitor.end(task_id)
        if not isinstance(result, Failure):
            end_attempt(self.store, task_id, number, result)
            if result == "interrupted":
                self.pending.append(pending)
            else:
                self.streak = Streak()
                n_done = len(self.of_id) - len(self.pending) - len(self.running) - len(self.failed)
                self.run.tell(f"{n_done}/{len(self.of_id)} {_named(pending.task)}")
            return
        error = (result.error_class, result.message, result.traceback)
        end_attempt(self.store, task_id, number, result.kind, error=error)
        self.failures[task_id].append(result)
        again = may_retry(self.failures[task_id], self.run.retries, Resources())
        if again and result.kind != "gpu_oom":  # a batch that does not fit is not tried twice
            self.pending.append(pending)
        else:
            self.failed.add(task_id)
        self.run.tell(f"{_named(pending.task)} failed: {result.error_class}: {result.message}")
        self.streak = self.streak.after(task_id, result)
        if len(self.streak.trial_ids) >= self.run.retries.same_error:
            self.run.stop.request("same_error")
        if result.kind == "disk_full":
            self.run.stop.request("disk_full")

    def finish(self) -> MeasuringOutcome:
        if self.run.stop.reason != "superseded":
            for task_id, each in self.running.items():  # these are gone with the executor
                end_attempt(self.store, task_id, each.assignment.attempt.number, "interrupted")
            remove_temporaries(self.store.folder, self.started_s)
            archive_attempts(self.store, measured_tasks(self.store))
        done = measured_tasks(self.store) & self.of_id.keys()
        n_failed = len(self.failed - done)
        n_left = len(self.of_id) - len(done) - n_failed
        return MeasuringOutcome(len(done), n_failed, n_left, self.run.stop.reason)


def _named(task: SamplingTask) -> str:
    what = f"{task.series} {task.sampler}"
    return f"{what}, {task.n_steps} steps, temperature {task.temperature:g}, top-p {task.top_p:g}"
