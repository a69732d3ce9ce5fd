"""Muon for matrices and AdamW for everything else, as one optimiser with one state.

Muon (https://kellerjordan.github.io/posts/muon/) moves a matrix by its averaged gradient with all
singular values brought near 1. Both halves are torch's own.
"""

from collections.abc import Callable
from typing import Any

import torch


class MuonAndAdamW(torch.optim.Optimizer):
    """The first group of parameters is of matrices and trained by Muon, the others by AdamW."""

    def __init__(
        self,
        matrices: dict[str, Any],
        others: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        # With the momentum 0.95 and the five iterations of its author, which are torch's defaults.
        # The entries of every update have a root mean square of 0.2 times the rate, which is
        # about that of AdamW (arXiv 2502.16982 §2.2).
        self._muon = torch.optim.Muon([matrices], lr=lr, eps=eps, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, fused=True)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; closures are not supported."""
        if closure is not None:
            raise ValueError("Muon takes no closure: compute the gradients, then step")
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, bit for bit."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Let both halves read and write the groups and the state of the whole."""
        self._muon.param_groups = self.param_groups[:1]
        self._adamw.param_groups = self.param_groups[1:]
        self._muon.state = self._adamw.state = self.state
