"""How a sweep stands, read from its store alone: no driver needs to be alive to ask.

Imports neither torch nor ray, and reads heads of records only.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.orchestration.lease import DriverAtWork, driver_at_work
from sweeper.orchestration.scheduler import expected_time_left, expected_work
from sweeper.store.assignment import Attempt
from sweeper.store.attempts import ReportedProgress, attempts, begun_trials, read_progress
from sweeper.store.layout import Store
from sweeper.store.pending import DonePoints, pending_trials
from sweeper.store.plan_file import read_plan
from sweeper.store.results import Published, published
from sweeper.trials.plan import Plan, PlannedTrial

State = Literal["done", "diverged", "failed", "running", "interrupted", "pending"]
"""`interrupted`: begun and not running now; the next run resumes it from its checkpoint."""

STATES: tuple[State, ...] = ("done", "diverged", "failed", "running", "interrupted", "pending")

FRESH_S = 20.0
"""A trial that reported within this time is running, whether or not its driver is."""


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
    """The driver at work."""
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
        return {state: counted[state] for state in STATES}


def status(store: Store) -> SweepStatus:
    """How the sweep in `store` stands now. Raises StoreError for a damaged plan or record."""
    plan, records, driver = read_plan(store), published(store), driver_at_work(store)
    begun = begun_trials(store)
    pending = {
        planned.trajectory_id: _begun(store, planned, driver)
        if planned.trial_id in begun
        else _Pending(planned)
        for planned in pending_trials(plan.trials, records)
    }
    longest_last = sorted(records, key=lambda record: record.steps)
    by_trajectory = {record.trajectory_id: record for record in longest_last}
    done = DonePoints.of(records)
    trials = tuple(
        _done_status(planned, by_trajectory[planned.trajectory_id])
        if done.cover(planned)
        else _pending_status(planned, pending[planned.trajectory_id])
        for planned in plan.trials
    )
    once = {trial.trial_id: trial for trial in trials}.values()
    return SweepStatus(
        name=plan.name,
        driver=driver,
        flops_planned=plan.train_flops,
        flops_done=sum(trial.share_done * trial.train_flops for trial in once),
        time_left_s=_time_left(plan, list(pending.values()), by_trajectory),
        trials=trials,
    )


def to_json(status: SweepStatus) -> dict[str, Any]:
    """A status as plain JSON values."""
    fields = dataclasses.asdict(status)
    return {**fields, "is_driver_alive": status.is_driver_alive, "counts": status.counts}


@dataclass(frozen=True)
class _Pending:
    """A trial without its results, and how far it is."""

    planned: PlannedTrial
    history: tuple[Attempt, ...] = ()
    reported: ReportedProgress | None = None
    state: State = "pending"

    @property
    def share_done(self) -> float:
        return self.reported.progress.step / self.planned.trial.n_steps if self.reported else 0.0

    @property
    def work_left(self) -> float:
        return (1 - self.share_done) * expected_work(self.planned)


def _begun(store: Store, planned: PlannedTrial, driver: DriverAtWork | None) -> _Pending:
    history = attempts(store, planned.trial_id)
    reported = read_progress(store, planned.trial_id)
    return _Pending(planned, history, reported, _state(history, reported, driver))


def _state(
    history: tuple[Attempt, ...],
    reported: ReportedProgress | None,
    driver: DriverAtWork | None,
) -> State:
    if not history:
        return "pending"
    last = history[-1]
    if last.has_failed:
        return "failed"
    if last.outcome is not None:
        return "interrupted"
    if reported and reported.attempt == last.number and reported.age_s < FRESH_S:
        return "running"
    # Loading or evaluating in silence: the driver that began it would know if it had ended.
    is_attended = driver is not None and last.started_s >= driver.started_s
    return "running" if is_attended else "interrupted"


def _time_left(
    plan: Plan, pending: Sequence[_Pending], records: dict[str, Published]
) -> float | None:
    """Seconds until all is done at the speed so far, by as many workers as run now."""
    running = [each for each in pending if each.state == "running"]
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
    waiting = sum(each.work_left for each in pending if each.state in ("pending", "interrupted"))
    return expected_time_left(
        [each.work_left for each in running], waiting, len(running), time_s / work
    )


def _done_status(planned: PlannedTrial, record: Published) -> TrialStatus:
    return TrialStatus(
        trial_id=planned.trial_id,
        series=planned.series,
        params_trunk=planned.params.trunk,
        train_flops=planned.train_flops,
        state="diverged" if record.is_diverged else "done",
        share_done=1.0,
        bound_nats_per_token=record.last_bound_nats_per_token,
        n_attempts=record.attempt,
        error=None,
    )


def _pending_status(planned: PlannedTrial, pending: _Pending) -> TrialStatus:
    last = pending.history[-1] if pending.history else None
    return TrialStatus(
        trial_id=planned.trial_id,
        series=planned.series,
        params_trunk=planned.params.trunk,
        train_flops=planned.train_flops,
        state=pending.state,
        share_done=pending.share_done,
        bound_nats_per_token=None,
        n_attempts=len(pending.history),
        error=f"{last.error_class}: {last.error_message}" if last and last.has_failed else None,
    )
