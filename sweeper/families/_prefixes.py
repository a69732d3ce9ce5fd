"""Clean prefixes, in training and in sampling: the rest of a sequence is denoised given them.

Conditional training is that of arXiv 2512.10858. Clean tokens carry no loss and read clean tokens
only, as the prompt of a conversation is read once and kept; noisy ones read everything, so the
family must read both sides.

Shapes: B sequences, L positions, of which the first P are a prefix, V vocabulary.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sweeper.families._sampling import UncachedDecoder
from sweeper.families._scores import Query, score
from sweeper.families.base import (
    AbstractFamily,
    CachingDenoiser,
    Denoiser,
    IncrementalDecoder,
    NoisyBatch,
    per_token,
    uniform_draws,
)


def clean_prefixes(n_sequences: int, seq_len: int, share: float, rng: torch.Generator) -> Tensor:
    """Which positions stay clean, (B, L) bool; at least the first of a conditional sequence."""
    is_conditional_B = uniform_draws((n_sequences,), rng) < share
    # A prefix covers arccos(1 − 2r) / pi of the positions, r uniform.
    fraction_B = torch.arccos(1 - 2 * uniform_draws((n_sequences,), rng)) / math.pi
    position_L = torch.arange(seq_len, device=rng.device)
    is_prefix_BL = position_L <= fraction_B[:, None] * (seq_len - 1)
    # A fraction that rounds to one would leave nothing to predict.
    is_prefix_BL[:, -1] = False
    return is_prefix_BL & is_conditional_B[:, None]


def with_prefixes(batch: NoisyBatch, clean_BL: Tensor) -> NoisyBatch:
    """The batch with those positions clean again."""
    clean_BL = clean_BL.to(batch.x0_BL.device)
    zt_BL = torch.where(clean_BL, batch.x0_BL, batch.zt_BL)
    scored_BL = ~clean_BL if batch.scored_BL is None else batch.scored_BL & ~clean_BL
    return dataclasses.replace(batch, zt_BL=zt_BL, clean_BL=clean_BL, scored_BL=scored_BL)


def conditional_loss(family: AbstractFamily, denoiser: Denoiser, batch: NoisyBatch) -> Tensor:
    """The family's loss given the clean tokens of a batch, if any, (B, L): 0 where they are."""
    if batch.clean_BL is None:
        return family.loss(denoiser, batch)
    reader = _PromptReader(denoiser, prompt_visibility(batch.clean_BL))
    return family.loss(reader, batch).masked_fill(batch.clean_BL, 0)


@dataclass(frozen=True)
class _PromptReader:
    """A denoiser that reads clean tokens as a prompt."""

    denoiser: Denoiser
    visible_BLL: Tensor

    def __call__(self, z_BL: Tensor, t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        return self.denoiser(z_BL, t_B, visible_BLL=self.visible_BLL)

    def score(
        self, z_BL: Tensor, t_B: Tensor, query: Query, /, **_: Tensor | None
    ) -> tuple[Tensor, ...]:
        return score(self.denoiser, z_BL, t_B, query, visible_BLL=self.visible_BLL)


def prefix_lengths(seq_len: int, n_lengths: int) -> list[int]:
    """Lengths at even quantiles of those trained on, 1 … seq_len − 1."""
    ranks = [(i + 0.5) / n_lengths for i in range(n_lengths)]
    fractions = [math.acos(1 - 2 * rank) / math.pi for rank in ranks]
    return [min(int(fraction * (seq_len - 1)) + 1, seq_len - 1) for fraction in fractions]


@dataclass(frozen=True)
class AfterPrefix:
    """A denoiser of what follows a prefix: inputs (B, L − P) to logits (B, L − P, V)."""

    denoiser: Denoiser
    prefix_BP: Tensor
    """(1, P) where all sequences share it; so in the other readers."""

    def __call__(self, z_BN: Tensor, t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        whole_BL, level_B, visible_BLL = self._whole(z_BN, t_B)
        logits_BLV = self.denoiser(whole_BL, level_B, visible_BLL=visible_BLL)
        return logits_BLV[:, self.prefix_BP.shape[1] :]

    def score(
        self, z_BN: Tensor, t_B: Tensor, query: Query, /, **_: Tensor | None
    ) -> tuple[Tensor, ...]:
        whole_BL, level_B, visible_BLL = self._whole(z_BN, t_B)
        whole = _whole_query(query, self.prefix_BP)
        scores = score(self.denoiser, whole_BL, level_B, whole, visible_BLL=visible_BLL)
        return tuple(values_BL[:, self.prefix_BP.shape[1] :] for values_BL in scores)

    def _whole(self, z_BN: Tensor, t_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and levels of prefix and rest, and what reads what."""
        prefix_BP = self.prefix_BP.expand(len(z_BN), -1)
        whole_BL = torch.cat([prefix_BP, z_BN], dim=1)
        clean_L = torch.arange(whole_BL.shape[1], device=z_BN.device) < prefix_BP.shape[1]
        if t_B.dim() > 1:  # levels per token: none where there is no noise
            t_B = torch.cat([t_B.new_zeros(prefix_BP.shape), t_B], dim=1)
        return whole_BL, t_B, prompt_visibility(clean_L[None])


@dataclass(frozen=True)
class BesidePrefix:
    """The same of a network that reads a prefix as any other clean tokens."""

    denoiser: Denoiser
    prefix_BP: Tensor

    def __call__(self, z_BN: Tensor, t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        logits_BLV = self.denoiser(*self._whole(z_BN, t_B))
        return logits_BLV[:, self.prefix_BP.shape[1] :]

    def score(
        self, z_BN: Tensor, t_B: Tensor, query: Query, /, **_: Tensor | None
    ) -> tuple[Tensor, ...]:
        whole = _whole_query(query, self.prefix_BP)
        scores = score(self.denoiser, *self._whole(z_BN, t_B), whole)
        return tuple(values_BL[:, self.prefix_BP.shape[1] :] for values_BL in scores)

    def _whole(self, z_BN: Tensor, t_B: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and levels of prefix and rest."""
        prefix_BP = self.prefix_BP.expand(len(z_BN), -1)
        t_BN = per_token(t_B, z_BN).expand(z_BN.shape)
        t_BL = torch.cat([t_BN.new_zeros(prefix_BP.shape), t_BN], dim=1)
        return torch.cat([prefix_BP, z_BN], dim=1), t_BL


def _whole_query(query: Query, prefix_BP: Tensor) -> Query:
    """What a query of inputs (B, N) asks for when a prefix comes before them."""
    n_sequences, n_rest = query.ids[0].shape
    prefix_BP = prefix_BP.expand(n_sequences, -1)
    n_prefix = prefix_BP.shape[1]
    rows_R, log_kappa_BL = query.rows_R, query.log_kappa_BN
    if rows_R is None:
        rows_R = torch.arange(query.ids[0].numel(), device=prefix_BP.device)
    if log_kappa_BL is not None and log_kappa_BL.shape[1] > 1:
        log_kappa_BL = functional.pad(log_kappa_BL, (n_prefix, 0))
    return Query(
        tuple(torch.cat([prefix_BP, ids_BN], dim=1) for ids_BN in query.ids),
        log_kappa_BL,
        rows_R + (rows_R // n_rest + 1) * n_prefix,
    )


@dataclass(frozen=True)
class CausalAfterPrefix:
    """A causal `CachingDenoiser` of what follows a prefix, which it reads once."""

    denoiser: Denoiser
    prefix_BP: Tensor
    n_before: int
    """Inputs that come before the prefix: 1 with a start token, else 0."""

    def __call__(
        self,
        z_BL: Tensor,
        t_B: Tensor,
        /,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, N, V) of inputs (B, N) after the prefix, read in the order that they have."""
        whole_BL, reading = self._whole(z_BL, positions_BL, visible_BLL)
        return self.denoiser(whole_BL, t_B, **reading)[:, self.prefix_BP.shape[1] :]

    def score(
        self,
        z_BN: Tensor,
        t_B: Tensor,
        query: Query,
        /,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """What the query asks for, (B, N) each."""
        whole_BL, reading = self._whole(z_BN, positions_BL, visible_BLL)
        whole = _whole_query(query, self.prefix_BP)
        scores = score(self.denoiser, whole_BL, t_B, whole, **reading)
        return tuple(values_BL[:, self.prefix_BP.shape[1] :] for values_BL in scores)

    def _whole(
        self, z_BN: Tensor, positions_BN: Tensor | None, visible_NN: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor | None]]:
        """Inputs of prefix and rest, and how they are read."""
        n_prefix, n_rest = self.prefix_BP.shape[1], z_BN.shape[1]
        if positions_BN is None:
            positions_BN = torch.arange(n_rest, device=z_BN.device).expand_as(z_BN)
        whole_BL, positions_BL = self.joined(z_BN, positions_BN)
        visible_LL = None
        if visible_NN is not None:  # the prefix in its order, then all of it and what is said
            assert self.n_before == 0
            every_LL = torch.ones(2 * (n_prefix + n_rest,), dtype=torch.bool, device=z_BN.device)
            visible_LL = every_LL.tril()
            visible_LL[n_prefix:, n_prefix:] = visible_NN
        return whole_BL, {"positions_BL": positions_BL, "visible_BLL": visible_LL}

    def joined(self, z_BN: Tensor, positions_BN: Tensor) -> tuple[Tensor, Tensor]:
        """The first inputs of a generation and their positions, with the prefix among them."""
        prefix_BP = self.prefix_BP.expand(len(z_BN), -1)
        n, n_prefix = self.n_before, prefix_BP.shape[1]
        here_BP = torch.arange(n, n + n_prefix, device=z_BN.device).expand_as(prefix_BP)
        after_BN = positions_BN[:, n:] + n_prefix
        return (
            torch.cat([z_BN[:, :n], prefix_BP, z_BN[:, n:]], dim=1),
            torch.cat([positions_BN[:, :n], here_BP, after_BN], dim=1),
        )

    def incremental_decoder(self, capacity: int) -> IncrementalDecoder:
        """For one generation of at most `capacity` inputs beside the prefix."""
        if not isinstance(self.denoiser, CachingDenoiser):
            return _DecoderAfterPrefix(self, UncachedDecoder(self.denoiser))
        capacity += self.prefix_BP.shape[1]
        return _DecoderAfterPrefix(self, self.denoiser.incremental_decoder(capacity))


class _DecoderAfterPrefix:
    """An `IncrementalDecoder` that feeds the prefix with the first inputs."""

    def __init__(self, reader: CausalAfterPrefix, decoder: IncrementalDecoder) -> None:
        self._reader, self._decoder = reader, decoder
        self._has_read_prefix = False

    def decode(self, ids_BN: Tensor, positions_BN: Tensor, n_final: int) -> Tensor:
        """Logits (B, N, V) of the new inputs."""
        n_new, n_prefix = ids_BN.shape[1], self._reader.prefix_BP.shape[1]
        if self._has_read_prefix:
            return self._decoder.decode(ids_BN, positions_BN + n_prefix, n_final)
        self._has_read_prefix = True
        assert n_final == self._reader.n_before
        ids_BN, positions_BN = self._reader.joined(ids_BN, positions_BN)
        return self._decoder.decode(ids_BN, positions_BN, n_final + n_prefix)[:, -n_new:]


def prompt_visibility(clean_BL: Tensor) -> Tensor:
    """Which input reads which, (B, L, L): a clean query reads clean keys, a noisy one all."""
    return ~clean_BL[:, :, None] | clean_BL[:, None, :]
