"""Small models trained in this process, in seconds, on synthetic sources."""

from typing import Any

import torch
from small_trials import trial_of

from sweeper.data.corpus import load_corpus
from sweeper.families import encoded_options, load_family
from sweeper.networks.backbone import BackboneDenoiser
from sweeper.sampling.sources import ModelSource
from sweeper.training.trainer import Trainer
from sweeper.trials.ladder import Rung
from sweeper.trials.trial import Data, Optimizer

CPU = torch.device("cpu")


def trained(
    name: str, source: str, *, seq_len: int, n_steps: int, rung: Rung, seed: int = 0, **options: Any
) -> ModelSource:
    """A model of the family after `n_steps` of 32 sequences, at the last step's weights."""
    corpus = load_corpus(source)
    family = load_family(name, vocab_size=corpus.tokens.vocab_size, **options)
    trial = trial_of(
        name,
        family_options=encoded_options(family),
        rung=rung,
        data=Data(corpus.fingerprint, corpus.tokens.vocab_size, seq_len),
        optimizer=Optimizer(32, 0.1, auxiliary_learning_rate=6e-3, warmup_steps=20),
        observe_at_steps=(n_steps,),
        seed=seed,
    )
    trainer = Trainer(trial, family, corpus, CPU)
    for _ in range(n_steps):
        trainer.advance()
    backbone = trainer.backbone.requires_grad_(requires_grad=False).eval()
    denoiser = BackboneDenoiser(backbone, "float32")
    return ModelSource(trial.trial_id, family, denoiser, CPU)
