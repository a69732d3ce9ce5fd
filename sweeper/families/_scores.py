"""What losses and bounds ask of the logits, so that a network need not hold all of them.

    log p_j = log softmax(logits)_j at one or two ids of each input
    H       = sum over all ids j of log(1 + kappa p_j), with a kappa of each input

Every loss here is made of these numbers. A network that is told which it is asked for reads its
head a few inputs at a time, and only at inputs that bear loss.

Shapes: B sequences, N inputs, V vocabulary, R inputs that bear loss, S numbers of each.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from sweeper.families.base import Denoiser, at_least_float32


@dataclass(frozen=True)
class Query:
    """The numbers asked for, S of them at each input, in this order."""

    ids: tuple[Tensor, ...]
    """Ids (B, N) whose log-probability is asked for."""
    log_kappa_BN: Tensor | None = None
    """Asks for H, too; it may be (B, 1)."""
    rows_R: Tensor | None = None
    """Inputs to answer for, as flat positions b · N + n; the numbers of others are 0. None: all."""

    def of_sequences(self, part: slice) -> "Query":
        """The same of the sequences start … stop − 1."""
        log_kappa_BN, rows_R = self.log_kappa_BN, self.rows_R
        if rows_R is not None:
            first, end = (bound * self.ids[0].shape[1] for bound in (part.start, part.stop))
            rows_R = rows_R[(rows_R >= first) & (rows_R < end)] - first
        return Query(
            tuple(ids_BN[part] for ids_BN in self.ids),
            None if log_kappa_BN is None else log_kappa_BN[part],
            rows_R,
        )


@runtime_checkable
class ScoringDenoiser(Denoiser, Protocol):
    """A network that answers queries itself."""

    def score(
        self, z_BN: Tensor, t_B: Tensor, query: Query, /, **reading: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The numbers asked for, (B, N) each, float32 or wider; `reading` as for `Denoiser`."""


def score(
    denoiser: Denoiser, z_BN: Tensor, t_B: Tensor, query: Query, **reading: Tensor | None
) -> tuple[Tensor, ...]:
    """The numbers asked for, (B, N) each, from any denoiser."""
    if isinstance(denoiser, ScoringDenoiser):
        return denoiser.score(z_BN, t_B, query, **reading)
    return scores_of_logits(denoiser(z_BN, t_B, **reading), query)


def scores_of_logits(logits_BNV: Tensor, query: Query) -> tuple[Tensor, ...]:
    """The same from all logits: the plain path."""
    log_p_BNV = torch.log_softmax(at_least_float32(logits_BNV), dim=-1)
    # One gather for all ids: its backward fills (B, N, V).
    found = log_p_BNV.gather(-1, torch.stack(query.ids, dim=-1)).unbind(dim=-1)
    if query.log_kappa_BN is not None:
        found = (*found, softplus(query.log_kappa_BN[..., None] + log_p_BNV).sum(dim=-1))
    if query.rows_R is None:
        return found
    is_asked_M = torch.zeros(logits_BNV.shape[:-1], dtype=torch.bool, device=logits_BNV.device)
    is_asked_M.view(-1)[query.rows_R] = True
    return tuple(torch.where(is_asked_M, values_BN, 0.0) for values_BN in found)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), to full precision in float64 (torch's default cuts off at x = 20)."""
    return functional.softplus(x, threshold=50.0)
