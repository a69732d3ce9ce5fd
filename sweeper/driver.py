"""The driver: starts what is missing, records what ends, keeps the tables fresh.

It holds nothing that is not on disk. Killed at any moment, the next driver finds the same plan,
the published records and the checkpoints, and goes on.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sweeper.assignment import Assignment
from sweeper.attempts import begin_attempt, end_attempt, latest_number, read_progress
from sweeper.events import (
    Event,
    Stopping,
    SweepEnded,
    SweepStarted,
    TrialFailed,
    TrialInterrupted,
    TrialPublished,
    TrialStarted,
)
from sweeper.executors.base import Executor, Failure, Finished
from sweeper.housekeeping import tidy
from sweeper.outcome import EndReason, SweepOutcome
from sweeper.plan_file import StoredPlan
from sweeper.publication import Published, published, read_head
from sweeper.remaining import Remaining, Settled, assignment, missing
from sweeper.scheduler import Job, Limits, Spending, longest_first, may_retry, next_job
from sweeper.stop_signal import StopSignal
from sweeper.store import Store
from sweeper.tables import refresh_tables

POLL_S = 0.25
"""Longest sleep of the driver: how late it may notice Ctrl-C."""

REFRESH_INTERVAL_S = 5.0
"""Shortest time between two rebuilds of the tables."""

REFRESH_SHARE = 0.05
"""Largest share of the driver's time that rebuilding the tables may take."""

STOP_GRACE_S = 60.0
"""Time that running trials have to write a checkpoint once they were asked to stop."""

N_THREADS = 1
"""CPU threads of each worker, the same everywhere: sums differ in the last bit with it."""


@dataclass(frozen=True)
class Run:
    """What one run of a driver works on, and within."""

    store: Store
    plan: StoredPlan
    executor: Executor
    limits: Limits
    stop: StopSignal
    on_event: Callable[[Event], None]


def run_sweep(run: Run) -> SweepOutcome:
    """Run what is missing of a plan, until nothing is left, a limit is reached or a signal comes.

    Call it while holding `held(store)`. Raises KeyboardInterrupt on a second signal.
    """
    driver = _Driver(run)
    if driver.waiting:
        with run.executor, run.stop.on_signals(), run.stop.after(run.limits.wall_s):
            driver.announce()
            driver.run_to_the_end()
    else:
        driver.announce()
    return driver.finish()


class _Driver:
    """The state of one run: what waits, what runs, what is spent."""

    def __init__(self, run: Run) -> None:
        self.run, self.store, self.plan, self.executor = run, run.store, run.plan, run.executor
        records = published(run.store)
        self.spent = Spending(sum(record.train_flops for record in records), len(records))
        self.waiting = longest_first(
            Job(remaining, share_done(run.store, remaining))
            for remaining in missing(run.plan.trials, records)
        )
        self.started_s = time.time()
        self.running: dict[str, Job] = {}
        self.n_failed = 0
        self.next_refresh_s = time.monotonic() + REFRESH_INTERVAL_S

    def announce(self) -> None:
        """Say what there is to do."""
        self.run.on_event(
            SweepStarted(
                name=self.plan.name,
                n_planned=len(self.plan.trials),
                n_waiting=len(self.waiting),
                flops_planned=self.plan.train_flops,
                flops_waiting=sum(job.remaining.train_flops for job in self.waiting),
                work_waiting=sum(job.whole_work for job in self.waiting),
                executor=self.executor.name,
                n_slots=self.executor.n_slots,
                device=self.executor.device,
            )
        )

    def run_to_the_end(self) -> None:
        """Start, wait and record until nothing runs any more."""
        give_up_s = math.inf
        while True:
            if not self.run.stop.is_requested():
                self.start_jobs()
            elif math.isinf(give_up_s):
                give_up_s = time.monotonic() + STOP_GRACE_S
                self.run.on_event(Stopping(self.run.stop.reason or "signal", len(self.running)))
                self.executor.stop()
            if not self.running or time.monotonic() > give_up_s:
                return
            for finished in self.executor.poll(POLL_S):
                self.record(finished)
            self.refresh_when_due()

    def start_jobs(self) -> None:
        """Fill the free slots."""
        while len(self.running) < self.executor.n_slots:
            job = next_job(self.waiting, self.spent, self.run.limits)
            if job is None:
                return
            self.waiting.remove(job)
            self.start(job)

    def start(self, job: Job) -> None:
        """Begin an attempt at one trial."""
        remaining, executor = job.remaining, self.executor
        if not job.failures:
            self.spent = self.spent.plus(remaining)
        attempt = begin_attempt(
            self.store,
            remaining.trial_id,
            executor=executor.name,
            device=executor.device,
            n_threads=N_THREADS,
        )
        assigned = assignment(self.store, self.plan, remaining, attempt)
        self.running[remaining.trial_id] = job
        self.run.on_event(TrialStarted(assigned))
        executor.start(assigned)

    def record(self, finished: Finished) -> None:
        """Write down how an attempt ended, and decide what becomes of its trial."""
        assigned, result = finished.assignment, finished.result
        trial_id = assigned.trial.trial_id
        job = self.running.pop(trial_id)
        path = self.store.record(trial_id)
        if result in ("published", "diverged") and not path.exists():
            result = Failure("raised", "NotPublished", f"worker reported {result}, no record", "")
        if isinstance(result, Failure) and result.kind == "died" and self.run.stop.is_requested():
            # A signal to the whole process group ends workers, too; their checkpoints remain.
            result = "interrupted"
        if isinstance(result, Failure):
            self.record_failure(assigned, job, result)
        elif result == "interrupted":
            end_attempt(self.store, trial_id, assigned.attempt, "interrupted")
            self.run.on_event(TrialInterrupted(assigned))
            # Without a stop from here it was its machine's, and counts as a lost process.
            lost = Failure("died", "Interrupted", "the worker stopped by itself", "")
            if self.run.stop.is_requested() or may_retry((*job.failures, lost)):
                self.requeue(job, lost)
            else:
                self.n_failed += 1
        else:
            end_attempt(self.store, trial_id, assigned.attempt, result)
            self.run.on_event(TrialPublished(assigned, read_head(path)))

    def record_failure(self, assigned: Assignment, job: Job, failure: Failure) -> None:
        """Write down a failed attempt, and try again if that may help."""
        will_retry = may_retry((*job.failures, failure))
        end_attempt(
            self.store,
            assigned.trial.trial_id,
            assigned.attempt,
            failure.kind,
            error=(failure.error_class, failure.message, failure.traceback),
        )
        if will_retry:
            self.requeue(job, failure)
        else:
            self.n_failed += 1
        self.run.on_event(TrialFailed(assigned, failure, will_retry))

    def requeue(self, job: Job, failure: Failure) -> None:
        """Let a job wait again, at its place in the order."""
        again = Job(job.remaining, share_done(self.store, job.remaining), (*job.failures, failure))
        self.waiting = longest_first([*self.waiting, again])

    def refresh_when_due(self) -> None:
        """Rebuild the tables, at most as often as that costs little of the driver's time."""
        start_s = time.monotonic()
        if start_s >= self.next_refresh_s:
            refresh_tables(self.store)
            end_s = time.monotonic()
            pause_s = max(REFRESH_INTERVAL_S, (end_s - start_s) / REFRESH_SHARE)
            self.next_refresh_s = end_s + pause_s

    def finish(self) -> SweepOutcome:
        """Rebuild the tables, clean up and count."""
        for trial_id in self.running:  # did not stop in time, and are gone with the executor
            end_attempt(self.store, trial_id, latest_number(self.store, trial_id), "interrupted")
        refresh_tables(self.store)
        records = published(self.store)
        tidy(self.store, self.plan, records, before_s=self.started_s)
        outcome = count_outcome(self.plan, records, self.n_failed, self.end_reason())
        self.run.on_event(SweepEnded(outcome))
        return outcome

    def end_reason(self) -> EndReason:
        """Why nothing more was started."""
        if not self.waiting and not self.running:
            return "complete"
        return "interrupted" if self.run.stop.reason == "signal" else "limit"


def share_done(store: Store, remaining: Remaining) -> float:
    """Share of a trial's steps that its checkpoint has behind it, by its last report."""
    reported = read_progress(store, remaining.trial_id)
    if reported is None or not store.checkpoints(remaining.trial).exists():
        return 0.0
    return min(1.0, reported.progress.step / remaining.trial.n_steps)


def count_outcome(
    plan: StoredPlan, records: tuple[Published, ...], n_failed: int, reason: EndReason
) -> SweepOutcome:
    """What the planned trials have come to."""
    settled = Settled.by(records)
    n_done = sum(settled.has_all(planned) for planned in plan.trials)
    return SweepOutcome(
        reason=reason,
        n_done=n_done,
        n_diverged=sum(planned.trajectory_id in settled.diverged_at for planned in plan.trials),
        n_failed=n_failed,
        n_left=len(plan.trials) - n_done - n_failed,
    )
