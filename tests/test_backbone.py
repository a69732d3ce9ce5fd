"""The backbone against hand counts, the FLOP counter and a dense reference of its attention."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sweeper.backbone import LOGIT_CAP, Attention, Backbone, rotary_angles
from sweeper.families.esolm import diffusion_logits, sequential_logits
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


def test_logits_of_a_masked_position_depend_on_both_sides() -> None:
    """(T21)"""
    backbone, ids, t = tiny_backbone(), torch.tensor([[3, 1, 11, 7, 2]]), torch.zeros(1)
    before = backbone(ids, t)[0, 2]
    for other_side in (0, 4):
        changed = ids.clone()
        changed[0, other_side] = 9
        assert not torch.equal(backbone(changed, t)[0, 2], before)


def test_inputs_and_positions_permuted_together_permute_the_logits() -> None:
    """(T20): what is read does not depend on how it is stored."""
    backbone, t, rng = tiny_backbone().double(), torch.zeros(3), torch.Generator().manual_seed(2)
    ids_BL = torch.randint(12, (3, 8), generator=rng)
    visible_LL = torch.rand(8, 8, generator=rng) < 0.5
    visible_LL.fill_diagonal_(True)
    order_BL = torch.rand(3, 8, generator=rng).argsort(dim=1)
    visible_BLL = visible_LL[order_BL[:, :, None], order_BL[:, None, :]]
    stored = backbone(ids_BL, t, visible_BLL=visible_LL)
    found = backbone(ids_BL.gather(1, order_BL), t, positions_BL=order_BL, visible_BLL=visible_BLL)
    # Sums in another order, of float64 numbers: rounding only.
    torch.testing.assert_close(found, stored.gather(1, order_BL[..., None].expand_as(stored)))


def test_logits_ignore_tokens_later_in_the_order() -> None:
    """(T20): causal in the order given, wherever the inputs stand in the sequence."""
    backbone, order_BL = tiny_backbone("causal"), torch.tensor([[4, 0, 7, 2, 5, 1, 6, 3]])
    x_BL, t_B = torch.arange(8)[None], torch.zeros(1)
    z_BL = torch.where(x_BL < 3, x_BL, 11)
    changed_z_BL, changed_x_BL = z_BL.clone(), x_BL.clone()
    changed_z_BL[0, 5] = changed_x_BL[0, 5] = 9
    order = t_B, order_BL
    before = diffusion_logits(backbone, x_BL, z_BL, *order)[0]
    after = diffusion_logits(backbone, x_BL, changed_z_BL, *order)[0]
    assert (before == after).all(dim=-1).tolist() == [True] * 5 + [False] * 3
    # In a doubled sequence no token but its own logits sees z, and only later ones see x.
    before = sequential_logits(backbone, x_BL, z_BL, *order)[0]
    after = sequential_logits(backbone, x_BL, changed_z_BL, *order)[0]
    assert (before == after).all(dim=-1).tolist() == [True] * 5 + [False] + [True] * 2
    after = sequential_logits(backbone, changed_x_BL, z_BL, *order)[0]
    assert (before == after).all(dim=-1).tolist() == [True] * 6 + [False] * 2


def test_a_doubled_sequence_scores_each_token_as_generation_does() -> None:
    """One pass over [z ; x] gives what reading x up to l, then a mask at l, gives one by one."""
    backbone, order_BL = tiny_backbone("causal").double(), torch.tensor([[4, 0, 5, 2, 1, 3]])
    x_BL, mask_BL, t_B = torch.tensor([[8, 3, 1, 0, 5, 2]]), torch.full((1, 6), 11), torch.zeros(1)
    together = sequential_logits(backbone, x_BL, mask_BL, t_B, order_BL)[0]
    for n_known in range(6):
        ids_BL = torch.cat([x_BL[:, :n_known], mask_BL[:, :1]], dim=1)
        alone = backbone(ids_BL, t_B, positions_BL=order_BL[:, : n_known + 1])[0, -1]
        torch.testing.assert_close(together[n_known], alone)


def test_visibility_of_each_sequence_is_its_own() -> None:
    backbone, t_B = tiny_backbone().double(), torch.zeros(2)
    ids_BL = torch.arange(10).reshape(2, 5)
    visible_BLL = torch.stack([torch.eye(5), torch.ones(5, 5)]).bool()
    logits_BLV = backbone(ids_BL, t_B, visible_BLL=visible_BLL)
    for row in range(2):
        alone = backbone(ids_BL[row, None], t_B[:1], visible_BLL=visible_BLL[row])
        torch.testing.assert_close(logits_BLV[row, None], alone)


def test_attention_equals_a_dense_reference() -> None:
    attention = Attention(TINY).double()
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    x = torch.randn(1, 4, TINY.width, generator=rng, dtype=torch.float64)
    cos, sin = rotary_angles(torch.arange(4), TINY.head_width)
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
