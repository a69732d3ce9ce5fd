"""LaProp (arXiv 2002.04839) as the GIDD study trains with it (arXiv 2512.10858 §2.2).

AdamW normalises the average of gradients; LaProp averages normalised gradients, so that no update
exceeds its rate by much.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LaProp(torch.optim.Optimizer):
    """LaProp with decoupled weight decay."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; closures are not supported."""
        if closure is not None:
            raise ValueError("LaProp takes no closure: compute the gradients, then step")
        for group in self.param_groups:
            by_count: dict[int, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_count.setdefault(self._count(parameter), []).append(parameter)
            for count, parameters in by_count.items():
                self._update(parameters, count, group)

    def _count(self, parameter: Tensor) -> int:
        """Which gradient of this parameter this is, counted from 1."""
        state = self.state[parameter]
        if not state:
            state["count"] = 0
            state["mean_square"] = torch.zeros_like(parameter)
            state["momentum"] = torch.zeros_like(parameter)
        state["count"] += 1
        count: int = state["count"]
        return count

    def _update(self, parameters: list[Tensor], count: int, group: dict[str, Any]) -> None:
        beta1, beta2 = (running_mean_weight(beta, count) for beta in group["betas"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        squares = [self.state[parameter]["mean_square"] for parameter in parameters]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        # nu = b_k(beta2) · nu + (1 − b_k(beta2)) · g², at the k-th gradient g
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        # mu = b_k(beta1) · mu + (1 − b_k(beta1)) · g / (sqrt(nu) + eps)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_add_(scales, group["eps"])
        torch._foreach_mul_(momenta, beta1)
        torch._foreach_addcdiv_(momenta, gradients, scales, value=1 - beta1)
        # p = p − lr · (mu + weight_decay · p)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, momenta, alpha=-group["lr"])


def running_mean_weight(beta: float, count: int) -> float:
    """b_k(beta): what the old mean keeps at its k-th value, so that it needs no debiasing."""
    return 1 - (1 - beta) / (1 - beta**count)
