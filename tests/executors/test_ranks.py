"""A trial of two ranks in Ray actors."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from command_line import sweeper
from processes import listening_beyond_loopback
from small_trials import ROUNDING, alone, assigned, observed_at_every_step, results, trial_of

from sweeper.executors.base import Failure
from sweeper.executors.placement import Demand
from sweeper.executors.ray_executor import RayExecutor
from sweeper.store.assignment import Assignment, Outcome, RunTrial, StopRequested
from sweeper.store.attempts import read_progress
from sweeper.store.layout import Store
from sweeper.training import distributed
from sweeper.training.worker import run_trial
from sweeper.trials.resources import Resources
from sweeper.trials.trial import Trial

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def executor() -> Iterator[RayExecutor]:
    """Ray as a sweep starts it."""
    with RayExecutor(run_trial) as executor:
        yield executor


def start(executor: RayExecutor, run_trial: RunTrial, assignment: Assignment) -> None:
    """Start the ranks of an attempt on the one node there is, with another trial function."""
    executor._run_trial = run_trial
    n_ranks, (node,) = assignment.planned.resources.n_ranks, executor.nodes()
    executor.start(assignment, Demand(n_ranks, 1.0, 0.0), (node.node_id,) * n_ranks)


def result(executor: RayExecutor) -> Outcome | Failure:
    """How the attempt that runs ends."""
    while not (finished := executor.poll(0.1)):
        pass
    (only,) = finished
    return only.result


def wait_for_step(executor: RayExecutor, store: Store, trial: Trial) -> None:
    while (report := read_progress(store, trial.trial_id)) is None or not report.progress.step:
        finished = executor.poll(0.1)
        assert finished == []


def run_until_stopped(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Run a trial with steps of a tenth of a second, and look for open ports meanwhile."""

    def ask() -> bool:
        assert listening_beyond_loopback([os.getpid()]) == []
        time.sleep(0.1)
        return stop()

    return run_trial(assignment, stop=ask)


def test_ranks_stop_and_resume_to_the_numbers_of_one_process(
    tmp_path: Path, executor: RayExecutor
) -> None:
    trial = observed_at_every_step("masked", n_steps=200)
    resources = Resources(n_ranks=2, sharded=True)
    store = Store((tmp_path / "sweep").resolve())
    start(executor, run_until_stopped, assigned(tmp_path, trial, resources))
    wait_for_step(executor, store, trial)
    asked_s = time.monotonic()
    executor.stop()
    assert result(executor) == "interrupted"
    assert time.monotonic() - asked_s < 15  # a step and a checkpoint
    (checkpoint,) = store.checkpoints(trial).iterdir()
    assert 0 < int(checkpoint.stem.removeprefix("step-")) < 200
    start(executor, run_trial, assigned(tmp_path, trial, resources))
    assert result(executor) == "published"
    found, expected = results(tmp_path, trial), alone(tmp_path / "one", trial)
    for values, others in zip(found, expected, strict=True):
        assert values[:10] == pytest.approx(others[:10], rel=ROUNDING)


def test_ranks_that_are_killed_leave_their_cores_to_others(
    tmp_path: Path, executor: RayExecutor
) -> None:
    trial = observed_at_every_step("masked", n_steps=2000)
    store, ray = Store((tmp_path / "sweep").resolve()), executor._ray
    n_cpus = ray.cluster_resources()["CPU"]
    start(executor, run_until_stopped, assigned(tmp_path, trial, Resources(n_ranks=2)))
    wait_for_step(executor, store, trial)
    assert "run_until_stopped" in executor.kill(trial.trial_id)
    give_up_s = time.monotonic() + 30
    while ray.available_resources().get("CPU") != n_cpus:
        assert time.monotonic() < give_up_s
        time.sleep(0.1)


def fail_in_the_second_rank(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Run a trial until its third step; the seed says how it ends."""
    n_asked = 0

    def ask() -> bool:
        nonlocal n_asked
        n_asked += 1
        if distributed.current().rank == 1 and n_asked == 3:
            if assignment.trial.seed == 0:
                raise torch.OutOfMemoryError("planted")
            os.kill(os.getpid(), signal.SIGKILL)
        return stop()

    return run_trial(assignment, stop=ask)


@pytest.mark.parametrize(("seed", "kind"), [(0, "gpu_oom"), (1, "crashed")])
def test_the_failure_of_a_rank_is_that_of_the_attempt(
    tmp_path: Path, executor: RayExecutor, seed: int, kind: str
) -> None:
    assignment = assigned(tmp_path, trial_of(seed=seed), Resources(n_ranks=2))
    start(executor, fail_in_the_second_rank, assignment)
    failure = result(executor)
    assert isinstance(failure, Failure)
    assert failure.kind == kind
    if kind == "gpu_oom":
        assert failure.message == "planted"
        assert "in fail_in_the_second_rank" in failure.traceback
    else:
        assert failure.error_class == "ActorDiedError"


SWEEP = """\
name: tiny
corpus: {source: "synthetic:markov?vocab=16&tokens=100000", seq_len: 16}
series: {masked: {family: masked}}
design: {grid: {sizes: [1.7K], tokens: [10K]}}
train: {batch_tokens: 128, learning_rate: 0.05}
evaluation: {sequences: 64}
"""


def test_a_sweep_file_may_ask_for_ranks(tmp_path: Path) -> None:
    bounds = []
    for n_ranks, executor in ((2, "ray"), (1, "inline")):
        folder = tmp_path / executor
        folder.mkdir()
        text = f"{SWEEP}resources: {{ranks: {n_ranks}}}\n"
        (folder / "tiny.yaml").write_text(text, encoding="utf-8")
        run = sweeper("run", "tiny.yaml", "--executor", executor, cwd=folder)
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stderr == ""
        assert len(run.stdout.splitlines()) == 5  # starts and ends of sweep and trial, and a hint
        observations = pd.read_parquet(folder / "results" / "tiny" / "observations")
        bounds.append(observations.bound_nats_per_token.tolist())
    # Sums of 78 float32 steps, taken in another order.
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-3)
