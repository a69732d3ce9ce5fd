"""How a sweep stands, read from its store alone: without a driver, torch or ray."""

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sweeper.orchestration.cost import (
    CostModel,
    TimeLeft,
    Timing,
    probe_timings,
    progress_timing,
    record_timings,
    time_left,
)
from sweeper.orchestration.device_time import recorded_device_s
from sweeper.orchestration.lease import DriverAtWork, driver_at_work
from sweeper.store.assignment import Attempt
from sweeper.store.attempts import ReportedProgress, attempts, begun_trials, read_progress
from sweeper.store.layout import Store, share_kept
from sweeper.store.pending import DonePoints, pending_trials
from sweeper.store.probes import probes_of
from sweeper.store.results import Published, published
from sweeper.store.submission import read_plan
from sweeper.trials.plan import Plan, PlannedTrial, flops_to_train

State = Literal["done", "diverged", "failed", "running", "interrupted", "pending"]
"""`interrupted`: begun and not running now; the next run resumes it from its checkpoint."""

FRESH_S = 20.0  # a trial that reported within this time is running, whether its driver is or not


@dataclass(frozen=True, kw_only=True)
class TrialStatus:
    """How one planned trial stands."""

    trial_id: str
    series: str
    params_trunk: int
    train_flops: float
    state: State
    share_done: float
    """Share of its steps behind it, 0 to 1."""
    bound_nats_per_token: float | None
    """At its last observation, once it is published."""
    n_attempts: int
    error: str | None
    """Class and one-line message of the last failed attempt, while there is no result."""


@dataclass(frozen=True, kw_only=True)
class SweepCost:
    """What a sweep has cost so far, and what the rest is expected to; a device is a GPU, or a core
    where there are none."""

    device_hours_spent: float
    """In training and evaluation of its own trials, unfinished ones included."""
    device_hours_left: float | None
    """Null before anything was timed."""
    price_per_hour: float | None
    """Of a device; null where the sweep file names none."""


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """How a sweep stands."""

    name: str
    driver: DriverAtWork | None
    flops_planned: float
    flops_done: float
    time_left: TimeLeft | None
    """At as many trials at a time as run now; null when none does, or nothing can be said yet."""
    cost: SweepCost
    trials: tuple[TrialStatus, ...]

    @property
    def is_driver_alive(self) -> bool:
        """Whether a driver is at work."""
        return self.driver is not None

    @property
    def counts(self) -> dict[State, int]:
        """Trials in each state, all states named."""
        counted = Counter(trial.state for trial in self.trials)
        return {state: counted[state] for state in get_args(State)}


def status(store: Store) -> SweepStatus:
    """How the sweep in `store` stands now. Raises StoreError for a damaged plan or record."""
    plan, records, driver = read_plan(store), published(store), driver_at_work(store)
    begun = begun_trials(store)
    unfinished = {
        planned.trajectory_id: _begun(store, planned, driver)
        if planned.trial_id in begun
        else _not_begun(store, planned)
        for planned in pending_trials(plan.trials, records)
    }
    longest_last = sorted(records, key=lambda record: record.steps)
    by_trajectory = {record.trajectory_id: record for record in longest_last}
    done = DonePoints.of(records)
    trials = tuple(
        _trial_status(planned, (by_trajectory if done.cover(planned) else unfinished))
        for planned in plan.trials
    )
    device = _device(records, unfinished.values())
    model = CostModel(
        _timings(plan, records, unfinished.values(), device),
        probe_timings(plan.trials, probes_of(store), device),
    )
    return SweepStatus(
        name=plan.name,
        driver=driver,
        flops_planned=plan.train_flops,
        flops_done=flops_to_train(
            (planned, trial.share_done * trial.train_flops)
            for planned, trial in zip(plan.trials, trials, strict=True)
        ),
        time_left=_time_left(model, list(unfinished.values()), records),
        cost=_cost(plan, records, list(unfinished.values()), model, device),
        trials=trials,
    )


def to_json(status: SweepStatus) -> dict[str, Any]:
    """A status as plain JSON values."""
    fields = dataclasses.asdict(status)
    return {**fields, "is_driver_alive": status.is_driver_alive, "counts": status.counts}


@dataclass(frozen=True)
class _Unfinished:
    """A trial without its results, and how far it is."""

    planned: PlannedTrial
    state: State = "pending"
    history: tuple[Attempt, ...] = ()
    reported: ReportedProgress | None = None
    share_kept: float = 0.0
    """Of its steps, those behind the checkpoint of a shorter trial."""

    @property
    def share_done(self) -> float:
        if self.reported is None:
            return self.share_kept
        return self.reported.progress.step / self.planned.trial.n_steps

    @property
    def time_s(self) -> float:
        """Spent in training and evaluation so far."""
        progress = self.reported.progress if self.reported else None
        return progress.train_time_s + progress.eval_time_s if progress else 0.0


def _not_begun(store: Store, planned: PlannedTrial) -> _Unfinished:
    is_kept = planned.keeps_checkpoint
    return _Unfinished(planned, share_kept=share_kept(store, planned.trial) if is_kept else 0.0)


def _begun(store: Store, planned: PlannedTrial, driver: DriverAtWork | None) -> _Unfinished:
    history = attempts(store, planned.trial_id)
    reported = read_progress(store, planned.trial_id)
    state: State = "interrupted"
    if not history:
        state = "pending"
    elif (last := history[-1]).has_failed:
        state = "failed"
    elif last.outcome is None:
        reports = reported and reported.attempt == last.number and reported.age_s < FRESH_S
        # Loading or evaluating in silence: the driver that began it would know if it had ended.
        if reports or (driver and last.started_s >= driver.started_s):
            state = "running"
    return _Unfinished(planned, state, history, reported)


def _trial_status(
    planned: PlannedTrial, found: Mapping[str, Published | _Unfinished]
) -> TrialStatus:
    now, bound, error = found[planned.trajectory_id], None, None
    if isinstance(now, _Unfinished):
        state, share_done, n_attempts = now.state, now.share_done, len(now.history)
        if now.history and (last := now.history[-1]).has_failed:
            error = f"{last.error_class}: {last.error_message}"
    else:
        state, share_done, n_attempts = "diverged" if now.is_diverged else "done", 1.0, now.attempt
        bound = now.last_bound_nats_per_token
    return TrialStatus(
        trial_id=planned.trial_id,
        series=planned.series,
        params_trunk=planned.params.trunk,
        train_flops=planned.train_flops,
        state=state,
        share_done=share_done,
        bound_nats_per_token=bound,
        n_attempts=n_attempts,
        error=error,
    )


def _device(records: Sequence[Published], unfinished: Iterable[_Unfinished]) -> str:
    """What the sweep's trials run on now, or did."""
    running = Counter[str](
        each.history[-1].device for each in unfinished if each.state == "running"
    )
    seen = running or Counter(record.device for record in records)
    return seen.most_common(1)[0][0] if seen else "cpu"


def _timings(
    plan: Plan, records: Sequence[Published], unfinished: Iterable[_Unfinished], device: str
) -> Iterator[Timing]:
    """Of finished and of unfinished trials on a device."""
    yield from record_timings(plan.trials, records, device)
    for each in unfinished:
        if each.reported and each.history and each.history[-1].device == device:
            yield progress_timing(each.planned, each.reported.progress)


def _time_left(
    model: CostModel, unfinished: Sequence[_Unfinished], records: Iterable[Published]
) -> TimeLeft | None:
    """Until all is done, by as many workers as run now."""
    running = [(each.planned, each.share_done) for each in unfinished if each.state == "running"]
    if not running or not model.is_measured:
        return None
    states = ("pending", "interrupted")
    waiting = [(each.planned, each.share_done) for each in unfinished if each.state in states]
    begun = [each.history[-1] for each in unfinished if each.state == "running"]
    return time_left(model, running, waiting, _n_slots(begun, records))


def _n_slots(running: Sequence[Attempt], records: Iterable[Published]) -> int:
    """Trials at a time: those that run, or ran when one ended that may not have a successor yet."""
    spans = [span for record in records if (span := record.span_s) is not None]
    latest_s = max((end_s for _, end_s in spans), default=0.0)
    if time.time() - latest_s > FRESH_S:
        return len(running)
    just_before_s = latest_s - 1  # times are those of whole seconds
    ran = sum(start_s <= just_before_s < end_s for start_s, end_s in spans)
    run_still = sum(attempt.started_s <= just_before_s for attempt in running)
    return max(len(running), ran + run_still)


def _cost(
    plan: Plan,
    records: Sequence[Published],
    unfinished: Sequence[_Unfinished],
    model: CostModel,
    device: str,
) -> SweepCost:
    spent_s = math.fsum(recorded_device_s(plan, records).values())
    left_s = 0.0
    for each in unfinished:
        n_devices = each.planned.resources.n_devices(device)
        spent_s += each.time_s * n_devices
        if each.state != "failed":
            left_s += model.seconds(each.planned, each.share_done) * n_devices
    return SweepCost(
        device_hours_spent=spent_s / 3600,
        device_hours_left=left_s / 3600 if model.is_measured or not unfinished else None,
        price_per_hour=plan.price_per_hour,
    )
