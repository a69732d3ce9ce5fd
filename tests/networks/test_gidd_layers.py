"""Written-out layers against the same network in plain operations, and their memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from live_bytes import LiveBytes
from plain_gidd import use_plain_layers
from small_trials import SEQ_LEN as TRIAL_SEQ_LEN
from small_trials import SOURCE, trial_of, without_ngrams
from torch import Tensor

from sweeper.data.corpus import load_corpus, validation_sequences
from sweeper.evaluation.bound import evaluate_bound
from sweeper.families import family_names, family_of
from sweeper.networks import gidd_layers
from sweeper.networks.attention import AttentionContext, rotary_angles
from sweeper.networks.backbone import Backbone
from sweeper.networks.gidd import Attention, RMSNorm
from sweeper.training.trainer import Trainer
from sweeper.trials.ladder import Rung
from sweeper.trials.trial import Optimizer

torch.set_num_threads(1)
N_SEQUENCES, SEQ_LEN = 3, 7


Layers = Callable[[Backbone], Backbone]


def as_it_is(backbone: Backbone) -> Backbone:
    return backbone


def backbone_away_from_zero(attention: Any) -> Backbone:
    backbone, rng = Backbone(Rung(2, 12, 2), 11, 1, attention), torch.Generator().manual_seed(0)
    backbone.initialize(rng)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    return backbone.double()


def readings() -> dict[str, dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(1)
    order_BL = torch.rand(N_SEQUENCES, SEQ_LEN, generator=rng).argsort(dim=1)
    visible_BLL = torch.rand(N_SEQUENCES, SEQ_LEN, SEQ_LEN, generator=rng) < 0.5
    visible_BLL |= torch.eye(SEQ_LEN, dtype=torch.bool)
    return {
        "plainly": {},
        "in an order": {"positions_BL": order_BL},
        "with a mask": {"visible_BLL": visible_BLL[0]},
        "with a mask of each": {"positions_BL": order_BL, "visible_BLL": visible_BLL},
    }


@pytest.mark.parametrize("is_in_blocks", [False, True], ids=["whole", "in blocks"])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
@pytest.mark.parametrize("reading", readings())
def test_logits_and_gradients_are_those_of_plain_operations(
    monkeypatch: pytest.MonkeyPatch, reading: str, attention: str, is_in_blocks: bool
) -> None:
    if is_in_blocks:  # of two queries, and one of the last
        monkeypatch.setattr(gidd_layers, "MAX_KEPT_LOGITS", 0)
        monkeypatch.setattr(gidd_layers, "BLOCK_LOGITS", 2 * N_SEQUENCES * 2 * SEQ_LEN)
    ids_BL = torch.randint(11, (N_SEQUENCES, SEQ_LEN), generator=torch.Generator().manual_seed(2))
    found = []
    for layers in (as_it_is, use_plain_layers):
        backbone = backbone_away_from_zero(attention)
        parameters = dict(backbone.named_parameters())  # before their modules change
        logits_BLV = layers(backbone)(ids_BL, torch.zeros(3), **readings()[reading])
        torch.autograd.backward(logits_BLV.sin().sum())
        found.append({"logits": logits_BLV} | {n: p.grad for n, p in parameters.items()})
    own, plain = found
    for name, expected in plain.items():
        torch.testing.assert_close(own[name], expected, rtol=1e-9, atol=1e-9, msg=name)


def test_bfloat16_rounds_no_more_than_in_plain_operations() -> None:
    ids_BL = torch.randint(11, (N_SEQUENCES, SEQ_LEN), generator=torch.Generator().manual_seed(2))

    def gradients(layers: Layers, *, is_bfloat16: bool) -> Tensor:
        backbone = backbone_away_from_zero("bidirectional").float()
        parameters = list(backbone.parameters())
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            logits_BLV = layers(backbone)(ids_BL, torch.zeros(3))
        torch.autograd.backward(logits_BLV.square().mean())
        return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])

    exact = gradients(use_plain_layers, is_bfloat16=False)
    plain_error = (gradients(use_plain_layers, is_bfloat16=True) - exact).norm()
    own_error = (gradients(as_it_is, is_bfloat16=True) - exact).norm()
    assert own_error < 1.2 * plain_error < 0.1 * exact.norm()


@pytest.mark.parametrize("is_causal", [False, True])
def test_memory_of_attention_is_linear_in_the_sequence_length(is_causal: bool) -> None:
    def peak(seq_len: int) -> int:
        with torch.device("meta"):
            attention, norm = Attention(Rung(1, 32, 2)), RMSNorm(32)
            x_BND = torch.zeros(1, seq_len, 32, requires_grad=True)
            context = AttentionContext(
                rotary_angles(torch.arange(seq_len), 16), None, is_causal=is_causal
            )
        live = LiveBytes()
        with live:
            torch.autograd.backward(attention(x_BND, norm, context).sum())
        return live.peak

    # One block of float32 logits a few times over, and what has no keys.
    assert peak(4096) < 8 * 4 * gidd_layers.BLOCK_LOGITS
    # Four times as many logits, but only twice as many tokens.
    assert peak(8192) < 2 * peak(4096)


@pytest.mark.slow
@pytest.mark.parametrize("name", family_names())
def test_a_run_of_200_steps_agrees_with_one_in_plain_operations(name: str) -> None:
    corpus = load_corpus(SOURCE)
    # At rates that tuning finds. Rounding grows with the rate: at 0.1 it makes 2e-4 in 175 steps.
    optimizer = Optimizer(8, 0.03, 6e-3, warmup_steps=10, ema_decay=0.99)
    trial = trial_of(name, optimizer=optimizer, observe_at_steps=(200,))
    family = family_of(trial)
    ids_NL = torch.from_numpy(validation_sequences(corpus, seq_len=TRIAL_SEQ_LEN, n_sequences=60))
    found = []
    for layers in (as_it_is, use_plain_layers):
        trainer = Trainer(trial, family, corpus, torch.device("cpu"))
        layers(trainer.backbone)
        losses = []
        for _ in range(8):
            for _ in range(25):
                trainer.advance()
            losses.append(trainer.log_entry().loss_nats_per_token)
        with trainer.evaluation_weights():
            bound = evaluate_bound(family, trainer.denoise, without_ngrams(ids_NL), 0)
        found.append([*losses, bound.nats_per_token])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
