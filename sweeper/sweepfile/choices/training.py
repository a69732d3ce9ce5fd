"""`train` and `series` in a sweep file: how to train, for the whole sweep and for each frontier."""

import math
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from sweeper.families import family_names
from sweeper.sweepfile.fields import (
    AutoLengthShare,
    AutoMinimumShare,
    AutoRate,
    Distinct,
    NormOrNone,
    Number,
    Pair,
    Part,
    Seed,
    Several,
    Share,
    ShareOrAll,
    TunedCount,
    TunedRate,
    Warmup,
    wrong,
)
from sweeper.sweepfile.problems import expected_one_of
from sweeper.trials.trial import EMBEDDING_LEARNING_RATE_RATIO, OptimizerName, Schedule


class Train(Part):
    """How to train. Written for the whole sweep or, key by key, for one series."""

    batch_tokens: TunedCount = "auto"
    """Tokens per optimiser step; taken to the nearest whole number of sequences."""
    learning_rate: TunedRate = "auto"
    """Base learning rate; matrices train at it divided by width. With dit: that of all tensors."""
    laws: str = ""
    """Law file that says what is `tuned`, relative to the sweep file."""
    max_horizon_bias: Annotated[Number, Field(gt=0)] = math.inf
    """Largest relative excess loss, by the law, at the first or last observation of a run that is
    tuned for their middle; a run that would exceed it becomes several."""
    auxiliary_learning_rate: AutoRate = "auto"
    """Learning rate of embeddings, head, norms, biases and sinks."""
    embedding_learning_rate_ratio: Annotated[Number, Field(gt=0, le=100)] = (
        EMBEDDING_LEARNING_RATE_RATIO
    )
    """Learning rate of the input table in units of the auxiliary one."""
    optimizer: OptimizerName = "adamw"
    """`laprop` is that of arXiv 2512.10858; `muon` trains the matrices of all layers, and adamw the
    rest, see `docs/training.md`."""
    schedule: Schedule = "constant"
    """Course of the learning rate after warmup. `cosine` and `wsd` (a cooldown at the end) depend
    on the length of the run, so that every observation takes a run of its own."""
    warmup: Warmup = "auto"
    """Optimiser steps of linear warmup, 1 meaning none; or `{share, at_least}` of the run."""
    cooldown: AutoLengthShare = "auto"
    """Share of the run over which `wsd` brings the rate down to zero."""
    min_learning_rate_ratio: AutoMinimumShare = "auto"
    """Where `cosine` ends, in units of the peak rate."""
    seeds: Annotated[tuple[Seed, ...], Several, Distinct] = (0,)
    """One run of every design point for each."""
    betas: Annotated[tuple[Share, Share], Pair] = (0.9, 0.99)
    """What the moving averages of gradient and squared gradient keep each step."""
    weight_decay: Annotated[Number, Field(ge=0, le=100)] = 0.0
    """Decoupled, of weight matrices; with dit: of all tensors."""
    clip_norm: NormOrNone = 1.0
    """Largest global gradient norm; `none`: gradients are taken as they are."""
    ema: Share = 0.0
    """What the average of the weights that is evaluated keeps each step; 0: no averaging."""
    prefix_share: ShareOrAll = 0.0
    """Share of the sequences that keep a clean prefix, see `prefixes.py`."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast where it is faster, see `recipe.py`."""

    @property
    def named(self) -> tuple[tuple[str, Any], ...]:
        """What is named explicitly, as sorted (key, value) pairs."""
        return tuple((key, getattr(self, key)) for key in sorted(self.model_fields_set))

    def overridden_by(self, other: "Train") -> "Train":
        """This, with what `other` names explicitly taken from it."""
        return self.model_copy(update=dict(other.named))


class Series(Part):
    """One frontier: a family, its options, and its own training settings."""

    model_config = ConfigDict(extra="allow")  # options; the family itself says which it has

    family: str
    """The noise type. Keys beside these two are its options."""
    train: Train = Train()
    """What this series trains otherwise than the sweep."""

    @property
    def options(self) -> dict[str, Any]:
        """Options of the family, as written."""
        return dict(self.__pydantic_extra__ or {})

    @pydantic.field_validator("family")
    @classmethod
    def _known_family(cls, name: str) -> str:
        if name not in family_names():
            raise wrong(expected_one_of(name, family_names()))
        return name
