"""An exponential moving average (EMA) of a network's weights, for evaluation."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.training.distributed import local_tensor


class WeightEMA:
    """a = d · a + (1 − d) · w after each step, starting at the weights before training."""

    def __init__(self, weights: Iterable[nn.Parameter], decay: float) -> None:
        self.decay, self.n_updates = decay, 0
        self.weights: list[Tensor] = [*weights]
        self.averages = [weight.detach().clone() for weight in self.weights]
        """Sharded where the weights are; each rank updates its own shards."""

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are now."""
        self.n_updates += 1
        # The ramp of TensorFlow's `ExponentialMovingAverage` forgets the initial weights: a run
        # much shorter than 1 / (1 − decay) steps is averaged over its last tenth or so.
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        torch._foreach_lerp_(_local(self.averages), _local(self.weights), 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the network computes with the averages in the place of its weights."""
        trained = [weight.clone() for weight in _local(self.weights)]
        self._set_weights(_local(self.averages))
        try:
            yield
        finally:
            self._set_weights(trained)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"n_updates": self.n_updates, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`, bit for bit."""
        self.n_updates = state["n_updates"]
        torch._foreach_copy_(_local(self.averages), _local(state["averages"]))

    @torch.no_grad()
    def _set_weights(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(_local(self.weights), values)


def _local(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [local_tensor(tensor.detach()) for tensor in tensors]
