"""A sweep of 200 trials through crashes, preemptions, slow nodes and divergences."""

import math
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from planted import planned_trial, submitted_store
from simulated_cluster import SPEED, Fates, SimulatedCluster, SimulatedNode, with_absences

from analysis.fitting.fit import FitSettings, fit_table
from analysis.tables.load import load
from sweeper.executors.placement import Node
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.cost import TimeLeft
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.events import Event, SweepOutcome, TrialFailed
from sweeper.orchestration.scheduler import expected_work
from sweeper.orchestration.status import status
from sweeper.orchestration.verify import verify
from sweeper.store.layout import Store
from sweeper.trials.plan import Plan
from sweeper.trials.resources import RetryPolicy

SERIES = ("masked", "uniform", "hybrid", "ar")
WIDTHS = (16, 24, 32, 40, 48, 56, 64, 72, 80, 96)
STEPS = (500, 1000, 2000, 4000, 8000)

PLAN = Plan(
    "planted",
    tuple(
        # A seed of its own makes each a run of its own, observed once.
        planned_trial(series, width=width, steps=(n_steps,), seed=n_steps)
        for series in SERIES
        for width in WIDTHS
        for n_steps in STEPS
    ),
)
FATES = {"crash": 0.1, "diverge": 0.03, "misjudged": 0.2}


def _nodes(seed: int) -> list[SimulatedNode]:
    """Two that stay, two that are taken away for a while, one of half the speed."""
    steady = [SimulatedNode(Node(f"steady-{i}", cpus=4)) for i in range(2)]
    spot = [
        with_absences(
            SimulatedNode(Node(f"spot-{i}", cpus=4)),
            seed=10 * seed + i,
            mean_there_s=1500.0,
            mean_away_s=200.0,
            until_s=20_000.0,
        )
        for i in range(2)
    ]
    return [*steady, *spot, SimulatedNode(Node("slow", cpus=4), speed=0.5)]


def _run(store: Store, cluster: SimulatedCluster) -> tuple[SweepOutcome, list[Event]]:
    events: list[Event] = []
    run = SweepRun(
        store=store,
        plan=PLAN,
        executor=cluster,
        stop=StopSignal(),
        on_event=events.append,
        retries=RetryPolicy(failures=5),
        clock=cluster.clock,
    )
    return run_sweep(run), events


def _lower_bound_s(cluster: SimulatedCluster) -> float:
    """Shortest time in which these nodes could have done the work that was really done.

    Longest first cannot beat it: either all places work all the time that they are there, or the
    longest trial runs from the start on the fastest node.
    """
    longest_s = max(expected_work(each) / SPEED for each in PLAN.trials)
    changes = sorted(
        {moment for node in cluster.simulated for away in node.away for moment in away}
    )
    done_s, now_s = 0.0, 0.0
    for next_s in [*changes, math.inf]:
        speed = sum(
            node.speed * node.node.cpus for node in cluster.simulated if node.is_there(now_s)
        )
        if done_s + (next_s - now_s) * speed >= cluster.busy_s:
            now_s += (cluster.busy_s - done_s) / speed
            break
        done_s, now_s = done_s + (next_s - now_s) * speed, next_s
    return max(now_s, longest_s)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_sweep_survives_and_its_fit_is_right(tmp_path: Path, seed: int) -> None:
    store = submitted_store(tmp_path / "planted", PLAN)
    cluster = SimulatedCluster(_nodes(seed), Fates(seed, **FATES))
    outcome, events = _run(store, cluster)

    assert (outcome.exit_code, outcome.n_done) == (0, 200)
    assert verify(store.folder) == []
    trials = pd.read_parquet(tmp_path / "planted" / "trials")
    assert sorted(trials.trial_id) == sorted(planned.trial_id for planned in PLAN.trials)
    kinds = Counter(event.failure.kind for event in events if isinstance(event, TrialFailed))
    assert kinds["crashed"] >= 10
    assert kinds["preempted"] >= 10
    assert 1 <= outcome.n_diverged <= 20
    assert 0 < cluster.lost_s < 0.1 * cluster.busy_s

    bound_s = _lower_bound_s(cluster)
    sys.stdout.write(f"makespan over its lower bound: {cluster.now_s / bound_s:.3f}\n")
    assert bound_s <= cluster.now_s <= 1.15 * bound_s

    result = fit_table(load(store.folder), FitSettings(n_bootstrap=50))
    for series in SERIES:
        surface = result.families[series].surface
        assert surface is not None
        assert surface.alpha == pytest.approx(0.4, rel=0.02)
        assert surface.beta == pytest.approx(0.35, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_time_left_is_known_after_a_tenth_of_the_work(tmp_path: Path, seed: int) -> None:
    """Speeds are a sixteenth of those assumed, and scatter by a fifth from trial to trial."""
    store = submitted_store(tmp_path / "planted", PLAN)
    nodes = [SimulatedNode(Node(f"node-{i}", cpus=4)) for i in range(2)]
    cluster = SimulatedCluster(nodes, Fates(seed, misjudged=0.2))
    told: list[tuple[float, TimeLeft]] = []

    def ask(_event: Event) -> None:
        if told:
            return
        now = status(store)
        if now.time_left and now.flops_done >= 0.1 * now.flops_planned:
            told.append((cluster.now_s, now.time_left))

    run = SweepRun(
        store=store,
        plan=PLAN,
        executor=cluster,
        stop=StopSignal(),
        on_event=ask,
        clock=cluster.clock,
    )
    run_sweep(run)
    ((at_s, left),) = told
    truth_s = cluster.now_s - at_s
    # By then some eight trials tell the speed, to 0.2 / sqrt(8) = 7 %.
    assert left.p50_s == pytest.approx(truth_s, rel=0.2)
    assert truth_s <= left.p90_s
