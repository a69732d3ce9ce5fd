"""How ranks train one network: one process, replicas (DDP) or shards (FSDP2).

A rank computes the loss of its rows as part of the mean over the whole batch, so the gradients of
the ranks add up to the gradient.
"""

import abc
import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from sweeper.families._scores import Query
from sweeper.families.base import Denoiser
from sweeper.networks.backbone import Backbone, BackboneDenoiser
from sweeper.training.distributed import Ranks
from sweeper.trials.seeds import generator
from sweeper.trials.trial import Trial


class ParallelNetwork(abc.ABC):
    """A network whose weights are drawn and lie on the device that trains."""

    denoise: Denoiser
    """What families call."""
    gradient_scale: float = 1.0
    """Factor on every loss: PyTorch averages gradients over ranks, and we want their sum."""

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[None]:  # noqa: ARG002
        """For both passes of a micro-batch; after a step's last the ranks' gradients are summed."""
        return contextlib.nullcontext()

    def complete(self, loss: Tensor) -> Tensor:
        """The same loss, once this rank has joined the collective operations of the others."""
        return loss


class SingleProcess(ParallelNetwork):
    """All of it in one process."""

    def __init__(
        self, backbone: Backbone, trial: Trial, device: torch.device, _ranks: Ranks
    ) -> None:
        backbone.initialize(generator(trial.seed, "weights"))
        if device.type != "cpu":  # where it is already, and what has no numbers cannot be moved
            backbone.to(device)
        self.denoise = BackboneDenoiser(backbone, trial.precision)


class DDP(ParallelNetwork):
    """Every rank holds all weights; gradients are reduced while the last micro-batch computes."""

    def __init__(
        self, backbone: Backbone, trial: Trial, device: torch.device, ranks: Ranks
    ) -> None:
        backbone.initialize(generator(trial.seed, "weights"))
        self._replica = DistributedDataParallel(
            backbone.to(device),
            device_ids=[torch.cuda.current_device()] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
        )
        self._device = device
        self.denoise = BackboneDenoiser(backbone, trial.precision, self._replica)
        self.gradient_scale = float(ranks.n_ranks)
        # DDP rebuilds its buckets after the first backward pass, and buckets decide in which order
        # more than two ranks add. With a pass here a resumed run has the buckets of the first run.
        torch.autograd.backward(_zero_loss(self.denoise, device))
        self._replica.zero_grad()

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Reduce gradients in the last one only."""
        return contextlib.nullcontext() if is_last else self._replica.no_sync()

    def complete(self, loss: Tensor) -> Tensor:
        """Take part in the reduction of gradients without rows, too."""
        return loss if loss.requires_grad else loss + _zero_loss(self.denoise, self._device)


class FSDP(ParallelNetwork):
    """Every rank holds a shard of each weight, gradient and moment, and gathers a block's weights
    while it computes that block.

    Weights are float32 under autocast, as in one process, and so are the numbers. Gradients are
    reduced after every micro-batch: keeping whole ones would take the memory that shards save.
    """

    def __init__(
        self, backbone: Backbone, trial: Trial, device: torch.device, ranks: Ranks
    ) -> None:
        mesh = init_device_mesh(device.type, (ranks.n_ranks,))

        def shard(module: nn.Module) -> None:
            # Weights that stayed gathered after a forward pass would hide those that the EMA or a
            # checkpoint puts in place before the next.
            fully_shard(module, mesh=mesh, reshard_after_forward=True)

        backbone.initialize(generator(trial.seed, "weights"), after_block=shard)
        shard(backbone)
        self._ranks, self._device = ranks, device
        self._denoise = BackboneDenoiser(backbone, trial.precision)
        self.denoise = _CalledTogether(self._denoise, ranks)
        self.gradient_scale = float(ranks.n_ranks)

    def complete(self, loss: Tensor) -> Tensor:
        """Join the calls that other ranks still make."""
        while self._ranks.all_reduce_max(0):
            loss = loss + _zero_loss(self._denoise, self._device)
        return loss


@dataclass(frozen=True)
class _CalledTogether:
    """A denoiser whose weights are gathered from all ranks in each call."""

    denoise: BackboneDenoiser
    ranks: Ranks

    def __call__(self, z_BL: Tensor, t_B: Tensor, /, **reading: Tensor | None) -> Tensor:
        # How often a family calls may depend on its rows: `FSDP.complete` joins these calls.
        self.ranks.all_reduce_max(1)
        return self.denoise(z_BL, t_B, **reading)

    def score(
        self, z_BN: Tensor, t_B: Tensor, query: Query, /, **reading: Tensor | None
    ) -> tuple[Tensor, ...]:
        self.ranks.all_reduce_max(1)
        return self.denoise.score(z_BN, t_B, query, **reading)


def _zero_loss(denoise: Denoiser, device: torch.device) -> Tensor:
    """A zero, with a zero gradient for every weight, for a rank without rows."""
    # One token, as not every kernel takes none.
    z_BL = torch.zeros(1, 1, dtype=torch.int64, device=device)
    return 0.0 * denoise(z_BL, torch.zeros(1, device=device)).sum()
