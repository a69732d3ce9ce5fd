"""Training steps: deterministic in (trial, step), resumable bit for bit."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sweeper.data.corpus import Corpus, train_batch
from sweeper.evaluation.bound import Scoring
from sweeper.families._prefixes import clean_prefixes, conditional_loss, with_prefixes
from sweeper.families.base import AbstractFamily, NoisyBatch
from sweeper.networks.backbone import backbone_of
from sweeper.store.rows import LogEntry
from sweeper.training.ahead import Ahead
from sweeper.training.distributed import SINGLE_PROCESS, Ranks, full_tensor
from sweeper.training.ema import WeightEMA
from sweeper.training.optimizer import build_optimizer, rate_factor, set_rates
from sweeper.training.parallel import DDP, FSDP, SingleProcess
from sweeper.trials.resources import BY_DEFAULT, Resources
from sweeper.trials.seeds import generator
from sweeper.trials.trial import Trial


class Diverged(Exception):
    """Loss, gradient or bound is not finite; a result, not a failure."""


class Trainer:
    """Weights and optimiser of one trial, advanced step by step, by all its ranks together."""

    def __init__(
        self,
        trial: Trial,
        family: AbstractFamily,
        corpus: Corpus,
        device: torch.device,
        resources: Resources = BY_DEFAULT,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self.trial, self.family, self.corpus, self.device = trial, family, corpus, device
        self.ranks = ranks
        self.backbone = backbone_of(trial, family.needs)
        self.backbone.recomputes = resources.recomputed
        parallel: type[SingleProcess | DDP | FSDP] = SingleProcess
        if ranks.cpu_group is not None:
            parallel = FSDP if resources.sharded else DDP
        self.network = parallel(self.backbone, trial, device, ranks)
        self.denoise = self.network.denoise
        self.optimizer = build_optimizer(self.backbone, trial.optimizer)
        decay = trial.optimizer.ema_decay
        self.ema = WeightEMA(self.backbone.parameters(), decay) if decay else None
        self.step = 0
        # On a CPU the thread would take its core from the step, which needs all of it.
        self._batch_of: Callable[[int], NoisyBatch] = self.global_batch
        if device.type != "cpu":
            self._batch_of = Ahead(self.global_batch)
        of_all_ranks = resources.micro_batch_sequences or trial.optimizer.batch_sequences
        self._micro_batch_sequences = math.ceil(of_all_ranks / ranks.n_ranks)
        self._loss_sum = torch.zeros((), device=device)
        self._steps_summed = 0
        self._grad_norm = torch.zeros((), device=device)

    def advance(self) -> None:
        """One optimiser step."""
        self.step += 1
        set_rates(self.optimizer, rate_factor(self.step, self.trial.optimizer))
        self._loss_sum += self.accumulate_gradients(self.step)
        self._steps_summed += 1
        parameters, largest = [*self.backbone.parameters()], self.trial.optimizer.clip_norm
        if largest is None:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        else:  # scale the gradient down to the largest norm allowed; its norm before
            norm = torch.nn.utils.clip_grad_norm_(parameters, largest)
        self._grad_norm = full_tensor(norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update()

    def evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        """Within it `denoise` uses the averaged weights, if the trial averages them."""
        return self.ema.in_place() if self.ema else contextlib.nullcontext()

    def evaluated_weights(self) -> dict[str, Tensor]:
        """Whole weights as they are evaluated, on the first rank; all ranks take part.

        To be used within `evaluation_weights`.
        """
        return self.ranks.gather_shards(self.backbone.state_dict())

    def global_batch(self, step: int) -> NoisyBatch:
        """Data and noise of a step, on the CPU: functions of seed and step alone."""
        # Drawn before the batch is cut into micro-batches and rows of ranks: neither change them.
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
        clean_BL = clean_prefixes(n_sequences, seq_len, self.trial.prefix_share, rng)
        return with_prefixes(batch, clean_BL)

    def accumulate_gradients(self, step: int) -> Tensor:
        """Add the gradient of the global batch of a step; returns its mean loss, detached."""
        batch, total = self._batch_of(step), torch.zeros((), device=self.device)
        n_sequences, n_ranks = self.trial.optimizer.batch_sequences, self.ranks.n_ranks
        # Every n-th row is this rank's, because families may sort rows by their cost.
        own = range(self.ranks.rank, n_sequences, n_ranks)
        # All ranks have as many micro-batches as the first, because each is a collective operation;
        # the last may have no rows.
        starts = range(0, math.ceil(n_sequences / n_ranks), self._micro_batch_sequences)
        micro_batches = [own[start : start + self._micro_batch_sequences] for start in starts]
        for i, share in enumerate(micro_batches):
            rows = batch.rows(share.start, share.stop, share.step).to(self.device)
            with self.network.micro_batch(is_last=i == len(micro_batches) - 1):
                # What the rows, if any, contribute to the mean loss of the global batch.
                loss = torch.zeros((), device=self.device)
                if len(rows.x0_BL):
                    loss_BL = conditional_loss(self.family, self.denoise, rows)
                    loss = loss_BL.sum() / self.trial.tokens_per_step
                loss = self.network.complete(loss)
                torch.autograd.backward(loss * self.network.gradient_scale)
            total += loss.detach()
        self.ranks.all_reduce_sum(total)
        return total

    def scoring(self, after_batch: Callable[[], object]) -> Scoring:
        """How the ranks score a validation set together."""

        def all_gather(parts: list[Any]) -> list[Any]:
            self.network.complete(torch.zeros((), device=self.device))
            return self.ranks.all_gather(parts)

        n_inputs = self.trial.data.seq_len * (2 if self.family.needs.doubled_share else 1)
        at_once = self.backbone.sequences_at_once(n_inputs)
        return Scoring(after_batch, self.ranks.has_turn, all_gather, at_once)

    def log_entry(self) -> LogEntry:
        """Summarise the steps since the previous entry; raises Diverged if they are not finite."""
        settings = self.trial.optimizer
        entry = LogEntry(
            step=self.step,
            loss_nats_per_token=self._loss_sum.item() / self._steps_summed,
            learning_rate=settings.learning_rate * rate_factor(self.step, settings),
            grad_norm=self._grad_norm.item(),
        )
        self._loss_sum.zero_()
        self._steps_summed = 0
        if not (math.isfinite(entry.loss_nats_per_token) and math.isfinite(entry.grad_norm)):
            raise Diverged(f"loss {entry.loss_nats_per_token} at step {self.step}")
        return entry

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, on the first rank; all ranks take part."""
        # Whole tensors and plain values, so that a run may be resumed by any number of ranks.
        return self.ranks.gather_shards(
            {
                "step": self.step,
                "backbone": self.backbone.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.ema.state_dict() if self.ema else None,
                "loss_sum": self._loss_sum,
                "steps_summed": self._steps_summed,
                "grad_norm": self._grad_norm,
            }
        )

    def check(self, state: dict[str, Any]) -> None:
        """Raise ValueError, or what a missing key raises, for a state that is not of such a run."""
        shapes = {name: tensor.shape for name, tensor in self.backbone.state_dict().items()}
        if {name: tensor.shape for name, tensor in state["backbone"].items()} != shapes:
            raise ValueError("its weights have other names or shapes")
        if set(state["optimizer"]["state"]) not in (set(), {*range(len(shapes))}):
            raise ValueError("its optimiser is of other weights")
        if len(state["optimizer"]["param_groups"]) != len(self.optimizer.param_groups):
            raise ValueError("its optimiser groups weights otherwise")
        if self.ema and len(state["average"]["averages"]) != len(shapes):
            raise ValueError("its averages are of other weights")
        for name in ("step", "loss_sum", "steps_summed", "grad_norm"):
            state[name]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the first rank's `state_dict`, bit for bit. All ranks take part."""
        state, scatter = self.ranks.broadcast_meta(state), self.ranks.scatter
        weights = self.backbone.state_dict()
        self.backbone.load_state_dict(
            {name: scatter(tensor, weights[name]) for name, tensor in state["backbone"].items()}
        )
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        scalar = torch.zeros((), device=self.device)

        def scatter_moment(value: Any, parameter: Tensor) -> Any:
            if not isinstance(value, Tensor):
                return value
            return scatter(value, parameter if value.dim() else scalar)

        moments = {
            i: {name: scatter_moment(value, parameters[i]) for name, value in values.items()}
            for i, values in state["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**state["optimizer"], "state": moments})
        if self.ema:
            averages = zip(state["average"]["averages"], self.ema.averages, strict=True)
            local = [scatter(tensor, like) for tensor, like in averages]
            self.ema.load_state_dict({**state["average"], "averages": local})
        self.step = state["step"]
        self._loss_sum = scatter(state["loss_sum"], self._loss_sum).to(self.device)
        self._steps_summed = state["steps_summed"]
        self._grad_norm = scatter(state["grad_norm"], self._grad_norm).to(self.device)
