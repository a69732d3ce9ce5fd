"""Parameter groups: every parameter once, at the rate and decay that its network asks for."""

import dataclasses
from typing import Literal

import pytest
import torch
from torch import nn

from sweeper.networks.backbone import Backbone
from sweeper.training.laprop import LaProp
from sweeper.training.muon import MuonAndAdamW
from sweeper.training.optimizer import MUON_REFERENCE_WIDTH, build_optimizer, set_rates
from sweeper.trials.ladder import Rung
from sweeper.trials.trial import Optimizer

SETTINGS = Optimizer(
    batch_sequences=8, learning_rate=0.1, auxiliary_learning_rate=6e-3, warmup_steps=10
)


def test_every_parameter_is_in_one_group_and_matrices_train_at_eta_over_width() -> None:
    backbone = Backbone(Rung(2, 16, 2), 11, 1, "causal")
    optimizer = build_optimizer(backbone, dataclasses.replace(SETTINGS, weight_decay=0.5))
    matrices, embedding, others = optimizer.param_groups
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, backbone.parameters()))
    assert len(matrices["params"]) == 2 * 4  # per layer: qkv, out, up, down
    assert matrices["peak"] == 0.1 / 16
    assert matrices["weight_decay"] == 0.5 * 16
    assert others["peak"] == 6e-3
    assert embedding["params"] == [backbone.embedding]
    assert embedding["peak"] == 2 * 6e-3
    assert others["weight_decay"] == 0


def test_every_group_trains_at_its_share_of_its_peak() -> None:
    optimizer = build_optimizer(Backbone(Rung(2, 16, 2), 11, 1, "causal"), SETTINGS)
    set_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [
        0.5 * group["peak"] for group in optimizer.param_groups
    ]


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("laprop", LaProp)])
def test_both_optimisers_take_the_same_groups(
    name: Literal["adamw", "laprop"], kind: type[torch.optim.Optimizer]
) -> None:
    backbone = Backbone(Rung(2, 16, 2), 11, 1, "causal")
    settings = dataclasses.replace(SETTINGS, name=name, weight_decay=0.5, betas=(0.8, 0.9))
    optimizer = build_optimizer(backbone, settings)
    assert type(optimizer) is kind
    assert [g["peak"] for g in optimizer.param_groups] == [0.1 / 16, 2 * 6e-3, 6e-3]
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.5 * 16, 0, 0]
    for group in optimizer.param_groups:
        assert group["betas"] == (0.8, 0.9)
        assert group["eps"] == 1e-8 / (16 * 2)


@pytest.mark.parametrize("name", ["adamw", "laprop"])
def test_the_standard_parametrisation_is_one_group_with_decay_on_all_tensors(
    name: Literal["adamw", "laprop"],
) -> None:
    plain = Backbone(Rung(2, 16, 2), 11, 1, "causal", "dit")
    settings = dataclasses.replace(SETTINGS, name=name, learning_rate=2e-4, weight_decay=0.1)
    optimizer = build_optimizer(plain, settings)
    (group,) = optimizer.param_groups
    assert [*map(id, group["params"])] == [*map(id, plain.parameters())]
    assert (group["peak"], group["weight_decay"], group["eps"]) == (2e-4, 0.1, 1e-8)
    for parameter in plain.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    set_rates(optimizer, 1.0)
    optimizer.step()
    for parameter in plain.parameters():  # nothing but decay; float32 rounds at 6e-8
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1 - 2e-5))


def test_muon_trains_matrices_at_a_rate_that_falls_as_the_root_of_width_and_decays_as_adamw() -> (
    None
):
    backbone = Backbone(Rung(2, 16, 2), 11, 1, "causal")
    settings = dataclasses.replace(SETTINGS, name="muon", weight_decay=0.5)
    optimizer = build_optimizer(backbone, settings)
    assert type(optimizer) is MuonAndAdamW
    matrices, *others = optimizer.param_groups
    assert [p.dim() for p in matrices["params"]] == [2] * 8  # qkv, out, up, down of each layer
    assert matrices["peak"] == pytest.approx(0.1 / (16 * MUON_REFERENCE_WIDTH) ** 0.5)
    assert matrices["peak"] * matrices["weight_decay"] == pytest.approx(0.1 * 0.5)
    adamw = build_optimizer(backbone, dataclasses.replace(settings, name="adamw"))
    for group, same in zip(others, adamw.param_groups[1:], strict=True):
        for key in ("peak", "weight_decay", "eps", "betas"):
            assert group[key] == same[key]
        assert [*map(id, group["params"])] == [*map(id, same["params"])]


def test_muon_leaves_what_reads_the_noise_level_and_all_vectors_and_tables_to_adamw() -> None:
    network = Backbone(Rung(2, 16, 2), 11, 1, "causal", "dit")
    settings = dataclasses.replace(SETTINGS, name="muon", learning_rate=2e-4, weight_decay=0.1)
    matrices, others = build_optimizer(network, settings).param_groups
    names = {id(p): name for name, p in network.named_parameters()}
    assert [names[id(p)] for p in matrices["params"]] == [
        f"blocks.{i}.{name}.weight" for i in range(2) for name in ("qkv", "out", "up", "down")
    ]
    grouped = [*map(id, matrices["params"]), *map(id, others["params"])]
    assert sorted(grouped) == sorted(names)
    assert {(g["peak"], g["weight_decay"]) for g in (matrices, others)} == {(2e-4, 0.1)}


def test_an_update_of_muon_is_about_as_large_as_its_rate_says_whatever_the_gradient() -> None:
    backbone = Backbone(Rung(2, 16, 2), 11, 1, "causal")
    backbone.initialize(torch.Generator().manual_seed(0))
    optimizer = build_optimizer(backbone, dataclasses.replace(SETTINGS, name="muon"))
    set_rates(optimizer, 1.0)
    matrices = optimizer.param_groups[0]
    before = [p.detach().clone() for p in matrices["params"]]
    rng = torch.Generator().manual_seed(1)
    for i, parameter in enumerate(matrices["params"]):
        parameter.grad = 10.0**-i * torch.randn(parameter.shape, generator=rng)
    optimizer.step()
    for parameter, old in zip(matrices["params"], before, strict=True):
        size = (parameter - old).square().mean().sqrt().item()
        # Singular values between 0.7 and 1.2 after the iteration, which is in bfloat16.
        assert size == pytest.approx(0.2 * matrices["peak"], rel=0.25)
