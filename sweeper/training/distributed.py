"""The processes that train one trial together, and what they tell each other.

They are numbered; the first one writes whatever is written. `torch.distributed` knows of them, and
whoever starts them sets it up: gloo on CPUs, NCCL on GPUs, with one GPU made current in each. What
the processes agree on before they act (a stop, a call) is a few bytes on the CPU and does not wait
for a GPU. For a process alone everything here is free.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """All processes of a trial, as one of them sees them."""

    rank: int = 0
    n_ranks: int = 1
    on_cpu: dist.ProcessGroup | None = None
    """The group that exchanges what lies on the CPU; None: alone."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def has_turn(self, i: int) -> bool:
        """Whether the i-th of some pieces of work is this rank's."""
        return i % self.n_ranks == self.rank

    def largest(self, value: int) -> int:
        """The largest value that any rank gives; all must ask."""
        if self.on_cpu is None:
            return value
        found = torch.tensor(value)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.on_cpu)
        return int(found)

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor, on the device that trains, by its sum over the ranks."""
        if self.on_cpu is not None:
            dist.all_reduce(tensor)

    def gathered(self, parts: list[T]) -> list[T]:
        """The parts of all ranks, in the order of ranks."""
        if self.on_cpu is None:
            return parts
        of_ranks: list[list[T]] = [[] for _ in range(self.n_ranks)]
        dist.all_gather_object(of_ranks, parts, group=self.on_cpu)
        return [part for of_rank in of_ranks for part in of_rank]

    def told(self, value: T) -> T:
        """What the first rank gives here; the others' is ignored."""
        if self.on_cpu is None:
            return value
        message = [value]
        dist.broadcast_object_list(message, src=0, group=self.on_cpu)
        return message[0]

    def outline(self, state: T) -> T:
        """The first rank's state where it is, and its shape without the numbers elsewhere."""
        if self.on_cpu is None:
            return state
        shapes = self.told(tree_map_only(Tensor, _without_numbers, state))
        return state if self.is_first else shapes

    def part(self, whole: Tensor, like: Tensor) -> Tensor:
        """What a rank holds of a tensor that the first one has: all of it, or a shard as `like`."""
        if self.on_cpu is None:
            return whole
        device = like.device
        whole = whole.to(device) if self.is_first else torch.empty_like(whole, device=device)
        if isinstance(like, DTensor):
            return distribute_tensor(whole, like.device_mesh, like.placements)
        dist.broadcast(whole, src=0)
        return whole

    def collected(self, state: T) -> T:
        """A state with whole tensors in the place of shards; on the CPU, where there were any.

        All ranks take part and only the first gets the numbers: elsewhere shards stay.
        """
        collected: T = tree_map_only(DTensor, self._collected, state)
        return collected

    def _collected(self, tensor: DTensor) -> Tensor:
        whole = tensor.full_tensor()
        return whole.cpu() if self.is_first else tensor


ALONE = Ranks()
"""One process."""


def current() -> Ranks:
    """The ranks that `torch.distributed` was set up with, else this process alone."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return ALONE
    has_cpu = "gloo" in dist.get_backend_config()
    on_cpu = dist.group.WORLD if has_cpu else dist.new_group(backend="gloo")
    return Ranks(dist.get_rank(), dist.get_world_size(), on_cpu)


def whole(tensor: Tensor) -> Tensor:
    """A tensor without shards; all ranks take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _without_numbers(tensor: Tensor) -> Any:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
