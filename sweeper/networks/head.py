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

from sweeper.families._scores import Query
from sweeper.families.base import at_least_float32

CHUNK_BYTES = {"cpu": 2**25}
"""Most memory of a chunk's float32 logits, by kind of device; two and a half times as much is in
use at once. What fits one chunk, as with bytes for tokens, is not computed twice."""
CHUNK_BYTES_ELSEWHERE = 2**27
"""The same for accelerators, which products of few rows leave idle."""

ROWS_TOGETHER = 64
"""Inputs that bear loss differ in number from step to step, and a CPU spends milliseconds on each
new shape of a product in bfloat16: there, rows of zeros fill them up to a multiple."""

LARGEST_LOG_KAPPA = 80.0
"""Keeps kappa finite in float32. A larger one is that of noise with next to no random tokens, and
H is weighted by (1 − t) / kappa."""


def head_scores(h_BND: Tensor, head_VD: Tensor, bias_V: Tensor | None, query: Query) -> Tensor:
    """The numbers that `query` asks of softmax(h W' + b), (S, B, N), float32 or wider.

    Products are in the type that autocast asks for. The rest, and the sum over chunks of the
    gradient of W, is in float32 or wider.
    """
    scores_SBN: Tensor = _HeadScores.apply(  # type: ignore[no-untyped-call]
        h_BND, head_VD, bias_V, query
    )
    return scores_SBN


@dataclass(frozen=True)
class _Rows:
    """Inputs, and what is asked of them."""

    h_RD: Tensor
    kappa_R1: Tensor | None
    ids_R1: tuple[Tensor, ...]

    def chunks(self, vocab_size: int) -> Iterator[tuple[slice, "_Rows"]]:
        """As many rows at a time as memory allows; nothing where there are none."""
        wide = torch.promote_types(self.h_RD.dtype, torch.float32)
        most = CHUNK_BYTES.get(self.h_RD.device.type, CHUNK_BYTES_ELSEWHERE)
        n_rows = max(1, most // (vocab_size * wide.itemsize))
        for start in range(0, len(self.h_RD), n_rows):
            rows = slice(start, start + n_rows)
            kappa_R1 = None if self.kappa_R1 is None else self.kappa_R1[rows]
            yield rows, _Rows(self.h_RD[rows], kappa_R1, tuple(i[rows] for i in self.ids_R1))

    def logits(self, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
        """(R, V), float32 or wider."""
        return at_least_float32(functional.linear(self.h_RD, weight_VD, bias_V))

    def scores(self, logits_RV: Tensor, p_RV: Tensor) -> Tensor:
        """The numbers asked for, (S, R)."""
        # The largest p is at least 1 / V, so its logarithm is exact where others may be 0. One
        # softmax and no logarithm of every p: transcendental functions are most of the cost.
        largest_R1, log_largest_R1 = logits_RV.amax(-1, True), p_RV.amax(-1, True).log_()
        found_R1 = [logits_RV.gather(1, i) - largest_R1 + log_largest_R1 for i in self.ids_R1]
        if self.kappa_R1 is not None:
            found_R1.append((p_RV * self.kappa_R1).log1p_().sum(dim=-1, keepdim=True))
        return torch.stack(found_R1)[..., 0]

    def logit_gradient(self, p_RV: Tensor, gradient_SR: Tensor) -> Tensor:
        """The gradient of the logits from that of the numbers, (R, V)."""
        # d log p_i / d logit_j = 1[i = j] − p_j and, with sigma_j = kappa p_j / (1 + kappa p_j),
        # dH / d logit_j = sigma_j − p_j · sum over i of sigma_i.
        gradient_SR1 = gradient_SR[..., None]
        total_R1 = gradient_SR1[: len(self.ids_R1)].sum(dim=0)
        if self.kappa_R1 is None:
            d_RV = p_RV * -total_R1
        else:
            sigma_RV = (p_RV * self.kappa_R1).add_(1).reciprocal_().mul_(p_RV).mul_(self.kappa_R1)
            d_RV = sigma_RV.mul_(gradient_SR1[-1])
            total_R1 = total_R1 + d_RV.sum(dim=-1, keepdim=True)
            d_RV.addcmul_(p_RV, total_R1, value=-1)
        for ids_R1, gradient_R1 in zip(self.ids_R1, gradient_SR1, strict=False):
            d_RV.scatter_add_(1, ids_R1, gradient_R1)
        return d_RV


class _HeadScores(torch.autograd.Function):
    """`head_scores`; it keeps probabilities for the backward pass only if one chunk is all."""

    @staticmethod
    def forward(
        ctx: Any, h_BND: Tensor, head_VD: Tensor, bias_V: Tensor | None, query: Query
    ) -> Tensor:
        device, shape = h_BND.device.type, h_BND.shape[:-1]
        dtype = torch.promote_types(h_BND.dtype, head_VD.dtype)
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            # Autocast leaves float64 alone.
            dtype = dtype if dtype == torch.float64 else torch.get_autocast_dtype(device)
        weight_VD, bias_V = head_VD.to(dtype), None if bias_V is None else bias_V.to(dtype)
        asked = _asked_rows(h_BND, query, dtype)
        scores, p_RV = [], None
        for _, chunk in asked.chunks(len(head_VD)):
            p_RV = None  # of the chunk before
            logits_RV = chunk.logits(weight_VD, bias_V)
            p_RV = logits_RV.softmax(dim=-1)
            scores.append(chunk.scores(logits_RV, p_RV))
            del logits_RV
        kept_RV = p_RV if len(scores) == 1 else None
        n_numbers = len(query.ids) + (query.log_kappa_BN is not None)
        none_SR = h_BND.new_empty(n_numbers, 0, dtype=torch.promote_types(dtype, torch.float32))
        scores_SR = scores[0] if len(scores) == 1 else torch.cat([none_SR, *scores], dim=1)
        if query.rows_R is not None:
            scores_SR = scores_SR[:, : len(query.rows_R)]
        ctx.save_for_backward(
            asked.h_RD, weight_VD, bias_V, kept_RV, query.rows_R, asked.kappa_R1, *asked.ids_R1
        )
        ctx.shape = shape
        if query.rows_R is not None:
            zeros_SM = scores_SR.new_zeros(n_numbers, shape.numel())
            scores_SR = zeros_SM.index_copy_(1, query.rows_R, scores_SR)
        return scores_SR.view(n_numbers, *shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        h_RD, weight_VD, bias_V, kept_RV, rows_R, kappa_R1, *ids_R1 = ctx.saved_tensors
        gradient_SR = gradients[0].flatten(1)
        if rows_R is not None:
            gradient_SR = gradient_SR.index_select(1, rows_R)
            gradient_SR = functional.pad(gradient_SR, (0, len(h_RD) - len(rows_R)))
        d_h_RD = torch.empty_like(h_RD)
        d_weight_VD = torch.zeros_like(weight_VD, dtype=gradient_SR.dtype)
        d_bias_V = None if bias_V is None else gradient_SR.new_zeros(len(bias_V))
        for rows, chunk in _Rows(h_RD, kappa_R1, tuple(ids_R1)).chunks(len(weight_VD)):
            p_RV = kept_RV
            if p_RV is None:
                p_RV = chunk.logits(weight_VD, bias_V).softmax(dim=-1)
            d_RV = chunk.logit_gradient(p_RV, gradient_SR[:, rows])
            del p_RV
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
            d_h_RD = zeros_MD.index_copy_(0, rows_R, d_h_RD[: len(rows_R)])
        return d_h_RD.view(*ctx.shape, -1), d_weight_VD, d_bias_V, None


def _asked_rows(h_BND: Tensor, query: Query, dtype: torch.dtype) -> _Rows:
    """The inputs that `query` asks about, as rows of products in `dtype`, filled up."""
    shape = h_BND.shape[:-1]
    h_RD, kappa_R1 = h_BND.flatten(0, 1), None
    ids_R1 = tuple(ids_BN.reshape(-1, 1).long() for ids_BN in query.ids)
    if query.log_kappa_BN is not None:
        wide = torch.promote_types(dtype, torch.float32)
        log_kappa_BN = query.log_kappa_BN.to(wide).clamp(max=LARGEST_LOG_KAPPA)
        kappa_R1 = log_kappa_BN.exp().expand(shape).reshape(-1, 1)
    if query.rows_R is not None:
        h_RD = h_RD.index_select(0, query.rows_R)
        ids_R1 = tuple(each_R1.index_select(0, query.rows_R) for each_R1 in ids_R1)
        if kappa_R1 is not None:
            kappa_R1 = kappa_R1.index_select(0, query.rows_R)
        if dtype == torch.bfloat16 and h_BND.device.type == "cpu":
            filling = (0, 0, 0, -len(h_RD) % ROWS_TOGETHER)
            h_RD = functional.pad(h_RD, filling)
            ids_R1 = tuple(functional.pad(each_R1, filling) for each_R1 in ids_R1)
            kappa_R1 = None if kappa_R1 is None else functional.pad(kappa_R1, filling)
    return _Rows(h_RD.to(dtype), kappa_R1, ids_R1)
