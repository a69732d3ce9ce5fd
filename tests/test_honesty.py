"""Bounds against the truth: on a source of known entropy no series may read below it."""

from typing import Any

import pytest
import torch
from synthetic_entropy import entropy_rate

from sweeper.data.corpus import load_corpus
from sweeper.evaluation.bound import evaluate_bound, validation_set
from sweeper.families import encoded_options, load_family
from sweeper.training.trainer import Trainer
from sweeper.trials.ladder import rung_of_width
from sweeper.trials.trial import Data, Evaluation, Optimizer, Trial

torch.set_num_threads(1)
SOURCE = "synthetic:markov?vocab=8&concentration=0.3&tokens=2000000"
SEQ_LEN, N_STEPS = 64, 1200
SERIES: list[tuple[str, dict[str, Any]]] = [
    ("ar", {}),
    ("masked", {}),
    ("masked", {"objective": "cross_entropy"}),
    ("uniform", {}),
    ("esolm", {}),
    ("esolm", {"alpha_0": 0.5}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), SERIES, ids=str)
def test_no_bound_reads_below_the_entropy_and_ar_comes_close(
    name: str, options: dict[str, Any]
) -> None:
    corpus = load_corpus(SOURCE)
    family = load_family(name, vocab_size=corpus.tokens.vocab_size, **options)
    trial = Trial(
        family=name,
        family_options=encoded_options(family),
        rung=rung_of_width(16),
        data=Data(corpus.fingerprint, corpus.tokens.vocab_size, SEQ_LEN),
        optimizer=Optimizer(16, 0.06, 6e-3, warmup_steps=50),
        evaluation=Evaluation(1024),
        observe_at_steps=(N_STEPS,),
        seed=0,
        precision="float32",
    )
    trainer = Trainer(trial, family, corpus, torch.device("cpu"))
    for _ in range(N_STEPS):
        trainer.advance()
    validation = validation_set(corpus, seq_len=SEQ_LEN, n_sequences=1024)
    estimate = evaluate_bound(family, trainer.denoise, validation, seed=0)
    entropy = entropy_rate(corpus.source)
    assert estimate.nats_per_token >= entropy - 2 * estimate.stderr
    if name == "ar":
        assert estimate.nats_per_token <= 1.03 * entropy
