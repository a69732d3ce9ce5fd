"""How a sweep stands, read from its store alone: without a driver, torch or ray."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sweeper.orchestration.lease import DriverAtWork, driver_at_work
from sweeper.orchestration.scheduler import expected_time_left, expected_work
from sweeper.store.assignment import Attempt
from sweeper.store.attempts import ReportedProgress, attempts, begun_trials, read_progress
from sweeper.store.layout import Store
from sweeper.store.pending import DonePoints, pending_trials
from sweeper.store.results import Published, published
from sweeper.store.submission import read_plan
from sweeper.trials.plan import Plan, PlannedTrial

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
class SweepStatus:
    """How a sweep stands."""

    name: str
    driver: DriverAtWork | None
    flops_planned: float
    flops_done: float
    time_left_s: float | None
    """Expected; null when nothing is running, or nothing can be said yet."""
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
        else _Unfinished(planned)
        for planned in pending_trials(plan.trials, records)
    }
    longest_last = sorted(records, key=lambda record: record.steps)
    by_trajectory = {record.trajectory_id: record for record in longest_last}
    done = DonePoints.of(records)
    trials = tuple(
        _trial_status(planned, (by_trajectory if done.cover(planned) else unfinished))
        for planned in plan.trials
    )
    once = {trial.trial_id: trial for trial in trials}.values()
    return SweepStatus(
        name=plan.name,
        driver=driver,
        flops_planned=plan.train_flops,
        flops_done=sum(trial.share_done * trial.train_flops for trial in once),
        time_left_s=_time_left(plan, list(unfinished.values()), by_trajectory),
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

    @property
    def share_done(self) -> float:
        return self.reported.progress.step / self.planned.trial.n_steps if self.reported else 0.0

    @property
    def work_left(self) -> float:
        return (1 - self.share_done) * expected_work(self.planned)


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


def _time_left(
    plan: Plan, unfinished: Sequence[_Unfinished], records: dict[str, Published]
) -> float | None:
    """Seconds until all is done at the speed so far, by as many workers as run now."""
    running = [each for each in unfinished if each.state == "running"]
    time_s, work = 0.0, 0.0
    for planned in plan.trials:
        record = records.get(planned.trajectory_id)
        if record and record.trial_id == planned.trial_id and not record.is_diverged:
            time_s += record.work_time_s
            work += expected_work(planned)
    for each in running:
        if each.reported:
            time_s += each.reported.progress.train_time_s + each.reported.progress.eval_time_s
            work += each.share_done * expected_work(each.planned)
    if not running or not work:
        return None
    waiting = sum(each.work_left for each in unfinished if each.state in ("pending", "interrupted"))
    return expected_time_left(
        [each.work_left for each in running], waiting, len(running), time_s / work
    )
