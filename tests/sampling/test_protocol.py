"""Rows of different protocols are never compared silently."""

import dataclasses

import pytest

from sweeper.errors import ConfigError
from sweeper.sampling.protocol import Protocol, differences, require_comparable

PROTOCOL = Protocol(
    sampler="ancestral",
    n_steps=8,
    block_tokens=16,
    context_tokens=16,
    n_sequences=4,
    reference="abc",
    device="cpu, 1 threads",
)


def test_settings_may_differ() -> None:
    other = dataclasses.replace(PROTOCOL, sampler="block", n_steps=2, temperature=0.7, top_p=0.9)
    assert differences([PROTOCOL, other]) == ()
    require_comparable([PROTOCOL, other])


@pytest.mark.parametrize(
    "change",
    [
        {"judge": "gpt2"},
        {"judge_revision": "f00"},
        {"draw_dtype": "float32"},
        {"n_sequences": 5},
        {"prefix_tokens": 2},
        {"context_tokens": 32},
        {"reference": "abd"},
        {"sampling_version": 99},
        {"device": "NVIDIA H200"},
    ],
    ids=str,
)
def test_what_makes_numbers_incomparable_is_told_with_its_values(change: dict[str, str]) -> None:
    other = dataclasses.replace(PROTOCOL, **change)  # type: ignore[arg-type]
    name, value = next(iter(change.items()))
    assert differences([PROTOCOL, other, PROTOCOL]) != ()
    with pytest.raises(ConfigError, match=f"{name} .*{value}"):
        require_comparable([PROTOCOL, other])
