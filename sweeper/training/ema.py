"""An exponential moving average of a network's weights, for evaluation."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.training.distributed import own


class WeightAverage:
    """a = d · a + (1 − d) · w after each step, with d = min(decay, (1 + n) / (10 + n)) at the n-th.

    It starts at the weights before training. The ramp of d, that of TensorFlow's
    `ExponentialMovingAverage`, lets it forget them: a run much shorter than 1 / (1 − decay) steps
    is averaged over its last tenth or so instead of being mostly its initialisation.
    """

    def __init__(self, weights: Iterable[nn.Parameter], decay: float) -> None:
        self.decay, self.n_updates = decay, 0
        self.weights: list[Tensor] = [*weights]
        self.averages = [weight.detach().clone() for weight in self.weights]
        """Sharded where the weights are; what follows acts on each rank's own part."""

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are now."""
        self.n_updates += 1
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        torch._foreach_lerp_(_own(self.averages), _own(self.weights), 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the network computes with the averages in the place of its weights."""
        trained = [weight.clone() for weight in _own(self.weights)]
        self._put(_own(self.averages))
        try:
            yield
        finally:
            self._put(trained)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"n_updates": self.n_updates, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`, bit for bit."""
        self.n_updates = state["n_updates"]
        torch._foreach_copy_(_own(self.averages), _own(state["averages"]))

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(_own(self.weights), values)


def _own(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [own(tensor.detach()) for tensor in tensors]
