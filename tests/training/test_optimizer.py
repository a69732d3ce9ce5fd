"""Parameter groups: every parameter once, at the rate and decay that its network asks for."""

import dataclasses
from typing import Literal

import pytest
import torch
from torch import nn

from sweeper.networks.backbone import Backbone
from sweeper.training.laprop import LaProp
from sweeper.training.optimizer import build_optimizer, set_rates
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
