"""What follows a prefix is drawn from the conditional distribution."""

from typing import Any

import pytest
import torch
from scipy import stats
from small_networks import network
from tiny_joint import (
    PerfectDenoiser,
    PerfectPrefixDenoiser,
    PerfectReader,
    TinyJoint,
    masked_share,
)
from torch import Tensor

from sweeper.errors import ConfigError
from sweeper.families import load_family
from sweeper.families.base import Denoiser, SamplingPlan
from sweeper.networks.backbone import BackboneDenoiser
from sweeper.sampling.protocol import Protocol
from sweeper.sampling.sources import ModelSource

torch.set_num_threads(1)
CPU, V = torch.device("cpu"), 3
JOINT = TinyJoint.random(V, 3, seed=5)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "options", "sampler", "denoiser"),
    [
        ("ar", {}, "ancestral", PerfectPrefixDenoiser(JOINT)),
        ("masked", {}, "ancestral", PerfectDenoiser(JOINT, masked_share)),
        ("masked", {}, "confidence", PerfectDenoiser(JOINT, masked_share)),
        ("esolm", {"alpha_0": 0.5}, "ancestral", PerfectReader(JOINT)),
        ("esolm", {}, "block", PerfectReader(JOINT)),
    ],
    ids=["ar", "masked", "confidence", "esolm", "block"],
)
def test_the_rest_has_its_conditional_distribution(
    name: str, options: dict[str, Any], sampler: str, denoiser: Denoiser
) -> None:
    family = load_family(name, vocab_size=V, **options)
    source = ModelSource("", family, denoiser, CPU)
    prefix_BP = torch.full((2000, 1), 2)
    plan = SamplingPlan(2000, 2, n_steps=128, sampler=sampler)
    rest_BN = source.sample(plan, prefix_BP, seeded(1)).ids_BL
    p_K = JOINT.p_X.reshape(V, V * V)[2]
    counts_K = torch.bincount(rest_BN @ torch.tensor([V, 1]), minlength=V * V)
    # One of these five fails by chance in one of 200 choices of seeds.
    assert stats.chisquare(counts_K, p_K / p_K.sum() * 2000)[1] > 1e-3


def source_of(name: str, **options: Any) -> ModelSource:
    family = load_family(name, vocab_size=V, **options)
    return ModelSource("", family, BackboneDenoiser(network(family), "float32"), CPU)


@pytest.mark.parametrize(
    ("name", "options"), [("ar", {}), ("esolm", {"alpha_0": 0.5}), ("esolm", {})], ids=str
)
def test_a_cache_changes_nothing_behind_a_prefix(name: str, options: dict[str, Any]) -> None:
    source, prefix_BP = source_of(name, **options), torch.randint(V, (4, 3), generator=seeded(2))
    kept_BN, plain_BN = (
        source.sample(SamplingPlan(4, 9, 4, keeps_cache=keeps), prefix_BP, seeded(3)).ids_BL
        for keeps in (True, False)
    )
    assert torch.equal(kept_BN, plain_BN)
    other_BN = source.sample(SamplingPlan(4, 9, 4), 2 - prefix_BP, seeded(3)).ids_BL
    assert not torch.equal(kept_BN, other_BN)  # the prefix is read


@pytest.mark.parametrize("name", ["uniform", "hybrid"])
def test_noise_of_tokens_takes_a_prefix_only_after_training_with_some(name: str) -> None:
    source, prefix_BP = source_of(name), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ConfigError, match="train with prefix_share"):
        source.sample(SamplingPlan(2, 4, 2), prefix_BP, seeded(0))
    able = ModelSource("", source.family, source.denoiser, CPU, prefix_share=0.2)
    assert able.sample(SamplingPlan(2, 4, 2), prefix_BP, seeded(0)).ids_BL.shape == (2, 4)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 0.9), (2.0, 1.0), (0.0, 1.0)])
def test_own_likelihoods_of_ar_sum_to_one_over_what_it_can_say(
    temperature: float, top_p: float
) -> None:
    source = ModelSource("", load_family("ar", vocab_size=V), PerfectPrefixDenoiser(JOINT), CPU)
    protocol = Protocol(
        sampler="ancestral",
        n_steps=3,
        temperature=temperature,
        top_p=top_p,
        block_tokens=3,
        context_tokens=3,
        n_sequences=500,
        reference="",
        device="",
    )
    ids_NL = source.generate(protocol, torch.zeros(500, 0, dtype=torch.int64), seeded(4)).ids_BL
    said_XL = torch.unique(ids_NL, dim=0)
    nll_XL = source.own_nll(protocol, torch.zeros(len(said_XL), 0, dtype=torch.int64), said_XL)
    assert isinstance(nll_XL, Tensor)
    p_X = (-nll_XL.sum(dim=1)).exp()
    # What 500 sequences have missed is rare.
    assert 0.97 < p_X.sum() <= 1 + 1e-9
    if (temperature, top_p) == (1.0, 1.0):
        torch.testing.assert_close(p_X, JOINT.p_X[JOINT.index(said_XL)])


def test_other_families_do_not_tell_what_they_do_not_know() -> None:
    family = load_family("masked", vocab_size=V)
    assert family.own_nll(PerfectReader(JOINT), SamplingPlan(1, 3, 1), JOINT.x_XL) is None
