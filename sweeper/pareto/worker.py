"""One attempt at one measurement: load model and judge, measure, publish.

A measurement takes seconds to minutes and keeps nothing in between: interrupted, it starts again.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweeper.data.corpus import Corpus, planned_corpus, validation_sequences
from sweeper.models.kept import local_model
from sweeper.models.load import Model, load_model
from sweeper.sampling.controls import controls_for
from sweeper.sampling.judge import AsText, Judge, load_hugging_face_judge, network_judge
from sweeper.sampling.measure import Measuring, measure, protocol_of
from sweeper.sampling.protocol import sample_row
from sweeper.sampling.sources import Source, model_source
from sweeper.sampling.throughput import TimingPlan
from sweeper.store.assignment import Assignment, Outcome, StopRequested
from sweeper.store.attempts import Progress, progress_reporter
from sweeper.store.layout import Store
from sweeper.store.measurements import publish_measurement
from sweeper.store.results import read_records, record_paths
from sweeper.store.storage import StoragePath
from sweeper.trials.sampling_task import CONTROL_FAMILY, SamplingTask

TIMING = {"cpu": TimingPlan(max_batch_s=2.0), "cuda": TimingPlan()}
"""A core is busy with a handful of sequences; larger batches would only take longer."""

SPEED_COLUMNS = (
    "tokens_per_s", "tokens_per_s_spread", "best_batch_sequences", "latency_s", "latency_s_spread",
)  # fmt: skip


class _Stopped(Exception):
    """The driver asked to stop."""


def run_measurement(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Measure the samples that `assignment` asks for, and publish the row."""
    task = assignment.sampling
    assert task is not None
    torch.set_num_threads(assignment.attempt.n_threads)
    store, device = Store(assignment.store_folder), torch.device(assignment.attempt.device)
    sweep_folder = assignment.store_folder.parent
    corpus = planned_corpus(assignment.planned, sweep_folder.parent)
    # A control has the folder of some model, whose tokenizer says what its ids mean.
    model = _loaded(sweep_folder, task.model_folder, device.type)

    def text(ids_L: np.ndarray) -> str:
        return model.tokenizer.decode(ids_L.tolist())

    report = progress_reporter(assignment)

    def after_batch(n_sequences: int) -> None:
        if stop():
            raise _Stopped
        report(
            Progress(
                step=n_sequences,
                n_steps=task.n_sequences,
                flops_done=0.0,
                loss_nats_per_token=None,
                train_time_s=0.0,
                eval_time_s=0.0,
            )
        )

    timed = _speed_of_another(store, task)
    measuring = Measuring(
        reference_NL=torch.from_numpy(
            validation_sequences(corpus, seq_len=task.context_tokens, n_sequences=task.n_sequences)
        ),
        vocab_size=corpus.tokens.vocab_size,
        as_text=text,
        judge=_judge(task, sweep_folder, text, device.type),
        corpus_source=corpus.source,
        timing=None if timed else TIMING[assignment.attempt.device],
        after_batch=after_batch,
    )
    protocol = dataclasses.replace(
        protocol_of(
            measuring,
            device,
            sampler=task.sampler,
            n_steps=task.n_steps,
            n_sequences=task.n_sequences,
        ),
        temperature=task.temperature,
        top_p=task.top_p,
    )
    try:
        measurement = measure(_source(task, corpus, model), protocol, measuring, task.seed)
    except _Stopped:
        return "interrupted"
    measurement = dataclasses.replace(measurement, **timed)
    row = sample_row(task.trial_id, task.series, task.family, protocol, measurement)
    publish_measurement(assignment, task, row)
    return "published"


def _source(task: SamplingTask, corpus: Corpus, model: Model) -> Source:
    if task.family != CONTROL_FAMILY:
        return model_source(model)
    return next(each for each in controls_for(corpus) if each.name == task.series)


def _judge(
    task: SamplingTask, sweep_folder: StoragePath, text: AsText, device: str
) -> Judge | None:
    if not task.judge_folder:
        return None
    if Path(task.judge_folder).is_absolute():
        return load_hugging_face_judge(Path(task.judge_folder), text, torch.device(device))
    return network_judge(_loaded(sweep_folder, task.judge_folder, device))


@functools.lru_cache(maxsize=4)
def _loaded(sweep_folder: StoragePath, folder: str, device: str) -> Model:
    """A model of the sweep; tasks of a process follow each other, mostly with the same judge."""
    path = sweep_folder
    for name in folder.split("/"):
        path = path / name
    with local_model(path) as local:
        return load_model(local, device)


def _speed_of_another(store: Store, task: SamplingTask) -> dict[str, Any]:
    """The speed that was measured with the same steps at another temperature, if any was.

    Temperature divides logits, which takes the same time whatever it is, but for 0; finding the
    best batch takes longer than everything else.
    """

    def key(fields: Mapping[str, Any]) -> tuple[Any, ...]:
        names = ("source", "sampler", "n_steps", "top_p", "device", "sampling_version")
        return (*(fields[name] for name in names), fields["temperature"] == 0)

    for record in read_records(record_paths(store)):
        sample = record["sample"]
        if key(record["identity"]) == key(task.to_json()) and sample["tokens_per_s"] is not None:
            return {name: sample[name] for name in SPEED_COLUMNS}
    return {}
