"""Densities against reference vectors computed with the authors' own formulas, in float64.

The vectors agree with the authors' code to float32 precision and are float64 themselves, so
rtol 1e-5 leaves room for their clamps and for nothing else. They live beside the repository; the
tests are skipped where that folder is absent.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sweeper.families import load_family
from sweeper.families._mixing import AbstractMixing
from sweeper.families.base import AbstractDiffusion, NoisyBatch
from sweeper.families.esolm import Family as EsoLM

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no reference vectors in {GOLDEN}")
both_sahoo_files = pytest.mark.parametrize("file", ["sahoo_0", "sahoo_1"])


def vectors(file: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{file}.npz") as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays}


def assert_matches(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)


def diffusion(name: str, v: dict[str, Tensor], **options: object) -> AbstractDiffusion:
    family = load_family(name, vocab_size=v["logits"].shape[-1], **options)
    assert isinstance(family, AbstractDiffusion)
    return family


@both_sahoo_files
def test_masked_density_is_that_of_mdlm(file: str) -> None:
    v = vectors(file)
    inputs = v["logits"], v["x0"], v["masked_zt"], v["t"]
    nats_BL = diffusion("masked", v).nelbo_density(*inputs)
    assert_matches(nats_BL, v["masked_nelbo_integrand"])
    plain_BL = diffusion("masked", v, objective="cross_entropy").loss_density(*inputs)
    assert_matches(plain_BL, v["masked_cross_entropy"])


@both_sahoo_files
def test_uniform_density_is_that_of_duo(file: str) -> None:
    v = vectors(file)
    inputs = v["logits"], v["x0"], v["uniform_zt"], v["t"]
    nats_BL = diffusion("uniform", v).nelbo_density(*inputs)
    assert_matches(nats_BL, v["uniform_nelbo_integrand"])


NOISE_TYPES = ["masked", "low_uniform", "balanced", "high_uniform", "uniform"]


@pytest.mark.parametrize("file", [f"gidd_{noise}_{k}" for noise in NOISE_TYPES for k in (0, 1)])
def test_hybrid_densities_are_those_of_gidd(file: str) -> None:
    v = vectors(file)
    inputs, shift = (v["logits"], v["x0"], v["zt"], v["t"]), float(v["shift"])
    nats_BL = diffusion("hybrid", v, shift=shift).nelbo_density(*inputs)
    assert_matches(nats_BL, v["nelbo_integrand"])
    unweighted = diffusion("hybrid", v, shift=shift, objective="unweighted")
    assert_matches(unweighted.loss_density(*inputs), v["training_loss"])


@both_sahoo_files
def test_esolm_density_is_that_of_the_reference(file: str) -> None:
    v = vectors(file)
    alpha_0 = float(v["esolm_alpha0"])
    family = load_family("esolm", vocab_size=v["logits"].shape[-1], alpha_0=alpha_0)
    assert isinstance(family, EsoLM)
    order_BL = torch.arange(v["x0"].shape[1]).expand_as(v["x0"])
    batch = NoisyBatch(v["x0"], v["masked_zt"], v["t"], order_BL)
    loss_BL = family.loss(lambda _z_BL, _t_B, /, **_: v["logits"], batch)
    assert_matches(family.diffusion_share * loss_BL, v["esolm_nelbo_integrand"])


@both_sahoo_files
def test_uniform_posterior_is_that_of_duo(file: str) -> None:
    v = vectors(file)
    family = diffusion("uniform", v)
    assert isinstance(family, AbstractMixing)
    x_theta_BLV = v["logits"].softmax(-1)
    found_BLV = family.posterior(x_theta_BLV, v["uniform_zt"], v["t"], v["uniform_s"])
    assert_matches(found_BLV, v["uniform_posterior"])
