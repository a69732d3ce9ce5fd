"""How fast sequences come: at the best batch that fits, and one alone.

Only generation is timed: warm, with the device done before the clock is read, without judge or
decoding. The first runs of a batch size, which set up memory and kernels, are not counted.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sweeper.errors import ConfigError

Generate = Callable[[int], int]
"""Generates so many sequences, waits until they are there, and says how many tokens are new."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """Repeated generations of one batch size."""

    batch_sequences: int
    tokens: int
    """Of each repetition."""
    times_s: tuple[float, ...]

    @property
    def time_s(self) -> float:
        """The median."""
        return statistics.median(self.times_s)

    @property
    def tokens_per_s(self) -> float:
        """Of the median."""
        return self.tokens / self.time_s

    @property
    def spread(self) -> float:
        """(largest − smallest) / median."""
        return (max(self.times_s) - min(self.times_s)) / self.time_s


@dataclass(frozen=True)
class TimingPlan:
    """How long to look for the best batch, and how often to repeat."""

    n_repeats: int = 5
    min_time_s: float = 0.2
    """Of a repetition, which generates as many batches as that takes."""
    max_batch_sequences: int = 1024
    max_batch_s: float = 60.0
    """No larger batch is tried once one takes so long."""
    min_gain: float = 1.03
    """The batch has stopped paying when doubling it raises throughput by less."""

    def __post_init__(self) -> None:
        if min(self.n_repeats, self.max_batch_sequences) < 1:
            raise ValueError(f"{self}: expected at least one repetition and sequence")


def best_batch(generate: Generate, plan: TimingPlan, clock: Clock = time.perf_counter) -> Timing:
    """The timing of the batch, a power of two, that makes most tokens per second.

    Raises ConfigError where not even one sequence fits into memory.
    """
    best, n_without_gain, size = None, 0, 1
    while size <= plan.max_batch_sequences and n_without_gain < 2:
        try:
            generate(size)  # warm
            trial_s, tokens = _timed(generate, size, clock)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        gains = best is None or tokens / trial_s > plan.min_gain * best[0]
        n_without_gain = 0 if gains else n_without_gain + 1
        if gains:
            best = tokens / trial_s, size
        if trial_s > plan.max_batch_s:
            break
        size *= 2
    if best is None:
        raise ConfigError(
            "not even one sequence fits into the memory of this device: shorten it, or generate on "
            "a larger one"
        )
    return timing(generate, best[1], plan, clock)


def timing(
    generate: Generate, batch_sequences: int, plan: TimingPlan, clock: Clock = time.perf_counter
) -> Timing:
    """Repetitions of one batch size, after one that is not counted."""
    generate(batch_sequences)
    once_s, _ = _timed(generate, batch_sequences, clock)
    n_batches = max(1, round(plan.min_time_s / once_s))
    times_s, tokens = [], 0
    for _ in range(plan.n_repeats):
        start_s = clock()
        tokens = sum(generate(batch_sequences) for _ in range(n_batches))
        times_s.append((clock() - start_s) / n_batches)
    return Timing(batch_sequences, tokens // n_batches, tuple(times_s))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device has run out of memory; on a CPU torch says so in words alone."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all it was told to."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _timed(generate: Generate, batch_sequences: int, clock: Clock) -> tuple[float, int]:
    start_s = clock()
    tokens = generate(batch_sequences)
    return max(clock() - start_s, 1e-9), tokens
