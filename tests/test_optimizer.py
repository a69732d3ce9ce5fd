"""Parameter groups, schedule and their meaning across widths."""

import dataclasses

import pytest
import torch

from sweeper.backbone import Backbone
from sweeper.ladder import Rung, rung_of_width
from sweeper.optimizer import build_optimizer, rate_factor, set_rates
from sweeper.trial import Optimizer

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


def test_warmup_is_linear_then_constant() -> None:
    assert [rate_factor(step, SETTINGS) for step in (1, 5, 10, 11, 1000)] == [0.1, 0.5, 1, 1, 1]
    optimizer = build_optimizer(Backbone(Rung(2, 16, 2), 11, 1, "causal"), SETTINGS)
    set_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [
        0.5 * group["peak"] for group in optimizer.param_groups
    ]


@pytest.mark.parametrize("widths", [(16, 128)])
def test_one_step_moves_logits_alike_at_every_width(widths: tuple[int, int]) -> None:
    # The coordinate check of CompleteP: with one eta, the size of the change of the residual
    # stream after a few steps is the same order at every width. A standard parametrisation at a
    # fixed rate would change by the ratio of widths (8) or more.
    changes = []
    for width in widths:
        backbone = Backbone(rung_of_width(width), 31, 0, "bidirectional")
        backbone.initialize(torch.Generator().manual_seed(0))
        optimizer = build_optimizer(backbone, SETTINGS)
        set_rates(optimizer, 1.0)
        ids = torch.randint(31, (16, 12), generator=torch.Generator().manual_seed(1))
        targets = torch.randint(31, (16, 12), generator=torch.Generator().manual_seed(2))
        before = backbone(ids, torch.zeros(16)).detach()
        for _ in range(3):
            logits = backbone(ids, torch.zeros(16))
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        after = backbone(ids, torch.zeros(16)).detach()
        changes.append((after - before).std().item())
    assert 1 / 3 < changes[0] / changes[1] < 3
