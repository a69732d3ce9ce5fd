import dataclasses
import math
from pathlib import Path

import pytest
from planted import assignment_of, planned_sweep, planned_trial, planted_result, submitted_store

from sweeper.store.attempts import Progress, begin_attempt, end_attempt, progress_reporter
from sweeper.store.layout import Store
from sweeper.store.results import publish
from sweeper.store.submission import submit
from sweeper.trials.plan import Plan
from sweeper.watching.view import BLOCKS, Watch, sparkline, valleys


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return submitted_store(tmp_path / "planted", planned_sweep(("masked",)))


def _report(store: Store, step: int, loss: float) -> None:
    assignment = assignment_of(store, planned_sweep(("masked",)).trials[0])
    progress_reporter(assignment)(
        Progress(
            step=step,
            n_steps=20,
            flops_done=1.0,
            loss_nats_per_token=loss,
            train_time_s=1.0,
            eval_time_s=0.0,
        )
    )


def test_losses_of_a_running_trial_are_remembered_from_look_to_look(store: Store) -> None:
    first, watch = planned_sweep(("masked",)).trials[0], Watch(store)
    begin_attempt(store, first.trial_id, executor="ray", device="cpu", n_threads=1)
    seen = []
    for step, loss in ((5, 3.0), (10, 2.5), (8, 2.6)):  # the last after a restart
        _report(store, step, loss)
        (running,) = watch.look().running
        seen.append(running.losses)
    assert seen == [(3.0,), (3.0, 2.5), (3.0, 2.6)]


def test_what_happened_last_is_read_from_results_and_attempts(store: Store) -> None:
    small, middle, large = planned_sweep(("masked",)).trials
    publish(assignment_of(store, small), planted_result(assignment_of(store, small)))
    for planned in (middle, large):
        begin_attempt(store, planned.trial_id, executor="ray", device="cpu", n_threads=1)
    error = ("ValueError", "too far", "")
    end_attempt(store, large.trial_id, 1, "error", error=error)
    view = Watch(store).look()
    whats = [(each.planned, each.what) for each in view.happened]
    assert (middle, "started") in whats
    assert (large, "failed: ValueError: too far") in whats
    assert view.state == "stopped"
    assert not view.is_settled


def test_a_look_at_a_sweep_that_rests_is_the_last_one_again(store: Store) -> None:
    watch = Watch(store)
    before = watch.look()
    assert watch.look() is before
    first = assignment_of(store, planned_sweep(("masked",)).trials[0])
    publish(first, planted_result(first))
    assert watch.look().status.counts["done"] == 1


def test_limits_are_those_of_the_sweep_file_where_it_can_be_read(store: Store) -> None:
    assert Watch(store).look().limits.wall_s == math.inf
    text = (
        "name: planted\ncorpus: {source: stdlib, seq_len: 8}\nseries: {a: {family: masked}}\n"
        "design: {grid: {sizes: [5K], tokens: [1M]}}\nlimits: {wall: 2h}\n"
    )
    submit(store, planned_sweep(("masked",)), text)
    assert Watch(store).look().limits.wall_s == 7200


def test_valleys_know_which_side_is_open() -> None:
    trials = [planned_trial("masked", width=width, steps=(10,)) for width in (8, 16, 32)]
    plan = Plan("planted", tuple(trials))
    points = [
        (each.trajectory_id, 10, bound) for each, bound in zip(trials, (3, 2, 4), strict=True)
    ]
    assert list(valleys(plan, points)) == []  # one size at each budget
    cells = [(dataclasses.replace(each.cells[0], budget_flops=1e9),) for each in trials]
    pairs = zip(trials, cells, strict=True)
    plan = Plan("planted", tuple(dataclasses.replace(each, cells=of) for each, of in pairs))
    (valley,) = valleys(plan, points)
    assert (valley.best, valley.n_bracketed, valley.n_budgets) == (1, 1, 1)
    falling = [(trajectory, step, -bound) for trajectory, step, bound in points]
    assert next(valleys(plan, falling)).n_bracketed == 0


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ((), 8, ""),
        ((2.0, 2.0), 8, "▁▁"),
        ((3.0, 2.0, 1.0), 8, "█▅▁"),
        ((4.0, 4.0, 1.0, 1.0), 2, "█▁"),
        (tuple(map(float, range(8))), 8, BLOCKS),
    ],
)
def test_sparklines(values: tuple[float, ...], width: int, line: str) -> None:
    assert sparkline(values, width) == line
