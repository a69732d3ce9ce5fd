"""What a trial runs on. None of it is part of the trial's identity."""

from dataclasses import dataclass
from typing import Literal


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


BY_DEFAULT = Resources()
"""One rank, on a GPU where there is any."""
