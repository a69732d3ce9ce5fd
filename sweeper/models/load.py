"""From a model folder to a network and its family; needs torch and nothing else.

network, family = sweeper.load_model("model")
plan = SamplingPlan(n_sequences=4, seq_len=128, n_steps=64)
samples = family.sample(network, plan, torch.Generator().manual_seed(0))
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from sweeper.errors import ConfigError, StoreError
from sweeper.families import family_of
from sweeper.families.base import AbstractFamily
from sweeper.models.config import WEIGHTS_FILE, ModelConfig, read_config
from sweeper.models.model_file import read_tensors
from sweeper.models.text import ModelTokenizer, tokenizer_of
from sweeper.networks.backbone import Backbone, BackboneDenoiser, backbone_of
from sweeper.trials.ladder import parameter_groups


@dataclass(frozen=True)
class Model:
    """A trained model; unpacks as `network, family`."""

    network: BackboneDenoiser
    """The denoiser that the family calls; evaluation weights."""
    family: AbstractFamily
    config: ModelConfig
    """Label, trial, step, bound and what else is known of it."""
    tokenizer: ModelTokenizer

    def __iter__(self) -> Iterator[BackboneDenoiser | AbstractFamily]:
        yield self.network
        yield self.family


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """The model in a folder, on a device; nothing is unpickled.

    Raises StoreError for a folder that is torn, foreign or was tampered with.
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        family = family_of(config.trial)
    except (ConfigError, TypeError, ValueError) as error:
        raise StoreError(
            f"{folder}: this sweeper cannot build its family ({error}); use the version that wrote "
            "it"
        ) from error
    backbone = _backbone(folder, config, family, torch.device(device))
    network = BackboneDenoiser(backbone, config.trial.precision)
    return Model(network, family, config, tokenizer_of(folder, config))


def _backbone(
    folder: Path, config: ModelConfig, family: AbstractFamily, device: torch.device
) -> Backbone:
    path, trial, needs = folder / WEIGHTS_FILE, config.trial, family.needs
    weights, sha256 = read_tensors(path)
    if sha256 != config.weights_sha256:
        raise StoreError(
            f"{path}: has sha-256 {sha256[:12]}…, expected {config.weights_sha256[:12]}… as "
            "config.json says: damaged or of another model; export or copy the model again"
        )
    # Before anything is built, which a config that lies could make as large as it likes.
    expected = parameter_groups(
        trial.rung, config.vocab_size, needs.extra_input_ids, trial.backbone
    ).total
    found = sum(tensor.numel() for tensor in weights.values())
    if found != expected:
        raise StoreError(
            f"{path}: has {found:,} weights, expected {expected:,} as config.json says"
        )
    with torch.device("meta"):
        backbone = backbone_of(trial, needs)
    shapes = {name: (t.dtype, t.shape) for name, t in backbone.state_dict().items()}
    if {name: (t.dtype, t.shape) for name, t in weights.items()} != shapes:
        raise StoreError(
            f"{path}: its tensors have other names, types or shapes than {trial.backbone} networks "
            f"of {trial.rung.n_layers} layers; expected those that config.json says"
        )
    backbone.to_empty(device=device)
    backbone.load_state_dict(weights)
    return backbone.requires_grad_(requires_grad=False).eval()
