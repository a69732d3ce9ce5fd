"""Drivers whose plan changes while they work, and whose trials other sweeps have trained."""

import dataclasses
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import planted
import pytest
from planted import assignment_of, planned_sweep, planned_trial, planted_result, submitted_store

from sweeper.executors.base import Executor, Failure, Finished
from sweeper.executors.placement import Demand, Node, Placement
from sweeper.executors.stop import StopSignal
from sweeper.orchestration import driver
from sweeper.orchestration.device_time import recorded_device_s
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.events import (
    Event,
    Notice,
    ResultsTaken,
    SweepOutcome,
    SweepStarted,
    TrialStarted,
)
from sweeper.orchestration.lease import held
from sweeper.orchestration.queue import Spending
from sweeper.orchestration.replan import new_plan, replan
from sweeper.orchestration.verify import verify
from sweeper.store import files
from sweeper.store.assignment import Assignment, Outcome, RunTrial, StopRequested
from sweeper.store.layout import Store, checkpoint_steps
from sweeper.store.results import publish, published
from sweeper.store.rows import Continued
from sweeper.store.submission import submit
from sweeper.store.tables import read_table
from sweeper.trials.plan import Plan, PlannedTrial
from sweeper.trials.resources import Limits


class SlowExecutor(Executor):
    """Several attempts at a time, each of which takes two polls."""

    name = "slow"

    def __init__(self, run_trial: RunTrial, n_slots: int) -> None:
        self.run_trial, self.max_running = run_trial, n_slots
        self.running: list[Assignment] = []
        self.is_new = True

    def nodes(self) -> tuple[Node, ...]:
        return (Node("here", cpus=self.max_running or 1, gpus=0),)

    def start(self, assignment: Assignment, demand: Demand, placement: Placement) -> None:
        trajectories = [each.trial.trajectory_id for each in self.running]
        assert assignment.trial.trajectory_id not in trajectories  # they would share checkpoints
        self.running.append(assignment)
        self.is_new = True

    def poll(self, timeout_s: float) -> list[Finished]:
        if self.is_new or not self.running:
            self.is_new = False
            return []
        assignment = self.running.pop(0)
        try:
            return [Finished(assignment, self.run_trial(assignment, stop=lambda: False))]
        except RuntimeError as error:
            return [Finished(assignment, Failure.of(error))]

    def stop(self) -> None:
        pass

    def kill(self, trial_id: str) -> str:
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class Sweep:
    """A sweep that is run once, with what it did."""

    def __init__(self, results: Path, plan: Plan) -> None:
        self.plan, self.events = plan, list[Event]()
        self.store = submitted_store(results / plan.name, plan)

    def run(
        self,
        run_trial: RunTrial = planted.run_planted,
        *,
        n_slots: int = 1,
        limits: Limits | None = None,
        new_plan: Callable[[], Plan | None] = lambda: None,
    ) -> SweepOutcome:
        return run_sweep(
            SweepRun(
                store=self.store,
                plan=self.plan,
                executor=SlowExecutor(run_trial, n_slots),
                stop=StopSignal(),
                on_event=self.events.append,
                limits=limits or Limits(),
                new_plan=new_plan,
            )
        )

    @property
    def started(self) -> list[Assignment]:
        return [each.assignment for each in self.events if isinstance(each, TrialStarted)]

    @property
    def taken(self) -> list[tuple[str, str]]:
        """Trial and the sweep that trained it."""
        return [
            (head.trial_id, head.sweep)
            for event in self.events
            if isinstance(event, ResultsTaken)
            for head in event.published
        ]


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "PLAN_LOOK_INTERVAL_S", 0.0)


def once(store: Store, plan: Plan) -> Callable[[], Plan | None]:
    """Submit a plan, and tell it to a driver when it first asks."""
    plans = [plan]

    def new_plan() -> Plan | None:
        if plans:
            submit(store, plan, "name: own\n")
            return plans.pop()
        return None

    return new_plan


def named(name: str, plan: Plan) -> Plan:
    return dataclasses.replace(plan, name=name)


def trained(results: Path, plan: Plan) -> Store:
    store = submitted_store(results / plan.name, plan)
    for planned in plan.trials:
        assignment = dataclasses.replace(assignment_of(store, planned), sweep=plan.name)
        publish(assignment, planted_result(assignment))
    return store


def test_sizes_that_are_added_while_a_driver_works_are_trained(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, planned_sweep(widths=(8, 16)))
    longer = planned_sweep(widths=(8, 16, 32))
    outcome = sweep.run(n_slots=2, new_plan=once(sweep.store, longer))
    assert (outcome.exit_code, outcome.n_done, outcome.n_left) == (0, 6, 0)
    assert len(sweep.started) == 6
    changed = Notice("the plan has changed: 2 trials are new, 0 are gone")
    assert [each for each in sweep.events if isinstance(each, Notice)] == [changed]
    assert verify(sweep.store.folder) == []


def test_added_budgets_of_what_has_ended_are_trained_for_their_steps_alone(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, planned_sweep(("masked",), widths=(8, 16), steps=(10, 20)))
    longer = planned_sweep(("masked",), widths=(8, 16), steps=(10, 20, 40))
    plans = [longer]

    def new_plan() -> Plan | None:
        return plans.pop() if len(published(sweep.store)) == 1 and plans else None

    submit(sweep.store, longer, "name: planted\n")
    outcome = sweep.run(new_plan=new_plan)
    assert (outcome.exit_code, outcome.n_done, outcome.n_left) == (0, 2, 0)
    steps = [each.trial.observe_at_steps for each in sweep.started]
    assert steps == [(10, 20), (40,), (10, 20, 40)]  # the longest first, each time
    assert read_table(sweep.store, "observations").num_rows == 2 * 3
    assert verify(sweep.store.folder) == []


def kept(plan: Plan) -> Plan:
    """The plan with checkpoints that stay until it is complete."""
    trials = (dataclasses.replace(each, checkpoint_kept_until="complete") for each in plan.trials)
    return dataclasses.replace(plan, trials=tuple(trials))


def run_lengthened(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """A planted trial that goes on from the newest checkpoint, and leaves one of its own."""
    store, trial = Store(assignment.store_folder), assignment.trial
    before = checkpoint_steps(store.checkpoints(trial))
    result = planted_result(assignment)
    if before:
        continued = Continued(
            trial_id="0" * 12, steps=before[-1], train_time_s=0.5, eval_time_s=0.25
        )
        result = dataclasses.replace(result, continued=continued)
    for step in before:
        store.checkpoint(trial, step).unlink()
    files.replace(store.checkpoint(trial, trial.n_steps), b"weights")
    publish(assignment, result)
    return "published"


def test_a_run_that_is_lengthened_costs_the_difference(tmp_path: Path) -> None:
    short, long = (
        kept(planned_sweep(("masked",), widths=(8,), steps=steps)) for steps in [(10,), (10, 40)]
    )
    (whole,) = long.trials
    sweep = Sweep(tmp_path, short)
    store, is_kept = sweep.store, list[bool]()

    def new_plan() -> Plan | None:
        if len(is_kept) == 0 and published(store):
            is_kept.append(store.checkpoint(whole.trial, 10).exists())
            submit(store, long, "name: planted\n")
            return long
        return None

    # All FLOPs of the longer run, and one trial, are just allowed.
    limits = Limits(flops=whole.train_flops, n_trials=1)
    outcome = sweep.run(run_lengthened, limits=limits, new_plan=new_plan)
    assert (outcome.exit_code, outcome.n_done, outcome.n_left) == (0, 1, 0)
    assert [each.trial.observe_at_steps for each in sweep.started] == [(10,), (40,)]
    assert is_kept == [True]
    started = [each for each in sweep.events if isinstance(each, SweepStarted)]
    assert [each.flops_waiting for each in started] == pytest.approx(
        [0.25 * whole.train_flops, 0.75 * whole.train_flops]
    )
    spent = Spending.of("planted", published(store))
    assert spent.flops == pytest.approx(whole.train_flops)
    assert spent.n_trials == 1
    assert recorded_device_s(long, published(store)) == {
        head.trial_id: 1.5 - (0.75 if head.continued_steps else 0.0) for head in published(store)
    }
    assert not store.checkpoints(whole.trial).exists()  # the sweep is complete
    assert verify(store.folder) == []


def test_checkpoints_stay_while_a_sweep_is_not_complete_or_for_good(tmp_path: Path) -> None:
    plan = kept(planned_sweep(("masked",), widths=(8, 16), steps=(10,)))
    (_, large) = plan.trials
    sweep = Sweep(tmp_path, plan)
    outcome = sweep.run(run_lengthened, limits=Limits(n_trials=1))
    assert outcome.exit_code == 4
    assert store_has(sweep.store, large)
    assert [finding.code for finding in verify(sweep.store.folder)] == [
        "missing-trial",
        "torn-checkpoint",  # what planted trials write is no archive
    ]
    always = tuple(
        dataclasses.replace(each, checkpoint_kept_until="always") for each in plan.trials
    )
    plan = dataclasses.replace(plan, trials=always)
    sweep = Sweep(tmp_path, plan)
    assert sweep.run(run_lengthened).exit_code == 0
    assert all(store_has(sweep.store, each) for each in plan.trials)
    never = dataclasses.replace(
        plan,
        trials=tuple(
            dataclasses.replace(each, checkpoint_kept_until="published") for each in plan.trials
        ),
    )
    sweep = Sweep(tmp_path, never)
    codes = [finding.code for finding in verify(sweep.store.folder)]
    assert codes == ["needless-checkpoint"] * 2
    assert sweep.run(run_lengthened).exit_code == 0
    assert verify(sweep.store.folder) == []


def store_has(store: Store, planned: PlannedTrial) -> bool:
    return store.checkpoint(planned.trial, planned.trial.n_steps).exists()


def test_more_steps_of_a_run_wait_until_it_has_ended(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, planned_sweep(("masked",), widths=(8, 16), steps=(10,)))
    longer = planned_sweep(("masked",), widths=(8, 16), steps=(10, 20))
    outcome = sweep.run(n_slots=2, new_plan=once(sweep.store, longer))
    assert (outcome.exit_code, outcome.n_done) == (0, 2)
    assert [each.trial.observe_at_steps for each in sweep.started] == [(10,), (10,), (20,), (20,)]
    assert verify(sweep.store.folder) == []


def test_trials_that_are_taken_away_are_not_started(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, planned_sweep(("masked",)))
    (longest, *_) = sorted(sweep.plan.trials, key=lambda each: -each.params.trunk)
    shorter = Plan("planted", (longest,))
    outcome = sweep.run(new_plan=once(sweep.store, shorter))
    assert [each.trial.trial_id for each in sweep.started] == [longest.trial_id]
    assert (outcome.exit_code, outcome.n_done, outcome.n_left) == (0, 1, 0)
    assert verify(sweep.store.folder) == []


def test_a_trial_that_was_given_up_is_not_begun_again_by_a_new_plan(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, planned_sweep(("broken",), widths=(8,)))
    extended = planned_sweep(("broken", "masked"), widths=(8,))
    plans = [extended]

    def new_plan() -> Plan | None:
        # Once the broken one has had its last attempt, while the event loop still turns.
        return plans.pop() if len(sweep.started) == 2 and plans else None

    submit(sweep.store, extended, "name: planted\n")
    outcome = sweep.run(planted.run_or_raise, new_plan=new_plan)
    assert outcome.exit_code == 1
    assert (outcome.n_done, outcome.n_failed, outcome.n_left) == (1, 1, 0)
    assert [each.planned.series for each in sweep.started] == ["broken", "broken", "masked"]


def test_a_plan_is_handed_to_a_driver_that_really_works(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, planned_sweep(("masked",), widths=(8,)))
    longer = planned_sweep(("masked",), widths=(8, 16))
    is_training, may_go_on = threading.Event(), threading.Event()
    outcomes: list[SweepOutcome] = []

    def train(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        is_training.set()
        may_go_on.wait()
        return planted.run_planted(assignment, stop=stop)

    def work() -> None:
        with held(sweep.store) as lease:
            told = functools.partial(new_plan, sweep.store, lease.epoch)
            outcomes.append(sweep.run(train, new_plan=told))

    thread = threading.Thread(target=work)
    thread.start()
    is_training.wait()
    threading.Timer(0.2, may_go_on.set).start()
    assert replan(sweep.store, longer, "name: planted\n# longer\n") is not None
    thread.join()
    assert [(each.exit_code, each.n_done) for each in outcomes] == [(0, 2)]


def test_a_driver_takes_over_what_others_have_trained_and_spends_nothing_on_it(
    tmp_path: Path,
) -> None:
    other = trained(tmp_path, named("other", planned_sweep(("masked",))))
    sweep = Sweep(tmp_path, named("own", planned_sweep()))
    own_flops = sum(
        planned.cells[-1].flops for planned in sweep.plan.trials if planned.series == "uniform"
    )
    # Enough for what is left to train, and not for what was taken over beside.
    outcome = sweep.run(limits=Limits(flops=1.01 * own_flops))
    assert (outcome.exit_code, outcome.n_done) == (0, 6)
    assert {each.planned.series for each in sweep.started} == {"uniform"}
    assert sorted(sweep.taken) == [(head.trial_id, "other") for head in published(other)]
    rows = read_table(sweep.store, "trials").to_pylist()
    assert {row["series"]: row["sweep"] for row in rows} == {"masked": "other", "uniform": "own"}
    assert verify(sweep.store.folder) == []


def test_a_trial_that_another_sweep_publishes_meanwhile_is_not_begun(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, named("own", planned_sweep(("masked",), widths=(8, 16))))
    small = planned_trial("masked", width=8)

    def train(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        trained(tmp_path, Plan("other", (small,)))
        return planted.run_planted(assignment, stop=stop)

    outcome = sweep.run(train)
    assert (outcome.exit_code, outcome.n_done) == (0, 2)
    assert [each.trial.rung.width for each in sweep.started] == [16]
    assert sweep.taken == [(small.trial_id, "other")]
