"""The head, some inputs at a time: what a loss needs of logits that are never all there at once.

Shapes: B sequences, N inputs, M = B · N, D width, V vocabulary, R inputs that bear loss (or those
of one chunk), S numbers asked for of each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sweeper.families._scores import Query, softplus
from sweeper.families.base import at_least_float32

CHUNK_BYTES = {"cpu": 2**25}
"""Most memory of a chunk's float32 logits, by kind of device; two and a half times as much is in
use at once. What fits one chunk, as with bytes for tokens, is not computed twice."""
CHUNK_BYTES_ELSEWHERE = 2**27
"""The same for accelerators, which products of few rows leave idle."""


def head_scores(h_BND: Tensor, head_VD: Tensor, bias_V: Tensor | None, query: Query) -> Tensor:
    """The numbers that `query` asks of softmax(h W' + b), (S, B, N), float32 or wider.

    Products are in the type that autocast asks for. The rest, and the sum over chunks of the
    gradient of W, is in float32 or wider.
    """
    scores_SBN: Tensor = _HeadScores.apply(h_BND, head_VD, bias_V, query)
    return scores_SBN


@dataclass(frozen=True)
class _Rows:
    """Inputs, and what is asked of them."""

    h_RD: Tensor
    log_kappa_R1: Tensor | None
    ids_R1: tuple[Tensor, ...]

    def chunks(self, vocab_size: int) -> Iterator[tuple[slice, "_Rows"]]:
        """As many rows at a time as memory allows; nothing where there are none."""
        wide = torch.promote_types(self.h_RD.dtype, torch.float32)
        most = CHUNK_BYTES.get(self.h_RD.device.type, CHUNK_BYTES_ELSEWHERE)
        n_rows = max(1, most // (vocab_size * wide.itemsize))
        for start in range(0, len(self.h_RD), n_rows):
            rows = slice(start, start + n_rows)
            log_kappa_R1 = None if self.log_kappa_R1 is None else self.log_kappa_R1[rows]
            yield rows, _Rows(self.h_RD[rows], log_kappa_R1, tuple(i[rows] for i in self.ids_R1))

    def log_p(self, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
        """Log-probabilities of all ids, (R, V)."""
        logits_RV = functional.linear(self.h_RD, weight_VD, bias_V)
        return at_least_float32(logits_RV).log_softmax(dim=-1)

    def scores(self, log_p_RV: Tensor) -> Tensor:
        """The numbers asked for, (S, R)."""
        found_R1 = [log_p_RV.gather(1, ids_R1) for ids_R1 in self.ids_R1]
        if self.log_kappa_R1 is not None:
            found_R1.append(softplus(self.log_kappa_R1 + log_p_RV).sum(dim=-1, keepdim=True))
        return torch.stack(found_R1)[..., 0]

    def logit_gradient(self, log_p_RV: Tensor, gradient_SR: Tensor) -> Tensor:
        """The gradient of the logits from that of the numbers, (R, V)."""
        # d log p_i / d logit_j = 1[i = j] − p_j and, with sigma_j = kappa p_j / (1 + kappa p_j),
        # dH / d logit_j = sigma_j − p_j · sum over i of sigma_i.
        gradient_SR1 = gradient_SR[..., None]
        total_R1 = gradient_SR1[: len(self.ids_R1)].sum(dim=0)
        if self.log_kappa_R1 is None:
            d_RV = log_p_RV.exp().mul_(-total_R1)
        else:
            d_RV = (self.log_kappa_R1 + log_p_RV).sigmoid_().mul_(gradient_SR1[-1])
            total_R1 = total_R1 + d_RV.sum(dim=-1, keepdim=True)
            d_RV.addcmul_(log_p_RV.exp(), total_R1, value=-1)
        for ids_R1, gradient_R1 in zip(self.ids_R1, gradient_SR1, strict=False):
            d_RV.scatter_add_(1, ids_R1, gradient_R1)
        return d_RV


class _HeadScores(torch.autograd.Function):
    """`head_scores`; it keeps log-probabilities for the backward pass only if one chunk is all."""

    @staticmethod
    def forward(
        ctx: Any, h_BND: Tensor, head_VD: Tensor, bias_V: Tensor | None, query: Query
    ) -> Tensor:
        device, shape = h_BND.device.type, h_BND.shape[:-1]
        dtype = torch.promote_types(h_BND.dtype, head_VD.dtype)
        if torch.is_autocast_enabled(device) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(device)
        weight_VD, bias_V = head_VD.to(dtype), None if bias_V is None else bias_V.to(dtype)
        asked = _asked_rows(h_BND, query, dtype)
        scores, log_p_RV = [], None
        for _, chunk in asked.chunks(len(head_VD)):
            log_p_RV = None  # so that there are never two
            log_p_RV = chunk.log_p(weight_VD, bias_V)
            scores.append(chunk.scores(log_p_RV))
        kept_RV = log_p_RV if len(scores) == 1 else None
        n_numbers = len(query.ids) + (query.log_kappa_BN is not None)
        none_SR = h_BND.new_empty(n_numbers, 0, dtype=torch.promote_types(dtype, torch.float32))
        scores_SR = scores[0] if len(scores) == 1 else torch.cat([none_SR, *scores], dim=1)
        ctx.save_for_backward(
            asked.h_RD, weight_VD, bias_V, kept_RV, query.rows_R, asked.log_kappa_R1, *asked.ids_R1
        )
        ctx.shape = shape
        if query.rows_R is not None:
            zeros_SM = scores_SR.new_zeros(n_numbers, shape.numel())
            scores_SR = zeros_SM.index_copy_(1, query.rows_R, scores_SR)
        return scores_SR.view(n_numbers, *shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        h_RD, weight_VD, bias_V, kept_RV, rows_R, log_kappa_R1, *ids_R1 = ctx.saved_tensors
        gradient_SR = gradients[0].flatten(1)
        if rows_R is not None:
            gradient_SR = gradient_SR.index_select(1, rows_R)
        d_h_RD = torch.empty_like(h_RD)
        d_weight_VD = torch.zeros_like(weight_VD, dtype=gradient_SR.dtype)
        d_bias_V = None if bias_V is None else gradient_SR.new_zeros(len(bias_V))
        for rows, chunk in _Rows(h_RD, log_kappa_R1, tuple(ids_R1)).chunks(len(weight_VD)):
            log_p_RV = chunk.log_p(weight_VD, bias_V) if kept_RV is None else kept_RV
            d_RV = chunk.logit_gradient(log_p_RV, gradient_SR[:, rows])
            del log_p_RV  # before the next: there are never two
            if d_bias_V is not None:
                d_bias_V += d_RV.sum(dim=0)
            d_RV = d_RV.to(h_RD.dtype)
            torch.mm(d_RV, weight_VD, out=d_h_RD[rows])
            if d_weight_VD.dtype == d_RV.dtype:
                d_weight_VD.addmm_(d_RV.t(), chunk.h_RD)
            else:
                d_weight_VD += d_RV.t() @ chunk.h_RD
            del d_RV
        if rows_R is not None:
            zeros_MD = d_h_RD.new_zeros(ctx.shape.numel(), d_h_RD.shape[1])
            d_h_RD = zeros_MD.index_copy_(0, rows_R, d_h_RD)
        return d_h_RD.view(*ctx.shape, -1), d_weight_VD, d_bias_V, None


def _asked_rows(h_BND: Tensor, query: Query, dtype: torch.dtype) -> _Rows:
    """The inputs that `query` asks about, as rows of products in `dtype`."""
    shape = h_BND.shape[:-1]
    h_RD, log_kappa_R1 = h_BND.flatten(0, 1), None
    ids_R1 = tuple(ids_BN.reshape(-1, 1).long() for ids_BN in query.ids)
    if query.log_kappa_BN is not None:
        log_kappa_R1 = query.log_kappa_BN.expand(shape).reshape(-1, 1)
    if query.rows_R is not None:
        h_RD = h_RD.index_select(0, query.rows_R)
        ids_R1 = tuple(each_R1.index_select(0, query.rows_R) for each_R1 in ids_R1)
        if log_kappa_R1 is not None:
            log_kappa_R1 = log_kappa_R1.index_select(0, query.rows_R)
    return _Rows(h_RD.to(dtype), log_kappa_R1, ids_R1)
