"""The driver: starts what is pending, records what ends, keeps the tables fresh.

It holds nothing that is not on disk. Killed at any moment, the next driver finds the same plan,
the published records and the checkpoints, and continues from them.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from sweeper.executors.base import Executor, Failure, Finished
from sweeper.executors.placement import Node, n_places
from sweeper.executors.stop import StopReason, StopSignal
from sweeper.models.kept import Keeper
from sweeper.orchestration import events
from sweeper.orchestration.events import EndReason, SweepOutcome
from sweeper.orchestration.monitor import Monitor, Patience
from sweeper.orchestration.queue import Queue, Spending
from sweeper.orchestration.retries import Streak, judged
from sweeper.orchestration.scheduler import Job, Running
from sweeper.store.assignment import Assignment
from sweeper.store.attempts import begin_attempt, end_attempt
from sweeper.store.files import is_disk_full
from sweeper.store.layout import Store
from sweeper.store.results import published, read_head
from sweeper.store.sharing import adopt, adopt_one
from sweeper.store.tables import refresh_tables, tidy
from sweeper.trials.plan import Plan, PlannedTrial, flops_to_train
from sweeper.trials.resources import Limits, RetryPolicy

POLL_S = 0.25  # longest sleep of the driver: how late it may notice Ctrl-C
REFRESH_INTERVAL_S = 5.0  # shortest time between two rebuilds of the tables
REFRESH_SHARE = 0.05  # largest share of the driver's time that rebuilding the tables may take
PLAN_LOOK_INTERVAL_S = 2.0  # time between two looks whether the plan has changed
STOP_GRACE_S = 60.0  # time for running trials to write a checkpoint once they were asked to stop
N_THREADS = 1  # CPU threads of each worker, everywhere: sums differ in the last bit with it

_STOP_WORDS: dict[StopReason, str] = {
    "limit": "limit reached",
    "same_error": "one trial after another ends in the same error",
    "disk_full": "the disk is full",
    "executor": "nothing can run any more",
}


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """What one run of a driver works on, and within which bounds."""

    store: Store
    plan: Plan
    executor: Executor
    stop: StopSignal
    on_event: Callable[[events.Event], None]
    limits: Limits = field(default_factory=Limits)
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    patience: Patience = field(default_factory=Patience)
    stop_request: Callable[[], StopReason | None] = lambda: None
    """Asks for a stop request from outside, and whether another driver has taken over."""
    new_plan: Callable[[], Plan | None] = lambda: None
    """Asks whether the sweep was planned again since the last call (`replan.py`)."""
    next_round: Callable[[], Plan | None] = lambda: None
    """Asked when all of the plan is published: a plan to continue with, the next round."""
    clock: Callable[[], float] = time.monotonic


def run_sweep(run: SweepRun) -> SweepOutcome:
    """Run the pending trials of a plan, until none is left, a limit is reached or a signal comes.

    Call it while holding `held(store)`. Raises KeyboardInterrupt on a second signal.
    """
    driver = _Driver(run)
    if pending := driver.first_pending():
        with run.executor, run.stop.on_signals(), run.stop.after(run.limits.wall_s):
            driver.run_to_the_end(pending)
    else:
        driver.announce()
    return driver.finish()


class _Driver:
    """The loop of one run, and the few facts that it keeps from one turn to the next."""

    def __init__(self, run: SweepRun) -> None:
        self.run, self.store, self.executor = run, run.store, run.executor
        self.take_results(run.plan)
        spent = Spending.of(run.plan.name, published(run.store))
        self.queue = Queue(run.store, run.plan, spent, run.limits, run.retries)
        self.assigned: dict[str, Assignment] = {}
        """The latest attempt at each trial that was started."""
        self.nodes: tuple[Node, ...] = ()
        self.monitor = Monitor(run.store, run.patience, run.clock)
        self.keeper = Keeper(run.store)
        self.streak = Streak()
        self.is_waiting_for_nodes = False
        self.started_s = time.time()
        self.next_refresh_s = time.monotonic() + REFRESH_INTERVAL_S
        self.next_plan_look_s = run.clock() + PLAN_LOOK_INTERVAL_S

    def first_pending(self) -> list[PlannedTrial]:
        """What to train; of a later round where other sweeps have trained all before it."""
        pending = self.queue.refresh(published(self.store))
        while not pending and (plan := self.next_round()) is not None:
            self.queue.use(plan)
            self.take_results(plan)
            pending = self.queue.refresh(published(self.store))
        return pending

    def run_to_the_end(self, pending: list[PlannedTrial]) -> None:
        self.nodes = self.executor.nodes()
        self.add(pending)
        self.queue.count_device_time(published(self.store))
        give_up_s = math.inf
        while True:
            self.heed_stop_request()
            if not self.run.stop.is_requested():
                with self.stopping_when_the_disk_is_full():
                    self.start_jobs()
            elif math.isinf(give_up_s):
                give_up_s = self.run.clock() + STOP_GRACE_S
                self.stop_running()
            if self.is_over(give_up_s) and not self.has_new_plan() and not self.has_next_round():
                return
            with self.stopping_when_the_disk_is_full():
                for finished in self.executor.poll(POLL_S):
                    with self.stopping_when_the_disk_is_full():
                        self.record(finished)
                self.check_running()
                self.refresh_when_due()
                if self.run.clock() >= self.next_plan_look_s:
                    self.has_new_plan()

    def is_over(self, give_up_s: float) -> bool:
        if self.run.stop.is_urgent() or self.run.clock() > give_up_s:
            return True
        is_stopping = self.run.stop.is_requested()
        if self.queue.running:
            return False
        return is_stopping or not self.queue.may_start_more(self.run.clock())

    def stop_running(self) -> None:
        reason = self.run.stop.reason or "signal"
        why = _STOP_WORDS.get(reason, "stopping")
        hint = "; Ctrl-C again stops at once" if reason == "signal" else ""
        self.say(f"{why}: {len(self.queue.running)} running trials write a checkpoint{hint}")
        self.executor.stop()

    def heed_stop_request(self) -> None:
        if request := self.run.stop_request():
            self.run.stop.request(request)

    def take_results(self, plan: Plan) -> None:
        """Copy what other sweeps of the results folder have of a plan."""
        if taken := adopt(self.store, plan):
            self.run.on_event(events.ResultsTaken(taken))

    def add(self, pending: Iterable[PlannedTrial]) -> None:
        """Put trials into the queue, and say what there is to do."""
        possible = (*self.nodes, *self.executor.potential_nodes())
        refused = self.queue.add(pending, possible, self.executor.max_ranks)
        self.announce()
        for planned, reason in refused:
            self.run.on_event(events.TrialRefused(planned, reason))

    def say(self, text: str) -> None:
        self.run.on_event(events.Notice(text))

    def announce(self) -> None:
        plan, done = self.queue.plan, self.queue.done(published(self.store))
        pending, demands = self.queue.pending, self.queue.demands
        unfinished = [*pending, *(running.job for running in self.queue.running.values())]
        n_slots = sum(n_places(node, demands) for node in self.nodes)
        self.run.on_event(
            events.SweepStarted(
                name=plan.name,
                n_planned=len(plan.trials),
                n_done=len(done),
                n_waiting=len(unfinished),
                flops_planned=plan.train_flops,
                flops_done=flops_to_train((planned, planned.train_flops) for planned in done),
                flops_waiting=sum(job.train_flops for job in unfinished),
                waiting=tuple(job.planned for job in pending),
                executor=self.executor.name,
                n_slots=min(n_slots, self.executor.max_running or n_slots, len(pending)),
                device="cuda" if any(demand.gpus for demand in demands) else "cpu",
            )
        )

    def has_new_plan(self) -> bool:
        """Whether another plan was submitted; if so, continue with that one."""
        plan = None if self.run.stop.is_requested() else self.run.new_plan()
        self.next_plan_look_s = self.run.clock() + PLAN_LOOK_INTERVAL_S
        return plan is not None and self.go_on_with(plan)

    def has_next_round(self) -> bool:
        """Whether a plan follows the one that is complete; if so, continue with that one."""
        plan = self.next_round()
        return plan is not None and self.go_on_with(plan)

    def next_round(self) -> Plan | None:
        """The plan that follows the one that is complete."""
        if self.run.stop.is_requested() or self.queue.failed or self.queue.pending:
            return None
        refresh_tables(self.store, self.queue.plan)  # what the next round is decided by
        return self.run.next_round()

    def go_on_with(self, plan: Plan) -> Literal[True]:
        """Change to another plan."""
        before, after = ({each.trial_id for each in p.trials} for p in (self.queue.plan, plan))
        self.queue.use(plan)
        n_new, n_gone = len(after - before), len(before - after)
        self.say(f"the plan has changed: {n_new} trials are new, {n_gone} are gone")
        self.take_results(plan)
        self.add(self.queue.refresh(published(self.store)))
        return True

    def start_jobs(self) -> None:
        n_free = (self.executor.max_running or math.inf) - len(self.queue.running)
        if not self.queue.pending or n_free <= 0:
            return
        self.nodes = self.executor.nodes()
        if self.executor.failure:
            self.say(f"nothing can run any more: {self.executor.failure}")
            self.run.stop.request("executor")
            return
        for number, chosen in enumerate(self.queue.starts(self.nodes, self.run.clock()), start=1):
            if number > n_free:
                break
            job = chosen.job
            # Another sweep may have published it meanwhile.
            planned_ids = self.queue.planned_ids[job.planned.trajectory_id]
            if head := adopt_one(self.store, job.planned, planned_ids):
                self.queue.pending.remove(job)
                self.run.on_event(events.ResultsTaken((head,), (job.trial_id,)))
            else:
                self.start(chosen)
        self.say_when_nothing_fits()

    def start(self, chosen: Running) -> None:
        running, executor = self.queue.take(chosen, self.run.clock()), self.executor
        job = running.job
        attempt = begin_attempt(
            self.store,
            job.trial_id,
            executor=executor.name,
            device="cuda" if job.demand.gpus else "cpu",
            n_threads=N_THREADS,
            micro_batch_sequences=job.planned.resources.micro_batch_sequences,
        )
        plan = self.queue.plan
        keeps_models = plan.keep != "none"
        assigned = Assignment(self.store.folder, plan.name, job.planned, attempt, keeps_models)
        self.assigned[job.trial_id], self.queue.running[job.trial_id] = assigned, running
        self.monitor.begin(job.trial_id, attempt.number)
        self.run.on_event(events.TrialStarted(assigned))
        executor.start(assigned, job.demand, running.placement)

    def say_when_nothing_fits(self) -> None:
        """Say once that trials wait for nodes to come, and ask for these."""
        pending = self.queue.pending
        is_waiting = not self.queue.running and self.queue.may_start_more(self.run.clock())
        if is_waiting and not self.is_waiting_for_nodes:
            first = pending[0].demand
            self.say(f"{len(pending)} trials wait for nodes; the first asks for {first}")
        self.is_waiting_for_nodes = is_waiting
        if self.executor.potential_nodes():
            self.executor.announce([job.demand for job in pending])

    def check_running(self) -> None:
        """See how running attempts progress, and end those that are stalled."""
        for sample in self.monitor.look():
            self.queue.learn(sample, self.run.clock())
        if self.queue.is_out_of_device_time(self.run.clock()):
            self.run.stop.request("limit")
        for trial_id in self.monitor.stalled():
            doing = self.executor.kill(trial_id)
            failure = Failure("stalled", "Stalled", "it made no progress for too long", doing)
            self.record(Finished(self.assigned[trial_id], failure))

    def record(self, finished: Finished) -> None:
        """Write down how an attempt ended, and decide what becomes of its trial."""
        self.heed_stop_request()
        if self.run.stop.reason == "superseded":
            return  # its trial, and all that is written about it, is another driver's now
        assigned, trial_id = finished.assignment, finished.assignment.planned.trial_id
        result = judged(
            finished.result,
            has_record=self.store.record(trial_id).exists(),
            is_stopping=self.run.stop.is_requested(),
        )
        is_published = not isinstance(result, Failure) and result != "interrupted"
        head = read_head(self.store.record(trial_id)) if is_published else None
        job = self.queue.end(trial_id, self.run.clock(), head)
        self.monitor.end(trial_id)
        if isinstance(result, Failure):
            self.record_failure(assigned, job, result)
        elif result == "interrupted":
            end_attempt(self.store, trial_id, assigned.attempt.number, "interrupted")
            self.queue.resume(job)
            self.run.on_event(events.TrialInterrupted(assigned))
        elif head is not None:
            end_attempt(self.store, trial_id, assigned.attempt.number, result)
            self.streak = Streak()
            self.run.on_event(events.TrialPublished(assigned, head))
        is_held_back = job.planned.trajectory_id in self.queue.held_back
        if is_held_back and (more := self.queue.refresh(published(self.store))):
            self.add(more)

    def record_failure(self, assigned: Assignment, job: Job, failure: Failure) -> None:
        error = (failure.error_class, failure.message, failure.traceback)
        end_attempt(self.store, job.trial_id, assigned.attempt.number, failure.kind, error=error)
        will_retry = self.queue.retry(job, failure, self.nodes)
        self.run.on_event(events.TrialFailed(assigned, failure, will_retry))
        self.streak = self.streak.after(job.trial_id, failure)
        if len(self.streak.trial_ids) >= self.run.retries.same_error:
            self.run.stop.request("same_error")
        if failure.kind == "disk_full":
            self.run.stop.request("disk_full")

    def refresh_when_due(self) -> None:
        """Rebuild the tables, at most as often as that costs little of the driver's time."""
        start_s = time.monotonic()  # whatever the clock of the run: these files are real
        if start_s >= self.next_refresh_s:
            refresh_tables(self.store, self.queue.plan)
            self.keeper.reduce(self.queue.plan)
            end_s = time.monotonic()
            pause_s = max(REFRESH_INTERVAL_S, (end_s - start_s) / REFRESH_SHARE)
            self.next_refresh_s = end_s + pause_s

    def finish(self) -> SweepOutcome:
        plan = self.queue.plan
        if self.run.stop.reason != "superseded":  # then the folder is another driver's
            with self.stopping_when_the_disk_is_full():
                for trial_id in self.queue.running:  # these are gone with the executor
                    number = self.assigned[trial_id].attempt.number
                    end_attempt(self.store, trial_id, number, "interrupted")
                refresh_tables(self.store, plan)
                self.keeper.reduce(plan)
                records = published(self.store)
                is_complete = self.end_reason() == "complete"
                tidy(self.store, plan, records, before_s=self.started_s, is_complete=is_complete)
        outcome = self.queue.outcome(published(self.store), self.end_reason())
        self.run.on_event(outcome)
        return outcome

    def end_reason(self) -> EndReason:
        reason = self.run.stop.reason
        if reason != "disk_full" and not self.queue.pending and not self.queue.running:
            return "complete"
        match reason:
            case None:
                return "limit"
            case "limit" | "same_error" | "disk_full" | "executor" | "superseded":
                return reason
            case _:  # a person
                return "interrupted"

    @contextlib.contextmanager
    def stopping_when_the_disk_is_full(self) -> Iterator[None]:
        """Stop, to be resumed when there is space again, instead of failing."""
        try:
            yield
        except OSError as error:
            if not is_disk_full(error):
                raise
            self.run.stop.request("disk_full")
