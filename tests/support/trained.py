"""Small models trained in this process, in seconds, on synthetic sources."""

from pathlib import Path
from typing import Any

import torch
from small_trials import trial_of

from sweeper.data.corpus import load_corpus
from sweeper.families import encoded_options, load_family
from sweeper.models.config import ModelConfig
from sweeper.models.model_file import write_model
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
    trainer = _trained(name, source, seq_len, n_steps, rung, seed, options)
    backbone = trainer.backbone.requires_grad_(requires_grad=False).eval()
    denoiser = BackboneDenoiser(backbone, "float32")
    return ModelSource(trainer.trial.trial_id, trainer.family, denoiser, CPU)


def trained_folder(
    folder: Path, name: str, source: str, *, seq_len: int, n_steps: int, rung: Rung
) -> Path:
    """The folder of such a model of a corpus of bytes."""
    trainer = _trained(name, source, seq_len, n_steps, rung, 0, {})
    config = ModelConfig(
        label=name,
        trial_id=trainer.trial.trial_id,
        trial=trainer.trial,
        step=n_steps,
        tokens=n_steps * trainer.trial.tokens_per_step,
        flops=1e9,
        budget_flops=None,
        bound_nats_per_token=2.0,
        bound_stderr_nats_per_token=0.1,
        bound_bits_per_byte=None,
        source=source,
        tokenizer="bytes",
        tokenizer_name="bytes",
    )
    written = write_model(folder, config, trainer.backbone.state_dict(), None)
    assert isinstance(written, Path)
    return written


def _trained(
    name: str,
    source: str,
    seq_len: int,
    n_steps: int,
    rung: Rung,
    seed: int,
    options: dict[str, Any],
) -> Trainer:
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
    return trainer
