"""Training steps: deterministic in (trial, step), resumable bit for bit.

Data and noise of a step are pure functions of seed and step, drawn for the whole global batch
before it is cut into micro-batches, so neither micro-batches nor restarts change them.
"""

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sweeper.backbone import backbone_of
from sweeper.corpus import Corpus, train_batch
from sweeper.denoiser import BackboneDenoiser
from sweeper.families.base import AbstractFamily, NoisyBatch
from sweeper.optimizer import build_optimizer, set_rates
from sweeper.prefixes import clean_prefixes, conditional_loss, with_prefixes
from sweeper.schedules import rate_factor
from sweeper.seeds import generator
from sweeper.trial import Trial
from sweeper.weight_average import WeightAverage


class Diverged(Exception):
    """Training has left the finite numbers; a result, not a failure."""


@dataclass(frozen=True)
class LogEntry:
    """What is logged of a training step."""

    step: int
    loss_nats_per_token: float
    """Mean since the previous entry."""
    learning_rate: float
    grad_norm: float


class Trainer:
    """Weights and optimiser of one trial, advanced step by step."""

    def __init__(
        self,
        trial: Trial,
        family: AbstractFamily,
        corpus: Corpus,
        device: torch.device,
        micro_batch_sequences: int | None = None,
    ) -> None:
        self.trial, self.family, self.corpus, self.device = trial, family, corpus, device
        self.micro_batch_sequences = micro_batch_sequences or trial.optimizer.batch_sequences
        self.backbone = backbone_of(trial, family.needs)
        self.backbone.initialize(generator(trial.seed, "weights"))
        self.backbone.to(device)
        self.denoise = BackboneDenoiser(self.backbone, trial.precision)
        self.optimizer = build_optimizer(self.backbone, trial.optimizer)
        decay = trial.optimizer.ema_decay
        self.average = WeightAverage(self.backbone.parameters(), decay) if decay else None
        self.step = 0
        self._loss_sum = torch.zeros((), device=device)
        self._steps_summed = 0
        self._grad_norm = torch.zeros((), device=device)

    def advance(self) -> None:
        """One optimiser step."""
        self.step += 1
        set_rates(self.optimizer, rate_factor(self.step, self.trial.optimizer))
        self._loss_sum += self.accumulate_gradients(self.step)
        self._steps_summed += 1
        self._grad_norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update()

    def evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        """Within it `denoise` uses the averaged weights, if the trial averages them."""
        return self.average.in_place() if self.average else contextlib.nullcontext()

    def global_batch(self, step: int) -> NoisyBatch:
        """Data and noise of a step, on the CPU: the same whoever trains which rows of it."""
        ids = train_batch(
            self.corpus,
            seq_len=self.trial.data.seq_len,
            n_sequences=self.trial.optimizer.batch_sequences,
            seed=self.trial.seed,
            step=step,
        )
        noise = generator(self.trial.seed, "corruption", step)
        batch = self.family.noisy_batch(torch.from_numpy(ids), noise)
        if not self.trial.prefix_share:
            return batch
        rng = generator(self.trial.seed, "prefixes", step)
        n_sequences, seq_len = ids.shape
        return with_prefixes(
            batch, clean_prefixes(n_sequences, seq_len, self.trial.prefix_share, rng)
        )

    def accumulate_gradients(self, step: int, share: range | None = None) -> Tensor:
        """Add the gradient of the global batch of a step; returns its mean loss, detached.

        `share` is the rows that one of several ranks trains, default all. Gradients and losses of
        shares that cover the batch add up to those of the whole.
        """
        if share is None:
            share = range(self.trial.optimizer.batch_sequences)
        batch = self.global_batch(step)
        total = torch.zeros((), device=self.device)
        for start in range(share.start, share.stop, self.micro_batch_sequences):
            stop = min(start + self.micro_batch_sequences, share.stop)
            rows = batch.rows(start, stop).to(self.device)
            loss = self._loss(rows).sum() / self.trial.tokens_per_step
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def _loss(self, batch: NoisyBatch) -> Tensor:
        if batch.clean_BL is None:
            return self.family.loss(self.denoise, batch)
        return conditional_loss(self.family, self.denoise, batch)

    def _clip(self) -> Tensor:
        """Scale the gradient down to the largest norm allowed; returns its norm before."""
        parameters, largest = [*self.backbone.parameters()], self.trial.optimizer.clip_norm
        if largest is not None:
            return torch.nn.utils.clip_grad_norm_(parameters, largest)
        gradients = [p.grad for p in parameters if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def log_entry(self) -> LogEntry:
        """Summarise the steps since the previous entry; raises Diverged if they are not finite."""
        entry = LogEntry(
            step=self.step,
            loss_nats_per_token=self._loss_sum.item() / self._steps_summed,
            learning_rate=self.trial.optimizer.learning_rate
            * rate_factor(self.step, self.trial.optimizer),
            grad_norm=self._grad_norm.item(),
        )
        self._loss_sum.zero_()
        self._steps_summed = 0
        if not (math.isfinite(entry.loss_nats_per_token) and math.isfinite(entry.grad_norm)):
            raise Diverged(f"loss {entry.loss_nats_per_token} at step {self.step}")
        return entry

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, as tensors and plain values."""
        return {
            "step": self.step,
            "backbone": self.backbone.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "loss_sum": self._loss_sum,
            "steps_summed": self._steps_summed,
            "grad_norm": self._grad_norm,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`, bit for bit."""
        self.step = state["step"]
        self.backbone.load_state_dict(state["backbone"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self._loss_sum = state["loss_sum"].to(self.device)
        self._steps_summed = state["steps_summed"]
        self._grad_norm = state["grad_norm"].to(self.device)
