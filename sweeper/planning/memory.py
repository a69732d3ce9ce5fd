"""Which trials do not fit the GPUs they are for, and what would let them.

The peak itself is traced by `sweeper/training/memory.py`, which takes torch and seconds a shape, so
it is asked only about trials that a generous count does not clear.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator

from sweeper.planning.runs import name_of
from sweeper.sweepfile.problems import Problem
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.resources import Resources
from sweeper.trials.trial import Trial

PeakOf = Callable[[Trial, Resources], int]
"""Peak bytes of a trial on the device of one of its ranks."""

RESERVED_BYTES = 1.5e9
"""Of a GPU, for the CUDA context, the kernels and the workspaces of matrix products."""
USABLE_SHARE = 0.95
"""Of the rest: the allocator cannot fill every gap between blocks. Neither is measured yet."""

MAX_SHARDS = 64

MODEL_COPIES = 7
"""Weights, gradients, two moments and averages, and what the update and autocast copy, at most."""
BLOCK_ACTIVATIONS = 80
"""Generous number of floats that a layer keeps for each channel of a token."""
ATTENTION_COPIES, LOGIT_COPIES = 10, 12
"""The same for each pair of inputs and head, and for each token of the vocabulary."""


def usable_bytes(gpu_bytes: float, resources: Resources) -> float:
    """What one rank has of a GPU; trials that share one have equal parts of it."""
    share = 1.0 if resources.gpus == "auto" else min(1.0, resources.gpus)
    return share * USABLE_SHARE * (gpu_bytes - RESERVED_BYTES)


def kind_of(planned: PlannedTrial) -> tuple[object, ...]:
    """What memory depends on beside size and batch: equal for seeds, rates and lengths."""
    trial, optimizer = planned.trial, planned.trial.optimizer
    return (
        (trial.family, trial.family_options, trial.prefix_share > 0, trial.data.vocab_size),
        (trial.backbone, trial.precision, trial.data.seq_len),
        (optimizer.name, optimizer.clip_norm is None, optimizer.ema_decay > 0),
        planned.resources,
    )


def size_of(planned: PlannedTrial) -> tuple[int, ...]:
    """What memory grows with."""
    rung = planned.trial.rung
    return rung.n_layers, rung.width, rung.n_heads, planned.trial.optimizer.batch_sequences


def generous_bytes(planned: PlannedTrial) -> float:
    """More than any step takes, without torch; far more where much is never kept."""
    trial, resources, rung = planned.trial, planned.resources, planned.trial.rung
    sequences = math.ceil(_micro_batch(trial, resources) / resources.n_ranks)
    length = 2 * trial.data.seq_len  # some families read a sequence twice over
    of_token = rung.n_layers * (
        BLOCK_ACTIVATIONS * rung.width + ATTENTION_COPIES * rung.n_heads * length
    )
    floats = sequences * length * (of_token + LOGIT_COPIES * trial.data.vocab_size)
    return 4.0 * (MODEL_COPIES * planned.params.total + floats)


def memory_problems(
    trials: Iterable[PlannedTrial],
    gpu_bytes_of: Callable[[PlannedTrial], float | None],
    peak_of: PeakOf,
) -> Iterator[Problem]:
    """The first trial that takes more than its GPUs have; `None` is memory that nobody knows."""
    shapes = {(kind_of(planned), size_of(planned)): planned for planned in trials}
    known: list[tuple[PlannedTrial, int]] = []
    for planned in sorted(shapes.values(), key=generous_bytes, reverse=True):
        gpu_bytes = gpu_bytes_of(planned)
        if gpu_bytes is None:
            continue
        usable = usable_bytes(gpu_bytes, planned.resources)
        if generous_bytes(planned) <= usable:
            continue
        if any(peak <= usable and _is_smaller(planned, one) for one, peak in known):
            continue
        peak = peak_of(planned.trial, planned.resources)
        if peak > usable:
            yield _problem(planned, peak, gpu_bytes, peak_of)
            return
        known.append((planned, peak))


def gigabytes(n_bytes: float) -> str:
    """Three digits, for people."""
    return f"{n_bytes / 1e9:.3g} GB"


def _is_smaller(one: PlannedTrial, other: PlannedTrial) -> bool:
    sizes = zip(size_of(one), size_of(other), strict=True)
    return kind_of(one) == kind_of(other) and all(small <= large for small, large in sizes)


def _problem(planned: PlannedTrial, peak: int, gpu_bytes: float, peak_of: PeakOf) -> Problem:
    trial, resources = planned.trial, planned.resources
    usable = usable_bytes(gpu_bytes, resources)
    what = f"{name_of(trial.rung)} of series {planned.series!r}"
    ways = [*_ways(trial, resources, usable, peak_of)]
    expected = f"{gigabytes(usable)} of the {gigabytes(gpu_bytes)} of a GPU are usable: " + (
        f"expected {', or '.join(ways)}" if ways else f"not even {MAX_SHARDS} shards would fit"
    )
    return Problem(("resources",), expected, f"{gigabytes(peak)} at the peak of a step of {what}")


def _ways(trial: Trial, resources: Resources, usable: float, peak_of: PeakOf) -> Iterator[str]:
    """Keys of `resources` with which a trial fits: a smaller micro-batch, else shards."""
    asked = _micro_batch(trial, resources)
    found = False
    for recomputed in dict.fromkeys((resources.recomputed, True)):
        chosen = dataclasses.replace(resources, recomputed=recomputed)
        n_sequences = _largest_micro_batch(trial, chosen, usable, peak_of)
        if n_sequences:
            found = True
            yield _keys(trial, chosen, n_sequences, asked, resources)
        if n_sequences == asked:
            return
    if found or trial.optimizer.name == "muon":  # which is for whole matrices
        return
    n_ranks = 2 * resources.n_ranks if resources.sharded else max(2, resources.n_ranks)
    while n_ranks <= MAX_SHARDS:
        one_each = max(asked, min(n_ranks, trial.optimizer.batch_sequences))
        chosen = Resources(
            gpus=n_ranks,
            cpus=resources.cpus,
            n_ranks=n_ranks,
            sharded=True,
            recomputed=True,
            micro_batch_sequences=one_each,
        )
        n_sequences = _largest_micro_batch(trial, chosen, usable, peak_of)
        if n_sequences:
            yield _keys(trial, chosen, n_sequences, asked, resources)
            return
        n_ranks *= 2


def _keys(
    trial: Trial, chosen: Resources, n_sequences: int, asked: int, resources: Resources
) -> str:
    keys = {}
    if chosen.n_ranks != resources.n_ranks:
        keys["gpus"] = f"{chosen.n_ranks}"
    if chosen.sharded != resources.sharded:
        keys["shard"] = "true"
    if chosen.recomputed != resources.recomputed:
        keys["recompute"] = "true"
    if n_sequences != asked:
        keys["micro_batch_tokens"] = f"{n_sequences * trial.data.seq_len}"
    return "{" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}"


def _largest_micro_batch(
    trial: Trial, resources: Resources, usable: float, peak_of: PeakOf
) -> int | None:
    """Most sequences of all ranks together, up to those asked for; None: not even one each."""
    n_ranks, asked = resources.n_ranks, _micro_batch(trial, resources)

    def fits(of_rank: int) -> bool:
        micro_batch = dataclasses.replace(resources, micro_batch_sequences=of_rank * n_ranks)
        return peak_of(trial, micro_batch) <= usable

    low, high = 0, math.ceil(asked / n_ranks)
    if fits(high):
        return asked
    while high - low > 1:
        middle = max(low + 1, math.isqrt(low * high))
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * n_ranks or None


def _micro_batch(trial: Trial, resources: Resources) -> int:
    """Sequences of all ranks together."""
    asked = resources.micro_batch_sequences or trial.optimizer.batch_sequences
    return min(asked, trial.optimizer.batch_sequences)
