"""Rows of the tables from an assignment and what its run measured. Pure and torch-free."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.store.assignment import Assignment
from sweeper.trials.records import LossRow, ObservationRow, TrialRow


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended and what it cost from its start, over all attempts: columns of `trials`."""

    status: Literal["done", "diverged", "failed"]
    steps: int
    train_time_s: float
    eval_time_s: float
    started_at: str
    finished_at: str
    torch_version: str
    error_class: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One evaluation of the bound: columns of `observations`."""

    step: int
    bound_nats_per_token: float
    bound_stderr_nats_per_token: float
    bound_bits_per_byte: float | None
    bound_given_prefix_nats_per_token: float | None
    bound_given_prefix_stderr_nats_per_token: float | None
    eval_tokens: int
    train_loss_nats_per_token: float


@dataclass(frozen=True, kw_only=True)
class Continued:
    """What a published, shorter trial of the trajectory had done when this one went on from it."""

    trial_id: str
    steps: int
    train_time_s: float
    eval_time_s: float


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """The log of a training step: columns of `losses`."""

    step: int
    loss_nats_per_token: float
    """Mean since the previous entry."""
    learning_rate: float
    grad_norm: float


def trial_row(assignment: Assignment, ending: Ending) -> TrialRow:
    """The row of a trial in `trials`."""
    trial = assignment.trial
    tokens = ending.steps * trial.tokens_per_step
    return TrialRow(
        family_options=json.dumps(dict(trial.family_options)),
        backbone=trial.backbone,
        n_heads=trial.rung.n_heads,
        **_ingredients(assignment),
        batch_tokens=trial.tokens_per_step,
        learning_rate=trial.optimizer.learning_rate,
        optimizer=json.dumps(dataclasses.asdict(trial.optimizer)),
        precision=trial.precision,
        tokens=tokens,
        train_flops=tokens * assignment.planned.flops_per_token.total,
        data_source=assignment.planned.source,
        data_fingerprint=trial.data.fingerprint,
        eval_sequences=trial.evaluation.n_sequences,
        trainer_version=trial.trainer_version,
        n_attempts=assignment.attempt.number,
        device=assignment.attempt.device,
        n_threads=assignment.attempt.n_threads,
        **vars(ending),
    )


def observation_row(
    assignment: Assignment, measurement: Measurement, status: Literal["done", "diverged"]
) -> ObservationRow:
    """One row of `observations`; raises ValueError for a step that is not assigned."""
    trial = assignment.trial
    cells = {cell.step: cell for cell in assignment.planned.cells}
    if measurement.step not in cells:
        raise ValueError(f"step {measurement.step} of trial {trial.trial_id} is not to be observed")
    tokens = measurement.step * trial.tokens_per_step
    return ObservationRow(
        budget_flops=cells[measurement.step].budget_flops,
        tokens=tokens,
        flops=tokens * assignment.planned.flops_per_token.total,
        status=status,
        **vars(measurement),
        **_ingredients(assignment),
    )


def loss_row(assignment: Assignment, entry: LogEntry) -> LossRow:
    """One row of `losses`."""
    tokens = entry.step * assignment.trial.tokens_per_step
    return LossRow(
        trial_id=assignment.trial.trial_id,
        series=assignment.planned.series,
        tokens=tokens,
        flops=tokens * assignment.planned.flops_per_token.total,
        **vars(entry),
    )


def _ingredients(assignment: Assignment) -> dict[str, Any]:
    """Columns that trials and observations share: who they are, and what conventions need."""
    planned, trial = assignment.planned, assignment.trial
    params, flops = planned.params, planned.flops_per_token
    return {
        "trial_id": trial.trial_id,
        "trajectory_id": trial.trajectory_id,
        "sweep": assignment.sweep,
        "series": planned.series,
        "family": trial.family,
        "seed": trial.seed,
        "n_layers": trial.rung.n_layers,
        "width": trial.rung.width,
        "context_tokens": trial.data.seq_len,
        "vocab_size": trial.data.vocab_size,
        "params_trunk": params.trunk,
        "params_embedding": params.embedding,
        "params_head": params.head,
        "params_conditioning": params.conditioning,
        "flops_per_token_trunk": flops.trunk,
        "flops_per_token_attention": flops.attention,
        "flops_per_token_head": flops.head,
    }
