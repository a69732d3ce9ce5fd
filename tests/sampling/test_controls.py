"""Samplers of nonsense: what they share with real text, and that no headline praises them."""

import dataclasses

import numpy as np
import pytest
import torch
from trained import CPU, trained

from sweeper.data.corpus import Corpus, load_corpus, validation_sequences
from sweeper.errors import ConfigError
from sweeper.families.base import Samples
from sweeper.networks.backbone import BackboneDenoiser
from sweeper.sampling.controls import controls_for, ranks_controls_last
from sweeper.sampling.judge import NetworkJudge
from sweeper.sampling.measure import Measuring, measure, protocol_of
from sweeper.sampling.protocol import Protocol, sample_row
from sweeper.sampling.sources import Source
from sweeper.sampling.truth import Truth
from sweeper.trials.ladder import Rung
from sweeper.trials.records import SampleRow
from sweeper.trials.sampling_task import CONTROL_FAMILY

torch.set_num_threads(1)
SOURCE = "synthetic:markov?vocab=8&order=2&tokens=200000"
LEARNABLE = "synthetic:markov?vocab=8&order=1&tokens=200000"
"""A masked model of a few hundred steps has learned nothing of a chain of order 2 but unigrams."""
L, N = 16, 256


def protocol(prefix_tokens: int = 0) -> Protocol:
    return Protocol(
        sampler="any",
        n_steps=1,
        block_tokens=L,
        context_tokens=L,
        prefix_tokens=prefix_tokens,
        n_sequences=N,
        reference="",
        device="",
    )


def generated(name: str, corpus: Corpus, prefix_BP: torch.Tensor) -> np.ndarray:
    control = next(each for each in controls_for(corpus) if each.name == name)
    rng = torch.Generator().manual_seed(0)
    ids_BN = control.generate(protocol(prefix_BP.shape[1]), prefix_BP, rng).ids_BL.numpy()
    assert ids_BN.shape == (len(prefix_BP), L - prefix_BP.shape[1])
    return ids_BN


def test_each_control_keeps_what_its_name_says_of_the_training_text() -> None:
    corpus = load_corpus(SOURCE)
    tokens, none = corpus.tokens.train, torch.zeros(4000, 0, dtype=torch.int64)
    share_V = np.bincount(tokens, minlength=8) / len(tokens)
    for name in ("unigram", "bigram", "shuffled", "repeated"):
        found_V = np.bincount(generated(name, corpus, none).ravel(), minlength=8) / (4000 * L)
        assert found_V == pytest.approx(share_V, abs=0.03)  # 4 sd of 4000 sequences
    pairs_VV = np.zeros((8, 8))
    np.add.at(pairs_VV, (tokens[:-1].astype(int), tokens[1:].astype(int)), 1 / (len(tokens) - 1))
    bigram = generated("bigram", corpus, none)
    found_VV = np.zeros((8, 8))
    np.add.at(found_VV, (bigram[:, :-1], bigram[:, 1:]), 1 / (4000 * (L - 1)))
    assert found_VV == pytest.approx(pairs_VV, abs=0.02)
    assert (np.ptp(generated("repeated", corpus, none), axis=1) == 0).all()


def test_a_bigram_goes_on_where_its_prefix_ends() -> None:
    corpus = load_corpus("synthetic:markov?vocab=8&order=2&tokens=1000")
    after = np.bincount(corpus.tokens.train[1:][corpus.tokens.train[:-1] == 5], minlength=8)
    ids_BN = generated("bigram", corpus, torch.full((4000, 3), 5))
    found_V = np.bincount(ids_BN[:, 0], minlength=8) / 4000
    assert found_V == pytest.approx(after / after.sum(), abs=0.04)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("synthetic:markov?vocab=4&order=1", ["unigram", "shuffled", "repeated"]),
        ("synthetic:iid?vocab=4", ["repeated"]),
    ],
)
def test_what_is_the_source_is_no_negative_control(source: str, names: list[str]) -> None:
    corpus = load_corpus(f"{source}&tokens=1000")
    assert [control.name for control in controls_for(corpus)] == names


class Perfect:
    """The source itself, from its training text; exact posteriors and all steps give this."""

    identity, is_timed = "the source", False

    def __init__(self, corpus: Corpus) -> None:
        self.tokens = corpus.tokens.train

    def generate(
        self, protocol: Protocol, prefix_BP: torch.Tensor, rng: torch.Generator
    ) -> Samples:
        starts_B = torch.randint(len(self.tokens) - L, (len(prefix_BP), 1), generator=rng)
        ids_BL = self.tokens[(starts_B + torch.arange(L)).numpy()].astype(np.int64)
        return Samples(torch.from_numpy(ids_BL), 1)

    def own_nll(self, *_: object) -> None:
        return None


@pytest.fixture(scope="module")
def rows() -> list[SampleRow]:
    """Of the source, two trained models and all controls, under a trained judge."""
    corpus = load_corpus(LEARNABLE)
    reference_NL = torch.from_numpy(validation_sequences(corpus, seq_len=L, n_sequences=N))
    ar, of_judge = (
        trained("ar", LEARNABLE, seq_len=L, n_steps=300, rung=Rung(2, 32, 2), seed=seed)
        for seed in (0, 1)
    )
    masked = trained("masked", LEARNABLE, seq_len=L, n_steps=300, rung=Rung(2, 32, 2))
    assert isinstance(of_judge.denoiser, BackboneDenoiser)
    judge = NetworkJudge("ar", of_judge.identity, of_judge.family, of_judge.denoiser, CPU)
    as_text = str  # any text does
    measuring = Measuring(reference_NL, 8, as_text, judge, LEARNABLE, timing=None, n_bootstrap=20)
    with pytest.raises(ConfigError, match="judge its own samples"):
        row_of(of_judge, "judge", "ar", measuring)
    return [
        row_of(Perfect(corpus), "source", "source", measuring),
        row_of(ar, "ar", "ar", measuring),
        row_of(masked, "masked", "masked", measuring),
        *(row_of(each, each.name, CONTROL_FAMILY, measuring) for each in controls_for(corpus)),
    ]


def row_of(source: Source, series: str, family: str, measuring: Measuring) -> SampleRow:
    how = protocol_of(measuring, CPU, sampler="ancestral", n_steps=16, n_sequences=N)
    return sample_row("", series, family, how, measure(source, how, measuring, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "metric", ["source_divergence_nats_per_token", "source_js_nats", "mmd", "mauve"]
)
def test_headlines_rank_controls_last(rows: list[SampleRow], metric: str) -> None:
    assert ranks_controls_last(rows, metric)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["unigram_entropy_nats", "distinct_4"])
def test_what_shuffled_text_fools_is_told(rows: list[SampleRow], metric: str) -> None:
    assert not ranks_controls_last(rows, metric)


@pytest.mark.slow
def test_numbers_of_the_source_itself_are_those_of_real_text(rows: list[SampleRow]) -> None:
    row = rows[0]
    over = (row.source_cross_entropy_nats_per_token or 0) - Truth.of(LEARNABLE).entropy(L)
    assert abs(over) < 3 * (row.source_cross_entropy_stderr_nats_per_token or 0)
    assert (row.mmd_low or 0) <= 0.002  # the interval holds 0, but for one in forty
    assert row.own_entropy_nats_per_token is None
    ar = rows[1]
    exact, of_runs = ar.source_divergence_exact_nats_per_token, ar.source_divergence_nats_per_token
    assert exact is not None
    assert of_runs is not None
    # What is beyond runs of two, in a model of a source that has no more, is little; and noise.
    assert of_runs == pytest.approx(exact, abs=0.03)


@pytest.mark.slow
def test_rows_of_two_protocols_are_not_ranked(rows: list[SampleRow]) -> None:
    other = dataclasses.replace(rows[0], judge="gpt2")
    with pytest.raises(ConfigError, match=r"judge \(ar, gpt2\)"):
        ranks_controls_last([*rows, other], "mmd")
    with pytest.raises(ConfigError, match="expected rows of a model and of a control"):
        ranks_controls_last(rows[:3], "mmd")
