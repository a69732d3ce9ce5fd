"""Training steps are functions of the trial and the step, whatever the micro-batch or history."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch

from sweeper.corpus import Corpus, load_corpus
from sweeper.families import family_names, load_family
from sweeper.family_options import encoded_options
from sweeper.ladder import Rung
from sweeper.seeds import generator
from sweeper.trainer import Diverged, Trainer
from sweeper.trial import Data, Evaluation, Optimizer, Trial

SEQ_LEN = 16
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus("synthetic:markov?vocab=8&tokens=20000")


@pytest.fixture
def trainer_of(corpus: Corpus) -> Callable[..., Trainer]:
    def build(name: str = "masked", micro_batch: int | None = None, **changes: object) -> Trainer:
        family = load_family(name, vocab_size=corpus.vocab_size)
        trial = Trial(
            family=name,
            family_options=encoded_options(family),
            rung=Rung(2, 16, 2),
            data=Data(corpus.fingerprint, corpus.vocab_size, SEQ_LEN),
            optimizer=Optimizer(8, 0.1, auxiliary_learning_rate=6e-3, warmup_steps=2),
            evaluation=Evaluation(4),
            observe_at_steps=(10,),
            seed=0,
            precision="float32",
        )
        return Trainer(dataclasses.replace(trial, **changes), family, corpus, CPU, micro_batch)  # type: ignore[arg-type]

    return build


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.backbone.parameters()])


def advance(trainer: Trainer, n_steps: int) -> Trainer:
    for _ in range(n_steps):
        trainer.advance()
    return trainer


@pytest.mark.parametrize("name", family_names())
def test_gradients_do_not_depend_on_micro_batches(
    trainer_of: Callable[..., Trainer], name: str
) -> None:
    whole, cut = trainer_of(name), trainer_of(name, micro_batch=3)
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


@pytest.mark.parametrize("name", family_names())
def test_a_resumed_run_ends_in_the_same_bits(trainer_of: Callable[..., Trainer], name: str) -> None:
    whole = advance(trainer_of(name), 10)
    first = advance(trainer_of(name), 4)
    state = copy.deepcopy(first.state_dict())
    second = trainer_of(name)
    second.load_state_dict(state)
    advance(second, 6)
    assert torch.equal(weights(whole), weights(second))
    assert whole.log_entry() == second.log_entry()


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
    def first_moment(clip_norm: float) -> float:
        trainer = trainer_of()
        settings = dataclasses.replace(trainer.trial.optimizer, clip_norm=clip_norm)
        trainer = advance(trainer_of(optimizer=settings), 1)
        moments = [state["exp_avg"] for state in trainer.optimizer.state.values()]
        return float(torch.cat([m.flatten() for m in moments]).norm())

    # exp_avg = (1 − beta1) · gradient after one step.
    assert first_moment(1e-3) == pytest.approx(0.1 * 1e-3, rel=1e-3)
    assert first_moment(1e9) > 10 * first_moment(1e-3)


def test_training_learns_the_source(corpus: Corpus, trainer_of: Callable[..., Trainer]) -> None:
    trainer = trainer_of("ar", observe_at_steps=(150,))
    advance(trainer, 20)
    early = trainer.log_entry().loss_nats_per_token
    advance(trainer, 130)
    late = trainer.log_entry().loss_nats_per_token
    entropy = corpus.entropy_nats_per_token
    assert entropy is not None
    assert entropy < late < early - 0.1


def test_a_run_that_leaves_the_finite_numbers_diverges(
    trainer_of: Callable[..., Trainer],
) -> None:
    trainer = advance(trainer_of(), 1)
    with torch.no_grad():
        trainer.backbone.head.fill_(float("inf"))
    advance(trainer, 1)
    with pytest.raises(Diverged, match="step 2"):
        trainer.log_entry()
