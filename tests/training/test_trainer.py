"""Training steps are functions of the trial and the step, whatever the micro-batch or history."""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from synthetic_entropy import entropy_rate

from sweeper.data.corpus import Corpus, load_corpus
from sweeper.families import encoded_options, family_names, load_family
from sweeper.training.distributed import SINGLE_PROCESS, Ranks
from sweeper.training.trainer import Diverged, Trainer
from sweeper.trials.ladder import Rung
from sweeper.trials.resources import Resources
from sweeper.trials.seeds import generator
from sweeper.trials.trial import Data, Evaluation, Optimizer, Trial

SEQ_LEN = 16
CPU = torch.device("cpu")

every_backbone = pytest.mark.parametrize("backbone", ["gidd", "dit"])


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus("synthetic:markov?vocab=8&tokens=20000")


@pytest.fixture
def trainer_of(corpus: Corpus) -> Callable[..., Trainer]:
    def build(
        name: str = "masked",
        micro_batch: int | None = None,
        options: Mapping[str, float] = MappingProxyType({}),
        *,
        ranks: Ranks = SINGLE_PROCESS,
        recomputed: bool = False,
        **changes: object,
    ) -> Trainer:
        family = load_family(name, vocab_size=corpus.tokens.vocab_size, **options)
        trial = Trial(
            family=name,
            family_options=encoded_options(family),
            rung=Rung(2, 16, 2),
            data=Data(corpus.fingerprint, corpus.tokens.vocab_size, SEQ_LEN),
            optimizer=Optimizer(8, 0.1, auxiliary_learning_rate=6e-3, warmup_steps=2),
            evaluation=Evaluation(4),
            observe_at_steps=(10,),
            seed=0,
            precision="float32",
        )
        if changes.get("backbone") == "dit":  # one rate for all tensors, so a smaller one
            trial = dataclasses.replace(
                trial, optimizer=dataclasses.replace(trial.optimizer, learning_rate=3e-3)
            )
        trial = dataclasses.replace(trial, **changes)  # type: ignore[arg-type]
        resources = Resources(micro_batch_sequences=micro_batch, recomputed=recomputed)
        return Trainer(trial, family, corpus, CPU, resources, ranks)

    return build


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.backbone.parameters()])


def advance(trainer: Trainer, n_steps: int) -> Trainer:
    for _ in range(n_steps):
        trainer.advance()
    return trainer


@every_backbone
@pytest.mark.parametrize("name", family_names())
def test_gradients_do_not_depend_on_micro_batches(
    trainer_of: Callable[..., Trainer], name: str, backbone: str
) -> None:
    whole = trainer_of(name, backbone=backbone)
    cut = trainer_of(name, micro_batch=3, backbone=backbone)
    advance(whole, 2)  # away from the zero head, where most gradients vanish
    cut.load_state_dict(whole.state_dict())
    for trainer in (whole, cut):
        trainer.backbone.double()
    # Only the order of sums differs: float64 gradients, and a mean loss that is kept in float32.
    loss = whole.accumulate_gradients(7)
    torch.testing.assert_close(cut.accumulate_gradients(7), loss, rtol=1e-6, atol=0)
    for a, b in zip(whole.backbone.parameters(), cut.backbone.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    # The second Eso-LM trains two terms, each on sequences of its own.
    [*((name, {}) for name in family_names()), ("esolm", {"alpha_0": 0.5})],
    ids=str,
)
def test_ranks_and_micro_batches_add_up_to_the_gradient_of_the_global_batch(
    trainer_of: Callable[..., Trainer], name: str, options: dict[str, float]
) -> None:
    start = advance(trainer_of(name, options=options), 2).state_dict()
    whole = trainer_of(name, options=options)
    whole.load_state_dict(start)
    whole.backbone.double()
    whole.accumulate_gradients(7)
    for n_ranks, n_micro_batches in ((1, 8), (8, 1), (2, 4)):
        total = [torch.zeros_like(p) for p in whole.backbone.parameters()]
        loss = torch.zeros(())
        for i in range(n_ranks):
            # A rank that hears nothing of the others, so that it computes its own part only.
            rank = trainer_of(name, 8 // n_micro_batches, options=options, ranks=Ranks(i, n_ranks))
            rank.load_state_dict(start)
            rank.backbone.double()
            loss += rank.accumulate_gradients(7)
            torch._foreach_add_(total, [gradient(p) for p in rank.backbone.parameters()])
        for summed, parameter in zip(total, whole.backbone.parameters(), strict=True):
            # Float64 throughout; only the order of sums differs.
            torch.testing.assert_close(summed, gradient(parameter), rtol=1e-12, atol=1e-12)


@every_backbone
@pytest.mark.parametrize("name", family_names())
def test_recomputed_activations_give_the_same_bits(
    trainer_of: Callable[..., Trainer], name: str, backbone: str
) -> None:
    kept = advance(trainer_of(name, backbone=backbone), 4)
    again = trainer_of(name, backbone=backbone, recomputed=True)
    calls = 0
    block = again.backbone.blocks[0]

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    block.register_forward_pre_hook(count)
    advance(again, 4)
    assert calls >= 2 * 4
    assert torch.equal(weights(kept), weights(again))
    assert kept.log_entry() == again.log_entry()


def gradient(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


@pytest.mark.parametrize("name", [name for name in family_names() if name != "ar"])
def test_noise_levels_are_stratified_over_the_global_batch_whatever_the_split(
    trainer_of: Callable[..., Trainer], name: str
) -> None:
    batch = trainer_of(name).global_batch(3)
    for n_ranks in (1, 2, 3, 8):
        t_B = torch.cat([batch.rows(rank, 8, n_ranks).t_B for rank in range(n_ranks)])
        # One level in each eighth of (0, 1), so that no rank draws all the easy ones.
        assert sorted((8 * t_B).floor().tolist()) == [*range(8)]


VARIANTS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "laprop": {"name": "laprop", "weight_decay": 0.01},
    "muon": {"name": "muon", "weight_decay": 0.01},
    "cosine": {"schedule": "cosine", "schedule_steps": 10, "min_learning_rate_ratio": 0.1},
    "wsd": {"schedule": "wsd", "schedule_steps": 10, "cooldown_steps": 5},
    "averaged": {"ema_decay": 0.9},
    "unclipped": {"clip_norm": None},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_resumed_run_of_any_optimiser_ends_in_the_same_bits(
    trainer_of: Callable[..., Trainer], settings: dict[str, Any], tmp_path: Path
) -> None:
    optimizer = Optimizer(8, 0.1, 6e-3, **{"warmup_steps": 2, **settings})
    whole = advance(trainer_of(optimizer=optimizer), 10)
    torch.save(advance(trainer_of(optimizer=optimizer), 7).state_dict(), tmp_path / "latest.pt")
    second = trainer_of(optimizer=optimizer)
    second.load_state_dict(torch.load(tmp_path / "latest.pt", weights_only=True))
    advance(second, 3)
    assert torch.equal(weights(whole), weights(second))
    assert whole.log_entry() == second.log_entry()
    with whole.evaluation_weights(), second.evaluation_weights():
        assert torch.equal(weights(whole), weights(second))


@every_backbone
@pytest.mark.parametrize("name", family_names())
def test_a_resumed_run_ends_in_the_same_bits(
    trainer_of: Callable[..., Trainer], name: str, backbone: str
) -> None:
    whole = advance(trainer_of(name, backbone=backbone), 10)
    first = advance(trainer_of(name, backbone=backbone), 4)
    state = copy.deepcopy(first.state_dict())
    second = trainer_of(name, backbone=backbone)
    second.load_state_dict(state)
    advance(second, 6)
    assert torch.equal(weights(whole), weights(second))
    assert whole.log_entry() == second.log_entry()


def test_the_rate_that_is_logged_is_that_of_the_step(trainer_of: Callable[..., Trainer]) -> None:
    optimizer = Optimizer(
        8, 0.1, 6e-3, warmup_steps=2, schedule="wsd", schedule_steps=10, cooldown_steps=4
    )
    trainer = trainer_of(optimizer=optimizer)
    rates = []
    for _ in range(10):
        trainer.advance()
        rates.append(trainer.log_entry().learning_rate)
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(rates[-1] / 16)
    down = [1 - math.sqrt(k / 4) for k in range(4)]
    assert rates == pytest.approx([0.05, *[0.1] * 5, *[0.1 * factor for factor in down]])


def test_averaged_weights_follow_their_recursion_and_leave_training_alone(
    trainer_of: Callable[..., Trainer],
) -> None:
    decay = 0.6  # reached by the ramp (1 + n) / (10 + n) at the 13th step
    plain = trainer_of()
    settings = dataclasses.replace(plain.trial.optimizer, ema_decay=decay)
    averaged = trainer_of(optimizer=settings, observe_at_steps=(20,))
    expected = weights(averaged).double()
    for n in range(1, 21):
        advance(plain, 1)
        advance(averaged, 1)
        kept = min(decay, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * weights(averaged)
        with averaged.evaluation_weights():
            # Float32 rounds each of the steps by 6e-8.
            torch.testing.assert_close(weights(averaged).double(), expected, rtol=1e-5, atol=1e-6)
            assert not torch.equal(weights(averaged), weights(plain))
        assert torch.equal(weights(averaged), weights(plain))


def test_averaged_weights_give_way_when_evaluation_fails(
    trainer_of: Callable[..., Trainer],
) -> None:
    settings = Optimizer(8, 0.1, 6e-3, warmup_steps=2, ema_decay=0.9)
    trainer = advance(trainer_of(optimizer=settings), 3)
    before = weights(trainer)

    def fail() -> None:
        with trainer.evaluation_weights():
            assert not torch.equal(before, weights(trainer))
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        fail()
    assert torch.equal(before, weights(trainer))


def test_global_random_state_is_neither_read_nor_changed(
    trainer_of: Callable[..., Trainer],
) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = weights(advance(trainer_of(), 3))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(one, weights(advance(trainer_of(), 3)))


def test_another_seed_is_another_run(trainer_of: Callable[..., Trainer]) -> None:
    assert not torch.equal(
        weights(advance(trainer_of(), 2)), weights(advance(trainer_of(seed=1), 2))
    )


def test_purposes_and_indices_separate_streams() -> None:
    streams = [
        generator(0, "weights"),
        generator(1, "weights"),
        generator(0, "corruption", 1),
        generator(0, "corruption", 2),
        generator(0, "corruption", 1, 2),
    ]
    assert len({torch.rand(1, generator=stream).item() for stream in streams}) == len(streams)


def test_clipping_limits_the_update(trainer_of: Callable[..., Trainer]) -> None:
    # Adam forgets the scale of a single gradient, so compare what reaches it: its first moment.
    def first_moment(clip_norm: float | None) -> float:
        trainer = trainer_of()
        settings = dataclasses.replace(trainer.trial.optimizer, clip_norm=clip_norm)
        trainer = advance(trainer_of(optimizer=settings), 1)
        moments = [state["exp_avg"] for state in trainer.optimizer.state.values()]
        return float(torch.cat([m.flatten() for m in moments]).norm())

    # exp_avg = (1 − beta1) · gradient after one step.
    assert first_moment(1e-3) == pytest.approx(0.1 * 1e-3, rel=1e-3)
    assert first_moment(1e9) > 10 * first_moment(1e-3)
    assert first_moment(None) == first_moment(1e9)


def test_the_norm_that_is_logged_is_the_same_with_and_without_clipping(
    trainer_of: Callable[..., Trainer],
) -> None:
    norms = {
        advance(trainer_of(optimizer=Optimizer(8, 0.1, 6e-3, 2, clip_norm=clip_norm)), 1)
        .log_entry()
        .grad_norm
        for clip_norm in (1e-3, 1e9, None)
    }
    assert len(norms) == 1


@every_backbone
def test_training_learns_the_source(
    corpus: Corpus, trainer_of: Callable[..., Trainer], backbone: str
) -> None:
    trainer = trainer_of("ar", observe_at_steps=(150,), backbone=backbone)
    advance(trainer, 20)
    early = trainer.log_entry().loss_nats_per_token
    advance(trainer, 130)
    late = trainer.log_entry().loss_nats_per_token
    assert entropy_rate(corpus.source) < late < early - 0.1


def test_a_run_that_leaves_the_finite_numbers_diverges(
    trainer_of: Callable[..., Trainer],
) -> None:
    trainer = advance(trainer_of(), 1)
    with torch.no_grad():
        trainer.backbone.head.fill_(float("inf"))
    advance(trainer, 1)
    with pytest.raises(Diverged, match="step 2"):
        trainer.log_entry()
