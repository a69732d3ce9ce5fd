"""What trials run on, how often they are tried again, what may be spent and what is kept: the parts
of a sweep file that change no number."""

import itertools
import math
import typing
from typing import Annotated, Any, Literal

import pydantic.dataclasses
from pydantic import ConfigDict, Field, model_validator

from sweeper.sweepfile.fields import (
    AutoCount,
    AutoPositiveShare,
    AutoShare,
    Count,
    Number,
    Part,
    Seconds,
    Several,
    Size,
    WrittenBytes,
    WrittenCount,
    WrittenSeconds,
    or_word,
    quantity,
    written,
    wrong,
)
from sweeper.sweepfile.problems import expected_one_of
from sweeper.sweepfile.quantities import parse_bytes, parse_count, parse_seconds
from sweeper.trials.ladder import Rung, trunk_params
from sweeper.trials.resources import KeepModels, Limits, Resources, RetryPolicy

_positive_seconds = quantity(parse_seconds, lambda s: s > 0, "a time above zero, such as 5m")
AutoSeconds = Annotated[
    float | Literal["auto"],
    written(or_word(_positive_seconds), WrittenSeconds | Literal["auto"]),
]
_positive_bytes = quantity(parse_bytes, lambda n: n > 0, "memory above zero, such as 80GB")
AutoBytes = Annotated[
    float | Literal["auto"], written(or_word(_positive_bytes), WrittenBytes | Literal["auto"])
]

# Makes a subclass of a plain dataclass a mapping of the sweep file; unknown keys are refused.
checked = pydantic.dataclasses.dataclass(
    frozen=True, kw_only=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True)
)


class TrialResources(Part):
    """What one trial occupies."""

    gpus: AutoShare = "auto"
    """Whole GPUs or a share of one; `auto`: one where there are GPUs, else none. More than one
    train a trial together, a rank on each."""
    cpus: AutoPositiveShare = "auto"
    """CPU cores of each rank; `auto`: one."""
    ranks: AutoCount = "auto"
    """Processes that train a trial together; `auto`: one on each GPU, or one."""
    shard: bool = False
    """Spread weights, gradients and optimiser state over the ranks (FSDP2), instead of holding
    them in each (DDP)."""
    recompute: bool = False
    """Compute activations again in the backward pass, to save memory (activation checkpointing)."""
    gpu_memory: AutoBytes = "auto"
    """Of one GPU; a plan that takes more is refused. `auto`: of the smallest GPU here, if any."""
    micro_batch_tokens: AutoCount = "auto"
    """Tokens that go through the network at a time in training; `auto`: the whole batch. It changes
    memory, not identity: gradients add up to those of the batch, to rounding."""
    checkpoint_every: AutoSeconds = "auto"
    """Training time between two checkpoints; `auto`: 30 s, or more where saving takes long."""


class ResourcesFromSize(TrialResources):
    """What trials of this size and above occupy instead."""

    size: Size
    """From which the keys beside it hold, trunk parameters."""


class ResourceChoice(TrialResources):
    """What each trial of a sweep occupies, by its size."""

    from_size: Annotated[tuple[ResourcesFromSize, ...], Several] = ()
    """What larger models take: keys that are named replace those above, smaller sizes first."""
    keep_checkpoints: Literal["auto", "never", "always"] = "auto"
    """Whether the last checkpoint of a published trial stays, from which a longer one goes on;
    `auto`: while the sweep adds runs by itself. Of runs with a constant schedule alone."""
    price_per_hour: Annotated[Number, Field(ge=0)] | None = None
    """Of one GPU, or of one core where trials run on none, in whatever currency; absent: no money
    is shown."""

    @model_validator(mode="after")
    def _sensible(self) -> "ResourceChoice":
        _check_ranks(self)
        for i, entry in enumerate(self.from_size):
            _check_ranks(self._chosen(entry.size), "from_size", i)
        for i, (one, next_one) in enumerate(itertools.pairwise(self.from_size), start=1):
            if trunk_params(next_one.size) <= trunk_params(one.size):
                raise wrong("expected sizes in increasing order", "from_size", i, "size")
        return self

    def of(self, rung: Rung, seq_len: int) -> Resources:
        """What a trial of this size occupies."""
        chosen = self._chosen(rung)
        tokens, seconds = chosen.micro_batch_tokens, chosen.checkpoint_every
        return Resources(
            gpus=chosen.gpus,
            cpus=chosen.cpus,
            n_ranks=_n_ranks(chosen),
            sharded=chosen.shard,
            recomputed=chosen.recompute,
            micro_batch_sequences=None if tokens == "auto" else max(1, tokens // seq_len),
            checkpoint_every_s=None if seconds == "auto" else seconds,
        )

    def gpu_memory_of(self, rung: Rung) -> float | None:
        """Bytes of a GPU that trains a trial of this size; None where the file does not say."""
        memory = self._chosen(rung).gpu_memory
        return None if memory == "auto" else memory

    def _chosen(self, rung: Rung) -> TrialResources:
        chosen: dict[str, Any] = {key: getattr(self, key) for key in TrialResources.model_fields}
        for entry in self.from_size:
            if trunk_params(entry.size) <= trunk_params(rung):
                named = entry.model_fields_set - {"size"}
                chosen |= {key: getattr(entry, key) for key in named}
        return TrialResources.model_construct(**chosen)


@checked
class RetryChoice(RetryPolicy):
    """`retry` in a sweep file."""

    failures: Annotated[Count, Field(ge=0)] = RetryPolicy.failures
    """Further attempts after errors, crashes and stalls of a trial."""
    preemptions: Annotated[Count, Field(ge=0)] = RetryPolicy.preemptions
    """Further attempts after its machine was taken away."""
    same_error: Annotated[Count, Field(ge=2)] = RetryPolicy.same_error
    """Trials in a row with one and the same error that stop the sweep."""


class KeepChoice(Part):
    """`keep` in a sweep file: a word, or `{models: word, at_most: bytes}`."""

    models: KeepModels = "optimal"
    """The best of each series at each budget, those of every observation, or none."""
    at_most: Annotated[float, written(parse_bytes, WrittenBytes)] = math.inf
    """Bytes of the weights that may stay; a plan of more is refused."""


@checked
class LimitsChoice(Limits):
    """`limits` in a sweep file, whose limit on FLOPs is one on the whole plan."""

    flops: Annotated[Number, Field(gt=0)] = Limits.flops
    """Training FLOPs of the whole sweep."""
    wall_s: Annotated[Seconds, Field(gt=0)] = Field(default=Limits.wall_s, alias="wall")
    """Time of one run of the driver, such as 2h."""
    n_trials: Annotated[
        float,
        written(lambda value: math.inf if value is None else parse_count(value), WrittenCount),
        Field(ge=1),
    ] = Field(default=Limits.n_trials, alias="trials")
    """Trials of the whole sweep."""
    device_hours: Annotated[Number, Field(gt=0)] = Limits.device_hours
    """Hours of GPUs, or of cores where there are none."""
    cost: Annotated[Number, Field(gt=0)] = Limits.cost
    """Of these at resources.price_per_hour."""


def of_word(value: Any) -> Any:
    """A `keep` that is one word, as a mapping."""
    if not isinstance(value, str):
        return value
    words = typing.get_args(KeepModels)
    if value not in words:
        raise wrong(expected_one_of(value, words))
    return {"models": value}


def _n_ranks(chosen: TrialResources) -> int:
    if chosen.ranks != "auto":
        return chosen.ranks
    return 1 if chosen.gpus == "auto" else max(1, math.ceil(chosen.gpus))


def _check_ranks(chosen: TrialResources, *path: str | int) -> None:
    n_ranks, gpus = _n_ranks(chosen), chosen.gpus
    if gpus != "auto" and gpus not in (0, n_ranks) and (gpus > 1 or n_ranks > 1):
        expected = f"{n_ranks} ranks on {gpus:g} GPUs; expected one GPU for each rank, or none"
        raise wrong(expected, *path, "ranks")
    if chosen.shard and n_ranks == 1:
        raise wrong("expected several gpus or ranks, which share the weights", *path, "shard")
