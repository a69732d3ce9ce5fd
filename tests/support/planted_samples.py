"""Measurements of samples that are a pure function of their task, and a driver of them.

`python planted_samples.py FOLDER SECONDS` is a driver process, whose measurements take so long.
"""

import functools
import sys
import time
from pathlib import Path
from typing import Any

from planted import planned_trial, submitted_store

from sweeper.executors.inline import InlineExecutor
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.lease import held
from sweeper.pareto.driver import MeasuringOutcome, MeasuringRun, Pending, run_measurements
from sweeper.pareto.grid import Candidate, Grid, Surroundings, best_judge, tasks_of
from sweeper.sampling.protocol import Measurement, Protocol, sample_row
from sweeper.store.assignment import Assignment, Outcome, RunTrial, StopRequested
from sweeper.store.layout import Store, open_store
from sweeper.store.measurements import publish_measurement, sampling_store
from sweeper.store.submission import read_plan
from sweeper.store.tables import refresh_samples
from sweeper.trials.plan import Plan
from sweeper.trials.sampling_task import SamplingTask

GRID = Grid(steps=(1, 4, 16), temperatures=(0.8, 1.0), n_sequences=8)
COMMON = Surroundings(
    context_tokens=16,
    data_fingerprint="feedfacecafe",
    device="cpu",
    sampling_version=1,
    controls=("unigram", "repeated"),
)


def candidate(series: str, bound: float = 2.0, budget: float | None = 1e11) -> Candidate:
    """A kept model; `ar` can judge."""
    planned = planned_trial(series)
    return Candidate(
        series=series,
        family=series,
        trial_id=planned.trial_id,
        trajectory_id=planned.trajectory_id,
        weights=f"weights of {series} at {budget}",
        folder=f"models/{planned.trajectory_id}/step-20",
        budget_flops=budget,
        bound_nats_per_token=bound,
        samplers=("ancestral",),
        is_exact=series == "ar",
    )


def planted_plan() -> Plan:
    return Plan("planted", tuple(map(planned_trial, ("ar", "masked", "uniform"))))


def wanted() -> tuple[Pending, ...]:
    models = [candidate(series) for series in ("ar", "masked", "uniform")]
    planned = {each.trajectory_id: each for each in planted_plan().trials}
    tasks = tasks_of(models, best_judge(models), GRID, COMMON)
    first = planted_plan().trials[0]
    return tuple(Pending(task, planned.get(task.trajectory_id, first)) for task in tasks)


def measurement_of(task: SamplingTask) -> Measurement:
    """Numbers that depend on the task alone."""
    number, is_control = int(task.task_id, 16) / 16**12, not task.trial_id
    judged = number if task.judge else None
    numbers: dict[str, Any] = dict.fromkeys(Measurement.__dataclass_fields__)
    numbers |= {
        "sampling_seed": task.seed,
        "network_evaluations": task.n_steps,
        "tokens_generated": task.n_sequences * task.context_tokens,
        "wall_time_s": 1.0,
        "tokens_per_s": None if is_control else 1000 / task.n_steps,
        "tokens_per_s_spread": 0.01,
        "cross_entropy_nats_per_token": judged,
        "cross_entropy_stderr_nats_per_token": 0.01,
        "unigram_entropy_nats": 2.0 + task.temperature,
        "ngram_entropy_nats_per_token": 1.0 + task.temperature,
        "judge_divergence_nats_per_token": judged,
        "distinct_2": 0.5,
        "distinct_4": 0.9,
        "first_sample": task.task_id,
    }
    return Measurement(**numbers)


def measure_planted(
    assignment: Assignment, *, stop: StopRequested, seconds: float = 0.0
) -> Outcome:
    """Publish the row of a task once its time has passed."""
    task = assignment.sampling
    assert task is not None
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if stop():
            return "interrupted"
        time.sleep(0.005)
    protocol = Protocol(
        sampler=task.sampler,
        n_steps=task.n_steps,
        temperature=task.temperature,
        top_p=task.top_p,
        block_tokens=task.context_tokens,
        context_tokens=task.context_tokens,
        n_sequences=task.n_sequences,
        judge=task.judge or "none",
        judge_revision=task.judge_revision,
        reference="planted",
        device=task.device,
    )
    row = sample_row(task.trial_id, task.series, task.family, protocol, measurement_of(task))
    publish_measurement(assignment, task, row)
    return "published"


def drive(
    store: Store, measure: RunTrial, tell: list[str], stop: StopSignal | None = None
) -> MeasuringOutcome:
    """Measure what is missing, in this process, and bring the table up to date."""
    own, stop = sampling_store(store), stop or StopSignal()
    with held(own) as lease:
        outcome = run_measurements(
            MeasuringRun(
                store=own,
                sweep="planted",
                wanted=wanted(),
                executor=InlineExecutor(measure, stop.is_requested),
                stop=stop,
                tell=tell.append,
                stop_request=lease.stop_request,
            )
        )
    refresh_samples(store, read_plan(store))
    return outcome


def planted_store(folder: Path) -> Store:
    """A sweep that has been planned."""
    return submitted_store(folder, planted_plan())


if __name__ == "__main__":
    measure = functools.partial(measure_planted, seconds=float(sys.argv[2]))
    drive(open_store(Path(sys.argv[1])), measure, [])
