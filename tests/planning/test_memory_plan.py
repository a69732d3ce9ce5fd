"""What does not fit is refused, with what would fit; what clearly fits is not looked at."""

import dataclasses
from collections.abc import Callable

import pytest
from planted import planned_trial

from sweeper.planning.memory import generous_bytes, memory_problems, usable_bytes
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.resources import Resources
from sweeper.trials.trial import Trial

GPU_BYTES = 80e9
STATE, SEQUENCE = 50e9, 10e9


def planted_peak(trial: Trial, resources: Resources) -> int:
    """A state that shards divide and activations that recomputing divides by five."""
    sequences = resources.micro_batch_sequences or trial.optimizer.batch_sequences
    passes = SEQUENCE * sequences / resources.n_ranks / (5 if resources.recomputed else 1)
    return int(STATE / (resources.n_ranks if resources.sharded else 1) + passes)


def large(resources: Resources, width: int = 4096, sequences: int = 64) -> PlannedTrial:
    planned = planned_trial(width=width)
    optimizer = dataclasses.replace(planned.trial.optimizer, batch_sequences=sequences)
    trial = dataclasses.replace(planned.trial, optimizer=optimizer)
    trial = dataclasses.replace(trial, data=dataclasses.replace(trial.data, seq_len=2048))
    return dataclasses.replace(planned, trial=trial, resources=resources)


def refusal(
    planned: PlannedTrial, peak_of: Callable[[Trial, Resources], int] = planted_peak
) -> str:
    return "".join(map(str, memory_problems([planned], lambda _: GPU_BYTES, peak_of)))


def test_a_smaller_micro_batch_comes_first_and_recomputing_beside_it() -> None:
    message = refusal(large(Resources()))
    assert "690 GB at the peak of a step of the" in message
    assert "74.6 GB of the 80 GB of a GPU are usable" in message
    # 50 + 10 · 2 = 70 GB of 74.6; recomputed, 50 + 2 · 12 = 74.
    assert "expected {micro_batch_tokens: 4096}" in message
    assert ", or {recompute: true, micro_batch_tokens: 24576}" in message
    assert "shard" not in message


def test_shards_come_where_not_even_one_sequence_fits() -> None:
    def peak(trial: Trial, resources: Resources) -> int:
        return 2 * planted_peak(trial, resources)

    message = refusal(large(Resources(micro_batch_sequences=1)), peak)
    # 2 · (50 / 2 + 2) = 54 GB on each of two.
    assert message.endswith(
        "expected {gpus: 2, shard: true, recompute: true, micro_batch_tokens: 4096}"
    )


def test_what_nothing_saves_is_said_to_fit_nowhere() -> None:
    message = refusal(large(Resources()), lambda *_: 10**15)
    assert message.endswith("not even 64 shards would fit")


def test_what_fits_or_has_unknown_memory_is_not_refused() -> None:
    fitting = large(Resources(micro_batch_sequences=2))
    assert not refusal(fitting)
    problems = memory_problems([large(Resources())], lambda _: None, planted_peak)
    assert not [*problems]


def test_small_trials_are_cleared_without_a_trace_and_a_larger_one_clears_smaller_ones() -> None:
    traced: list[Trial] = []

    def peak(trial: Trial, _: Resources) -> int:
        traced.append(trial)
        return 0

    trials = [planned_trial(width=width, seed=seed) for width in (8, 16, 32) for seed in range(99)]
    trials += [large(Resources(), width) for width in (2048, 3072, 4096)]
    assert generous_bytes(trials[0]) < GPU_BYTES < generous_bytes(trials[-3])
    assert not [*memory_problems(trials, lambda _: GPU_BYTES, peak)]
    assert [trial.rung.width for trial in traced] == [4096]


@pytest.mark.parametrize(("gpus", "share"), [("auto", 1.0), (8, 1.0), (0.25, 0.25)])
def test_trials_that_share_a_gpu_share_its_memory(gpus: float, share: float) -> None:
    n_ranks = int(gpus) if gpus == 8 else 1
    usable = usable_bytes(GPU_BYTES, Resources(gpus=gpus, n_ranks=n_ranks))
    assert usable == pytest.approx(share * 74.6e9, rel=1e-3)
