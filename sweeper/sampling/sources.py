"""What samples come from: a trained model, or anything else that generates tokens.

Shapes: N sequences, B of them at a time, L tokens, P of them a prefix.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol as Interface

import torch
from torch import Tensor

from sweeper.errors import ConfigError
from sweeper.families._prefixes import AfterPrefix
from sweeper.families.base import AbstractFamily, Denoiser, Samples, SamplingPlan
from sweeper.models.load import Model
from sweeper.sampling.protocol import Protocol
from sweeper.trials.seeds import generator

BATCH_SEQUENCES = 64
"""Sequences generated at a time for their quality. Fixed, because noise is drawn per batch."""


class Source(Interface):
    """Something that generates sequences of tokens."""

    @property
    def identity(self) -> str:
        """Names the weights, so that no model judges itself."""

    @property
    def is_timed(self) -> bool:
        """Whether its speed means anything."""

    def generate(self, protocol: Protocol, prefix_BP: Tensor, rng: torch.Generator) -> Samples:
        """What follows each prefix, (B, L − P)."""

    def own_nll(self, protocol: Protocol, prefix_BP: Tensor, ids_BN: Tensor, /) -> Tensor | None:
        """−log q of what it generated, nats, (B, L − P); None where it is not exact."""


@dataclass(frozen=True)
class ModelSource:
    """A trained network and its family."""

    identity: str
    """Hash of its weights, or another name of them."""
    family: AbstractFamily
    denoiser: Denoiser
    device: torch.device
    prefix_share: float = 0.0
    """Of training sequences, that had a clean prefix."""
    is_timed: bool = True

    def generate(self, protocol: Protocol, prefix_BP: Tensor, rng: torch.Generator) -> Samples:
        """What follows each prefix; raises ConfigError where the family cannot have one."""
        return self.sample(plan_of(protocol, prefix_BP), prefix_BP, rng)

    def sample(self, plan: SamplingPlan, prefix_BP: Tensor, rng: torch.Generator) -> Samples:
        """The same by a plan, whose length is that of what follows."""
        return self.family.sample(self._reader(prefix_BP), plan, self._on_device(rng))

    @torch.no_grad()
    def own_nll(self, protocol: Protocol, prefix_BP: Tensor, ids_BN: Tensor, /) -> Tensor | None:
        """Of the family, at the temperature and nucleus of the protocol."""
        plan = plan_of(protocol, prefix_BP)
        return self.family.own_nll(self._reader(prefix_BP), plan, ids_BN)

    def _reader(self, prefix_BP: Tensor) -> Denoiser:
        if not prefix_BP.shape[1]:
            return self.denoiser
        prefix_BP = prefix_BP.to(self.device)
        if self.prefix_share:
            return AfterPrefix(self.denoiser, prefix_BP)
        return self.family.given_prefix(self.denoiser, prefix_BP)

    def _on_device(self, rng: torch.Generator) -> torch.Generator:
        """The stream itself on a CPU, else one that it seeds."""
        if self.device.type == "cpu":
            return rng
        seed = int(torch.randint(2**62, (), generator=rng))
        return torch.Generator(self.device).manual_seed(seed)


def model_source(model: Model) -> ModelSource:
    """A loaded model as a source."""
    return ModelSource(
        identity=model.config.weights_sha256[:12],
        family=model.family,
        denoiser=model.network,
        device=model.network.backbone.embedding.device,
        prefix_share=model.config.trial.prefix_share,
    )


def plan_of(protocol: Protocol, prefix_BP: Tensor) -> SamplingPlan:
    """What a family is told to do for a batch of prefixes."""
    return SamplingPlan(
        n_sequences=prefix_BP.shape[0],
        seq_len=protocol.new_tokens,
        n_steps=protocol.n_steps,
        sampler=protocol.sampler,
        temperature=protocol.temperature,
        top_p=protocol.top_p,
    )


@dataclass(frozen=True)
class Generated:
    """All sequences of a measurement."""

    ids_NL: Tensor
    """With their prefixes, on the CPU."""
    n_prefix: int
    network_evaluations: int
    """Of one batch."""
    own_nll_NL: Tensor | None
    """−log q of what was generated, float64, (N, L − P)."""

    @property
    def new_NL(self) -> Tensor:
        """What was generated, (N, L − P)."""
        return self.ids_NL[:, self.n_prefix :]


def generate(
    source: Source,
    protocol: Protocol,
    reference_NL: Tensor,
    seed: int,
    after_batch: Callable[[int], object] = lambda _: None,
) -> Generated:
    """Sequences that begin as the first reference sequences do; a function of its arguments alone.

    `after_batch` is told how many sequences there are.
    """
    require_prefixes(protocol, reference_NL)
    parts, nlls, n_calls = [], [], 0
    for start in range(0, protocol.n_sequences, BATCH_SEQUENCES):
        stop = min(start + BATCH_SEQUENCES, protocol.n_sequences)
        prefix_BP = torch.zeros(stop - start, 0, dtype=torch.int64)
        if protocol.prefix_tokens:
            prefix_BP = reference_NL[start:stop, : protocol.prefix_tokens]
        rng = generator(seed, "samples", start // BATCH_SEQUENCES)
        samples = source.generate(protocol, prefix_BP, rng)
        n_calls = max(n_calls, samples.network_evaluations)
        nll_BN = source.own_nll(protocol, prefix_BP, samples.ids_BL)
        if nll_BN is not None:
            nlls.append(nll_BN.double().cpu())
        parts.append(torch.cat([prefix_BP, samples.ids_BL.cpu()], dim=1))
        after_batch(stop)
    own_nll_NL = torch.cat(nlls) if nlls else None
    return Generated(torch.cat(parts), protocol.prefix_tokens, n_calls, own_nll_NL)


def require_prefixes(protocol: Protocol, reference_NL: Tensor) -> None:
    """Raise ConfigError where there is nothing to generate, or real text to begin with is short."""
    if not 0 <= protocol.prefix_tokens < protocol.context_tokens:
        raise ConfigError(
            f"a prefix of {protocol.prefix_tokens} tokens leaves nothing of "
            f"{protocol.context_tokens} to generate: shorten it"
        )
    n_real, length = reference_NL.shape
    n_asked, n_prefix = protocol.n_sequences, protocol.prefix_tokens
    if n_prefix and (n_real < n_asked or length < n_prefix):
        raise ConfigError(
            f"{n_asked} prefixes of {n_prefix} tokens are asked for, but there are {n_real} real "
            f"sequences of {length}: ask for fewer"
        )
