"""What starts next and where, on a clock that only the test moves."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from planted import planned_sweep, planned_trial

from sweeper.executors.placement import Demand, Node, Placement
from sweeper.orchestration.queue import Spending, allowed, longest_first
from sweeper.orchestration.scheduler import (
    Cluster,
    Job,
    Running,
    Speeds,
    starts,
)
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.resources import Limits

NOTHING = Spending(0.0, 0)
DEMAND = Demand(n_ranks=1, cpus=1.0, gpus=0.0)


def _job(
    planned: PlannedTrial,
    demand: Demand = DEMAND,
    *,
    share_done: float = 0.0,
    is_paid: bool = False,
) -> Job:
    return Job(planned, demand, share_done, is_paid=is_paid)


def test_longest_trial_starts_first() -> None:
    jobs = [_job(planned_trial(width=32, steps=(n,))) for n in (10, 40, 20)]
    assert [job.planned.trial.n_steps for job in longest_first(jobs)] == [40, 20, 10]


def test_small_model_starts_first_at_equal_flops() -> None:
    # Equal FLOPs are 80 times as many tokens at width 8, and each costs overhead.
    small, large = planned_trial(width=8, steps=(1222,)), planned_trial(width=128, steps=(15,))
    assert small.cells[-1].flops == pytest.approx(large.cells[-1].flops, rel=0.1)
    order = longest_first([_job(large), _job(small)])
    assert [job.planned.trial.rung.width for job in order] == [8, 128]


def test_checkpoint_shortens_a_trial() -> None:
    nearly_done = _job(planned_trial(steps=(40,)), share_done=0.9)
    fresh = _job(planned_trial(steps=(20,)))
    assert longest_first([nearly_done, fresh])[0] is fresh


def test_order_does_not_depend_on_the_order_of_the_plan() -> None:
    jobs = [_job(planned) for planned in planned_sweep().trials]
    assert longest_first(jobs) == longest_first(reversed(jobs))


class TestLimits:
    def test_without_limits_all_may_start(self) -> None:
        jobs = [_job(planned_trial(steps=(n,))) for n in (40, 20)]
        assert [*allowed(jobs, NOTHING, Limits())] == jobs

    def test_trial_that_would_pass_the_flops_limit_is_left_out(self) -> None:
        long, short = _job(planned_trial(steps=(40,))), _job(planned_trial(steps=(20,)))
        limits = Limits(flops=1.5 * short.planned.train_flops)
        assert [*allowed([long, short], NOTHING, limits)] == [short]
        assert [*allowed([long, short], NOTHING.plus(short), limits)] == []

    def test_limit_that_is_just_met_is_not_passed(self) -> None:
        job = _job(planned_trial())
        assert [*allowed([job], NOTHING, Limits(flops=job.planned.train_flops))] == [job]

    def test_number_of_trials_is_limited(self) -> None:
        jobs = [_job(planned_trial(seed=seed)) for seed in range(3)]
        assert [*allowed(jobs, Spending(0.0, 1), Limits(n_trials=3))] == jobs[:2]
        assert [*allowed(jobs, Spending(0.0, 3), Limits(n_trials=3))] == []

    def test_retry_is_paid_for(self) -> None:
        job = _job(planned_trial(), is_paid=True)
        assert [*allowed([job], Spending(0.0, 3), Limits(n_trials=3))] == [job]


def _of_length(seconds: float, demand: Demand = DEMAND, seed: int = 0) -> Job:
    """A job that takes so long on one rank of speed 1."""
    job = _job(planned_trial(seed=seed), demand)
    left = seconds / job.work
    assert 0 < left < 1
    return dataclasses.replace(job, share_done=1 - left)


def _chosen(
    jobs: Sequence[Job],
    nodes: Sequence[Node],
    running: Sequence[Running] = (),
    speeds: dict[str, float] | None = None,
) -> list[tuple[int, Placement]]:
    """Index of each job to start now, and where."""
    speeds = speeds or {node.node_id: 1.0 for node in nodes}
    cluster = Cluster(nodes, running, Speeds(speeds), now_s=100.0)
    started = starts(jobs, {job.demand for job in jobs}, cluster)
    return [(jobs.index(each.job), each.placement) for each in started]


class TestStarts:
    PAIR = Node("pair", cpus=2)
    GANG = Demand(n_ranks=2, cpus=1.0, gpus=0.0)

    def test_fills_what_is_free_in_order(self) -> None:
        jobs = [_of_length(9 - n, seed=n) for n in range(4)]
        assert _chosen(jobs, [self.PAIR]) == [(0, ("pair",)), (1, ("pair",))]

    def test_leaves_a_full_cluster_alone(self) -> None:
        busy = [Running(_of_length(5, seed=n), ("pair",), 105.0) for n in (7, 8)]
        assert _chosen([_of_length(1)], [self.PAIR], busy) == []

    def test_passes_over_what_fits_on_no_node(self) -> None:
        jobs = [_of_length(9, Demand(1, 1.0, 1.0)), _of_length(1, seed=1)]
        assert _chosen(jobs, [self.PAIR]) == [(1, ("pair",))]

    def test_several_ranks_wait_and_only_what_ends_before_goes_ahead(self) -> None:
        busy = [Running(_of_length(5, seed=9), ("pair",), 105.0)]
        gang = _of_length(8, self.GANG)
        long, short = _of_length(7, seed=1), _of_length(4, seed=2)
        assert _chosen([gang, long, short], [self.PAIR], busy) == [(2, ("pair",))]
        assert _chosen([gang, long], [self.PAIR], busy) == []

    def test_what_is_elsewhere_does_not_delay_several_ranks(self) -> None:
        busy = [Running(_of_length(5, seed=9), ("pair",), 105.0)]
        jobs = [_of_length(8, Demand(2, 1.0, 0.0)), _of_length(7, seed=1)]
        other = Node("other", cpus=1)
        assert _chosen(jobs, [self.PAIR, other], busy)[0] == (0, ("other", "pair"))
        one_node = [_of_length(8, Demand(2, 1.0, 1.0)), _of_length(7, seed=1)]
        gpus = [Node("gpus", cpus=2, gpus=2), other]
        holds_one = [Running(_of_length(5, Demand(1, 1.0, 1.0), seed=9), ("gpus",), 105.0)]
        assert _chosen(one_node, gpus, holds_one) == [(1, ("other",))]

    def test_trials_without_gpus_leave_gpu_nodes_free(self) -> None:
        nodes = [Node("gpus", cpus=8, gpus=2), Node("plain", cpus=1)]
        assert _chosen([_of_length(1)], nodes) == [(0, ("plain",))]

    def test_a_long_trial_waits_for_a_fast_node_and_a_short_one_takes_the_slow_one(self) -> None:
        nodes = [Node("fast", cpus=1), Node("slow", cpus=1)]
        speeds = {"fast": 1.0, "slow": 0.2}
        busy = [Running(_of_length(3, seed=9), ("fast",), 103.0)]
        long, short = _of_length(10), _of_length(1, seed=1)
        assert _chosen([long, short], nodes, busy, speeds) == [(1, ("slow",))]
        assert _chosen([long, short], nodes, (), speeds)[0] == (0, ("fast",))

    def test_what_should_have_ended_holds_its_place(self) -> None:
        overdue = [Running(_of_length(5, seed=n), ("pair",), 50.0) for n in (7, 8)]
        assert _chosen([_of_length(1)], [self.PAIR], overdue) == []

    def test_nodes_that_are_gone_hold_nothing(self) -> None:
        lost = [Running(_of_length(5, seed=7), ("gone",), 105.0)]
        assert _chosen([_of_length(1)], [self.PAIR], lost) == [(0, ("pair",))]
        assert _chosen([_of_length(1)], [], lost) == []


def _makespan(jobs: list[Job], nodes: list[Node], speeds: dict[str, float]) -> float:
    """When all is done, on a clock that jumps to the next end."""
    waiting, running, now_s = longest_first(jobs), list[Running](), 0.0
    while waiting or running:
        cluster = Cluster(nodes, running, Speeds(speeds), now_s)
        for each in starts(waiting, {job.demand for job in waiting}, cluster):
            waiting.remove(each.job)
            running.append(each)
        _assert_fits(running, nodes)
        assert running
        now_s = min(each.end_s for each in running)
        running = [each for each in running if each.end_s > now_s]
    return now_s


def _assert_fits(running: list[Running], nodes: list[Node]) -> None:
    for node in nodes:
        there = [
            each.job.demand for each in running for id_ in each.placement if id_ == node.node_id
        ]
        assert sum(demand.cpus for demand in there) <= node.cpus + 1e-6
        assert sum(demand.gpus for demand in there) <= node.gpus + 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_makespan_of_random_sweeps_is_near_its_lower_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = [Node(f"n{i}", cpus=8, gpus=4) for i in range(2)] + [Node("slow", cpus=4, gpus=2)]
    speeds = {"n0": 1.0, "n1": 1.0, "slow": 0.5}
    demands = rng.choice([0, 1, 2], size=200, p=[0.6, 0.3, 0.1])
    kinds = [Demand(1, 0.5, 0.5), Demand(1, 1.0, 1.0), Demand(4, 1.0, 1.0)]
    jobs = [
        _of_length(float(rng.lognormal(0, 1)), kinds[kind], seed=n)
        for n, kind in enumerate(demands)
    ]
    # GPU time at the speed of the node; shares cost their part.
    work = sum(job.work_left * job.demand.gpus for job in jobs)
    longest = max(job.work_left / job.demand.n_ranks for job in jobs)
    bound = max(work / (4 + 4 + 2 * 0.5), longest)
    assert bound <= _makespan(jobs, nodes, speeds) <= 1.15 * bound


def test_speeds_follow_what_is_measured() -> None:
    speeds = Speeds().after("a", 10.0, 1.0)
    assert speeds.of("a") == speeds.of("unknown") == 10.0
    for _ in range(30):
        speeds = speeds.after("a", 5.0, 1.0)
    assert speeds.of("a") == pytest.approx(5.0, rel=1e-3)
    assert speeds.after("a", 0.0, 1.0) == speeds.after("a", 1.0, 0.0) == speeds
