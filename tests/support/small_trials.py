"""Trials of two layers on a synthetic source, and what came of them."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from planted import on_disk
from torch import Tensor

from sweeper.data.corpus import load_corpus
from sweeper.evaluation.bound import ValidationSet
from sweeper.families import encoded_options, load_family
from sweeper.store.assignment import Assignment
from sweeper.store.attempts import begin_attempt
from sweeper.store.layout import Store
from sweeper.store.results import read_records
from sweeper.training.worker import run_trial
from sweeper.trials.flops import flops_per_token
from sweeper.trials.ladder import Rung, parameter_groups
from sweeper.trials.plan import Observation, PlannedTrial
from sweeper.trials.resources import Resources
from sweeper.trials.trial import Data, Evaluation, Optimizer, Trial

SOURCE = "synthetic:markov?vocab=8&tokens=20000"

SEQ_LEN = 16


def never() -> bool:
    return False


class StopAfter:
    """Asks to stop at the n-th question."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def trial_of(name: str = "masked", **changes: object) -> Trial:
    corpus = load_corpus(SOURCE)
    family = load_family(name, vocab_size=corpus.vocab_size)
    trial = Trial(
        family=name,
        family_options=encoded_options(family),
        rung=Rung(2, 16, 2),
        data=Data(corpus.fingerprint, corpus.vocab_size, SEQ_LEN),
        optimizer=Optimizer(8, 0.1, auxiliary_learning_rate=6e-3, warmup_steps=2),
        evaluation=Evaluation(20),
        observe_at_steps=(4, 10),
        seed=0,
        precision="float32",
    )
    return dataclasses.replace(trial, **changes)  # type: ignore[arg-type]


def assignment_of(folder: Path, trial: Trial) -> Assignment:
    store = Store((folder / "sweep").resolve())
    attempt = begin_attempt(store, trial.trial_id, executor="inline", device="cpu", n_threads=1)
    flops = flops_per_token(trial.rung, SEQ_LEN, trial.data.vocab_size)
    planned = PlannedTrial(
        series=trial.family,
        source=SOURCE,
        trial=trial,
        cells=tuple(
            Observation(1e9, step, step * trial.tokens_per_step, float(step))
            for step in trial.observe_at_steps
        ),
        params=parameter_groups(trial.rung, trial.data.vocab_size, 1),
        flops_per_token=flops,
    )
    return Assignment(store.folder, "sweep", planned, attempt)


def planned_with(assignment: Assignment, **changes: Any) -> Assignment:
    """The assignment, planned with other resources or another corpus."""
    planned = dataclasses.replace(assignment.planned, **changes)
    return dataclasses.replace(assignment, planned=planned)


def numbers(folder: Path, trial: Trial) -> tuple[object, object, object]:
    record = read_records([Store((folder / "sweep").resolve()).record(trial.trial_id)])[0]
    return record["identity"], record["observations"], record["losses"]


def interrupted_at(folder: Path, trial: Trial, *steps: int) -> list[Path]:
    """Paths of the checkpoints of attempts that were stopped at these steps, one after another."""
    done = 0
    for step in steps:
        stop = StopAfter(step - done)
        assert run_trial(assignment_of(folder, trial), stop=stop) == "interrupted"
        done = step
    return sorted(on_disk(Store((folder / "sweep").resolve()).checkpoints(trial)).iterdir())


ROUNDING = 3e-5
"""Relative; over ten float32 steps whose sums are taken in another order. Measured: 1e-6 at most in
losses and bounds, 6e-6 in norms of gradients."""


def observed_at_every_step(name: str, n_steps: int = 10, **changes: Any) -> Trial:
    """A trial whose every step has its loss and its bound."""
    trial = trial_of(name, observe_at_steps=tuple(range(1, n_steps + 1)), **changes)
    if name == "esolm":  # half the sequences train each of its two terms
        options = tuple(
            (key, 0.5 if key == "alpha_0" else value) for key, value in trial.family_options
        )
        trial = dataclasses.replace(trial, family_options=options)
    return trial


def assigned(folder: Path, trial: Trial, resources: Resources) -> Assignment:
    return planned_with(assignment_of(folder, trial), resources=resources)


def results(folder: Path, trial: Trial) -> tuple[list[float], list[float], list[float]]:
    """Losses, gradient norms and bounds of all steps."""
    record = read_records([Store((folder / "sweep").resolve()).record(trial.trial_id)])[0]
    bounds = [row["bound_nats_per_token"] for row in record["observations"]]
    return record["losses"]["loss_nats_per_token"], record["losses"]["grad_norm"], bounds


def alone(folder: Path, trial: Trial) -> tuple[list[float], list[float], list[float]]:
    assert run_trial(assignment_of(folder, trial), stop=never) == "published"
    return results(folder, trial)


def without_ngrams(sequences_NL: Tensor) -> ValidationSet:
    """A validation set of sequences that represent themselves (K = 0)."""
    none_NLK = torch.zeros(*sequences_NL.shape, 0, device=sequences_NL.device)
    return ValidationSet(sequences_NL, none_NLK, none_NLK[0, 0])
