"""A planted law in the place of training: trials whose losses are a pure function of the trial.

`run_planted` keeps the worker's contract, checkpoints and fault points included, and needs no
torch, so that the store and the driver are tested in milliseconds per trial.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import object_folder  # noqa: F401 -- so that workers, which import this module, know its stores

from sweeper.store import files
from sweeper.store.assignment import Assignment, Attempt, Outcome, StopRequested
from sweeper.store.attempts import Progress, attempts, progress_reporter, utc_now
from sweeper.store.layout import Store, store_at
from sweeper.store.plan_file import read_plan
from sweeper.store.results import Result, publish
from sweeper.store.rows import Ending, LogEntry, Measurement, loss_row, observation_row, trial_row
from sweeper.store.storage import StorePath, place
from sweeper.store.submission import submit
from sweeper.trials.flops import flops_per_token
from sweeper.trials.ladder import parameter_groups, rung_of_width
from sweeper.trials.plan import Observation, Plan, PlannedTrial
from sweeper.trials.trial import Data, Evaluation, Optimizer, Trial

VOCAB_SIZE, SEQ_LEN, BATCH_SEQUENCES = 256, 64, 8
LOG_EVERY_STEPS = 5


def planned_trial(
    series: str = "masked", *, width: int = 16, steps: tuple[int, ...] = (10, 20), seed: int = 0
) -> PlannedTrial:
    """A planned trial of a small rung; its budgets are what its steps cost."""
    rung = rung_of_width(width)
    trial = Trial(
        family=series.partition("-")[0],
        family_options=(("label", series),),
        rung=rung,
        data=Data("feedfacecafe", VOCAB_SIZE, SEQ_LEN),
        optimizer=Optimizer(BATCH_SEQUENCES, 4e-3, 6e-3, warmup_steps=1),
        evaluation=Evaluation(n_sequences=4),
        observe_at_steps=steps,
        seed=seed,
        precision="float32",
    )
    flops = flops_per_token(rung, SEQ_LEN, VOCAB_SIZE)
    return PlannedTrial(
        series=series,
        source="synthetic:planted",
        trial=trial,
        cells=tuple(
            Observation(
                budget_flops=float(f"{step * trial.tokens_per_step * flops.total:.1e}"),
                step=step,
                tokens=step * trial.tokens_per_step,
                flops=step * trial.tokens_per_step * flops.total,
            )
            for step in steps
        ),
        params=parameter_groups(rung, VOCAB_SIZE, extra_input_ids=1),
        flops_per_token=flops,
    )


def planned_sweep(
    series: tuple[str, ...] = ("masked", "uniform"),
    *,
    widths: tuple[int, ...] = (8, 16, 32),
    steps: tuple[int, ...] = (10, 20),
) -> Plan:
    """Every series at every width."""
    trials = tuple(
        planned_trial(label, width=width, steps=steps) for label in series for width in widths
    )
    return Plan("planted", trials)


def submitted_store(folder: StorePath, plan: Plan) -> Store:
    """A store to which a plan was submitted."""
    store = store_at(folder.parent, folder.name)
    submit(store, plan, f"name: {plan.name}\n")
    return store


def refresh(store: Store) -> None:
    """Bring the tables up to date with the plan in the store, as its driver does."""
    # Late: trials in processes of their own would load pyarrow.
    from sweeper.store.tables import refresh_tables

    refresh_tables(store, read_plan(store))


def on_disk(path: StorePath) -> Path:
    """A path of a store that a test keeps in a local folder."""
    assert isinstance(path, Path)
    return path


def kind_of_store(kind: str, folder: Path) -> StorePath:
    """`folder` itself for `folder`; for `objects`, a prefix of a test store that lies there.

    `SWEEPER_TEST_STORE=s3://bucket` in the environment tries a real store instead.
    """
    store = os.environ.get("SWEEPER_TEST_STORE", "bucket://")
    return place(f"{store}{folder}") if kind == "objects" else folder


KINDS = ("folder", "objects")
"""Where results can live, as tests are parametrised."""


def assignment_of(store: Store, planned: PlannedTrial, attempt: int = 1) -> Assignment:
    """An assignment of a whole planned trial."""
    now = utc_now()
    begun = Attempt(number=attempt, executor="planted", device="cpu", n_threads=1, started_at=now)
    return Assignment(store.folder, "planted", planned, begun)


def planted_bound(trial: Trial, params: int, step: int) -> float:
    """L(N, D) of a Chinchilla law, with an offset per family."""
    tokens = step * trial.tokens_per_step
    offset = 0.01 * (sum(map(ord, trial.family)) % 20)
    bound: float = 1.0 + offset + 40 / params**0.4 + 60 / tokens**0.35
    return bound


def planted_result(
    assignment: Assignment, *, until_step: int | None = None, started_at: str = ""
) -> Result:
    """What the trial yields; diverged when it ends before its last step."""
    trial, last_step = assignment.trial, until_step or assignment.trial.n_steps
    status = "done" if last_step == trial.n_steps else "diverged"
    params = assignment.planned.params.trunk
    return Result(
        trial=trial_row(
            assignment,
            Ending(
                status="done" if status == "done" else "diverged",
                steps=last_step,
                train_time_s=1.0,
                eval_time_s=0.5,
                started_at=started_at,
                finished_at="",
                torch_version="none",
            ),
        ),
        observations=tuple(
            observation_row(
                assignment,
                Measurement(
                    step=step,
                    bound_nats_per_token=planted_bound(trial, params, step),
                    bound_stderr_nats_per_token=1e-3,
                    bound_bits_per_byte=None,
                    bound_given_prefix_nats_per_token=None,
                    bound_given_prefix_stderr_nats_per_token=None,
                    eval_tokens=256,
                    train_loss_nats_per_token=planted_bound(trial, params, step),
                ),
                "done" if status == "done" else "diverged",
            )
            for step in trial.observe_at_steps
            if step <= last_step
        ),
        losses=tuple(
            loss_row(
                assignment,
                LogEntry(
                    step=step,
                    loss_nats_per_token=planted_bound(trial, params, step),
                    learning_rate=trial.optimizer.learning_rate,
                    grad_norm=1.0,
                ),
            )
            for step in range(LOG_EVERY_STEPS, last_step + 1, LOG_EVERY_STEPS)
        ),
    )


def run_planted(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Take every step in no time."""
    return run_planted_slowly(assignment, stop=stop, step_time_s=0.0)


def run_planted_slowly(
    assignment: Assignment,
    *,
    stop: StopRequested,
    step_time_s: float = 0.02,
    checkpoint_every: int = 1,
    on_step: Callable[[int], None] = lambda _step: None,
) -> Outcome:
    """Take a little time per step, with a checkpoint after some, and before a stop."""
    store, trial = Store(assignment.store_folder), assignment.trial
    checkpoint = store.checkpoints(trial) / "step.json"
    step = int(files.read_json(checkpoint)) if checkpoint.exists() else 0
    report = progress_reporter(assignment)
    while step < trial.n_steps:
        is_stopping = stop()
        if is_stopping and step % checkpoint_every:
            files.replace_lightly(checkpoint, json.dumps(step).encode())
        if is_stopping:
            return "interrupted"
        time.sleep(step_time_s)
        step += 1
        if step_time_s and step % checkpoint_every == 0:
            files.replace_lightly(checkpoint, json.dumps(step).encode())
        on_step(step)
        report(
            Progress(
                step=step,
                n_steps=trial.n_steps,
                flops_done=step * trial.tokens_per_step * assignment.planned.flops_per_token.total,
                loss_nats_per_token=None,
                train_time_s=step * step_time_s,
                eval_time_s=0.0,
            )
        )
    started_at = attempts(store, trial.trial_id)[0].started_at
    publish(assignment, planted_result(assignment, started_at=started_at))
    return "published"


def run_or_raise(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Raise at every attempt for the series `broken`."""
    if assignment.planned.series == "broken":
        raise RuntimeError("planted failure\nwith a second line")
    return run_planted(assignment, stop=stop)


def run_and_die_midway(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Kill the own process in every trial's first attempt, at a step that differs by trial."""
    n_steps_left = int(assignment.trial.trial_id, 16) % assignment.trial.n_steps

    def die_or_stop() -> bool:
        nonlocal n_steps_left
        n_steps_left -= 1
        if assignment.attempt.number == 1 and n_steps_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return stop()

    return run_planted_slowly(assignment, stop=die_or_stop, step_time_s=0.001)


def run_until_stopped(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Stay at mid-trial, with a checkpoint behind, until asked to stop."""
    n_calls = 0

    def wait_at_half() -> bool:
        nonlocal n_calls
        n_calls += 1
        while n_calls > assignment.trial.n_steps // 2 and not stop():
            time.sleep(0.01)
        return stop()

    return run_planted_slowly(assignment, stop=wait_at_half, step_time_s=0.001)
