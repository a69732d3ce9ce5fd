"""The head read in chunks gives what all logits give: every family's loss, bound and gradients."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from loss_alone import HeadAlone, half_noisy
from small_trials import SOURCE, trial_of, without_ngrams
from torch import Tensor

from sweeper.data.corpus import load_corpus
from sweeper.evaluation.bound import (
    Scoring,
    evaluate_bound,
    evaluate_given_prefixes,
    validation_set,
)
from sweeper.families import family_names, family_of, load_family
from sweeper.families._prefixes import clean_prefixes, conditional_loss, with_prefixes
from sweeper.families._scores import Query, scores_of_logits
from sweeper.families.base import AbstractDiffusion, AbstractFamily, Denoiser, NoisyBatch
from sweeper.networks import head
from sweeper.networks.backbone import Backbone, BackboneDenoiser
from sweeper.networks.head import head_scores
from sweeper.training.memory import LiveStorages
from sweeper.training.trainer import Trainer
from sweeper.trials.ladder import BackboneName, Rung

torch.set_num_threads(1)
V, SEQ_LEN = 11, 8
OPTIONS: dict[str, list[dict[str, object]]] = {
    "esolm": [{"alpha_0": 0.5}, {"alpha_0": 0.0}, {"objective": "cross_entropy"}],
    "masked": [{}, {"objective": "cross_entropy"}],
    "uniform": [{}, {"objective": "unweighted"}],
    "hybrid": [{"per_token_share": 0.5}, {"objective": "unweighted"}, {"shift": -math.inf}],
}
every_family = pytest.mark.parametrize(
    "family",
    [
        pytest.param(load_family(name, vocab_size=V, **options), id=f"{name}-{options}")
        for name in family_names()
        for options in OPTIONS.get(name, [{}])
    ],
)


every_name = pytest.mark.parametrize("name", family_names())


@pytest.fixture(params=["one chunk", "three rows a chunk"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "one chunk":
        monkeypatch.setitem(head.CHUNK_BYTES, "cpu", 3 * V * 8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(n_sequences: int) -> Tensor:
    return torch.randint(V, (n_sequences, SEQ_LEN), generator=seeded(1))


def network(family: AbstractFamily, architecture: BackboneName = "gidd") -> Backbone:
    needs = family.needs
    backbone = Backbone(
        Rung(1, 16, 2),
        V,
        needs.extra_input_ids,
        needs.attention,
        architecture,
        is_time_conditioned=needs.time_conditioning,
    )
    backbone.initialize(seeded(2))
    rng = seeded(3)
    with torch.no_grad():  # leave the zeros of initialisation, so that everything matters
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return backbone


def by_all_logits(denoiser: BackboneDenoiser) -> Denoiser:
    """The same network, which does not say that it answers queries."""
    return lambda z_BL, t_B, /, **reading: denoiser(z_BL, t_B, **reading)


def loss_and_gradients(
    family: AbstractFamily, backbone: Backbone, denoiser: Denoiser, batch: NoisyBatch
) -> tuple[Tensor, ...]:
    loss_BL = conditional_loss(family, denoiser, batch)
    return loss_BL, *torch.autograd.grad(loss_BL.sum(), [*backbone.parameters()], allow_unused=True)


@every_family
@pytest.mark.parametrize("architecture", ["gidd", "dit"])
@pytest.mark.parametrize("has_prefixes", [False, True])
def test_loss_and_gradients_are_those_of_all_logits(
    family: AbstractFamily, architecture: BackboneName, has_prefixes: bool, chunks: None
) -> None:
    if has_prefixes and family.needs.attention == "causal":
        pytest.skip("reads no prefixes")
    backbone = network(family, architecture)
    batch = family.noisy_batch(tokens(6), seeded(4))
    if has_prefixes:
        batch = with_prefixes(batch, clean_prefixes(6, SEQ_LEN, 0.5, seeded(5)))
    for dtype, rounding in ((torch.float64, 1e-10), (torch.float32, 2e-5)):
        denoiser = BackboneDenoiser(backbone.to(dtype), "float32")
        exact = loss_and_gradients(family, backbone, by_all_logits(denoiser), batch)
        found = loss_and_gradients(family, backbone, denoiser, batch.to(torch.device("cpu")))
        for ours, plain in zip(found, exact, strict=True):
            if plain is not None:
                scale = plain.abs().max().item() + 1e-3
                torch.testing.assert_close(ours, plain, rtol=rounding, atol=rounding * scale)


@every_family
def test_bfloat16_logits_are_those_of_autocast(family: AbstractFamily, chunks: None) -> None:
    backbone = network(family)
    batch = family.noisy_batch(tokens(6), seeded(4))
    denoiser = BackboneDenoiser(backbone, "bfloat16")
    exact = loss_and_gradients(family, backbone, by_all_logits(denoiser), batch)
    found = loss_and_gradients(family, backbone, denoiser, batch)
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0], exact[0], rtol=1e-4, atol=1e-5)  # the same bfloat16 logits
    for ours, plain in zip(found[1:], exact[1:], strict=True):
        if plain is not None:  # the head's gradient is rounded once per chunk: bfloat16 has 8 bits
            assert (ours - plain).norm() <= 0.02 * plain.norm() + 1e-6


@every_family
def test_bounds_are_those_of_all_logits_however_many_sequences_are_read_at_once(
    family: AbstractFamily, chunks: None
) -> None:
    denoiser = BackboneDenoiser(network(family), "float32")
    validation = without_ngrams(tokens(50))
    bounds: list[Any] = [evaluate_bound]
    if family.needs.attention != "causal":
        bounds.append(evaluate_given_prefixes)
    for bound_of in bounds:
        exact = bound_of(family, by_all_logits(denoiser), validation, 0)
        for n in (64, 3):
            found = bound_of(family, denoiser, validation, 0, Scoring(sequences_at_once=n))
            assert found.nats_per_token == pytest.approx(exact.nats_per_token, rel=1e-5)
            assert found.stderr == pytest.approx(exact.stderr, rel=1e-3)
            plain = by_all_logits(denoiser)
            found = bound_of(family, plain, validation, 0, Scoring(sequences_at_once=n))
            assert found.nats_per_token == pytest.approx(exact.nats_per_token, rel=1e-5)


@every_family
def test_rows_without_loss_leave_zero_gradients(family: AbstractFamily) -> None:
    """Ranks and micro-batches add them up, so each weight must have one."""
    backbone = network(family)
    batch = family.noisy_batch(tokens(2), seeded(4))
    nothing_BL = torch.zeros(2, SEQ_LEN, dtype=torch.bool)
    batch = dataclasses.replace(batch, zt_BL=batch.x0_BL, scored_BL=nothing_BL)
    loss_BL = family.loss(BackboneDenoiser(backbone, "float32"), batch)
    (gradient_VD,) = torch.autograd.grad(loss_BL.sum(), backbone.head)
    assert loss_BL.shape == (2, SEQ_LEN)
    assert not gradient_VD.any()


@dataclasses.dataclass(frozen=True)
class WithoutAutocast:
    """A network on a device that autocast does not know."""

    backbone: Backbone

    def __call__(self, z_BN: Tensor, t_B: Tensor, /, **reading: Tensor | None) -> Tensor:
        logits_BNV: Tensor = self.backbone(z_BN, t_B, **reading)
        return logits_BNV

    def score(
        self, z_BN: Tensor, t_B: Tensor, query: Query, /, **reading: Tensor | None
    ) -> tuple[Tensor, ...]:
        scores_SBN: Tensor = self.backbone(z_BN, t_B, query=query, **reading)
        return scores_SBN.unbind()


@every_family
def test_shapes_are_known_before_anything_is_computed(family: AbstractFamily) -> None:
    """On the meta device no shape can follow from a value that lies there."""
    batch = family.noisy_batch(tokens(6), seeded(4)).to(torch.device("meta"))
    loss_BL = family.loss(WithoutAutocast(network(family).to("meta")), batch)
    torch.autograd.backward(loss_BL.sum())


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("n_rows", [None, 5, 0])
def test_gradients_of_the_head_are_right(has_bias: bool, n_rows: int | None, chunks: None) -> None:
    rng = seeded(6)
    h_BND = torch.randn(2, 4, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    head_VD = torch.randn(V, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    bias_V = torch.randn(V, generator=rng, dtype=torch.float64, requires_grad=True)
    ids = tuple(torch.randint(V, (2, 4), generator=rng) for _ in range(2))
    log_kappa_BN = 3 * torch.randn(2, 4, generator=rng, dtype=torch.float64)
    rows_R = None if n_rows is None else torch.randperm(8, generator=rng)[:n_rows].sort().values
    for query in (Query(ids, log_kappa_BN, rows_R), Query(ids[:1], rows_R=rows_R)):

        def scores(h: Tensor, w: Tensor, b: Tensor, query: Query = query) -> Tensor:
            return head_scores(h, w, b if has_bias else None, query)

        logits_BNV = h_BND @ head_VD.t() + (bias_V if has_bias else 0)
        exact = torch.stack(scores_of_logits(logits_BNV, query))
        torch.testing.assert_close(scores(h_BND, head_VD, bias_V), exact)
        assert torch.autograd.gradcheck(scores, (h_BND, head_VD, bias_V))


@pytest.mark.parametrize("log_kappa", [-60.0, 0.0, 30.0])
def test_scores_are_exact_where_probabilities_underflow(log_kappa: float) -> None:
    h_BND = torch.tensor([[[1.0], [300.0]]])
    head_VD, ids_BN = torch.tensor([[0.0], [1.0], [-1.0]]), torch.tensor([[2, 2]])
    query = Query((ids_BN,), torch.full((1, 2), log_kappa))
    found = head_scores(h_BND, head_VD, None, query)
    exact = torch.stack(scores_of_logits((h_BND @ head_VD.t()).double(), query))
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-30)


@dataclasses.dataclass(frozen=True)
class WithDensityAlone(AbstractDiffusion):
    """What somebody writes first: no word of scores."""

    needs: Any = load_family("masked", vocab_size=V).needs
    samplers: Any = None

    def corrupt(self, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator) -> Tensor:
        family = load_family("masked", vocab_size=V)
        assert isinstance(family, AbstractDiffusion)
        return family.corrupt(x0_BL, t_B, rng)

    def nelbo_density(
        self, logits_BLV: Tensor, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        family = load_family("masked", vocab_size=V)
        assert isinstance(family, AbstractDiffusion)
        return family.nelbo_density(logits_BLV, x0_BL, zt_BL, t_B)

    bound = None  # type: ignore[assignment]


def test_a_family_that_writes_its_density_alone_trains() -> None:
    masked = load_family("masked", vocab_size=V)
    denoiser = BackboneDenoiser(network(masked), "float32")
    for share in (0.0, 0.5):
        batch = masked.noisy_batch(tokens(6), seeded(4))
        batch = with_prefixes(batch, clean_prefixes(6, SEQ_LEN, share, seeded(5)))
        found = conditional_loss(WithDensityAlone(V), denoiser, batch)
        torch.testing.assert_close(found, conditional_loss(masked, denoiser, batch))


@pytest.mark.parametrize("name", ["ar", "masked", "uniform", "hybrid"])
def test_the_loss_needs_less_memory_than_its_logits_in_bfloat16(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all gradients; a sixteenth of the vocabulary, and so of a chunk, of large runs."""
    vocab_size, seq_len = 8192, 512
    monkeypatch.setitem(head.CHUNK_BYTES, "cpu", head.CHUNK_BYTES["cpu"] // 64)
    family = load_family(name, vocab_size=vocab_size)
    batch = half_noisy(family, vocab_size, seq_len)
    rows_R = batch.scored_rows()
    n_rows = seq_len if rows_R is None else len(rows_R)
    alone = HeadAlone.drawn(vocab_size, 16, seq_len)

    def pass_both_ways(denoiser: Denoiser) -> None:
        torch.autograd.backward(family.loss(denoiser, batch).mean())

    needed = 2 * vocab_size * n_rows
    with LiveStorages() as in_chunks:
        pass_both_ways(alone)
    assert in_chunks.peak < 1.3 * needed
    with LiveStorages() as at_once:
        pass_both_ways(alone.all_logits)
    assert at_once.peak > 3 * needed  # what is counted


@every_name
def test_a_short_run_has_the_losses_and_the_bound_of_all_logits(name: str) -> None:
    trial, corpus = trial_of(name), load_corpus(SOURCE)
    by_chunks, by_logits = (
        Trainer(trial, family_of(trial), corpus, torch.device("cpu")) for _ in range(2)
    )
    by_logits.denoise = by_all_logits(BackboneDenoiser(by_logits.backbone, "float32"))
    validation = validation_set(corpus, seq_len=trial.data.seq_len, n_sequences=20)
    ends = []
    for trainer in (by_chunks, by_logits):
        losses = []
        for _ in range(20):
            trainer.advance()
            losses.append(trainer.log_entry().loss_nats_per_token)
        bound = evaluate_bound(trainer.family, trainer.denoise, validation, 0)
        ends.append([*losses, bound.nats_per_token])
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)  # rounding, as twenty steps spread it
