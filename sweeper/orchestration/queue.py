"""The trials of a sweep while a driver works: pending, running, done or failed.

Holds their order, the limits, and what becomes of a trial after a failure. No clock and no
executor; reads files only to see how far earlier attempts have come.
"""

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sweeper.executors.base import Failure
from sweeper.executors.placement import Demand, Node, demand_of, why_infeasible
from sweeper.orchestration.device_time import DeviceTime, recorded_device_s
from sweeper.orchestration.events import EndReason, SweepOutcome
from sweeper.orchestration.monitor import SpeedSample
from sweeper.orchestration.retries import halved, may_retry
from sweeper.orchestration.scheduler import (
    Cluster,
    Job,
    Running,
    Speeds,
    expected_work,
    starts,
)
from sweeper.store.attempts import attempts, begun_trials, read_progress
from sweeper.store.layout import Store, share_kept
from sweeper.store.pending import DonePoints, pending_trials
from sweeper.store.results import Published
from sweeper.trials.plan import Plan, PlannedTrial
from sweeper.trials.resources import Limits, Resources, RetryPolicy


@dataclass(frozen=True)
class Spending:
    """What counts against the limits: published results and trials started since."""

    flops: float
    n_trials: int

    @classmethod
    def of(cls, sweep: str, records: Iterable[Published]) -> "Spending":
        """What a sweep's own results have cost; others in its folder were paid for elsewhere."""
        own = [record for record in records if record.sweep == sweep]
        flops = sum(record.train_flops for record in own)
        return cls(flops, sum(not record.continued_steps for record in own))

    def plus(self, job: Job) -> "Spending":
        """Spending once this job has run, too; a trial that is lengthened stays one trial."""
        n_trials = self.n_trials + (0 if job.share_paid else 1)
        return Spending(self.flops + job.train_flops, n_trials)

    def is_within(self, limits: Limits) -> bool:
        """Whether no limit is passed."""
        return self.flops <= limits.flops and self.n_trials <= limits.n_trials


class Queue:
    """All trials of a plan. Those without a result are pending, running or failed."""

    def __init__(
        self, store: Store, plan: Plan, spent: Spending, limits: Limits, retries: RetryPolicy
    ) -> None:
        self._store, self._spent, self._limits, self._retries = store, spent, limits, retries
        self.pending: list[Job] = []
        """Longest first."""
        self.running: dict[str, Running] = {}
        self.failed: set[str] = set()
        """Trials that this driver does not start any more."""
        self.demands: set[Demand] = set()
        """Of all that have been pending so far."""
        self._speeds = Speeds()
        self._device_limit_s = limits.device_s(plan.price_per_hour)
        self._device_time = DeviceTime({})
        self._recorded_speed = math.inf
        """Work per second and rank of the published trials."""
        self.held_back: set[str] = set()
        """Trajectories of which more may be pending once their running trial has ended."""
        self._published_steps: dict[str, int] = {}
        """Of this sweep's own trials, the longest of each trajectory."""
        self._micro_batches: dict[tuple[str, int], int] = {}
        """Largest micro-batch that may fit a GPU, by size and number of ranks."""
        self.use(plan)

    def use(self, plan: Plan) -> None:
        """Work on this plan from now on; `refresh` applies it to what is pending."""
        self.plan = plan
        self.planned_ids = defaultdict[str, list[str]](list)  # by trajectory
        for planned in plan.trials:
            self.planned_ids[planned.trajectory_id].append(planned.trial_id)

    def done(self, records: Iterable[Published]) -> list[PlannedTrial]:
        """Planned trials that need no training any more."""
        points = DonePoints.of(records)
        return [planned for planned in self.plan.trials if points.cover(planned)]

    def refresh(self, records: Iterable[Published]) -> list[PlannedTrial]:
        """Drop jobs that are not pending any more; return pending trials that have no job yet."""
        records = tuple(records)
        # A trajectory that is being trained yields no second job: both would write its checkpoints.
        busy = {running.job.planned.trajectory_id for running in self.running.values()}
        left = [
            planned
            for planned in pending_trials(self.plan.trials, records)
            if planned.trial_id not in self.failed
        ]
        by_length = sorted(records, key=lambda record: record.steps)
        own = (record for record in by_length if record.sweep == self.plan.name)
        self._published_steps = {record.trajectory_id: record.steps for record in own}
        self.held_back = busy & {planned.trajectory_id for planned in left}
        new = {each.trial_id: each for each in left if each.trajectory_id not in busy}
        self.pending = [
            job.with_plan(new.pop(job.trial_id)) for job in self.pending if job.trial_id in new
        ]
        return list(new.values())

    def add(
        self, trials: Iterable[PlannedTrial], nodes: Sequence[Node], max_ranks: int | None = None
    ) -> list[tuple[PlannedTrial, str]]:
        """Make jobs of trials; those that no node could ever hold fail, and are returned."""
        refused, jobs = [], []
        begun = begun_trials(self._store)  # one listing, where each trial would need three looks
        for planned in trials:
            share, steps_before = 0.0, self._published_steps.get(planned.trajectory_id, 0)
            if planned.trial_id in begun:
                planned = dataclasses.replace(planned, resources=self._resources_so_far(planned))
            if planned.trial_id in begun or steps_before:
                share = share_done(self._store, planned)
            share_paid = min(share, steps_before / planned.trial.n_steps)
            demand = demand_of(planned.resources, nodes)
            if reason := why_infeasible(demand, nodes, max_ranks):
                refused.append((planned, reason))
                self.failed.add(planned.trial_id)
            else:
                jobs.append(Job(planned, demand, share, share_paid=share_paid))
        self._push(jobs)
        return refused

    def may_start_more(self, now_s: float) -> bool:
        """Whether something is pending that the limits allow."""
        return next(self._allowed(now_s), None) is not None

    def count_device_time(self, records: Iterable[Published]) -> None:
        """Count what this sweep's trials have taken so far, as recorded and as last reported."""
        records = list(records)
        found = recorded_device_s(self.plan, records)
        planned = {each.trial_id: each for each in self.plan.trials}
        timed = [(planned[r.trial_id], r) for r in records if r.trial_id in planned]
        if time_s := math.fsum(record.work_time_s for _, record in timed):
            works = (
                expected_work(each) / each.resources.n_ranks * record.own_steps / record.steps
                for each, record in timed
            )
            self._recorded_speed = math.fsum(works) / time_s
        for job in self.pending:
            reported = read_progress(self._store, job.trial_id) if job.share_done else None
            if reported:
                progress = reported.progress
                found[job.trial_id] = n_devices(job) * (
                    progress.train_time_s + progress.eval_time_s
                )
        self._device_time = DeviceTime(found)

    def is_out_of_device_time(self, now_s: float) -> bool:
        """Whether the trials have taken all that the limits allow."""
        limit_s = self._device_limit_s
        return math.isfinite(limit_s) and self._device_time.spent_s(now_s) >= limit_s

    def starts(self, nodes: Sequence[Node], now_s: float) -> list[Running]:
        """What to start now, and where; it stays pending until `take`."""
        may_start = self._allowed(now_s)
        cluster = Cluster(nodes, self.running.values(), self._speeds, now_s)
        return starts(may_start, self.demands, cluster)

    def take(self, chosen: Running, now_s: float) -> Running:
        """Take a job from the pending ones, for `running`, with the memory that it may use."""
        job = chosen.job
        self.pending.remove(job)
        self._device_time.begin(job.trial_id, n_devices(job), now_s)
        if not job.is_paid:
            self._spent = self._spent.plus(job)
        resources, known = job.planned.resources, self._micro_batches.get(_size(job))
        if known is not None:
            micro_batch = min(_micro_batch(job.planned), known)
            resources = dataclasses.replace(resources, micro_batch_sequences=micro_batch)
        job = dataclasses.replace(job.with_resources(resources), is_paid=True)
        return dataclasses.replace(chosen, job=job)

    def end(self, trial_id: str, now_s: float, head: Published | None = None) -> Job:
        """Take a job from the running ones; `head`: of what it has published, if anything."""
        running = self.running.pop(trial_id)
        recorded_s = None
        if head is not None:
            recorded_s = head.work_time_s * n_devices(running.job)
            work = running.job.work / len(running.placement) * head.own_steps / head.steps
            for node_id in set(running.placement) - set(self._speeds.measured):
                self._speeds = self._speeds.after(node_id, work, head.work_time_s)
        self._device_time.end(trial_id, now_s, recorded_s)
        return running.job

    def learn(self, sample: SpeedSample, now_s: float) -> None:
        """Expect a running trial to end when its progress says."""
        running = self.running[sample.trial_id]
        work = sample.share_gained * running.job.work / len(running.placement)
        for node_id in set(running.placement):
            self._speeds = self._speeds.after(node_id, work, sample.time_s)
        left = dataclasses.replace(running.job, share_done=sample.share_done)
        end_s = now_s + self._speeds.duration_s(left, running.placement)
        self.running[sample.trial_id] = dataclasses.replace(running, end_s=end_s)

    def resume(self, job: Job) -> None:
        """Make a job that was interrupted pending again."""
        share = share_done(self._store, job.planned)
        self._push([dataclasses.replace(job, share_done=share)])

    def retry(self, job: Job, failure: Failure, nodes: Sequence[Node]) -> bool:
        """Make a job that has failed pending again, if that may help; returns whether it does."""
        resources = dataclasses.replace(
            job.planned.resources, micro_batch_sequences=_micro_batch(job.planned)
        )
        failures = (*job.failures, failure)
        if not may_retry(failures, self._retries, resources):
            self.failed.add(job.trial_id)
            return False
        demand = job.demand
        if failure.kind == "host_oom":
            demand = dataclasses.replace(demand, is_alone=True)
        if failure.kind == "gpu_oom":
            resources = halved(resources)
            # Others of its size start with what is left for it.
            left = resources.micro_batch_sequences or _micro_batch(job.planned)
            known = self._micro_batches.get(_size(job), left)
            self._micro_batches[_size(job)] = min(known, left)
            demand = demand_of(resources, nodes)
        job = dataclasses.replace(job, failures=failures, demand=demand)
        self.resume(job.with_resources(resources))
        return True

    def outcome(self, records: tuple[Published, ...], reason: EndReason) -> SweepOutcome:
        """What the planned trials have come to."""
        trials, diverged_at = self.plan.trials, DonePoints.of(records).diverged_at
        n_done = len(self.done(records))
        n_failed = sum(each.trial_id in self.failed for each in pending_trials(trials, records))
        return SweepOutcome(
            reason=reason,
            n_done=n_done,
            n_diverged=sum(planned.trajectory_id in diverged_at for planned in trials),
            n_failed=n_failed,
            n_left=len(trials) - n_done - n_failed,
        )

    def _allowed(self, now_s: float) -> Iterator[Job]:
        """The pending jobs that all limits allow together."""
        allowed_jobs = allowed(self.pending, self._spent, self._limits)
        if math.isinf(self._device_limit_s):
            yield from allowed_jobs
            return
        # Those that run will take more until they end.
        left_s = self._device_limit_s - self._device_time.spent_s(now_s)
        left_s -= sum(
            n_devices(each.job) * max(0.0, each.end_s - now_s) for each in self.running.values()
        )
        for job in allowed_jobs:
            if left_s > 0 and (expected_s := self._expected_device_s(job)) <= left_s:
                yield job
                left_s -= expected_s

    def _expected_device_s(self, job: Job) -> float:
        """Of what is left of a job; 0 while nothing was measured."""
        measured = self._speeds.measured.values()
        speed = statistics.fmean(measured) if measured else self._recorded_speed
        return job.work_left / job.demand.n_ranks / speed * n_devices(job)

    def _push(self, jobs: list[Job]) -> None:
        self.pending = longest_first([*self.pending, *jobs])
        self.demands |= {job.demand for job in jobs}

    def _resources_so_far(self, planned: PlannedTrial) -> Resources:
        """What a trial takes after what earlier drivers learnt about its memory."""
        resources = planned.resources
        for attempt in attempts(self._store, planned.trial_id):
            if attempt.outcome == "gpu_oom":
                tried = attempt.micro_batch_sequences or planned.trial.optimizer.batch_sequences
                resources = halved(dataclasses.replace(resources, micro_batch_sequences=tried))
        return resources


def n_devices(job: Job) -> float:
    """GPUs that a job occupies, or else cores."""
    demand = job.demand
    return demand.n_ranks * (demand.gpus or demand.cpus)


def longest_first(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in the order in which to start them; ties by trial, so that the order is the plan's."""
    # With m equal workers a sweep then takes at most 4/3 of the shortest possible time (Graham
    # 1969), and does not end with one worker on its largest trial while the others idle.
    return sorted(jobs, key=lambda job: (-job.work_left, job.trial_id))


def allowed(pending: Iterable[Job], spent: Spending, limits: Limits) -> Iterator[Job]:
    """The pending jobs that the limits allow together, first come, first served."""
    for job in pending:
        # One that was started before has been paid for.
        after = spent if job.is_paid else spent.plus(job)
        if job.is_paid or after.is_within(limits):
            yield job
            spent = after


def share_done(store: Store, planned: PlannedTrial) -> float:
    """Share of a trial's steps that a checkpoint has behind it, by its last report if any."""
    reported = read_progress(store, planned.trial_id)
    if reported is None:
        return share_kept(store, planned.trial)
    if not store.checkpoints(planned.trial).exists():
        return 0.0
    return min(1.0, reported.progress.step / planned.trial.n_steps)


def _size(job: Job) -> tuple[str, int]:
    return str(job.planned.trial.rung), job.demand.n_ranks


def _micro_batch(planned: PlannedTrial) -> int:
    return planned.resources.micro_batch_sequences or planned.trial.optimizer.batch_sequences
