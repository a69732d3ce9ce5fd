"""The backbone against hand counts, the FLOP counter and dense references of its layers."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sweeper.families.esolm import (
    Reading,
    diffusion_reading,
    doubled_visibility,
    sequential_reading,
)
from sweeper.networks.attention import AttentionContext, rotary_angles
from sweeper.networks.backbone import Backbone
from sweeper.networks.dit import DitBlock, Linear
from sweeper.networks.gidd import Attention, RMSNorm
from sweeper.networks.gidd_layers import LOGIT_CAP
from sweeper.trials.flops import flops_per_token
from sweeper.trials.ladder import BackboneName, Rung, parameter_groups, rung_of_width

torch.set_num_threads(1)
TINY = Rung(n_layers=2, width=16, n_heads=2)
ARCHITECTURES: list[BackboneName] = ["gidd", "dit"]

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def tiny_backbone(
    attention: str = "bidirectional", architecture: BackboneName = "gidd", **options: Any
) -> Backbone:
    pattern: Any = attention
    backbone = Backbone(TINY, 11, 1, pattern, architecture, **options)
    backbone.initialize(torch.Generator().manual_seed(0))
    return perturbed(backbone)


def perturbed(backbone: Backbone) -> Backbone:
    """Away from the zeros of initialisation, so that everything matters."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return backbone


@every_architecture
@pytest.mark.parametrize("extra_input_ids", [0, 1])
@pytest.mark.parametrize("rung", [TINY, rung_of_width(30), Rung(3, 24, 3)], ids=str)
def test_parameters_are_counted_exactly(
    rung: Rung, extra_input_ids: int, architecture: BackboneName
) -> None:
    backbone = Backbone(rung, 11, extra_input_ids, "causal", architecture)
    groups = parameter_groups(rung, 11, extra_input_ids, architecture)
    n_by_name = {name: p.numel() for name, p in backbone.named_parameters()}
    assert sum(n_by_name.values()) == groups.total
    assert n_by_name["embedding"] == groups.embedding
    assert n_by_name["head"] + n_by_name.get("head_bias", 0) == groups.head
    conditioning = [n for n in n_by_name if "modulation" in n or n.startswith("conditioner")]
    assert sum(n_by_name[name] for name in conditioning) == groups.conditioning


@every_architecture
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("is_doubled", [False, True])
def test_flops_equal_the_counter_on_the_meta_device(
    attention: str, architecture: BackboneName, is_doubled: bool
) -> None:
    # The counter sees no attention on the CPU; shapes on the meta device are counted exactly.
    n_sequences, seq_len, vocab_size = 3, 8, 11
    pattern: Any = attention
    with torch.device("meta"):
        backbone = Backbone(TINY, vocab_size, 1, pattern, architecture)
        options: dict[str, Tensor] = {}
        if is_doubled:
            options = {"visible_BLL": doubled_visibility(seq_len, torch.device("meta"))}
        ids = torch.zeros(n_sequences, (1 + is_doubled) * seq_len, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            backbone(ids, torch.zeros(n_sequences), **options).sum().backward()
    ours = flops_per_token(TINY, seq_len, vocab_size, float(is_doubled), architecture)
    # Conditioning is counted per sequence and divided by its tokens: float64 rounding.
    assert counter.get_total_flops() == pytest.approx(n_sequences * seq_len * ours.total, rel=1e-12)


@every_architecture
def test_logits_start_at_zero(architecture: BackboneName) -> None:
    backbone = Backbone(TINY, 11, 1, "causal", architecture)
    backbone.initialize(torch.Generator().manual_seed(0))
    assert backbone(torch.arange(10)[None], torch.zeros(1)).abs().max() == 0


def test_blocks_of_dit_start_as_the_identity() -> None:
    backbone = Backbone(TINY, 11, 1, "causal", "dit")
    backbone.initialize(torch.Generator().manual_seed(0))
    rotation = rotary_angles(torch.arange(5), TINY.head_width)
    context = AttentionContext(rotation, None, condition_BNC=torch.ones(128))
    h_BND = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(backbone.blocks[0](h_BND, context), h_BND)


@every_architecture
def test_a_network_reads_the_level_only_if_it_is_told(architecture: BackboneName) -> None:
    ids_BN = torch.arange(10).reshape(2, 5)
    for is_told in (False, True):
        backbone = tiny_backbone("causal", architecture, is_time_conditioned=is_told)
        low, high = (backbone(ids_BN, torch.full((2,), t)) for t in (0.2, 0.7))
        assert torch.equal(low, high) is not (is_told and architecture == "dit")


def test_levels_per_token_reach_their_tokens() -> None:
    """The same level for all is that of the sequence; another one changes its token and later."""
    backbone = tiny_backbone("causal", "dit", is_time_conditioned=True).double()
    ids_BN = torch.arange(10).reshape(2, 5)
    t_BN = torch.tensor([0.3, 0.6], dtype=torch.float64)[:, None].repeat(1, 5)
    expected = backbone(ids_BN, t_BN[:, 0])
    torch.testing.assert_close(backbone(ids_BN, t_BN), expected)
    t_BN[:, 3] = 0.9
    is_same_BN = torch.isclose(backbone(ids_BN, t_BN), expected).all(dim=-1)
    assert is_same_BN.tolist() == [[True, True, True, False, False]] * 2
    assert torch.isfinite(backbone(ids_BN, torch.ones_like(t_BN))).all()  # all noise: alpha = 0


@every_architecture
def test_causal_logits_ignore_later_tokens_and_bidirectional_ones_do_not(
    architecture: BackboneName,
) -> None:
    ids = torch.arange(8)[None]
    changed = ids.clone()
    changed[0, 5] = 10
    t = torch.zeros(1)
    for attention, ignores in (("causal", True), ("bidirectional", False)):
        backbone = tiny_backbone(attention, architecture)
        before, after = backbone(ids, t)[0], backbone(changed, t)[0]
        assert torch.equal(before[:5], after[:5]) is ignores
        assert not torch.equal(before[5:], after[5:])


@every_architecture
def test_logits_of_a_masked_position_depend_on_both_sides(architecture: BackboneName) -> None:
    """(T21)"""
    backbone, ids, t = (
        tiny_backbone(architecture=architecture),
        torch.tensor([[3, 1, 11, 7, 2]]),
        torch.zeros(1),
    )
    before = backbone(ids, t)[0, 2]
    for other_side in (0, 4):
        changed = ids.clone()
        changed[0, other_side] = 9
        assert not torch.equal(backbone(changed, t)[0, 2], before)


@every_architecture
def test_inputs_and_positions_permuted_together_permute_the_logits(
    architecture: BackboneName,
) -> None:
    """(T20): what is read does not depend on how it is stored."""
    backbone, t, rng = (
        tiny_backbone(architecture=architecture).double(),
        torch.zeros(3),
        torch.Generator().manual_seed(2),
    )
    ids_BL = torch.randint(12, (3, 8), generator=rng)
    visible_LL = torch.rand(8, 8, generator=rng) < 0.5
    visible_LL.fill_diagonal_(True)
    order_BL = torch.rand(3, 8, generator=rng).argsort(dim=1)
    visible_BLL = visible_LL[order_BL[:, :, None], order_BL[:, None, :]]
    stored = backbone(ids_BL, t, visible_BLL=visible_LL)
    found = backbone(ids_BL.gather(1, order_BL), t, positions_BL=order_BL, visible_BLL=visible_BLL)
    # Sums in another order, of float64 numbers: rounding only.
    torch.testing.assert_close(found, stored.gather(1, order_BL[..., None].expand_as(stored)))


def logits_of(backbone: Backbone, reading: Reading) -> Tensor:
    t_B = torch.zeros(len(reading.z_BN))
    logits_BNV: Tensor = backbone(
        reading.z_BN, t_B, positions_BL=reading.positions_BN, visible_BLL=reading.visible_NN
    )
    return logits_BNV


@every_architecture
def test_logits_ignore_tokens_later_in_the_order(architecture: BackboneName) -> None:
    """(T20): causal in the order given, wherever the inputs stand in the sequence."""
    backbone, order_BL = (
        tiny_backbone("causal", architecture),
        torch.tensor([[4, 0, 7, 2, 5, 1, 6, 3]]),
    )
    x_BL = torch.arange(8)[None]
    z_BL = torch.where(x_BL < 3, x_BL, 11)
    changed_z_BL, changed_x_BL = z_BL.clone(), x_BL.clone()
    changed_z_BL[0, 5] = changed_x_BL[0, 5] = 9
    before = logits_of(backbone, diffusion_reading(x_BL, z_BL, order_BL))[0]
    after = logits_of(backbone, diffusion_reading(x_BL, changed_z_BL, order_BL))[0]
    assert (before == after).all(dim=-1).tolist() == [True] * 5 + [False] * 3
    # In a doubled sequence no token but its own logits sees z, and only later ones see x.
    before = logits_of(backbone, sequential_reading(x_BL, z_BL, order_BL))[0, :8]
    after = logits_of(backbone, sequential_reading(x_BL, changed_z_BL, order_BL))[0, :8]
    assert (before == after).all(dim=-1).tolist() == [True] * 5 + [False] + [True] * 2
    after = logits_of(backbone, sequential_reading(changed_x_BL, z_BL, order_BL))[0, :8]
    assert (before == after).all(dim=-1).tolist() == [True] * 6 + [False] * 2


@every_architecture
def test_a_doubled_sequence_scores_each_token_as_generation_does(
    architecture: BackboneName,
) -> None:
    """One pass over [z ; x] gives what reading x up to l, then a mask at l, gives one by one."""
    backbone, order_BL = (
        tiny_backbone("causal", architecture).double(),
        torch.tensor([[4, 0, 5, 2, 1, 3]]),
    )
    x_BL, mask_BL, t_B = torch.tensor([[8, 3, 1, 0, 5, 2]]), torch.full((1, 6), 11), torch.zeros(1)
    together = logits_of(backbone, sequential_reading(x_BL, mask_BL, order_BL))[0, :6]
    for n_known in range(6):
        ids_BL = torch.cat([x_BL[:, :n_known], mask_BL[:, :1]], dim=1)
        alone = backbone(ids_BL, t_B, positions_BL=order_BL[:, : n_known + 1])[0, -1]
        torch.testing.assert_close(together[n_known], alone)


@every_architecture
def test_visibility_of_each_sequence_is_its_own(architecture: BackboneName) -> None:
    backbone, t_B = tiny_backbone(architecture=architecture).double(), torch.zeros(2)
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
    context = AttentionContext(rotary_angles(torch.arange(4), TINY.head_width), bias_BNM=None)
    norm = RMSNorm(TINY.width).double()
    expected = dense_attention(attention, norm(x)[0])
    # Angles are float32, hence the tolerance.
    torch.testing.assert_close(attention(x, norm, context)[0], expected, rtol=1e-6, atol=1e-6)


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


def test_a_dit_block_equals_its_formulas() -> None:
    """Heads one by one, rotations as complex numbers; gates and modulations away from zero."""
    block, rng = DitBlock(TINY).double(), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) / 4)
    h_ND = torch.randn(5, 16, generator=rng, dtype=torch.float64)
    condition_C = torch.randn(128, generator=rng, dtype=torch.float64)
    rotation = rotary_angles(torch.arange(5), TINY.head_width)
    found = block(
        h_ND[None], AttentionContext(rotation, None, condition_BNC=condition_C[None, None])
    )[0]
    # Angles are float32, hence the tolerance.
    torch.testing.assert_close(found, dense_dit(block, h_ND, condition_C), rtol=1e-6, atol=1e-6)


def dense_dit(block: DitBlock, h_ND: Tensor, condition_C: Tensor) -> Tensor:
    def affine(layer: Linear, x: Tensor) -> Tensor:
        y: Tensor = x @ layer.weight.T
        return y if layer.bias is None else y + layer.bias

    def normed(x_ND: Tensor, gain_D: Tensor, scale_D: Tensor, shift_D: Tensor) -> Tensor:
        centred = x_ND - x_ND.mean(-1, keepdim=True)
        standard = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return standard * gain_D * (1 + scale_D) + shift_D

    def turned(x_NK: Tensor) -> Tensor:
        half = x_NK.shape[1] // 2
        angles = torch.arange(len(x_NK))[:, None] * 10_000 ** (-torch.arange(half) / half)
        z = torch.complex(x_NK[:, :half], x_NK[:, half:]) * torch.exp(1j * angles.double())
        return torch.cat([z.real, z.imag], dim=1)

    modulation = affine(block.modulation, condition_C).view(6, 16)
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.unbind()
    x_ND = normed(h_ND, block.attention_norm.gain, scale_a, shift_a)
    q, k, v = affine(block.qkv, x_ND).chunk(3, dim=1)
    heads = [
        torch.softmax(turned(q[:, p]) @ turned(k[:, p]).T / math.sqrt(8), dim=-1) @ v[:, p]
        for p in (slice(0, 8), slice(8, 16))
    ]
    h_ND = h_ND + gate_a * affine(block.out, torch.cat(heads, dim=1))
    x_ND = normed(h_ND, block.mlp_norm.gain, scale_m, shift_m)
    hidden = affine(block.up, x_ND)
    root = math.sqrt(2 / math.pi)
    hidden = hidden / 2 * (1 + torch.tanh(root * (hidden + 0.044715 * hidden**3)))
    return h_ND + gate_m * affine(block.down, hidden)


def test_levels_per_token_cost_nothing_where_the_network_is_not_told() -> None:
    """Its condition is one per sequence, as planned FLOPs count it."""
    flops = []
    for level_shape in [(3,), (3, 7)]:
        with torch.device("meta"):
            backbone = Backbone(TINY, 11, 1, "bidirectional", "dit")
            with FlopCounterMode(display=False) as counter:
                backbone(torch.zeros(3, 7, dtype=torch.int64), torch.zeros(level_shape))
        flops.append(counter.get_total_flops())
    assert flops[0] == flops[1]
