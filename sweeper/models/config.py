"""`config.json` of a model folder: everything that rebuilds network, family and tokenizer.

Needs neither torch nor any other library.
"""

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from sweeper.errors import StoreError
from sweeper.store.storage import StoragePath
from sweeper.trials.ladder import BackboneName
from sweeper.trials.trial import MAX_VOCAB_SIZE, Precision, Trial, canonical, from_canonical

CONFIG_VERSION = 1  # of the layout of `config.json`
FORMAT = "sweeper-model"

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "README.md"

MAX_CONFIG_BYTES = 10_000_000

TokenizerKind = Literal["bytes", "file", "ids"]
"""Every byte is a token; as `tokenizer.json` says; or nobody knows the text of the ids."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One trial at one step, and how to rebuild what it trained."""

    label: str
    """Of its series in the sweep file."""
    trial_id: str
    trial: Trial
    step: int
    """Optimiser steps taken."""
    tokens: int
    """Tokens trained on."""
    flops: float
    """Training FLOPs spent, convention `full`."""
    budget_flops: float | None
    """Budget that this step stands for; None outside isoFLOP designs."""
    bound_nats_per_token: float
    bound_stderr_nats_per_token: float
    bound_bits_per_byte: float | None
    source: str
    """Corpus as named in the sweep file."""
    tokenizer: TokenizerKind
    tokenizer_name: str
    """As named in the sweep file."""
    weights_sha256: str = ""
    """Of the whole file `model.safetensors`; filled in by `write_model`, as is its size."""
    weights_bytes: int = 0

    @property
    def family(self) -> str:
        """The diffusion family."""
        return self.trial.family

    @property
    def seq_len(self) -> int:
        """Tokens per sequence."""
        return self.trial.data.seq_len

    @property
    def vocab_size(self) -> int:
        """Real tokens; a mask or start token is not counted."""
        return self.trial.data.vocab_size

    def encoded(self) -> bytes:
        """The contents of `config.json`."""
        fields = {name: getattr(self, name) for name in _NAMES} | {"trial": canonical(self.trial)}
        whole = {"format": FORMAT, "version": CONFIG_VERSION, **fields}
        return (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode()


_NAMES = tuple(field.name for field in dataclasses.fields(ModelConfig))


def read_config(folder: StoragePath) -> ModelConfig:
    """The config of a model folder; raises StoreError for one that is absent, torn or foreign."""
    path = folder / CONFIG_FILE
    try:
        if isinstance(path, Path) and path.stat().st_size > MAX_CONFIG_BYTES:
            raise StoreError(
                f"{path}: it has {path.stat().st_size:,} bytes, expected {MAX_CONFIG_BYTES:,} at "
                "most: it is not the config of a model"
            )
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror or error}); expected the folder of a model, "
            "as `sweeper export` writes it"
        ) from error
    return parsed_config(data, path)


def parsed_config(data: bytes, where: object) -> ModelConfig:
    """The config in the contents of a file that messages call `where`."""
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError(f"it does not say that its format is {FORMAT!r}")
        if (version := fields.get("version")) != CONFIG_VERSION:
            raise ValueError(f"it has version {version!r}, this sweeper reads {CONFIG_VERSION}")
        found = set(fields) - {"format", "version"}
        if odd := found ^ {*_NAMES}:
            raise ValueError(f"keys that are missing or unknown: {', '.join(sorted(odd))}")
        types = typing.get_type_hints(ModelConfig)
        values = {
            name: _typed(fields[name], types[name], name) for name in _NAMES if name != "trial"
        }
        return ModelConfig(trial=_trial(fields["trial"], fields["trial_id"]), **values)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{where}: not the config of a model ({error}); export or copy the model again"
        ) from error


def _trial(fields: Any, trial_id: str) -> Trial:
    """A trial whose numbers are what its id says."""
    if not isinstance(fields, dict):
        raise ValueError("trial is no JSON object")
    trial = from_canonical(fields)
    if trial.trial_id != trial_id:
        raise ValueError(f"trial has id {trial.trial_id}, not {trial_id}: it was changed")
    for name, value, at_most in (
        ("n_layers", trial.rung.n_layers, 10**6),
        ("width", trial.rung.width, 10**7),
        ("n_heads", trial.rung.n_heads, 10**7),
        ("vocab_size", trial.data.vocab_size, MAX_VOCAB_SIZE),
        ("seq_len", trial.data.seq_len, 10**9),
    ):
        if not 1 <= _typed(value, int, name) <= at_most:
            raise ValueError(f"{name} is {value}, expected 1 to {at_most:,}")
    _typed(trial.family, str, "family")
    _typed(trial.precision, Precision, "precision")
    _typed(trial.backbone, BackboneName, "backbone")
    return trial


def _typed(value: Any, expected: Any, name: str) -> Any:
    """The value, if it is of a type: a plain one, one of some texts, or either with None."""
    if typing.get_origin(expected) is Literal:
        if not isinstance(value, str) or value not in typing.get_args(expected):
            known = ", ".join(typing.get_args(expected))
            raise ValueError(f"{name} is {value!r}, expected one of {known}")
        return value
    kinds = typing.get_args(expected) or (expected,)
    if type(value) is int and float in kinds:
        value = float(value)
    if type(value) not in kinds:
        names = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
        raise ValueError(f"{name} is {value!r}, expected {names}")
    return value
