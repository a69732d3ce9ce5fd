"""What a family is: how tokens are corrupted, trained on, scored and sampled.

A family never touches a network: it calls a *denoiser*, and `needs` says what that must offer.

Shapes: B batch (sequences), L sequence length, V vocabulary (real tokens), X token weights.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from sweeper.errors import ConfigError

LATER_OPTION = {"is_later": True}
"""Metadata of an option that a family got after trials of it were published: at its default it is
no part of a trial's identity, so that those keep their ids."""


class Denoiser(Protocol):
    """The network as a family sees it: it can read tokens in any order."""

    def __call__(
        self,
        z_BL: Tensor,
        t_B: Tensor,
        /,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
    ) -> Tensor:
        """Float logits (B, L, V) from input ids (B, L) and noise levels, (B,) or (B, L).

        `positions_BL`: where each input stands in the sequence (default: 0 … L − 1).
        `visible_BLL`, (L, L) or (B, L, L): which input (row) reads which (column), in place of the
        declared attention pattern; each reads at least itself.
        """


class IncrementalDecoder(Protocol):
    """A causal network during generation, fed a few inputs at a time at noise level 0."""

    def decode(self, ids_BN: Tensor, positions_BN: Tensor, n_final: int) -> Tensor:
        """Logits (B, N, V) of new inputs at their positions.

        Each reads the final inputs of all earlier calls, the new ones before it, and itself. The
        first `n_final` new ones are final: later calls read them without being fed them.
        """


@runtime_checkable
class CachingDenoiser(Denoiser, Protocol):
    """A network that can keep keys and values between calls."""

    def incremental_decoder(self, capacity: int) -> IncrementalDecoder:
        """For one generation of at most `capacity` inputs, final and new together."""


@dataclass(frozen=True)
class Needs:
    """What a family asks of backbone and planner."""

    attention: Literal["causal", "bidirectional"]
    extra_input_ids: int
    """Input ids beyond the vocabulary, from id V on: a mask (diffusion) or a start token (AR)."""
    time_conditioning: bool = False
    """Whether the noise level conditions the network, if it can; else the network reads level 0."""
    doubled_share: float = 0.0
    """Share of training sequences that the network reads at twice their length."""


@dataclass(frozen=True)
class NoisyBatch:
    """Sequences with the noise drawn for one training step; every tensor can be cut along B."""

    x0_BL: Tensor
    zt_BL: Tensor
    t_B: Tensor
    """Noise levels, (B,) or (B, L)."""
    order_BL: Tensor | None = None
    """Positions in the order in which the network reads them; none: as they come."""
    clean_BL: Tensor | None = None
    """Positions that carry no noise and no loss; none: there are none."""
    scored_BL: Tensor | None = None
    """Positions that bear loss; none: all may. It and `doubled_B` stay on the CPU: shapes follow
    from them, and nobody should wait for an accelerator to know a shape."""
    doubled_B: Tensor | None = None
    """Sequences that the network reads at twice their length, all after the others; none: unknown.
    """
    scored_R: Tensor | None = None
    """`scored_rows` of a batch that was moved to a device."""

    def rows(self, start: int, stop: int, step: int = 1) -> "NoisyBatch":
        """Every `step`-th of the sequences start … stop − 1, for a micro-batch or a rank."""
        return self._cut(lambda x: x[start:stop:step])

    def taken(self, rows_B: Tensor) -> "NoisyBatch":
        """The sequences of these numbers, in their order."""
        return self._cut(lambda x: x[rows_B])

    def to(self, device: torch.device) -> "NoisyBatch":
        """The same batch on a device."""
        scored_R = self.scored_rows()
        batch = self._map(lambda x: x.to(device))
        return dataclasses.replace(
            batch, scored_R=None if scored_R is None else scored_R.to(device)
        )

    def scored_rows(self) -> Tensor | None:
        """Flat positions b · L + l, in the order of reading, of what bears loss; none: all may."""
        if self.scored_R is not None or self.scored_BL is None:
            return self.scored_R
        scored_BL = self.scored_BL
        if self.order_BL is not None:
            scored_BL = scored_BL.gather(1, self.order_BL)
        return flat_positions(scored_BL)

    def _cut(self, f: Callable[[Tensor], Tensor]) -> "NoisyBatch":
        scored_BL, doubled_B = (a if a is None else f(a) for a in (self.scored_BL, self.doubled_B))
        batch = self._map(f)
        return dataclasses.replace(batch, scored_BL=scored_BL, doubled_B=doubled_B, scored_R=None)

    def _map(self, f: Callable[[Tensor], Tensor]) -> "NoisyBatch":
        order_BL, clean_BL = (a if a is None else f(a) for a in (self.order_BL, self.clean_BL))
        return dataclasses.replace(
            self,
            x0_BL=f(self.x0_BL),
            zt_BL=f(self.zt_BL),
            t_B=f(self.t_B),
            order_BL=order_BL,
            clean_BL=clean_BL,
        )


@dataclass(frozen=True)
class SamplingPlan:
    """What to generate, and how."""

    n_sequences: int
    seq_len: int
    n_steps: int
    """Denoising steps. The denoiser is called at most as often, and once for each token that is
    predicted from those before it: all of `ar`, those `esolm` leaves for the end."""
    sampler: str = "ancestral"
    """One of the family's `samplers`."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the most probable token."""
    top_p: float = 1.0
    """Nucleus: the mass of most probable tokens that x_theta keeps."""
    keeps_cache: bool = True
    """Whether causal families use the denoiser's key-value cache, where it has one; the samples
    are the same without."""

    def __post_init__(self) -> None:
        if min(self.n_sequences, self.seq_len, self.n_steps) < 1:
            raise ConfigError(f"{self}: expected at least one sequence, token and step")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ConfigError(f"{self}: expected temperature >= 0 and 0 < top_p <= 1")


@dataclass(frozen=True)
class Samples:
    """Generated sequences, and what they cost."""

    ids_BL: Tensor
    network_evaluations: int
    """Calls of the denoiser, each on all sequences."""


@dataclass(frozen=True)
class BoundDraw:
    """One draw of a bound, for sequences at their own noise levels."""

    nats_BL: Tensor
    """Its mean over levels, noise and positions is the bound, nats per token."""
    token_weights_BLX: Tensor | None = None
    """By how much the draw depends on each token; none: on all alike. The evaluator makes control
    variates of them, so they matter to the standard error only, but the mean of each over levels
    and noise must be 1 at every position."""


Sampler = Callable[[Denoiser, SamplingPlan, torch.Generator], Samples]


@dataclass(frozen=True)
class AbstractFamily(abc.ABC):
    """Interface of all families; fields after `vocab_size` are the options of one."""

    vocab_size: int

    is_exact = False  # whether `bound` is the negative log-likelihood itself, without noise

    @property
    @abc.abstractmethod
    def needs(self) -> Needs:
        """What this family asks of backbone and planner."""

    @abc.abstractmethod
    def noisy_batch(self, x0_BL: Tensor, rng: torch.Generator) -> NoisyBatch:
        """Draw the noise of one step for the whole global batch."""

    @abc.abstractmethod
    def loss(self, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
        """What training averages, nats per token, (B, L), float32 or wider."""

    @abc.abstractmethod
    def bound(
        self, denoiser: Denoiser, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator
    ) -> BoundDraw:
        """An unbiased draw of the bound on −log p(x0), from one call of the denoiser.

        `t_B` in (0, 1) comes from the evaluator's stratified grid; averaged over t ~ U(0, 1) and
        the corruption, the mean over L bounds the negative log-likelihood per token.
        """

    @property
    @abc.abstractmethod
    def samplers(self) -> Mapping[str, Sampler]:
        """Ways to generate, by name; each family has `ancestral`."""

    def given_prefix(self, denoiser: Denoiser, prefix_BP: Tensor) -> Denoiser:
        """A denoiser of what follows a prefix, of a network not trained with clean prefixes.

        Sampling with it generates sequences of the rest's length. Raises ConfigError where the
        network cannot know which tokens are clean.
        """
        raise ConfigError(
            "this family has tokens as noise, and its network was not trained to tell a clean "
            "prefix from them: train with prefix_share: 20%, or sample without a prompt"
        )

    def own_nll(self, denoiser: Denoiser, plan: SamplingPlan, ids_BL: Tensor) -> Tensor | None:
        """−log q of samples under the sampler itself, nats, (B, L); None where it is not exact."""
        return None

    @torch.no_grad()
    def sample(self, denoiser: Denoiser, plan: SamplingPlan, rng: torch.Generator) -> Samples:
        """Generate sequences on the generator's device.

        Raises ConfigError for a sampler the family does not have.
        """
        if plan.sampler not in self.samplers:
            known = ", ".join(self.samplers)
            raise ConfigError(f"no sampler {plan.sampler!r} in this family (expected {known})")
        return self.samplers[plan.sampler](denoiser, plan, rng)


@dataclass(frozen=True)
class AbstractDiffusion(AbstractFamily):
    """A family that corrupts every token independently, with an integral over t as its bound."""

    # alpha_t = 1 − t in every family, so t is the share of noise and −alpha'_t = 1.
    # Training draws t between these; each family says how the bound covers the rest.
    t_min = 1e-3
    t_max = 1.0

    @abc.abstractmethod
    def corrupt(self, x0_BL: Tensor, t_B: Tensor, rng: torch.Generator) -> Tensor:
        """Draw z_t given x_0, ids up to V; t is (B,) or (B, L)."""

    @abc.abstractmethod
    def nelbo_density(
        self, logits_BLV: Tensor, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor
    ) -> Tensor:
        """Integrand over t ~ U(0, 1) of the NELBO, nats per token, (B, L)."""

    def loss_density(self, logits_BLV: Tensor, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor) -> Tensor:
        """What training averages over t, nats per token, (B, L): the bound's, or another."""
        return self.nelbo_density(logits_BLV, x0_BL, zt_BL, t_B)

    def levels(self, n_sequences: int, seq_len: int, rng: torch.Generator) -> Tensor:
        """Noise levels of a training step, (B,) or (B, L); here one per sequence, stratified."""
        return self.t_min + (self.t_max - self.t_min) * stratified(n_sequences, rng)

    def noisy_batch(self, x0_BL: Tensor, rng: torch.Generator) -> NoisyBatch:
        """`levels` over the global batch, and their corruption."""
        t_B = self.levels(x0_BL.shape[0], x0_BL.shape[1], rng)
        return NoisyBatch(x0_BL, self.corrupt(x0_BL, t_B, rng), t_B.to(x0_BL.device))

    def loss(self, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
        """`loss_density` at the batch's own noise."""
        # From all logits. A family whose density needs few numbers of them asks for those instead.
        logits_BLV = denoiser(batch.zt_BL, batch.t_B)
        return self.loss_density(logits_BLV, batch.x0_BL, batch.zt_BL, batch.t_B)

    def changed_share(self, t_B: Tensor) -> Tensor:
        """Probability that `corrupt` changes a token: below t where noise may repeat the token."""
        return t_B

    def token_weights(
        self, x0_BL: Tensor, zt_BL: Tensor, t_B: Tensor, level_weight_B: Tensor
    ) -> Tensor:
        """Those of a bound that weighs level t by `level_weight_B`, 1 on average: (B, L, 1)."""
        # What the draw would be if predicting any changed token cost one nat and others nothing.
        changed_BL = (zt_BL != x0_BL) * (level_weight_B / self.changed_share(t_B))[:, None]
        return changed_BL[..., None]


def stratified(n: int, rng: torch.Generator) -> Tensor:
    """n points, one uniform draw in each interval [i/n, (i+1)/n), shape (n,), float32."""
    # The low-discrepancy sampler of arXiv 2406.07524: its mean varies less than that of n draws.
    return (torch.arange(n, device=rng.device) + uniform_draws((n,), rng)) / n


def uniform_draws(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Uniform draws in [0, 1), float32, on the generator's device."""
    # To be moved to the data's: a CPU generator gives the same noise to every accelerator.
    return torch.rand(shape, generator=rng, device=rng.device)


def token_nll(logits_BLV: Tensor, ids_BL: Tensor) -> Tensor:
    """−log softmax(logits)[ids], nats, (B, L), float32 or wider."""
    # One row per token: a strided softmax is slower.
    logits = at_least_float32(logits_BLV).flatten(0, -2)
    targets = ids_BL.flatten().long()  # torch refuses int32 here, and only here
    return functional.cross_entropy(logits, targets, reduction="none").view_as(ids_BL)


def flat_positions(is_scored_BL: Tensor) -> Tensor:
    """Where a mask is true, as positions b · L + l, (R,)."""
    return is_scored_BL.flatten().nonzero()[:, 0]


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or unchanged if it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def per_token(t_B: Tensor, like_BL: Tensor) -> Tensor:
    """Noise levels (B,) or (B, L), on the device of `like_BL` and ready to broadcast against it."""
    t_B = t_B.to(like_BL.device)
    return t_B[:, None] if t_B.dim() < like_BL.dim() else t_B
