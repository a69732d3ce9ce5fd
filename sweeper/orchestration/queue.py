"""What waits to be started: its order, its limits, and what becomes of it after a failure.

No clock and no executor; files only to see how far earlier attempts have come.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from sweeper.executors.base import Failure
from sweeper.executors.placement import Demand, Node, demand_of, why_infeasible
from sweeper.orchestration.retries import RetryPolicy, halved, may_retry
from sweeper.orchestration.scheduler import (
    Cluster,
    Job,
    Limits,
    Running,
    Spending,
    allowed,
    longest_first,
    starts,
)
from sweeper.store.attempts import attempts, begun_trials, read_progress
from sweeper.store.layout import Store
from sweeper.store.pending import Remaining
from sweeper.trials.resources import Resources


class Backlog:
    """The trials that wait, longest first."""

    def __init__(self, store: Store, spent: Spending, limits: Limits, policy: RetryPolicy) -> None:
        self._store, self._spent, self._limits, self._policy = store, spent, limits, policy
        self.jobs: list[Job] = []
        self.demands: set[Demand] = set()
        """Of all that has waited so far."""
        self._micro_batches: dict[tuple[str, int], int] = {}
        """Largest micro-batch that may fit a GPU, by size and number of ranks."""

    def fill(
        self, remaining: Iterable[Remaining], nodes: Sequence[Node], max_ranks: int | None = None
    ) -> list[tuple[Remaining, str]]:
        """Let trials wait; returns those that no node could ever hold, and why."""
        refused, jobs = [], []
        begun = begun_trials(self._store)  # one listing, where each trial would need three looks
        for each in remaining:
            is_new = each.trial_id not in begun
            resources = each.planned.resources if is_new else self._resources_so_far(each)
            demand = demand_of(resources, nodes)
            if reason := why_infeasible(demand, nodes, max_ranks):
                refused.append((each, reason))
            else:
                share = 0.0 if is_new else share_done(self._store, each)
                jobs.append(Job(each, demand, resources, share))
        self._add(jobs)
        return refused

    def keep(self, remaining: Iterable[Remaining]) -> list[Remaining]:
        """Drop every job but these; returns those of them that do not wait yet."""
        wanted = {each.trial_id: each for each in remaining}
        self.jobs = [
            dataclasses.replace(job, remaining=wanted.pop(job.trial_id))
            for job in self.jobs
            if job.trial_id in wanted
        ]
        return list(wanted.values())

    def drop(self, job: Job) -> None:
        """Let a job wait no more: its result has come from elsewhere."""
        self.jobs.remove(job)

    def may_start_more(self) -> bool:
        """Whether something waits that the limits allow."""
        return next(allowed(self.jobs, self._spent, self._limits), None) is not None

    def starts(self, cluster: Cluster) -> list[Running]:
        """What to start now, and where; it waits until it is taken by `begin`."""
        waiting = allowed(self.jobs, self._spent, self._limits)
        return starts(waiting, self.demands, cluster)

    def begin(self, running: Running) -> Running:
        """Take a job that is being started; it comes back with the memory it may use."""
        job = running.job
        self.jobs.remove(job)
        if not job.is_paid:
            self._spent = self._spent.plus(job.remaining)
        resources, known = job.resources, self._micro_batches.get(_size(job))
        if known is not None:
            micro_batch = min(resources.micro_batch_sequences or _batch(job), known)
            resources = dataclasses.replace(resources, micro_batch_sequences=micro_batch)
        job = dataclasses.replace(job, resources=resources, is_paid=True)
        return dataclasses.replace(running, job=job)

    def resume(self, job: Job) -> None:
        """Let a job that was interrupted wait again."""
        share = share_done(self._store, job.remaining)
        self._add([dataclasses.replace(job, share_done=share)])

    def retry(self, job: Job, failure: Failure, nodes: Sequence[Node]) -> bool:
        """Let a job that has failed wait again, if that may help; returns whether it does."""
        resources, failures = _with_micro_batch(job), (*job.failures, failure)
        if not may_retry(failures, self._policy, resources):
            return False
        demand = job.demand
        if failure.kind == "host_oom":
            demand = dataclasses.replace(demand, is_alone=True)
        if failure.kind == "gpu_oom":
            resources = halved(resources)
            # Others of its size start with what is left for it.
            left = resources.micro_batch_sequences or _batch(job)
            known = self._micro_batches.get(_size(job), left)
            self._micro_batches[_size(job)] = min(known, left)
            demand = demand_of(resources, nodes)
        self.resume(dataclasses.replace(job, failures=failures, resources=resources, demand=demand))
        return True

    def _add(self, jobs: list[Job]) -> None:
        self.jobs = longest_first([*self.jobs, *jobs])
        self.demands |= {job.demand for job in jobs}

    def _resources_so_far(self, remaining: Remaining) -> Resources:
        """What a trial takes after what earlier drivers learnt about its memory."""
        resources = remaining.planned.resources
        for attempt in attempts(self._store, remaining.trial_id):
            if attempt.outcome == "gpu_oom":
                tried = attempt.micro_batch_sequences or remaining.trial.optimizer.batch_sequences
                resources = halved(dataclasses.replace(resources, micro_batch_sequences=tried))
        return resources


def share_done(store: Store, remaining: Remaining) -> float:
    """Share of a trial's steps that its checkpoint has behind it, by its last report."""
    reported = read_progress(store, remaining.trial_id)
    if reported is None or not store.checkpoints(remaining.trial).exists():
        return 0.0
    return min(1.0, reported.progress.step / remaining.trial.n_steps)


def _with_micro_batch(job: Job) -> Resources:
    """The resources of a job, its micro-batch as a number."""
    micro_batch = job.resources.micro_batch_sequences or _batch(job)
    return dataclasses.replace(job.resources, micro_batch_sequences=micro_batch)


def _size(job: Job) -> tuple[str, int]:
    return str(job.remaining.trial.rung), job.demand.n_ranks


def _batch(job: Job) -> int:
    return job.remaining.trial.optimizer.batch_sequences
