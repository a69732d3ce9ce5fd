"""How ranks train one network: alone, each with all of it (DDP), or each with a shard (FSDP2).

A rank computes the loss of its rows as part of the mean over the whole batch, so the gradients of
the ranks add up to the gradient. Where ranks talk to each other within a pass all of them have to
make it: one that has no rows sends a token through the network that counts nothing.
"""

import abc
import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from sweeper.families.base import Denoiser
from sweeper.networks.backbone import Backbone, BackboneDenoiser
from sweeper.training.distributed import Ranks
from sweeper.trials.seeds import generator
from sweeper.trials.trial import Trial


class SharedNetwork(abc.ABC):
    """A network whose weights are drawn and lie on the device that trains."""

    denoise: Denoiser
    """What families call."""
    gradient_scale: float = 1.0
    """Factor on every loss, where gradients are averaged over ranks and we want their sum."""

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[None]:  # noqa: ARG002
        """Within it a micro-batch passes forward and backward; after the last of a step gradients
        are those of all ranks."""
        return contextlib.nullcontext()

    def complete(self, loss: Tensor) -> Tensor:
        """The same loss, once this rank has made the calls that others need it to make."""
        return loss


class Alone(SharedNetwork):
    """One process."""

    def __init__(
        self,
        backbone: Backbone,
        trial: Trial,
        device: torch.device,
        ranks: Ranks,  # noqa: ARG002 (of one)
    ) -> None:
        backbone.initialize(generator(trial.seed, "weights"))
        self.denoise = BackboneDenoiser(backbone.to(device), trial.precision)


class Replicated(SharedNetwork):
    """Every rank holds all weights; gradients are exchanged while the last micro-batch computes."""

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
        # DDP cuts its buckets anew after the first gradient it sees, and where a bucket is cut
        # decides in which order more than two ranks add. A resumed run must not see a first one.
        torch.autograd.backward(_nothing(self.denoise, device))
        self._replica.zero_grad()

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Communicate in the last one only."""
        return contextlib.nullcontext() if is_last else self._replica.no_sync()

    def complete(self, loss: Tensor) -> Tensor:
        """Take part in the exchange of gradients without rows, too."""
        return loss if loss.requires_grad else loss + _nothing(self.denoise, self._device)


class Sharded(SharedNetwork):
    """Every rank holds its part of each weight, gradient and moment, and borrows a block's weights
    while it computes that block.

    Computed in the arithmetic of one process (float32 weights under autocast), so that the numbers
    are those of one process. Gradients are exchanged after every micro-batch, because keeping whole
    ones until the last would take the memory that sharding saves.
    """

    def __init__(
        self, backbone: Backbone, trial: Trial, device: torch.device, ranks: Ranks
    ) -> None:
        mesh = init_device_mesh(device.type, (ranks.n_ranks,))

        def shard(module: nn.Module) -> None:
            # What stayed gathered after a forward pass would hide weights that are averaged or
            # restored before the next.
            fully_shard(module, mesh=mesh, reshard_after_forward=True)

        backbone.initialize(generator(trial.seed, "weights"), after_block=shard)
        shard(backbone)
        self._ranks, self._device = ranks, device
        self._denoise = BackboneDenoiser(backbone, trial.precision)
        self.denoise = self._call_together
        self.gradient_scale = float(ranks.n_ranks)

    def _call_together(
        self,
        z_BL: Tensor,
        t_B: Tensor,
        /,
        *,
        positions_BL: Tensor | None = None,
        visible_BLL: Tensor | None = None,
    ) -> Tensor:
        # How often a family calls may depend on its rows, and weights are gathered in each call.
        self._ranks.largest(1)
        return self._denoise(z_BL, t_B, positions_BL=positions_BL, visible_BLL=visible_BLL)

    def complete(self, loss: Tensor) -> Tensor:
        """Join the calls that other ranks still make."""
        while self._ranks.largest(0):
            loss = loss + _nothing(self._denoise, self._device)
        return loss


def _nothing(denoise: Denoiser, device: torch.device) -> Tensor:
    """A zero, with a zero gradient for every weight; one token, as not every kernel takes none."""
    z_BL = torch.zeros(1, 1, dtype=torch.int64, device=device)
    return 0.0 * denoise(z_BL, torch.zeros(1, device=device)).sum()
