"""What trials are expected to cost, and when a sweep is expected to end, on planted speeds."""

import dataclasses
import math
import random
from pathlib import Path

import pytest
from planted import assignment_of, planned_trial, planted_result, submitted_store

from sweeper.orchestration.cost import CostModel, Timing, expected_cost, time_left
from sweeper.orchestration.scheduler import ASSUMED_SPEED, expected_work
from sweeper.store.results import publish, published
from sweeper.trials.plan import Plan, PlannedTrial
from sweeper.trials.resources import Limits, Resources
from sweeper.verbs.cost import cost_text, limit_warnings

WIDTHS = (8, 16, 32, 64, 128)


def _timed(
    planned: PlannedTrial, seconds_per_work: float, *, startup_s: float | None = 0.0
) -> Timing:
    """A whole trial at a speed, with an evaluation half as costly per token as training."""
    timing = Timing.of(planned, planned.trial.n_steps, len(planned.cells), 1.0, 1.0)
    return dataclasses.replace(
        timing,
        train_time_s=seconds_per_work * timing.work,
        eval_time_s=0.5 * seconds_per_work * timing.eval_work,
        startup_s=startup_s,
    )


def _cost(planned: PlannedTrial) -> float:
    """A planted law: seconds per work fall with size."""
    return 1e-8 * math.exp(-0.3 * math.log(planned.params.trunk))


def test_a_size_that_was_timed_costs_what_it_took() -> None:
    planned = planned_trial(width=32)
    model = CostModel([_timed(planned, 2e-9, startup_s=None)])
    timing = _timed(planned, 2e-9)
    whole_s = timing.train_time_s + timing.eval_time_s
    assert model.seconds(planned, 0.5) == pytest.approx(0.5 * whole_s)
    assert model.seconds(planned) > whole_s  # it has to start, too


def test_sizes_between_are_interpolated_in_log_params() -> None:
    timed = [_timed(trial, _cost(trial)) for trial in map(_of_width, (8, 32, 128))]
    model = CostModel(timed)
    for width in (16, 64):
        planned = _of_width(width)
        whole = _timed(planned, _cost(planned))
        expected = whole.train_time_s + whole.eval_time_s
        assert model.seconds(planned, 1e-9) == pytest.approx(expected, rel=1e-6)
        assert model.doubt(planned.params.trunk) > model.doubt(_of_width(32).params.trunk) == 0


def test_a_series_keeps_its_distance_from_the_others() -> None:
    """Half of what one size shows of it: the more sizes, the more it is believed."""
    slow = [_of_width(width, "uniform") for width in WIDTHS[:4]]
    timed = [_timed(_of_width(width), 1e-9) for width in WIDTHS]
    timed += [_timed(trial, 2e-9) for trial in slow]
    model = CostModel(timed)
    ratio = model.seconds(_of_width(128, "uniform"), 1e-9) / model.seconds(_of_width(128), 1e-9)
    assert ratio == pytest.approx(2 ** (4 / 5), rel=0.05)


def test_trials_slower_than_their_probes_slow_what_was_only_probed() -> None:
    probes = [
        dataclasses.replace(_timed(trial, _cost(trial)), eval_work=0.0, startup_s=None)
        for trial in map(_of_width, WIDTHS)
    ]
    alone = CostModel((), probes)
    beside_others = CostModel([_timed(_of_width(8), 1.3 * _cost(_of_width(8)))], probes)
    large = _of_width(128)
    assert beside_others.seconds(large, 0.5) / alone.seconds(large, 0.5) == pytest.approx(
        1.3 * _scored(large, 0.5) / _scored(large, 1 / 3), rel=1e-6
    )
    assert alone.is_measured


def test_without_any_timing_the_assumed_speed_counts_and_is_doubted() -> None:
    planned, model = planned_trial(), CostModel()
    expected = expected_work(planned) / ASSUMED_SPEED * _scored(planned, 1 / 3)
    assert model.seconds(planned, 1e-12) == pytest.approx(expected)
    assert model.common_doubt == 0.7
    assert not model.is_measured


def test_ranks_share_the_work() -> None:
    planned = planned_trial()
    pair = dataclasses.replace(planned, resources=Resources(n_ranks=2))
    assert CostModel().seconds(pair, 0.5) == pytest.approx(CostModel().seconds(planned, 0.5) / 2)


def test_startup_is_not_what_the_first_trial_of_a_worker_waits_for() -> None:
    planned = planned_trial()
    waits = (7.0, 6.0, *[0.5] * 20)
    model = CostModel(_timed(planned, 1e-9, startup_s=wait) for wait in waits)
    assert model.seconds(planned) - model.seconds(planned, 1e-12) == pytest.approx(0.5, abs=0.05)


def test_a_machine_that_has_become_slower_is_believed() -> None:
    """Ten trials at one speed and then ten at half of it, of one size; half as fast from now on."""
    planned = planned_trial()
    timings = [
        dataclasses.replace(_timed(planned, cost), ended_at=f"2026-11-29T{hour:02}:00:00+00:00")
        for hour, cost in enumerate([1e-9] * 10 + [2e-9] * 10)
    ]
    found, back = (
        CostModel(ordered).seconds(planned, 1e-12)
        / CostModel([_timed(planned, 2e-9)]).seconds(planned, 1e-12)
        for ordered in (timings, [*reversed(timings)])
    )
    assert found == back  # by their times, whatever their order
    # Long trials weigh more: without times the mean would be 2^(2/3 - 1) = 0.79 of it.
    assert 0.87 < found < 1.0


def test_spread_between_trials_alike_is_found() -> None:
    rng = random.Random(0)
    model = CostModel(
        _timed(planned_trial(seed=seed), 1e-9 * math.exp(0.3 * rng.gauss(0, 1)))
        for seed in range(200)
    )
    # The standard error of a deviation of 200 is 5 %, and the mean of its size is fitted.
    assert model.spread == pytest.approx(0.3, rel=0.15)


class TestTimeLeft:
    def test_equal_trials_share_the_slots(self) -> None:
        trials = [(planned_trial(seed=seed), 0.0) for seed in range(8)]
        model = _certain(trials[0][0])
        left = time_left(model, trials[:2], trials[2:], 2)
        assert left.p50_s == pytest.approx(4 * model.seconds(trials[0][0]), rel=0.05)
        assert left.p50_s < left.p90_s < 1.2 * left.p50_s

    def test_no_sweep_ends_before_its_longest_trial(self) -> None:
        long, short = planned_trial(steps=(2000,)), planned_trial(steps=(10,), seed=1)
        model = _certain(long)
        left = time_left(model, [(long, 0.0)], [(short, 0.0)], 2)
        assert left.p50_s == pytest.approx(model.seconds(long), rel=0.05)

    def test_what_is_done_of_a_trial_takes_no_time(self) -> None:
        planned = planned_trial(steps=(2000,))
        model = _certain(planned)
        left = time_left(model, [(planned, 0.75)], [], 1)
        assert left.p50_s == pytest.approx(0.25 * model.seconds(planned, 1e-12), rel=0.05)

    def test_doubt_widens_the_interval(self) -> None:
        waiting = [(planned_trial(seed=seed), 0.0) for seed in range(20)]
        certain, doubtful = (
            time_left(model, [], waiting, 2) for model in (_certain(waiting[0][0]), CostModel())
        )
        assert doubtful.p90_s / doubtful.p50_s > 1.5 > certain.p90_s / certain.p50_s

    def test_nothing_left_takes_no_time(self) -> None:
        assert time_left(CostModel(), [], [], 3).p90_s == 0


@pytest.mark.parametrize(
    ("resources", "device", "n_devices"),
    [
        (Resources(), "cpu", 1.0),
        (Resources(), "cuda", 1.0),
        (Resources(gpus=0.25), "cuda", 0.25),
        (Resources(gpus=4.0, n_ranks=4), "cuda", 4.0),
        (Resources(cpus=2.0, n_ranks=3), "cpu", 6.0),
    ],
)
def test_devices_are_gpus_or_else_cores(
    resources: Resources, device: str, n_devices: float
) -> None:
    assert resources.n_devices(device) == n_devices


def _of_width(width: int, series: str = "masked") -> PlannedTrial:
    return planned_trial(series, width=width)


def _scored(planned: PlannedTrial, share: float) -> float:
    """Work with evaluation in units of training, at the cost of a scored token as given."""
    timing = _timed(planned, 1.0)
    return 1 + share * timing.eval_work / timing.work


def _certain(planned: PlannedTrial) -> CostModel:
    """Many equal timings of a size."""
    return CostModel([_timed(planned, 1e-8)] * 50)


def test_a_plan_costs_what_is_missing_of_it(tmp_path: Path) -> None:
    plan = Plan("planted", tuple(planned_trial(seed=seed) for seed in range(5)), price_per_hour=2.0)
    store = submitted_store(tmp_path / "planted", plan)
    assignment = assignment_of(store, plan.trials[0])
    publish(assignment, planted_result(assignment))  # which records 1.5 s
    model = _certain(plan.trials[0])
    cost = expected_cost(plan, published(store), model, "cpu", n_slots=8)
    assert (cost.n_trials, cost.n_slots, cost.price_per_hour) == (4, 4, 2.0)
    assert cost.device_hours_spent == 1.5 / 3600
    one_s = model.seconds(plan.trials[0])
    assert cost.device_hours == pytest.approx(4 * one_s / 3600)
    assert one_s < cost.wall.p50_s < 1.5 * one_s  # all four at once, until the slowest ends
    (warning,) = limit_warnings(cost, Limits(wall_s=one_s / 2))
    assert "[wall_limit]" in warning
    spent = cost.device_hours_spent + cost.device_hours
    assert [*limit_warnings(cost, Limits(device_hours=1.01 * spent, cost=2.02 * spent))] == []
    below = Limits(device_hours=0.99 * spent, cost=1.98 * spent)
    assert len([*limit_warnings(cost, below)]) == 2
    assert "for the 4 that are missing: about" in cost_text(cost, 5)
    assert "at 2 each" in cost_text(cost, 5)
    nothing = expected_cost(Plan("planted", ()), (), model, "cpu", n_slots=8)
    assert (nothing.wall.p90_s, cost_text(nothing, 5)) == (0, "all of these trials are published")
    assumed = expected_cost(plan, published(store), CostModel(), "cpu", n_slots=8)
    assert "at an assumed speed" in cost_text(assumed, 5)
    assert [*limit_warnings(assumed, below)] == []
