"""Many small computations with a denoiser, their calls of the network made together.

Each computation runs twice: against a denoiser that notes what it is asked, and, once the network
has answered all of them in large batches, against one that repeats the answers.

Shapes: B sequences, N inputs, V vocabulary.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeper.families._scores import Query, score
from sweeper.families.base import Denoiser


@dataclass(frozen=True)
class Call:
    """What a denoiser was asked for some sequences."""

    z_BN: Tensor
    t_B: Tensor
    query: Query | None
    """None: all logits."""
    positions_BN: Tensor | None
    visible_BNN: Tensor | None

    @property
    def kind(self) -> tuple[object, ...]:
        """Calls of the same kind can be joined."""
        asked: tuple[object, ...] = ()
        if self.query is not None:
            kappa_BN, rows_R = self.query.log_kappa_BN, self.query.rows_R
            n_kappa = None if kappa_BN is None else kappa_BN.shape[1]
            asked = len(self.query.ids), n_kappa, rows_R is None
        return (
            self.z_BN.shape[1],
            self.t_B.dim(),
            asked,
            self.positions_BN is None,
            self.visible_BNN is None,
        )


class Recorder:
    """A denoiser that notes what it is asked and answers with zeros."""

    def __init__(self, vocab_size: int) -> None:
        self.calls: list[Call] = []
        self._vocab_size = vocab_size

    def __call__(
        self,
        z_BL: Tensor,
        t_B: Tensor,
        /,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
    ) -> Tensor:
        """Zeros in place of logits."""
        self._note(z_BL, t_B, None, positions_BL, visible_BLL)
        return torch.zeros((), device=z_BL.device).expand(*z_BL.shape, self._vocab_size)

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
        """Zeros in place of scores."""
        self._note(z_BN, t_B, query, positions_BL, visible_BLL)
        n_numbers = len(query.ids) + (query.log_kappa_BN is not None)
        return (torch.zeros(z_BN.shape, device=z_BN.device),) * n_numbers

    def _note(
        self,
        z_BN: Tensor,
        t_B: Tensor,
        query: Query | None,
        positions_BN: Tensor | None,
        visible_BNN: Tensor | None,
    ) -> None:
        n, n_inputs = z_BN.shape
        if positions_BN is not None:
            positions_BN = positions_BN.expand(n, n_inputs)
        if visible_BNN is not None:
            visible_BNN = visible_BNN.expand(n, n_inputs, n_inputs)
        self.calls.append(Call(z_BN, t_B, query, positions_BN, visible_BNN))


@dataclass(frozen=True)
class Replayer:
    """A denoiser that gives known answers, one call after another."""

    answers: Iterator[tuple[Tensor, ...]]

    def __call__(self, z_BL: Tensor, t_B: Tensor, /, **_: Tensor | None) -> Tensor:
        """The logits that are next."""
        (logits_BLV,) = next(self.answers)
        return logits_BLV

    def score(
        self, z_BN: Tensor, t_B: Tensor, query: Query, /, **_: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The scores that are next."""
        return next(self.answers)


def gathered(
    computations: Sequence[Callable[[Denoiser], Tensor]],
    denoiser: Denoiser,
    vocab_size: int,
    sequences_at_once: int,
) -> list[Tensor]:
    """The result of each computation, as if it had asked the denoiser itself.

    Run twice it must ask the same, whatever it is answered.
    """
    calls: list[Call] = []
    for compute in computations:
        recorder = Recorder(vocab_size)
        compute(recorder)
        calls += recorder.calls
    replayer = Replayer(iter(_answers(calls, denoiser, sequences_at_once)))
    return [compute(replayer) for compute in computations]


def _answers(
    calls: Sequence[Call], denoiser: Denoiser, sequences_at_once: int
) -> list[tuple[Tensor, ...]]:
    batches: dict[tuple[object, ...], list[list[int]]] = defaultdict(lambda: [[]])
    for i, call in enumerate(calls):
        of_kind = batches[call.kind]
        n_there = sum(len(calls[j].z_BN) for j in of_kind[-1])
        if n_there and n_there + len(call.z_BN) > sequences_at_once:
            of_kind.append([])
        of_kind[-1].append(i)
    answers: dict[int, tuple[Tensor, ...]] = {}
    for batch in (batch for of_kind in batches.values() for batch in of_kind):
        joined = [calls[i] for i in batch]
        ends = (*itertools.accumulate(len(call.z_BN) for call in joined[:-1]),)
        values = [values_BN.tensor_split(ends) for values_BN in _asked(joined, denoiser)]
        answers |= dict(zip(batch, zip(*values, strict=True), strict=True))
    return [answers[i] for i in range(len(calls))]


def _asked(calls: Sequence[Call], denoiser: Denoiser) -> tuple[Tensor, ...]:
    """The answers to calls of one kind, sequences one after another."""
    z_BN, t_B = torch.cat([call.z_BN for call in calls]), torch.cat([call.t_B for call in calls])
    reading = {
        "positions_BL": _joined([call.positions_BN for call in calls]),
        "visible_BLL": _joined([call.visible_BNN for call in calls]),
    }
    queries = [call.query for call in calls if call.query is not None]
    if not queries:
        return (denoiser(z_BN, t_B, **reading),)
    ends = itertools.accumulate((call.z_BN.numel() for call in calls), initial=0)
    rows = [
        None if query.rows_R is None else query.rows_R + first
        for query, first in zip(queries, ends, strict=False)  # the last end begins nothing
    ]
    query = Query(
        tuple(torch.cat(ids) for ids in zip(*(query.ids for query in queries), strict=True)),
        _joined([query.log_kappa_BN for query in queries]),
        _joined(rows),
    )
    return score(denoiser, z_BN, t_B, query, **reading)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    tensors = [part for part in parts if part is not None]
    return torch.cat(tensors) if tensors else None
