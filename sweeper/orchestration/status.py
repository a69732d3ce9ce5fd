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
from sweeper.store.attempts import (
    Attempt,
    ReportedProgress,
    attempts,
    begun_trials,
    read_progress,
)
from sweeper.store.layout import Store
from sweeper.store.pending import Remaining, Settled, missing
from sweeper.store.plan_file import StoredPlan, StoredTrial, read_plan
from sweeper.store.results import Published, published

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
    with_attempts = begun_trials(store)
    begun = {
        remaining.planned.trajectory_id: _look(store, remaining, driver)
        if remaining.trial_id in with_attempts
        else _Begun(remaining, (), None, "pending")
        for remaining in missing(plan.trials, records)
    }
    longest_last = sorted(records, key=lambda record: record.steps)
    by_trajectory = {record.trajectory_id: record for record in longest_last}
    settled = Settled.by(records)
    trials = tuple(
        _settled(planned, by_trajectory[planned.trajectory_id])
        if settled.has_all(planned)
        else _unsettled(planned, begun[planned.trajectory_id])
        for planned in plan.trials
    )
    once = {trial.trial_id: trial for trial in trials}.values()
    return SweepStatus(
        name=plan.name,
        driver=driver,
        flops_planned=plan.train_flops,
        flops_done=sum(trial.share_done * trial.train_flops for trial in once),
        time_left_s=_time_left(plan, list(begun.values()), by_trajectory),
        trials=trials,
    )


def to_json(status: SweepStatus) -> dict[str, Any]:
    """A status as plain JSON values."""
    fields = dataclasses.asdict(status)
    return {**fields, "is_driver_alive": status.is_driver_alive, "counts": status.counts}


@dataclass(frozen=True)
class _Begun:
    """A trial without its results, and how far it is."""

    remaining: Remaining
    history: tuple[Attempt, ...]
    reported: ReportedProgress | None
    state: State

    @property
    def share_done(self) -> float:
        return self.reported.progress.step / self.remaining.trial.n_steps if self.reported else 0.0

    @property
    def work(self) -> float:
        return expected_work(self.remaining.trial, self.remaining.planned.flops_per_token)


def _time_left(
    plan: StoredPlan, begun: Sequence[_Begun], records: dict[str, Published]
) -> float | None:
    """Seconds until all is done at the speed so far, by as many workers as run now."""
    running = [each for each in begun if each.state == "running"]
    time_s, work = 0.0, 0.0
    for planned in plan.trials:
        record = records.get(planned.trajectory_id)
        if record and record.trial_id == planned.trial_id and not record.is_diverged:
            time_s += record.work_time_s
            work += expected_work(planned.trial, planned.flops_per_token)
    for each in running:
        if each.reported:
            time_s += each.reported.progress.train_time_s + each.reported.progress.eval_time_s
            work += each.share_done * each.work
    if not running or not work:
        return None
    waiting = sum(
        (1 - each.share_done) * each.work
        for each in begun
        if each.state in ("pending", "interrupted")
    )
    left = [(1 - each.share_done) * each.work for each in running]
    return expected_time_left(left, waiting, len(running), time_s / work)


def _look(store: Store, remaining: Remaining, driver: DriverAtWork | None) -> _Begun:
    history = attempts(store, remaining.trial_id)
    reported = read_progress(store, remaining.trial_id)
    return _Begun(remaining, history, reported, _state(history, reported, driver))


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


def _settled(planned: StoredTrial, record: Published) -> TrialStatus:
    return _trial_status(
        planned,
        state="diverged" if record.is_diverged else "done",
        share_done=1.0,
        bound_nats_per_token=record.last_bound_nats_per_token,
        n_attempts=record.attempt,
    )


def _unsettled(planned: StoredTrial, begun: _Begun) -> TrialStatus:
    last = begun.history[-1] if begun.history else None
    return _trial_status(
        planned,
        state=begun.state,
        share_done=begun.share_done,
        n_attempts=len(begun.history),
        error=f"{last.error_class}: {last.error_message}" if last and last.has_failed else None,
    )


def _trial_status(
    planned: StoredTrial,
    *,
    state: State,
    share_done: float,
    n_attempts: int,
    bound_nats_per_token: float | None = None,
    error: str | None = None,
) -> TrialStatus:
    return TrialStatus(
        trial_id=planned.trial_id,
        series=planned.series,
        params_trunk=planned.params.trunk,
        train_flops=planned.cells[-1].flops,
        state=state,
        share_done=share_done,
        bound_nats_per_token=bound_nats_per_token,
        n_attempts=n_attempts,
        error=error,
    )
