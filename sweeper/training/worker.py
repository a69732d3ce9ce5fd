"""One attempt at one trial: load, resume, train, evaluate, publish.

Data and noise are functions of the step, so a trial that is resumed from a checkpoint ends in the
same bits as one that was never stopped.
"""

import contextlib
import dataclasses
import enum
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from sweeper.data.corpus import Corpus, planned_corpus
from sweeper.evaluation.bound import (
    BoundEstimate,
    evaluate_bound,
    evaluate_given_prefixes,
    validation_set,
)
from sweeper.families import family_of
from sweeper.store.assignment import Assignment, Outcome, StopRequested
from sweeper.store.attempts import Progress, attempts, progress_reporter, utc_now
from sweeper.store.layout import Store
from sweeper.store.results import Result, publish
from sweeper.store.rows import (
    Continued,
    Ending,
    LogEntry,
    Measurement,
    loss_row,
    observation_row,
    trial_row,
)
from sweeper.training import distributed
from sweeper.training.checkpoints import UNREADABLE, Checkpoints, CheckpointTimer
from sweeper.training.distributed import Ranks
from sweeper.training.keeping import keep_model
from sweeper.training.trainer import Diverged, Trainer

logger = logging.getLogger(__name__)

LOG_EVERY_STEPS = 25
"""Steps whose mean loss makes one row."""


@dataclass
class Measured:
    """What a trajectory has yielded so far; part of its checkpoint."""

    measurements: list[Measurement] = field(default_factory=list)
    log: list[LogEntry] = field(default_factory=list)
    train_time_s: float = 0.0
    eval_time_s: float = 0.0
    continued: Continued | None = None


class BeforeStep(enum.IntEnum):
    """What all ranks do before a step: the largest that one of them asks for."""

    NOTHING = 0
    SAVE = 1
    STOP = 2


class Stopped(Exception):
    """The driver asked to stop; a checkpoint is written."""


def run_trial(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Train, evaluate and publish a trial, from its last checkpoint if there is one.

    Where `torch.distributed` is set up all its ranks call this, each on its current device. Raises
    DataError when the corpus is not the one that was planned.
    """
    torch.set_num_threads(assignment.attempt.n_threads)
    # Gradients that underflow are slow to multiply: up to 3 ms of a 10 ms step under the profiler.
    torch.set_flush_denormal(True)
    corpus = planned_corpus(assignment.planned, assignment.store_folder.parent)
    worker = _Worker(assignment, corpus, stop, distributed.current())
    try:
        worker.train()
    except Stopped:
        return "interrupted"
    except Diverged as divergence:
        worker.publish("diverged", str(divergence))
        return "diverged"
    worker.keep()
    worker.publish("done")
    return "published"


class _Worker:
    """One attempt, from its checkpoint to its record; only the first rank reads and writes."""

    def __init__(
        self, assignment: Assignment, corpus: Corpus, stop: StopRequested, ranks: Ranks
    ) -> None:
        self.assignment, self.trial, self.corpus = assignment, assignment.trial, corpus
        self.stop, self.ranks = stop, ranks
        self.report: Callable[[Progress], None] = progress_reporter(assignment)
        self.checkpoints = Checkpoints(Store(assignment.store_folder), self.trial)
        self.timer = CheckpointTimer(assignment.planned.resources.checkpoint_every_s)
        self.measured = Measured()
        device = torch.device(assignment.attempt.device)
        self.trainer = Trainer(
            self.trial, family_of(self.trial), corpus, device, assignment.planned.resources, ranks
        )
        n_sequences = self.trial.evaluation.n_sequences
        validation = validation_set(
            corpus, seq_len=self.trial.data.seq_len, n_sequences=n_sequences
        )
        self.validation = validation.to(device)

    def train(self) -> None:
        """Train to the last observation; raises Stopped or Diverged."""
        self.resume()
        self.report_progress()
        while self.trainer.step < self.trial.n_steps:
            mine = BeforeStep.NOTHING
            if self.stop():
                mine = BeforeStep.STOP
            elif self.ranks.is_first and self.timer.is_due():
                mine = BeforeStep.SAVE
            match self.ranks.all_reduce_max(mine):
                case BeforeStep.STOP:
                    self.save()
                    raise Stopped
                case BeforeStep.SAVE:
                    self.timer.time(self.save)
            self.advance()

    def advance(self) -> None:
        """One training step, with what is logged and observed after it."""
        observe = self.trainer.step + 1 in self.trial.observe_at_steps
        with self._timed("train_time_s"):
            self.trainer.advance()
            if observe or self.trainer.step % LOG_EVERY_STEPS == 0:
                self.measured.log.append(self.trainer.log_entry())
        if observe:
            with self._timed("eval_time_s"):
                self.observe()
            if self.assignment.keeps_models:
                keep_model(self.assignment, self.trainer, self.measured.measurements[-1])
        self.report_progress()

    def observe(self) -> None:
        """Evaluate the bound; raises Diverged if it is not finite."""
        estimate = self.evaluate(evaluate_bound)
        given = self.evaluate(evaluate_given_prefixes) if self.trial.prefix_share else None
        bits_per_byte = None
        if self.corpus.tokens.bytes_per_token is not None:
            bits_per_nat_and_byte = 1 / (math.log(2) * self.corpus.tokens.bytes_per_token)
            bits_per_byte = estimate.nats_per_token * bits_per_nat_and_byte
        self.measured.measurements.append(
            Measurement(
                step=self.trainer.step,
                bound_nats_per_token=estimate.nats_per_token,
                bound_stderr_nats_per_token=estimate.stderr,
                bound_bits_per_byte=bits_per_byte,
                bound_given_prefix_nats_per_token=given.nats_per_token if given else None,
                bound_given_prefix_stderr_nats_per_token=given.stderr if given else None,
                eval_tokens=estimate.n_tokens,
                train_loss_nats_per_token=self.measured.log[-1].loss_nats_per_token,
            )
        )

    def evaluate(self, bound_of: Callable[..., BoundEstimate]) -> BoundEstimate:
        """One of the bounds of `sweeper.evaluation` on the evaluation weights."""
        trainer = self.trainer
        with trainer.evaluation_weights():
            estimate = bound_of(
                trainer.family,
                trainer.denoise,
                self.validation,
                self.trial.evaluation.seed,
                trainer.scoring(self.report_progress),
            )
        if not math.isfinite(estimate.nats_per_token + estimate.stderr):
            raise Diverged(f"bound {estimate.nats_per_token} at step {trainer.step}")
        return estimate

    def publish(self, status: Literal["done", "diverged"], message: str | None = None) -> None:
        """Write the trial's record; a superseded attempt publishes nothing."""
        if not self.ranks.is_first:
            return
        assignment, store = self.assignment, Store(self.assignment.store_folder)
        first_attempt = attempts(store, self.trial.trial_id)[0]
        ending = Ending(
            status=status,
            steps=self.trainer.step,
            train_time_s=self.measured.train_time_s,
            eval_time_s=self.measured.eval_time_s,
            started_at=first_attempt.started_at,
            finished_at=utc_now(),
            torch_version=torch.__version__,
            error_class="Diverged" if status == "diverged" else None,
            error_message=message,
        )
        result = Result(
            trial=trial_row(assignment, ending),
            observations=tuple(
                observation_row(assignment, measurement, status)
                for measurement in self.measured.measurements
            ),
            losses=tuple(loss_row(assignment, entry) for entry in self.measured.log),
            continued=self.measured.continued,
        )
        if not publish(assignment, result):
            logger.warning("trial %s was published by another attempt", self.trial.trial_id)

    def keep(self) -> None:
        """Write the checkpoint from which a longer trial may go on."""
        if self.assignment.planned.keeps_checkpoint:
            self.save()
            if self.ranks.is_first:
                self.checkpoints.keep_newest()

    def save(self) -> None:
        """Write a checkpoint."""
        trainer = self.trainer.state_dict()
        if self.ranks.is_first:
            contents = {"trainer": trainer, "measured": dataclasses.asdict(self.measured)}
            self.checkpoints.save(self.trainer.step, contents)

    def resume(self) -> None:
        """Continue from the newest checkpoint that can be used, or start from the beginning."""
        found = self.usable_checkpoint() if self.ranks.is_first else None
        measured = self.ranks.broadcast(found[1] if found else None)
        if measured is not None:
            self.trainer.load_state_dict(found[0] if found else {})
            self.measured = measured

    def usable_checkpoint(self) -> tuple[dict[str, Any], Measured] | None:
        """State of the trainer, and what was measured until then of what this trial needs."""
        for step, contents in self.checkpoints.newest_first():
            try:
                state, fields = contents["trainer"], contents["measured"]
                self.trainer.check(state)
                rows = [Measurement(**row) for row in fields["measurements"]]
                log = [LogEntry(**row) for row in fields["log"]]
                times_s = fields["train_time_s"], fields["eval_time_s"]
                continued = self._continued(contents)
            except UNREADABLE as error:
                self.checkpoints.skip(step, str(error) or type(error).__name__)
                continue
            if reason := self._why_too_late(state["step"], rows):
                self.checkpoints.pass_over(step, reason)
                continue
            rows = [row for row in rows if row.step in self.trial.observe_at_steps]
            return state, Measured(rows, log, *times_s, continued)
        return None

    def _why_too_late(self, step: int, measured: list[Measurement]) -> str:
        """Why this trial cannot go on from a step; empty if it can."""
        if step > self.trial.n_steps:
            return f"it is past step {self.trial.n_steps}, the last"
        observed = {measurement.step for measurement in measured}
        for needed in self.trial.observe_at_steps:
            if needed <= step and needed not in observed:
                return f"it is past step {needed}, still to be observed"
        return ""

    def _continued(self, contents: dict[str, Any]) -> Continued | None:
        """What of a checkpoint was done for a trial that is published, and paid for."""
        fields, own_id = contents["measured"], self.trial.trial_id
        writer = contents.get("trial", own_id)  # checkpoints once did not say
        if writer == own_id or not Store(self.assignment.store_folder).record(writer).exists():
            earlier = fields.get("continued")
            return Continued(**earlier) if earlier else None
        return Continued(
            trial_id=writer,
            steps=contents["trainer"]["step"],
            train_time_s=fields["train_time_s"],
            eval_time_s=fields["eval_time_s"],
        )

    def report_progress(self) -> None:
        """Write progress; cheap enough to do after every step and batch."""
        if not self.ranks.is_first:
            return
        step, measured, before = self.trainer.step, self.measured, self.measured.continued
        own_steps = step - (before.steps if before else 0)
        n_tokens = own_steps * self.trial.tokens_per_step
        self.report(
            Progress(
                step=step,
                n_steps=self.trial.n_steps,
                flops_done=n_tokens * self.assignment.planned.flops_per_token.total,
                loss_nats_per_token=measured.log[-1].loss_nats_per_token if measured.log else None,
                train_time_s=measured.train_time_s - (before.train_time_s if before else 0.0),
                eval_time_s=measured.eval_time_s - (before.eval_time_s if before else 0.0),
                own_steps=own_steps,
            )
        )

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start_s = time.monotonic()
        try:
            yield
        finally:
            spent_s = getattr(self.measured, name) + time.monotonic() - start_s
            setattr(self.measured, name, spent_s)
