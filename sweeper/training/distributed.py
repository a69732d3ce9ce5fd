"""The ranks that train one trial together, and the collective operations they use.

Whoever starts them sets `torch.distributed` up: gloo on CPUs, NCCL on GPUs, with one GPU made
current in each. The first rank writes whatever is written.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """All ranks of a trial, as one of them sees them; each operation is free for a single one."""

    rank: int = 0
    n_ranks: int = 1
    cpu_group: dist.ProcessGroup | None = None
    """The group for what lies on the CPU, which does not wait for a GPU; None: a single process."""

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that writes."""
        return self.rank == 0

    def has_turn(self, i: int) -> bool:
        """Whether the i-th of some pieces of work is this rank's."""
        return i % self.n_ranks == self.rank

    def all_reduce_max(self, value: int) -> int:
        """The largest value of all ranks."""
        if self.cpu_group is None:
            return value
        found = torch.tensor(value)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.cpu_group)
        return int(found)

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """Replace a tensor, on the device that trains, by its sum over the ranks."""
        if self.cpu_group is not None:
            dist.all_reduce(tensor)

    def all_gather(self, parts: list[T]) -> list[T]:
        """The parts of all ranks, in the order of ranks."""
        if self.cpu_group is None:
            return parts
        of_ranks: list[list[T]] = [[] for _ in range(self.n_ranks)]
        dist.all_gather_object(of_ranks, parts, group=self.cpu_group)
        return [part for of_rank in of_ranks for part in of_rank]

    def broadcast(self, value: T) -> T:
        """The first rank's value; the others' are ignored."""
        if self.cpu_group is None:
            return value
        message = [value]
        dist.broadcast_object_list(message, src=0, group=self.cpu_group)
        return message[0]

    def broadcast_meta(self, state: T) -> T:
        """The first rank's state; on the other ranks its tensors are on the device `meta`."""
        if self.cpu_group is None:
            return state

        def on_meta(tensor: Tensor) -> Tensor:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

        meta = self.broadcast(tree_map_only(Tensor, on_meta, state))
        return state if self.is_first else meta

    def scatter(self, full: Tensor, like: Tensor) -> Tensor:
        """A tensor of the first rank, whole or as a shard like `like`; on others it is `meta`."""
        if self.cpu_group is None:
            return full
        device = like.device
        full = full.to(device) if self.is_first else torch.empty_like(full, device=device)
        if isinstance(like, DTensor):
            return distribute_tensor(full, like.device_mesh, like.placements)
        dist.broadcast(full, src=0)
        return full

    def gather_shards(self, state: T) -> T:
        """A state with whole tensors, on the CPU, in the place of shards; all ranks take part."""

        def gather(shard: DTensor) -> Tensor:
            # Only the first rank gets the numbers: elsewhere shards stay.
            full = shard.full_tensor()
            return full.cpu() if self.is_first else shard

        gathered: T = tree_map_only(DTensor, gather, state)
        return gathered


SINGLE_PROCESS = Ranks()


def current() -> Ranks:
    """The ranks that `torch.distributed` was set up with, else this process by itself."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return SINGLE_PROCESS
    has_gloo = "gloo" in dist.get_backend_config()
    cpu_group = dist.group.WORLD if has_gloo else dist.new_group(backend="gloo")
    return Ranks(dist.get_rank(), dist.get_world_size(), cpu_group)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor without shards; all ranks take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """This rank's shard, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
