"""What a trial runs on, its retries, and what a sweep may cost: no part of a trial's identity."""

import math
from dataclasses import dataclass
from typing import Literal

KeepModels = Literal["optimal", "all", "none"]
"""Whose weights stay: those of the lowest bound of each series at each budget (or, without budgets,
number of tokens), those of every observation, or nobody's."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial occupies, and how it uses it."""

    gpus: float | Literal["auto"] = "auto"
    """GPUs of the whole trial: none, a share of one, or a whole number; `auto`: one for each rank
    where there are GPUs, else none."""
    cpus: float | Literal["auto"] = "auto"
    """CPU cores of each rank; `auto`: one, or an equal part of a machine's where GPUs compute."""
    n_ranks: int = 1
    """Processes that train the trial together, each on its rows of every batch."""
    sharded: bool = False
    """Whether ranks share weights, gradients and optimiser state between them (FSDP2), or each
    holds them all (DDP)."""
    recomputed: bool = False
    """Whether the backward pass computes activations again instead of keeping them."""
    micro_batch_sequences: int | None = None
    """Sequences that are trained on at a time by all ranks together; None: the whole batch."""
    checkpoint_every_s: float | None = None
    """Training time between two checkpoints; None: 30 s, or more where saving takes long."""

    def n_devices(self, device: str) -> float:
        """GPUs that it occupies on `cuda`, or else cores."""
        if device == "cuda":
            return float(self.n_ranks) if self.gpus == "auto" else self.gpus
        return self.n_ranks * (1.0 if self.cpus == "auto" else self.cpus)


BY_DEFAULT = Resources()  # one rank, on a GPU where there is any


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often a trial is tried again before it is given up."""

    failures: int = 2
    """After errors, crashes and stalls of its own."""
    preemptions: int = 100
    """After its machine was taken away."""
    same_error: int = 3
    """Trials in a row that end in one and the same error, upon which the sweep stops."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hard stops of a sweep; infinite means none."""

    flops: float = math.inf
    """Training FLOPs of the whole sweep, published results included."""
    wall_s: float = math.inf
    """Seconds of one run of the driver."""
    n_trials: float = math.inf
    """Trials of the whole sweep, published results included."""
    device_hours: float = math.inf
    """Hours of GPUs, or of cores where there are none, of the whole sweep; as trials recorded."""
    cost: float = math.inf
    """The same at the price of an hour."""

    def device_s(self, price_per_hour: float | None) -> float:
        """Device-seconds within both of the last two limits."""
        hours = self.device_hours
        if price_per_hour:
            hours = min(hours, self.cost / price_per_hour)
        return 3600 * hours
