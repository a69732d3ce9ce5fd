"""Monitoring running attempts by what they report: how fast they are, and which have stalled."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sweeper.store.attempts import ReportedProgress, read_progress
from sweeper.store.layout import Store

LOOK_SHARE = 0.05  # largest share of the driver's time that reading reports may take
STEPS_OF_PATIENCE = 10  # steps that a trial may be silent for, where a step takes long


@dataclass(frozen=True)
class Patience:
    """How long an attempt may be silent before it counts as stalled."""

    silent_s: float = 300.0
    """Once it has reported a step."""
    starting_s: float = 1800.0
    """Before: loading a corpus, compiling, waiting for other ranks."""
    look_every_s: float = 5.0


@dataclass
class _Watched:
    attempt: int
    since_s: float
    """When its report last changed."""
    report: ReportedProgress | None = None


@dataclass(frozen=True)
class SpeedSample:
    """What an attempt has done between two reports."""

    trial_id: str
    share_gained: float
    time_s: float
    """Training time in between, as the worker measured it."""
    share_done: float


class Monitor:
    """All running attempts."""

    def __init__(self, store: Store, patience: Patience, clock: Callable[[], float]) -> None:
        self._store, self._patience, self._clock = store, patience, clock
        self._watched: dict[str, _Watched] = {}
        self._next_look_s = -math.inf

    def begin(self, trial_id: str, attempt: int) -> None:
        """Monitor an attempt from now on."""
        self._watched[trial_id] = _Watched(attempt, self._clock())

    def end(self, trial_id: str) -> None:
        """Stop monitoring it."""
        self._watched.pop(trial_id, None)

    def look(self) -> list[SpeedSample]:
        """Read reports, if it is time to; what those with a report before them have gained."""
        start_s = self._clock()
        if start_s < self._next_look_s:
            return []
        samples = [one for trial_id in self._watched if (one := self._look_at(trial_id))]
        end_s = self._clock()
        self._next_look_s = end_s + max(self._patience.look_every_s, (end_s - start_s) / LOOK_SHARE)
        return samples

    def stalled(self) -> list[str]:
        """Trials whose attempt has been silent for too long."""
        now_s, silent = self._clock(), []
        for trial_id, watched in self._watched.items():
            allowed_s = self._patience.starting_s
            if watched.report:
                progress = watched.report.progress
                step_s = progress.train_time_s / max(1, progress.steps_taken)
                allowed_s = max(self._patience.silent_s, STEPS_OF_PATIENCE * step_s)
            if now_s - watched.since_s > allowed_s:
                silent.append(trial_id)
        return silent

    def _look_at(self, trial_id: str) -> SpeedSample | None:
        watched, report = self._watched[trial_id], read_progress(self._store, trial_id)
        if report is None or report.attempt != watched.attempt:
            return None
        before, watched.report = watched.report, report
        # By the observer's own clock, and only whether a report changes: neither clocks that jump
        # nor clocks of machines that disagree make a trial look dead.
        if before is None or report.is_news_after(before):
            watched.since_s = self._clock()
        if before is None:
            return None
        now, then = report.progress, before.progress
        return SpeedSample(
            trial_id,
            share_gained=(now.step - then.step) / now.n_steps,
            time_s=now.train_time_s + now.eval_time_s - then.train_time_s - then.eval_time_s,
            share_done=now.step / now.n_steps,
        )
