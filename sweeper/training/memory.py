"""Peak memory of a trial's training steps, before anything is trained.

The trainer's own passes and update run with tensors that have shapes and no numbers, so that a
network of any size takes seconds and no memory. What lives is followed storage by storage: there is
no formula for activations, and the figure changes with the code. `sweeper/planning/memory.py` says
what follows from it.
"""

import contextlib
import dataclasses
import functools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from sweeper.families import family_of
from sweeper.training.probe import random_corpus
from sweeper.training.trainer import Trainer
from sweeper.trials.resources import Resources
from sweeper.trials.trial import Trial

MOST_LAYERS, MOST_SEQUENCES = 3, 8
"""Traced at most. What more take is in proportion: each window of a pass is, see `Passes`."""


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """What lives on the device of one rank, in bytes."""

    in_passes: int
    """Peak of forward and backward passes, from the second step on."""
    in_update: int
    """Peak of the optimiser's update and of averaging."""
    state: int
    """Weights, gradients, moments and averages."""

    @property
    def peak(self) -> int:
        """Peak of a step."""
        return max(self.in_passes, self.in_update)


Passes = tuple[float, ...]
"""Peaks in bytes, without moments, of four windows: the network's forward pass, the loss and the
backward pass of the last block, those of the other blocks, and what follows. In each what lives
grows evenly with layers and with sequences; which window has the most may change."""


class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the bytes of all storages that operations made and that still exist."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_bytes = self.peak = 0
        self._known = weakref.WeakSet[torch.UntypedStorage]()

    def restart(self) -> int:
        """The peak since the last call."""
        peak, self.peak = self.peak, self.n_bytes
        return peak

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and look at what it returns."""
        returned = self.run(func, args, dict(kwargs or {}))
        tree_map_only(Tensor, self._see, returned)
        return returned

    def run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operation itself."""
        return func(*args, **kwargs)

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known.add(storage)
            self.n_bytes += storage.nbytes()
            self.peak = max(self.peak, self.n_bytes)
            weakref.finalize(storage, self._drop, storage.nbytes())

    def _drop(self, n_bytes: int) -> None:
        self.n_bytes -= n_bytes


class PretendedStorages(LiveStorages):  # type: ignore[no-untyped-call]
    """The same for tensors without numbers.

    They say that they are on the CPU, as autocast does not know the device `meta`. Batches have
    numbers, as what a family computes may depend on them; what a network makes of them has none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fake, self._is_inside = FakeTensorMode(allow_non_fake_inputs=True), True

    def run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Without numbers inside of the network, and wherever an argument has none."""
        if func is torch.ops.aten.index.Tensor:
            args = (args[0], [i for index in args[1] for i in _positions(index)])
        with self._fake if self._is_inside else contextlib.nullcontext():
            return func(*args, **kwargs)

    def follow(self, network: nn.Module) -> None:
        """From now on pretend in calls of this network only."""
        self._is_inside = False
        network.register_forward_pre_hook(lambda *_: setattr(self, "_is_inside", True))
        network.register_forward_hook(
            lambda *_: setattr(self, "_is_inside", False), always_call=True
        )


def measured_memory(trial: Trial, resources: Resources) -> StepMemory:
    """By really taking two steps on the CPU, a rank alone: in the first there are no moments."""
    with LiveStorages() as live:
        trainer = _trainer(trial, resources)
        peaks, states = [], []

        def before_update(*_: object) -> None:
            peaks.append(live.restart())
            states.append(live.n_bytes)

        trainer.optimizer.register_step_pre_hook(before_update)
        for _ in range(2):
            live.restart()
            trainer.advance()
        return StepMemory(in_passes=peaks[-1], in_update=live.restart(), state=states[-1])


def planned_memory(trial: Trial, resources: Resources) -> StepMemory:
    """Of one rank, without taking any memory; shards by what FSDP2 keeps of the state."""
    # Traces are asked for by what they depend on alone: whoever compares micro-batches or shards
    # waits for them once.
    alone = Resources(gpus=0, recomputed=resources.recomputed)
    one_sequence = dataclasses.replace(trial.optimizer, batch_sequences=1)
    update = _traced_update(dataclasses.replace(trial, optimizer=one_sequence))
    n_micro_batches = min(
        2, math.ceil(_sequences_of_rank(trial, resources) / _own(trial, resources))
    )
    if resources.sharded:  # so that gradients are there, of which shards have a part
        n_micro_batches = 2

    def passes(n_layers: int, n_sequences: int) -> Passes:
        optimizer = dataclasses.replace(
            trial.optimizer, batch_sequences=n_micro_batches * n_sequences
        )
        rung = dataclasses.replace(trial.rung, n_layers=n_layers)
        small = dataclasses.replace(trial, rung=rung, optimizer=optimizer)
        return _traced_passes(small, dataclasses.replace(alone, micro_batch_sequences=n_sequences))

    def of_layers(n_layers: int) -> Passes:
        return _proportional(
            lambda n: passes(n_layers, n),
            _own(trial, resources),
            MOST_SEQUENCES // 2,
            MOST_SEQUENCES,
        )

    found = _proportional(of_layers, trial.rung.n_layers, MOST_LAYERS - 1, MOST_LAYERS)
    memory = StepMemory(math.ceil(max(found)) + update.moments, update.peak, update.state)
    if not resources.sharded:
        return memory
    state = math.ceil(memory.state / resources.n_ranks)
    return StepMemory(
        in_passes=memory.in_passes - memory.state + state + update.gathered,
        in_update=math.ceil(memory.in_update / resources.n_ranks),
        state=state,
    )


def _sequences_of_rank(trial: Trial, resources: Resources) -> int:
    return math.ceil(trial.optimizer.batch_sequences / resources.n_ranks)


def _own(trial: Trial, resources: Resources) -> int:
    """Sequences of one micro-batch of one rank."""
    of_all_ranks = resources.micro_batch_sequences or trial.optimizer.batch_sequences
    own = math.ceil(of_all_ranks / resources.n_ranks)
    return min(own, _sequences_of_rank(trial, resources))


def _proportional(f: Callable[[int], Passes], n: int, low: int, high: int) -> Passes:
    """f(n), beyond `high` on the line through f(low) and f(high)."""
    if n <= high:
        return f(n)
    ends = zip(f(low), f(high), strict=True)
    return tuple(b + (b - a) / (high - low) * (n - high) for a, b in ends)


@functools.lru_cache(maxsize=128)
def _traced_passes(trial: Trial, resources: Resources) -> Passes:
    with PretendedStorages() as live:
        trainer = _trainer(trial, resources)
        live.follow(trainer.backbone)
        peaks = [0.0] * 4
        window = 0

        def enter(next_window: int) -> None:
            nonlocal window
            peaks[window] = max(peaks[window], live.restart())
            window = next_window

        blocks = trainer.backbone.blocks
        trainer.backbone.register_forward_pre_hook(lambda *_: enter(0))
        trainer.backbone.register_forward_hook(lambda *_: enter(1))
        _after_backward(blocks[-1], lambda: enter(2))
        _after_backward(blocks[0], lambda: enter(3))
        trainer.accumulate_gradients(1)
        enter(0)
    return tuple(peaks)


def _after_backward(module: nn.Module, do: Callable[[], object]) -> None:
    """Do something whenever all parameters of a module have their gradients."""
    parameters = [*module.parameters()]
    n_seen = 0

    def count(_: Tensor) -> None:
        nonlocal n_seen
        n_seen += 1
        if n_seen % len(parameters) == 0:
            do()

    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(count)  # type: ignore[no-untyped-call]


@dataclasses.dataclass(frozen=True)
class _Update:
    """Bytes of the state of a trainer, and of what its update takes."""

    state: int
    moments: int
    peak: int
    gathered: int
    """What a sharded rank holds whole during a pass."""


@functools.lru_cache(maxsize=128)
def _traced_update(trial: Trial) -> _Update:
    with PretendedStorages() as live:
        trainer = _trainer(trial, Resources(gpus=0))
        for parameter in trainer.backbone.parameters():
            parameter.grad = torch.empty_like(parameter)
        before = live.n_bytes
        for _ in range(2):  # in the first there are no moments yet
            live.restart()
            trainer.optimizer.step()
            if trainer.ema:
                trainer.ema.update()
        blocks = [_bytes_of(block) for block in trainer.backbone.blocks]
        # FSDP2 gathers the weights of a block while the one before computes, each in a buffer and
        # then in place, and a block's gradients pass through a buffer, too. The rest (tables, final
        # norm) is one more block, whole as long as a pass takes.
        gathered = 6 * blocks[0] + 4 * (_bytes_of(trainer.backbone) - sum(blocks))
        return _Update(live.n_bytes, live.n_bytes - before, live.restart(), gathered)


def _trainer(trial: Trial, resources: Resources) -> Trainer:
    n_tokens = 4 * trial.optimizer.batch_sequences * trial.data.seq_len
    corpus = random_corpus(trial.data.vocab_size, n_tokens)
    return Trainer(trial, family_of(trial), corpus, torch.device("cpu"), resources)


def _positions(index: Tensor | None) -> Sequence[Tensor | None]:
    """An index of numbers for one of truth values; one without numbers may be true everywhere."""
    if index is None or index.dtype != torch.bool:
        return [index]
    if isinstance(index, FakeTensor):
        return [torch.zeros(index.numel(), dtype=torch.int64)] * index.dim()
    return index.nonzero(as_tuple=True)


def _bytes_of(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())
