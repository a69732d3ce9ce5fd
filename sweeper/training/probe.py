"""Probes: a few training steps of some trials of a plan, to know how long all of them take."""

import dataclasses
import math
import time
from collections.abc import Sequence

import numpy as np
import torch

from sweeper.data.corpus import Corpus
from sweeper.data.tokens import SplitTokens, token_dtype
from sweeper.families import family_of
from sweeper.training.trainer import Trainer
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.resources import Resources

PROBE_S = 0.5
"""Time of the steps that count; with building the network a probe stays below 2 s."""
N_WARMUP_STEPS = 2
MAX_PROBED_SIZES = 8
LONGEST_STEP_S, SPEEDS = 0.3, {"cpu": 5e10, "cuda": 1e14}
"""A step that would take longer at so many FLOPs per second takes fewer sequences."""


def probed_trials(trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """Those to probe: sizes spread in log parameters, and at a middle one every series."""
    first = {(each.params.trunk, each.series): each for each in reversed(trials)}
    sizes = sorted({size for size, _ in first})
    if len(sizes) > MAX_PROBED_SIZES:
        grid = np.linspace(math.log(sizes[0]), math.log(sizes[-1]), MAX_PROBED_SIZES)
        nearest = [int(np.argmin(np.abs(np.log(sizes) - log_size))) for log_size in grid]
        sizes = [sizes[i] for i in sorted(set(nearest))]
    middle, seen = sizes[len(sizes) // 2], set[int]()
    chosen = []
    for (size, _), planned in sorted(first.items(), key=lambda item: item[0]):
        if size == middle or (size in sizes and size not in seen):
            chosen.append(planned)
        seen.add(size)
    return chosen


def probe(
    planned: PlannedTrial, device: torch.device, n_threads: int, time_s: float = PROBE_S
) -> float | None:
    """Seconds per token of a trial's steps, timed for so long: random tokens, a rank alone.

    None where a single sequence would take too long, or does not fit the memory.
    """
    torch.set_num_threads(n_threads)
    torch.set_flush_denormal(True)  # as workers do
    trial = planned.trial
    sequence_s = trial.data.seq_len * planned.flops_per_token.total / SPEEDS[device.type]
    if sequence_s > LONGEST_STEP_S:
        return None
    batch = min(trial.optimizer.batch_sequences, max(1, math.floor(LONGEST_STEP_S / sequence_s)))
    micro_batch = planned.resources.micro_batch_sequences or batch
    optimizer = dataclasses.replace(trial.optimizer, batch_sequences=batch)
    short = dataclasses.replace(trial, optimizer=optimizer)
    resources = Resources(
        recomputed=planned.resources.recomputed, micro_batch_sequences=min(batch, micro_batch)
    )
    corpus = random_corpus(trial.data.vocab_size, 4 * batch * trial.data.seq_len)
    try:
        trainer = Trainer(short, family_of(short), corpus, device, resources)
        _seconds_of_steps(trainer, N_WARMUP_STEPS)
        n_steps, spent_s = 0, 0.0
        while spent_s < time_s:
            more = max(1, n_steps)
            spent_s += _seconds_of_steps(trainer, more)
            n_steps += more
    except torch.OutOfMemoryError:
        return None
    return spent_s / (n_steps * short.tokens_per_step)


def _seconds_of_steps(trainer: Trainer, n_steps: int) -> float:
    started_s = time.perf_counter()
    for _ in range(n_steps):
        trainer.advance()
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
    return time.perf_counter() - started_s


def random_corpus(vocab_size: int, n_tokens: int) -> Corpus:
    """Random tokens to train on, and the same to validate."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(vocab_size, size=n_tokens).astype(token_dtype(vocab_size))
    return Corpus("random", SplitTokens(tokens, tokens, vocab_size, None), "")
