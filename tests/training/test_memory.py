"""What tensors without numbers tell of memory is what real tensors take."""

import dataclasses
from typing import Any

import pytest
from small_trials import trial_of

from sweeper.families import family_names
from sweeper.planning.memory import generous_bytes, usable_bytes
from sweeper.training.memory import measured_memory, planned_memory
from sweeper.trials.flops import flops_per_token
from sweeper.trials.ladder import BackboneName, Rung, parameter_groups
from sweeper.trials.plan import Observation, PlannedTrial
from sweeper.trials.resources import Resources
from sweeper.trials.trial import Data, Optimizer, OptimizerName, Trial

BATCH_DATA = 2e-3
"""Relative: ids of the whole batch are more than those of the two micro-batches that are traced."""

MICRO_BATCHES = Resources(micro_batch_sequences=2)


@pytest.mark.parametrize("backbone", ["gidd", "dit"])
@pytest.mark.parametrize("family", family_names())
def test_the_planned_peak_is_that_of_real_steps(family: str, backbone: BackboneName) -> None:
    trial = trial_of(family, backbone=backbone, rung=Rung(5, 32, 2), precision="bfloat16")
    planned = planned_memory(trial, MICRO_BATCHES)
    measured = measured_memory(trial, MICRO_BATCHES)
    assert planned.state == measured.state
    assert planned.in_update == measured.in_update
    assert planned.in_passes == pytest.approx(measured.in_passes, rel=BATCH_DATA)


@pytest.mark.parametrize("name", ["adamw", "laprop", "muon"])
@pytest.mark.parametrize(
    "resources",
    [
        Resources(),
        Resources(micro_batch_sequences=1),
        Resources(micro_batch_sequences=4, recomputed=True),
    ],
    ids=["whole batch", "one sequence", "recomputed"],
)
def test_and_so_it_is_for_every_optimiser_and_way_to_save_memory(
    name: OptimizerName, resources: Resources
) -> None:
    optimizer = Optimizer(24, 0.1, 6e-3, 2, name=name, ema_decay=0.9)
    trial = trial_of(rung=Rung(6, 16, 2), optimizer=optimizer)
    planned, measured = planned_memory(trial, resources), measured_memory(trial, resources)
    assert (planned.state, planned.in_update) == (measured.state, measured.in_update)
    assert planned.in_passes == pytest.approx(measured.in_passes, rel=2e-2)  # data of 24 sequences


def test_copies_that_autocast_keeps_of_all_weights_count_where_activations_are_recomputed() -> None:
    # Of a family whose every token bears loss: how many rows a head reads is no matter of luck.
    trial = trial_of("ar", rung=Rung(10, 128, 2), precision="bfloat16")
    trial = dataclasses.replace(trial, data=dataclasses.replace(trial.data, vocab_size=4000))
    resources = Resources(micro_batch_sequences=2, recomputed=True)
    planned, measured = planned_memory(trial, resources), measured_memory(trial, resources)
    assert planned.in_passes == pytest.approx(measured.in_passes, rel=BATCH_DATA)


def test_shards_divide_the_state_and_leave_activations_whole() -> None:
    trial = trial_of(rung=Rung(12, 64, 2), optimizer=Optimizer(64, 0.1, 6e-3, 2))
    alone = planned_memory(trial, Resources(micro_batch_sequences=4))
    ranks = Resources(n_ranks=8, micro_batch_sequences=32)
    assert planned_memory(trial, ranks) == alone  # replicas, each with four sequences
    shards = planned_memory(trial, dataclasses.replace(ranks, sharded=True))
    assert shards.state == pytest.approx(alone.state / 8)
    assert alone.in_passes - alone.state < shards.in_passes < alone.in_passes


def planned_for(trial: Trial, resources: Resources) -> PlannedTrial:
    vocab_size = trial.data.vocab_size
    return PlannedTrial(
        series=trial.family,
        trial=trial,
        cells=(Observation(None, 10, 10, 10.0),),
        params=parameter_groups(trial.rung, vocab_size, 1, trial.backbone),
        flops_per_token=flops_per_token(trial.rung, trial.data.seq_len, vocab_size),
        source="random",
        resources=resources,
    )


@pytest.mark.parametrize("backbone", ["gidd", "dit"])
@pytest.mark.parametrize(
    "changes",
    [
        {"rung": Rung(2, 16, 2)},
        {"rung": Rung(3, 64, 4), "precision": "bfloat16"},
        {"rung": Rung(2, 32, 2), "seq_len": 512, "vocab_size": 97},
        {"rung": Rung(2, 16, 1), "seq_len": 32, "vocab_size": 5000},
        {"rung": Rung(3, 256, 4), "name": "laprop", "ema_decay": 0.9},
        {"family": "esolm"},
        {"family": "hybrid"},
    ],
    ids=str,
)
def test_the_count_that_clears_trials_without_torch_is_above_the_peak(
    changes: dict[str, Any], backbone: BackboneName
) -> None:
    trial = trial_of(changes.get("family", "uniform"), backbone=backbone)
    data = {key: changes[key] for key in ("seq_len", "vocab_size") if key in changes}
    optimizer = {key: changes[key] for key in ("name", "ema_decay") if key in changes}
    network = {key: changes[key] for key in ("rung", "precision") if key in changes}
    trial = dataclasses.replace(
        trial,
        data=dataclasses.replace(trial.data, **data),
        optimizer=dataclasses.replace(trial.optimizer, **optimizer),
        **network,
    )
    for resources in (Resources(), MICRO_BATCHES):
        peak = planned_memory(trial, resources).peak
        assert peak < generous_bytes(planned_for(trial, resources))


H100_BYTES = 80e9

DIT_2121M = dataclasses.replace(
    trial_of(backbone="dit", rung=Rung(28, 2176, 17), precision="bfloat16"),
    data=Data("", vocab_size=32_000, seq_len=2048),
    optimizer=Optimizer(256, 2e-4, 2e-4, 100),
)
GIDD_10B = dataclasses.replace(
    trial_of("hybrid", rung=Rung(34, 4608, 36), precision="bfloat16"),
    data=Data("", vocab_size=131_072, seq_len=2048),
    optimizer=Optimizer(3072, 1.8, 6e-3, 100, name="laprop"),
)


def test_the_largest_dit_trains_on_one_card_a_few_sequences_at_a_time() -> None:
    resources = Resources(gpus=1, micro_batch_sequences=4)
    memory = planned_memory(DIT_2121M, resources)
    params = parameter_groups(DIT_2121M.rung, 32_000, 1, "dit").total
    # Weights, gradients and two moments of four bytes, and a few counts of steps.
    assert memory.state == pytest.approx(16 * params, rel=1e-6)
    assert 1.2 * memory.state < memory.peak < usable_bytes(H100_BYTES, resources)


def test_the_largest_gidd_trains_on_eight_cards_and_not_without_shards() -> None:
    eight = Resources(gpus=8, n_ranks=8, sharded=True, recomputed=True, micro_batch_sequences=8)
    memory = planned_memory(GIDD_10B, eight)
    params = parameter_groups(GIDD_10B.rung, 131_072, 1).total
    assert memory.state == pytest.approx(16 * params / 8, rel=1e-6)
    assert memory.peak < usable_bytes(H100_BYTES, eight)
    replicas = dataclasses.replace(eight, sharded=False)
    assert planned_memory(GIDD_10B, replicas).peak > 2 * H100_BYTES
