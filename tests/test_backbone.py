"""The backbone against hand counts, the FLOP counter and a dense reference of its attention."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sweeper.backbone import LOGIT_CAP, Attention, Backbone, rotary_angles
from sweeper.flops import flops_per_token
from sweeper.ladder import Rung, parameter_groups, rung_of_width, trunk_params

TINY = Rung(n_layers=2, width=16, n_heads=2)

GIDD_RUNGS = [
    (Rung(8, 512, 8), 25_223_680),
    (Rung(10, 640, 10), 49_242_240),
    (Rung(12, 768, 12), 85_064_448),
    (Rung(16, 1024, 16), 201_556_992),
    (Rung(20, 1536, 12), 566_662_656),
]
"""Sizes of arXiv 2512.10858 with the parameter counts it reports: L (12 d² + 14 d) + d."""


def tiny_backbone(attention: str = "bidirectional") -> Backbone:
    backbone = Backbone(TINY, 11, 1, "causal" if attention == "causal" else "bidirectional")
    backbone.initialize(torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():  # leave the zeros of initialisation, so that everything matters
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return backbone


@pytest.mark.parametrize("extra_input_ids", [0, 1])
@pytest.mark.parametrize("rung", [TINY, rung_of_width(30), Rung(3, 24, 3)], ids=str)
def test_parameters_are_counted_exactly(rung: Rung, extra_input_ids: int) -> None:
    backbone = Backbone(rung, 11, extra_input_ids, "causal")
    groups = parameter_groups(rung, 11, extra_input_ids)
    assert sum(p.numel() for p in backbone.parameters()) == groups.total
    assert backbone.embedding.numel() == groups.embedding
    assert backbone.head.numel() == groups.head


@pytest.mark.parametrize(("rung", "reported"), GIDD_RUNGS, ids=str)
def test_the_ladder_holds_the_rungs_of_the_gidd_study(rung: Rung, reported: int) -> None:
    assert rung_of_width(rung.width) == rung
    # The study counts MLP biases (5 d a layer) twice and leaves out sinks (2 d): 3 d too many.
    assert trunk_params(rung) == reported - 3 * rung.width * rung.n_layers


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_flops_equal_the_counter_on_the_meta_device(attention: str) -> None:
    # The counter sees no attention on the CPU; shapes on the meta device are counted exactly.
    n_sequences, seq_len, vocab_size = 3, 8, 11
    with torch.device("meta"):
        backbone = Backbone(
            TINY, vocab_size, 1, "causal" if attention == "causal" else "bidirectional"
        )
        ids = torch.zeros(n_sequences, seq_len, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            backbone(ids, torch.zeros(n_sequences)).sum().backward()
    ours = flops_per_token(TINY, seq_len, vocab_size)
    assert counter.get_total_flops() == n_sequences * seq_len * ours.total


def test_logits_start_at_zero() -> None:
    backbone = Backbone(TINY, 11, 1, "causal")
    backbone.initialize(torch.Generator().manual_seed(0))
    assert backbone(torch.arange(10)[None], torch.zeros(1)).abs().max() == 0


def test_causal_logits_ignore_later_tokens_and_bidirectional_ones_do_not() -> None:
    ids = torch.arange(8)[None]
    changed = ids.clone()
    changed[0, 5] = 10
    t = torch.zeros(1)
    for attention, ignores in (("causal", True), ("bidirectional", False)):
        backbone = tiny_backbone(attention)
        before, after = backbone(ids, t)[0], backbone(changed, t)[0]
        assert torch.equal(before[:5], after[:5]) is ignores
        assert not torch.equal(before[5:], after[5:])


def test_attention_equals_a_dense_reference() -> None:
    attention = Attention(TINY).double()
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    x = torch.randn(1, 4, TINY.width, generator=rng, dtype=torch.float64)
    cos, sin = rotary_angles(4, TINY.head_width, x)
    expected = dense_attention(attention, x[0])
    # Angles are float32, hence the tolerance.
    torch.testing.assert_close(attention(x, (cos, sin), None)[0], expected, rtol=1e-6, atol=1e-6)


def dense_attention(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    """One query, one head, one key at a time, straight from the formulas of the study."""
    k = TINY.head_width

    def norm(v: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return v / (v.square().mean() + 1e-6).sqrt() * (1 + gain)

    def turn(v: torch.Tensor, position: int) -> torch.Tensor:
        turned = v.clone()
        for i in range(k // 2):
            angle = position * 10_000 ** (-2 * i / k)
            a, b = v[i], v[i + k // 2]
            turned[i] = a * math.cos(angle) - b * math.sin(angle)
            turned[i + k // 2] = a * math.sin(angle) + b * math.cos(angle)
        return turned

    w_q, w_k, w_v = attention.qkv.chunk(3)
    rows = []
    for i in range(len(x)):
        heads = []
        for h in range(TINY.n_heads):
            part = slice(h * k, (h + 1) * k)
            query = turn(norm(w_q @ x[i], attention.query_key_norm.gain[0])[part], i)
            keys, values = [attention.sink_key_bias[h, 0]], [attention.sink_value_bias[h, 0]]
            for j in range(len(x)):
                keys.append(turn(norm(w_k @ x[j], attention.query_key_norm.gain[1])[part], j))
                values.append((w_v @ x[j])[part])
            logits = torch.stack([query @ key / math.sqrt(k) for key in keys])
            weights = torch.softmax(LOGIT_CAP * torch.tanh(logits / LOGIT_CAP), dim=0)
            heads.append(sum(w * v for w, v in zip(weights, values, strict=True)))
        rows.append(attention.out @ torch.cat([torch.as_tensor(head) for head in heads]))
    return torch.stack(rows)
