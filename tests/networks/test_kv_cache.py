"""Reading with a cache is reading without one: same logits, same tokens, fewer inputs (T19)."""

import dataclasses
from typing import Any

import pytest
import torch
from small_networks import network

from sweeper.families import load_family
from sweeper.families._sampling import UncachedDecoder, incremental_decoder
from sweeper.families.base import AbstractFamily, SamplingPlan
from sweeper.networks.backbone import Backbone, BackboneDenoiser
from sweeper.trials.ladder import BackboneName

torch.set_num_threads(1)
V, SEQ_LEN = 7, 12
PLAN = SamplingPlan(n_sequences=3, seq_len=SEQ_LEN, n_steps=4)
CAUSAL: list[tuple[str, dict[str, Any], str]] = [
    ("ar", {}, "ancestral"),
    *(
        ("esolm", {"alpha_0": alpha_0}, sampler)
        for alpha_0 in (0.0, 0.5, 1.0)
        for sampler in ("ancestral", "block")
    ),
]
every_architecture = pytest.mark.parametrize("architecture", ["gidd", "dit"])


def sampled(
    family: AbstractFamily, backbone: Backbone, plan: SamplingPlan
) -> tuple[torch.Tensor, int, int]:
    """Samples, calls of the network, and inputs fed to it for each sequence."""
    fed: list[int] = []
    hook = backbone.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0].shape[1]))
    denoiser = BackboneDenoiser(backbone, "float32")
    samples = family.sample(denoiser, plan, torch.Generator().manual_seed(1))
    hook.remove()
    assert samples.network_evaluations == len(fed)
    return samples.ids_BL, len(fed), sum(fed)


@every_architecture
@pytest.mark.parametrize(("name", "options", "sampler"), CAUSAL, ids=str)
def test_cached_and_uncached_samplers_draw_the_same_tokens_from_fewer_inputs(
    name: str, options: dict[str, Any], sampler: str, architecture: BackboneName
) -> None:
    family = load_family(name, vocab_size=V, **options)
    backbone, plan = network(family, architecture), dataclasses.replace(PLAN, sampler=sampler)
    cached_BL, n_calls, n_inputs = sampled(family, backbone, plan)
    plain_BL, n_plain_calls, n_plain_inputs = sampled(
        family, backbone, dataclasses.replace(plan, keeps_cache=False)
    )
    assert torch.equal(cached_BL, plain_BL)
    assert len({*map(tuple, cached_BL.tolist())}) > 1  # not one sequence whatever is read
    assert n_calls == n_plain_calls
    # Each token once, or once as a mask and, but for those decided last, once as itself.
    assert SEQ_LEN <= n_inputs < (SEQ_LEN + 1 if name == "ar" else 2 * SEQ_LEN)
    assert n_inputs < n_plain_inputs or n_calls <= 2  # the second call has everything to read


@every_architecture
def test_a_cached_decoder_gives_the_logits_of_one_without(architecture: BackboneName) -> None:
    """Any mix of final inputs and others, which later ones must not see, in any order."""
    backbone, rng = network(load_family("esolm", vocab_size=V), architecture), torch.Generator()
    denoiser = BackboneDenoiser(backbone, "float32")
    cached, plain = denoiser.incremental_decoder(SEQ_LEN), UncachedDecoder(denoiser)
    order_BL = torch.rand(3, SEQ_LEN, generator=rng.manual_seed(2)).argsort(dim=1)
    n_known = 0
    for n_final, n_others in ((0, 3), (2, 4), (3, 0), (1, 6), (5, 1)):
        n_new = n_final + n_others
        ids_BN = torch.randint(V + 1, (3, n_new), generator=rng)
        new = ids_BN, order_BL[:, n_known : n_known + n_new], n_final
        found, expected = (decoder.decode(*new) for decoder in (cached, plain))
        assert found.shape == (3, n_new, V)
        # Float64; sums run over the same numbers in another order.
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        n_known += n_final


@every_architecture
def test_a_cache_serves_bfloat16(architecture: BackboneName) -> None:
    family = load_family("ar", vocab_size=V)
    backbone = network(family, architecture).float()
    exact, mixed = (
        BackboneDenoiser(backbone, precision).incremental_decoder(SEQ_LEN)
        for precision in ("float32", "bfloat16")
    )
    ids_BN = torch.randint(V, (3, 1), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for position in range(SEQ_LEN):
            new = ids_BN, torch.full_like(ids_BN, position), 1
            found, expected = mixed.decode(*new), exact.decode(*new)
            assert found.dtype == torch.float32
            # Eight bits of a logit, through two layers: 2^-8 of its size a few times over.
            torch.testing.assert_close(found, expected, rtol=0.1, atol=0.05 * expected.std().item())


def test_a_plan_chooses_its_decoder_by_what_the_denoiser_can() -> None:
    family = load_family("ar", vocab_size=V)
    denoiser = BackboneDenoiser(network(family, "gidd"), "float32")
    without = dataclasses.replace(PLAN, keeps_cache=False)
    assert not isinstance(incremental_decoder(denoiser, PLAN), UncachedDecoder)
    assert isinstance(incremental_decoder(denoiser, without), UncachedDecoder)
    assert isinstance(incremental_decoder(lambda z_BL, _t_B, /, **_: z_BL, PLAN), UncachedDecoder)
