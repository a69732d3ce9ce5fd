"""The driver: starts what is missing, records what ends, keeps the tables fresh.

It holds nothing that is not on disk. Killed at any moment, the next driver finds the same plan,
the published records and the checkpoints, and goes on.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sweeper.executors.base import Executor, Failure, Finished
from sweeper.executors.placement import Node, n_places
from sweeper.executors.stop import StopReason, StopSignal
from sweeper.orchestration.events import (
    Event,
    ExecutorFailed,
    ResultsTaken,
    Stopping,
    SweepEnded,
    SweepStarted,
    TrialFailed,
    TrialInterrupted,
    TrialPublished,
    TrialRefused,
    TrialStarted,
    WaitingForNodes,
)
from sweeper.orchestration.monitor import Pace, Patience, Watch
from sweeper.orchestration.outcome import END_REASONS, EndReason, SweepOutcome, count_outcome
from sweeper.orchestration.queue import Backlog
from sweeper.orchestration.retries import RetryPolicy, Streak, judged
from sweeper.orchestration.scheduler import Cluster, Job, Limits, Running, Speeds, Spending
from sweeper.orchestration.wanted import Wanted
from sweeper.store.assignment import Assignment
from sweeper.store.attempts import Attempt, attempts, begin_attempt, end_attempt, latest_number
from sweeper.store.files import is_disk_full
from sweeper.store.housekeeping import archive_when_many, tidy
from sweeper.store.layout import Store
from sweeper.store.pending import Remaining, assignment
from sweeper.store.plan_file import StoredPlan
from sweeper.store.results import published, read_head
from sweeper.store.sharing import adopt_one
from sweeper.store.tables import refresh_for

POLL_S = 0.25
"""Longest sleep of the driver: how late it may notice Ctrl-C."""

REFRESH_INTERVAL_S = 5.0
"""Shortest time between two rebuilds of the tables."""

REFRESH_SHARE = 0.05
"""Largest share of the driver's time that rebuilding the tables may take."""

PLAN_LOOK_INTERVAL_S = 2.0
"""Time between two looks whether the plan has changed."""

STOP_GRACE_S = 60.0
"""Time that running trials have to write a checkpoint once they were asked to stop."""

N_THREADS = 1
"""CPU threads of each worker, the same everywhere: sums differ in the last bit with it."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of a driver works on, and within."""

    store: Store
    plan: StoredPlan
    executor: Executor
    stop: StopSignal
    on_event: Callable[[Event], None]
    limits: Limits = field(default_factory=Limits)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    patience: Patience = field(default_factory=Patience)
    order: Callable[[], StopReason | None] = lambda: None
    """Asks for orders from outside, and whether another driver has taken over."""
    new_plan: Callable[[], StoredPlan | None] = lambda: None
    """Asks whether the sweep was extended, or cut, since the last call (`handover.py`)."""
    clock: Callable[[], float] = time.monotonic


def run_sweep(run: Run) -> SweepOutcome:
    """Run what is missing of a plan, until nothing is left, a limit is reached or a signal comes.

    Call it while holding `held(store)`. Raises KeyboardInterrupt on a second signal.
    """
    driver = _Driver(run)
    if driver.remaining:
        with run.executor, run.stop.on_signals(), run.stop.after(run.limits.wall_s):
            driver.run_to_the_end()
    else:
        driver.announce()
    return driver.finish()


class _Driver:
    """The state of one run: what waits and what runs."""

    def __init__(self, run: Run) -> None:
        self.run, self.store, self.executor = run, run.store, run.executor
        self.wanted = Wanted(run.store, run.plan)
        records = published(run.store)
        own = [record for record in records if record.sweep == run.plan.name]
        spent = Spending(sum(record.train_flops for record in own), len(own))
        self.remaining = self.wanted.lacking(records)
        self.backlog = Backlog(run.store, spent, run.limits, run.policy)
        self.running: dict[str, Running] = {}
        self.nodes: tuple[Node, ...] = ()
        self.speeds = Speeds()
        self.watch = Watch(run.store, run.patience, run.clock)
        self.streak = Streak()
        self.is_waiting_for_nodes = False
        self.started_s = time.time()
        self.next_refresh_s = time.monotonic() + REFRESH_INTERVAL_S
        self.next_plan_look_s = run.clock() + PLAN_LOOK_INTERVAL_S

    def run_to_the_end(self) -> None:
        """Start, wait and record until nothing runs any more."""
        self.nodes = self.executor.nodes()
        self.fill(self.remaining)
        give_up_s = math.inf
        while True:
            self.take_orders()
            if not self.run.stop.is_requested():
                with self.stopping_when_the_disk_is_full():
                    self.start_jobs()
            elif math.isinf(give_up_s):
                give_up_s = self.run.clock() + STOP_GRACE_S
                self.run.on_event(Stopping(self.run.stop.reason or "signal", len(self.running)))
                self.executor.stop()
            if self.is_over(give_up_s) and not self.has_new_plan():
                return
            with self.stopping_when_the_disk_is_full():
                self.look_around()

    def fill(self, remaining: Iterable[Remaining]) -> None:
        """Let trials wait that do not yet, and say what there is to do."""
        possible = (*self.nodes, *self.executor.potential_nodes())
        refused = self.backlog.fill(remaining, possible, self.executor.max_ranks)
        self.announce()
        for each, reason in refused:
            self.wanted.given_up.add(each.trial_id)
            self.run.on_event(TrialRefused(each, reason))

    def announce(self) -> None:
        """Say what there is to do."""
        if taken := self.wanted.taken():
            self.run.on_event(ResultsTaken(taken))
        plan, done = self.wanted.plan, self.wanted.done(published(self.store))
        waiting, demands = self.backlog.jobs, self.backlog.demands
        unfinished = [*waiting, *(running.job for running in self.running.values())]
        n_slots = sum(n_places(node, demands) for node in self.nodes)
        self.run.on_event(
            SweepStarted(
                name=plan.name,
                n_planned=len(plan.trials),
                n_done=len(done),
                n_waiting=len(unfinished),
                flops_planned=plan.train_flops,
                flops_done=sum(planned.cells[-1].flops for planned in done),
                flops_waiting=sum(job.remaining.train_flops for job in unfinished),
                work_waiting=sum(job.whole_work for job in waiting),
                executor=self.executor.name,
                n_slots=min(n_slots, self.executor.max_running or n_slots, len(waiting)),
                device="cuda" if any(demand.gpus for demand in demands) else "cpu",
            )
        )

    def take_orders(self) -> None:
        """Stop if somebody outside said so."""
        if order := self.run.order():
            self.run.stop.request(order)

    def is_over(self, give_up_s: float) -> bool:
        """Whether there is nothing to wait for any more."""
        if self.run.stop.is_urgent() or self.run.clock() > give_up_s:
            return True
        is_stopping = self.run.stop.is_requested()
        return not self.running and (is_stopping or not self.backlog.may_start_more())

    def start_jobs(self) -> None:
        """Fill the free places."""
        n_free = (self.executor.max_running or math.inf) - len(self.running)
        if not self.backlog.jobs or n_free <= 0:
            return
        self.nodes = self.executor.nodes()
        if self.executor.failure:
            self.run.on_event(ExecutorFailed(self.executor.failure))
            self.run.stop.request("executor")
            return
        running = self.running.values()
        cluster = Cluster(self.nodes, running, self.speeds, now_s=self.run.clock())
        for number, chosen in enumerate(self.backlog.starts(cluster), start=1):
            if number <= n_free and not self.take_over(chosen.job):
                self.start(self.backlog.begin(chosen))
        self.say_when_nothing_fits()

    def take_over(self, job: Job) -> bool:
        """Whether another sweep has published a trial meanwhile; then there is nothing to start."""
        head = adopt_one(self.store, job.remaining)
        if head is not None:
            self.backlog.drop(job)
            self.run.on_event(ResultsTaken((head,), job.whole_work))
        return head is not None

    def start(self, running: Running) -> None:
        """Begin an attempt at one trial."""
        job, executor = running.job, self.executor
        attempt = begin_attempt(
            self.store,
            job.trial_id,
            executor=executor.name,
            device="cuda" if job.demand.gpus else "cpu",
            n_threads=N_THREADS,
            micro_batch_sequences=job.resources.micro_batch_sequences,
        )
        assigned = self.assignment(job, attempt)
        self.running[job.trial_id] = running
        self.watch.begin(job.trial_id, attempt.number)
        self.run.on_event(TrialStarted(assigned))
        executor.start(assigned, job.demand, running.placement)

    def assignment(self, job: Job, attempt: Attempt) -> Assignment:
        """What an attempt at a job is told."""
        assigned = assignment(self.store, self.wanted.plan, job.remaining, attempt)
        return dataclasses.replace(assigned, resources=job.resources)

    def say_when_nothing_fits(self) -> None:
        """Say once that trials wait for nodes to come, and ask for these."""
        is_waiting = not self.running and self.backlog.may_start_more()
        if is_waiting and not self.is_waiting_for_nodes:
            first = self.backlog.jobs[0]
            self.run.on_event(WaitingForNodes(len(self.backlog.jobs), str(first.demand)))
        self.is_waiting_for_nodes = is_waiting
        if self.executor.potential_nodes():
            self.executor.announce([job.demand for job in self.backlog.jobs])

    def look_around(self) -> None:
        """Wait a little, record what has ended, and see how the rest gets on."""
        for finished in self.executor.poll(POLL_S):
            with self.stopping_when_the_disk_is_full():
                self.record(finished)
        for pace in self.watch.look():
            self.learn(pace)
        for trial_id in self.watch.stalled():
            self.end_stalled(trial_id)
        self.refresh_when_due()
        if self.run.clock() >= self.next_plan_look_s:
            self.has_new_plan()

    def has_new_plan(self) -> bool:
        """Whether another plan was submitted; if so, go on with that one."""
        plan = None if self.run.stop.is_requested() else self.run.new_plan()
        self.next_plan_look_s = self.run.clock() + PLAN_LOOK_INTERVAL_S
        if plan is None:
            return False
        self.run.on_event(self.wanted.change(plan))
        self.fill(self.lacking())
        return True

    def lacking(self) -> list[Remaining]:
        """What is to wait beside what waits already; drops what is wanted no more."""
        wanted = self.wanted.lacking(published(self.store), self.running.values())
        return self.backlog.keep(wanted)

    def record(self, finished: Finished) -> None:
        """Write down how an attempt ended, and decide what becomes of its trial."""
        self.take_orders()
        if self.run.stop.reason == "superseded":
            return  # its trial, and all that is written about it, is another driver's now
        assigned, trial_id = finished.assignment, finished.assignment.trial.trial_id
        result = judged(
            finished.result,
            has_record=self.store.record(trial_id).exists(),
            is_stopping=self.run.stop.is_requested(),
        )
        job = self.running.pop(trial_id).job
        self.watch.end(trial_id)
        if isinstance(result, Failure):
            self.record_failure(assigned, job, result)
        elif result == "interrupted":
            end_attempt(self.store, trial_id, assigned.attempt, "interrupted")
            self.backlog.resume(job)
            self.run.on_event(TrialInterrupted(assigned))
        else:
            end_attempt(self.store, trial_id, assigned.attempt, result)
            self.streak = Streak()
            self.run.on_event(TrialPublished(assigned, read_head(self.store.record(trial_id))))
        if self.wanted.holds_back(assigned.trial.trajectory_id) and (more := self.lacking()):
            self.fill(more)

    def record_failure(self, assigned: Assignment, job: Job, failure: Failure) -> None:
        """Write down a failed attempt, and try again if that may help."""
        end_attempt(
            self.store,
            job.trial_id,
            assigned.attempt,
            failure.kind,
            error=(failure.error_class, failure.message, failure.traceback),
        )
        will_retry = self.backlog.retry(job, failure, self.nodes)
        if not will_retry:
            self.wanted.given_up.add(job.trial_id)
        self.run.on_event(TrialFailed(assigned, failure, will_retry))
        self.streak = self.streak.after(job.trial_id, failure)
        if len(self.streak.trial_ids) >= self.run.policy.same_error:
            self.run.stop.request("same_error")
        if failure.kind == "disk_full":
            self.run.stop.request("disk_full")

    def learn(self, pace: Pace) -> None:
        """Account for the progress of one attempt."""
        running = self.running[pace.trial_id]
        work = pace.share_gained * running.job.whole_work / len(running.placement)
        for node_id in set(running.placement):
            self.speeds = self.speeds.after(node_id, work, pace.time_s)
        left = dataclasses.replace(running.job, share_done=pace.share_done)
        end_s = self.run.clock() + self.speeds.duration_s(left, running.placement)
        self.running[pace.trial_id] = dataclasses.replace(running, end_s=end_s)

    def end_stalled(self, trial_id: str) -> None:
        """Kill an attempt that has been silent for too long."""
        doing = self.executor.kill(trial_id)
        assigned = self.assignment(self.running[trial_id].job, attempts(self.store, trial_id)[-1])
        failure = Failure("stalled", "Stalled", "it made no progress for too long", doing)
        self.record(Finished(assigned, failure))

    def refresh_when_due(self) -> None:
        """Rebuild the tables, at most as often as that costs little of the driver's time."""
        start_s = time.monotonic()  # whatever the clock of the run: these files are real
        if start_s >= self.next_refresh_s:
            refresh_for(self.store, self.wanted.plan)
            archive_when_many(self.store, self.running)
            end_s = time.monotonic()
            pause_s = max(REFRESH_INTERVAL_S, (end_s - start_s) / REFRESH_SHARE)
            self.next_refresh_s = end_s + pause_s

    def finish(self) -> SweepOutcome:
        """Rebuild the tables, clean up and count."""
        if self.run.stop.reason != "superseded":  # then the folder is another driver's
            with self.stopping_when_the_disk_is_full():
                self.leave_in_order()
        plan, given_up = self.wanted.plan, self.wanted.given_up
        outcome = count_outcome(plan, published(self.store), given_up, self.end_reason())
        self.run.on_event(SweepEnded(outcome))
        return outcome

    def leave_in_order(self) -> None:
        """Close attempts that did not stop in time, rebuild the tables, remove what is left."""
        for trial_id in self.running:  # these are gone with the executor
            end_attempt(self.store, trial_id, latest_number(self.store, trial_id), "interrupted")
        refresh_for(self.store, self.wanted.plan)
        tidy(self.store, self.wanted.plan, published(self.store), before_s=self.started_s)

    @contextlib.contextmanager
    def stopping_when_the_disk_is_full(self) -> Iterator[None]:
        """Stop, to be resumed when there is space again, instead of failing."""
        try:
            yield
        except OSError as error:
            if not is_disk_full(error):
                raise
            self.run.stop.request("disk_full")

    def end_reason(self) -> EndReason:
        """Why nothing more was started."""
        if self.run.stop.reason == "disk_full":
            return "disk_full"
        if not self.backlog.jobs and not self.running:
            return "complete"
        return END_REASONS.get(self.run.stop.reason or "limit", "interrupted")
