"""Log-likelihoods of options: exact, or minus a bound within its stated error."""

import dataclasses
import itertools
import math
from typing import Any

import pytest
import small_networks
import torch
from torch import Tensor

from sweeper.benchmarks.gathered import gathered
from sweeper.benchmarks.likelihoods import Drawn, Option, Scorer, rounds
from sweeper.errors import ConfigError
from sweeper.families import family_names, load_family
from sweeper.families.base import Denoiser
from sweeper.networks.backbone import BackboneDenoiser

VOCAB, SEQ_LEN = 7, 12
CPU = torch.device("cpu")


def scorer_of(name: str, seed: int = 0, options: dict[str, Any] | None = None, **of: Any) -> Scorer:
    family = load_family(name, vocab_size=VOCAB, **options or {})
    denoiser = BackboneDenoiser(small_networks.network(family), "float32")
    return Scorer(family, denoiser, SEQ_LEN, CPU, seed, **of)


def question(seed: int, n_options: int = 4, n_context: int = 5, n_ids: int = 4) -> list[Option]:
    rng = torch.Generator().manual_seed(seed)
    context = torch.randint(VOCAB, (n_context,), generator=rng).tolist()
    ids = torch.randint(VOCAB, (n_options, n_ids), generator=rng).tolist()
    return [Option((*context,), (*row,)) for row in ids]


def next_log_p(denoiser: Denoiser, inputs: list[int]) -> Tensor:
    """Of what the last of these inputs stands for."""
    logits_BLV = denoiser(torch.tensor([inputs]), torch.zeros(1))
    return logits_BLV[0, -1].log_softmax(dim=-1)


@pytest.mark.parametrize("n_context", [0, 5])
def test_of_ar_they_are_sums_of_next_token_log_probabilities(n_context: int) -> None:
    scorer = scorer_of("ar")
    options = question(1, n_context=n_context)
    likeliest = [*options[0].context]
    for _ in range(4):
        likeliest.append(int(next_log_p(scorer.denoiser, [VOCAB, *likeliest]).argmax()))
    options.append(Option(options[0].context, (*likeliest[n_context:],)))
    (scores,) = scorer.scores([options])
    for option, score in zip(options, scores, strict=True):
        before, nats = [VOCAB, *option.context], 0.0
        for id_ in option.ids:
            nats += next_log_p(scorer.denoiser, before)[id_].item()
            before.append(id_)
        assert score.nats == pytest.approx(nats, rel=1e-9)
        assert (score.stderr, score.n_draws, score.is_sure) == (0.0, 1, True)
        assert score.is_greedy == (option.ids == options[-1].ids)


def exact_masked_bound(scorer: Scorer, option: Option) -> float:
    """By enumeration: the mean over n of L/n times the NLL of n masked tokens, over all sets."""
    length, start = len(option.ids), len(option.context)
    sets = [[*itertools.combinations(range(length), n)] for n in range(1, length + 1)]
    flat = [masked for of_size in sets for masked in of_size]
    z = [[VOCAB if i in masked else x for i, x in enumerate(option.ids)] for masked in flat]
    t = [[0.0] * start + [len(masked) / length] * length for masked in flat]
    whole_BL = torch.tensor([[*option.context, *row] for row in z])
    log_p_BLV = scorer.denoiser(whole_BL, torch.tensor(t)).log_softmax(dim=-1)
    nats = 0.0
    for masked, log_p_LV in zip(flat, log_p_BLV, strict=True):
        nll = -sum(log_p_LV[start + i, option.ids[i]].item() for i in masked)
        nats += nll / len(masked) / len(sets[len(masked) - 1])
    return nats


@pytest.mark.parametrize("n_context", [0, 5])
def test_of_masked_they_are_minus_its_bound_within_their_stated_error(n_context: int) -> None:
    scorer = scorer_of("masked", max_draws=64)
    questions = [question(seed, n_context=n_context) for seed in range(10)]
    scores = [score for of_one in scorer.scores(questions) for score in of_one]
    options = [option for of_one in questions for option in of_one]
    deviations = [
        (score.nats + exact_masked_bound(scorer, option)) / score.stderr
        for option, score in zip(options, scores, strict=True)
    ]
    # Of 40 with standard deviation 1, which the trend between two levels makes a little smaller.
    assert max(map(abs, deviations)) < 4.5
    rms = math.sqrt(sum(d * d for d in deviations) / len(deviations))
    assert 0.6 < rms < 1.4
    assert not any(score.is_greedy for score in scores)


def test_left_to_right_esolm_is_scored_given_its_context_as_it_decodes() -> None:
    scorer = scorer_of("esolm", options={"alpha_0": 0.0}, max_draws=8)
    (scores,) = scorer.scores([question(2)])
    for option, score in zip(question(2), scores, strict=True):
        before, nats = [*option.context], 0.0
        for id_ in option.ids:
            nats += next_log_p(scorer.denoiser, [*before, VOCAB])[id_].item()
            before.append(id_)
        assert score.nats == pytest.approx(nats, rel=1e-6)
        assert score.stderr < 1e-6


@pytest.mark.parametrize(
    ("name", "prefix_share"),
    [
        (name, prefix_share)
        for name in family_names()
        for prefix_share in (0.0, 0.2)
        if name != "ar" and (name != "esolm" or not prefix_share)  # which reads one side only
    ],
)
def test_calls_made_together_change_no_number(name: str, prefix_share: float) -> None:
    options = {"alpha_0": 0.5} if name == "esolm" else None
    scorer = scorer_of(name, options=options, prefix_share=prefix_share, max_draws=16)
    questions = [question(1), question(2, n_context=3), question(3, n_context=0, n_ids=6)]
    together = scorer.scores(questions)
    alone = [dataclasses.replace(scorer, sequences_at_once=1).scores([q])[0] for q in questions]
    for a, b in zip(itertools.chain(*together), itertools.chain(*alone), strict=True):
        assert a.nats == pytest.approx(b.nats, rel=1e-6)
        assert a.n_draws == b.n_draws


def test_a_family_may_ask_for_all_logits() -> None:
    scorer = scorer_of("masked")
    z_BL = torch.randint(VOCAB, (3, 5), generator=torch.Generator().manual_seed(0))

    def ask(denoiser: Denoiser) -> Tensor:
        return denoiser(z_BL, torch.full((3,), 0.5)).sum(dim=-1)

    first, second = gathered([ask, ask], scorer.denoiser, VOCAB, sequences_at_once=6)
    for found_BL in (first, second):
        torch.testing.assert_close(found_BL, ask(scorer.denoiser))


def test_options_share_their_noise() -> None:
    scorer = scorer_of("masked", max_draws=16)
    same = question(4)[0]
    first, second = scorer.scores([[same, same]])[0]
    assert first.nats == second.nats
    assert not first.is_sure
    assert first.n_draws == 16


def test_drawing_ends_once_the_best_two_are_apart() -> None:
    near, far = torch.arange(8.0)[None] / 8, torch.arange(8.0)[None] / 8 - 5
    assert Drawn((torch.cat([near, far]),)).is_sure
    noisy = near + torch.tensor([0.0, 30.0] * 4)
    assert not Drawn((torch.cat([noisy, far]),)).is_sure
    assert not Drawn((near,)).is_sure  # nothing to be ahead of
    scorer = scorer_of("masked", max_draws=256)
    scores = scorer.scores([question(seed) for seed in range(20)])
    assert {of_one[0].n_draws for of_one in scores} >= {8, 16}
    assert all(of_one[0].is_sure or of_one[0].n_draws == 256 for of_one in scores)
    assert [*rounds(64)] == [8, 8, 16, 32]


def test_a_family_that_reads_no_contexts_is_scored_with_them() -> None:
    given, joint = scorer_of("uniform", prefix_share=0.2), scorer_of("uniform")
    assert given.reads_contexts
    assert not joint.reads_contexts
    (option, *_) = question(5)
    whole = Option((), option.context + option.ids)
    assert joint.scores([[option]])[0][0].nats < given.scores([[option]])[0][0].nats
    (score,), (of_whole,) = joint.scores([[option], [whole]])
    tolerance = 4 * math.hypot(score.stderr, of_whole.stderr)
    assert score.nats == pytest.approx(of_whole.nats, abs=tolerance)


@pytest.mark.parametrize("name", ["ar", "masked"])
def test_contexts_lose_their_beginning_and_options_nothing(name: str) -> None:
    scorer = scorer_of(name, max_draws=8)
    long = Option((1, 2, 3) * 5, (4, 5))
    cut = Option(long.context[-SEQ_LEN + 2 :], long.ids)
    (score,), (of_cut,) = scorer.scores([[long], [cut]])
    assert score == dataclasses.replace(of_cut, is_cut=True)
    for ids in ((), (1,) * (SEQ_LEN + 1)):
        with pytest.raises(ConfigError, match="expected 1 to 12"):
            scorer.scores([[Option((), ids)]])
    with pytest.raises(ConfigError, match="such as 64 or 128"):
        scorer_of(name, max_draws=12)
