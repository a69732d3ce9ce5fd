"""A trial: one fully specified training run, and its identity."""

import functools
import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.trials.ladder import BackboneName, Rung

TRAINER_VERSION = 2  # bumped by hand whenever a change alters the numbers of the same trial

Schedule = Literal["constant", "cosine", "wsd"]
# Those that do not depend on the length of the run: every shorter run is the start of it.
ENDLESS_SCHEDULES: tuple[Schedule, ...] = ("constant",)

OptimizerName = Literal["adamw", "laprop", "muon"]

Precision = Literal["float32", "bfloat16"]

MAX_VOCAB_SIZE = 10_000_000  # more is a mistake, and an embedding that fits nowhere

# The study has 1. A row moves only at steps that show its token. At 25K parameters, from 1e11 to
# 1e12 FLOPs, doubling its rate lowered the bound of `ar` by 0.01 to 0.03 and of `masked`
# (cross-entropy) by 0.015 nats per token and left `uniform` where it was: one seed each, so little
# more than the noise of 0.01 to 0.02.
EMBEDDING_LEARNING_RATE_RATIO = 2.0


@dataclass(frozen=True)
class Data:
    """What a trial reads, independent of where the files lie."""

    fingerprint: str
    """Hash of the train and validation tokens."""
    vocab_size: int
    seq_len: int
    """Tokens per sequence."""


@dataclass(frozen=True)
class Optimizer:
    """Optimiser and schedule of a trial."""

    batch_sequences: int
    """Sequences per step, over all devices and micro-batches."""
    learning_rate: float
    """Peak of the base rate eta of arXiv 2512.10858 §2.1, where matrices train at eta / width; with
    the backbone dit, of all tensors."""
    auxiliary_learning_rate: float
    """Peak rate of everything else: embeddings, head, norms, biases, sinks."""
    warmup_steps: int
    embedding_learning_rate_ratio: float = EMBEDDING_LEARNING_RATE_RATIO
    """Peak rate of the input table in units of the auxiliary one."""
    schedule: Schedule = "constant"
    name: OptimizerName = "adamw"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    """Largest global gradient norm, to which larger gradients are scaled; None: no clipping."""
    schedule_steps: int = 0
    """Length of the run for a schedule that depends on it; 0 for one that does not."""
    cooldown_steps: int = 0
    """Last steps of `wsd`, over which the rate falls to zero."""
    min_learning_rate_ratio: float = 0.0
    """Where `cosine` ends, in units of the peak."""
    ema_decay: float = 0.0
    """What an average of the weights, used for evaluation, keeps each step; 0: the weights."""


@dataclass(frozen=True)
class Evaluation:
    """The fixed validation set and the noise drawn on it; shared by all trials of a sweep."""

    n_sequences: int
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """One training run: a trajectory observed at given steps."""

    # All that can change its numbers and nothing else: no labels, paths, devices or micro-batches.
    family: str
    family_options: tuple[tuple[str, Any], ...]
    """Options of the family as sorted (name, value) pairs, defaults included."""
    rung: Rung
    data: Data
    optimizer: Optimizer
    evaluation: Evaluation
    observe_at_steps: tuple[int, ...]
    """Increasing optimiser steps after which the bound is evaluated; the last ends the run."""
    seed: int
    precision: Precision
    prefix_share: float = 0.0
    """Share of training sequences that keep a clean prefix (`prefixes.py`)."""
    backbone: BackboneName = "gidd"
    trainer_version: int = TRAINER_VERSION

    def __post_init__(self) -> None:
        steps = self.observe_at_steps
        if not steps or steps[0] < 1 or any(a >= b for a, b in itertools.pairwise(steps)):
            raise ValueError(f"observe_at_steps must increase from at least 1, got {steps}")
        schedule, length = self.optimizer.schedule, self.optimizer.schedule_steps
        if length != (0 if schedule in ENDLESS_SCHEDULES else steps[-1]):
            raise ValueError(f"a run of {steps[-1]} steps has a {schedule} schedule of {length}")

    # Cached, because plans of ten thousand trials ask for them again and again.
    @functools.cached_property
    def trial_id(self) -> str:
        """First 12 hex digits of the hash of the whole trial."""
        return _digest(_fields_of(self))

    @functools.cached_property
    def trajectory_id(self) -> str:
        """Identity of the run without its observed steps: equal ids pass through equal weights."""
        fields = _fields_of(self)
        del fields["observe_at_steps"]
        return _digest(fields)

    @property
    def n_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.observe_at_steps[-1]

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step."""
        return self.optimizer.batch_sequences * self.data.seq_len


def canonical(trial: Trial) -> dict[str, Any]:
    """The trial as plain JSON values."""
    return dict(json.loads(json.dumps(_fields_of(trial))))


def from_canonical(fields: dict[str, Any]) -> Trial:
    """The inverse of `canonical`."""
    optimizer = fields["optimizer"]
    parts = {
        "family_options": tuple((name, value) for name, value in fields["family_options"]),
        "rung": Rung(**fields["rung"]),
        "data": Data(**fields["data"]),
        "optimizer": Optimizer(**{**optimizer, "betas": tuple(optimizer["betas"])}),
        "evaluation": Evaluation(**fields["evaluation"]),
        "observe_at_steps": tuple(fields["observe_at_steps"]),
    }
    return Trial(**{**fields, **parts})


def _fields_of(trial: Trial) -> dict[str, Any]:
    """What `dataclasses.asdict` gives, without its copy of every value."""
    # Not all of `vars`, which holds cached properties, too.
    fields = {name: vars(trial)[name] for name in Trial.__dataclass_fields__}
    parts = ("rung", "data", "optimizer", "evaluation")
    return fields | {name: dict(vars(fields[name])) for name in parts}


def _digest(fields: dict[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
