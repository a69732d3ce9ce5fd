"""What to start next, and what to try again. Pure: no clock, no Ray, no files.

Longest first: with m workers the sweep then takes at most 4/3 of the shortest possible time
(Graham 1969), and does not end with one worker on its largest trial while the others idle.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sweeper.executors.base import Failure
from sweeper.flops import FlopsPerToken
from sweeper.remaining import Remaining
from sweeper.trial import Trial

OVERHEAD_FLOPS_PER_TOKEN = 6e5
"""Time that a token costs beside its matrix products, in FLOPs of the same worker.

One CPU core took 9, 11, 20 and 42 µs per token for 0.09, 0.25, 0.8 and 2.8 MFLOPs per token (6K
to 394K parameters): about 7 µs plus the FLOPs at 80 GFLOP/s. Without it the smallest models, by
far the longest runs at equal FLOPs, would start last. At sizes worth a GPU it vanishes.
"""

MAX_ATTEMPTS = 3
"""Attempts at one trial in one run of the driver."""


@dataclass(frozen=True)
class Limits:
    """Hard stops of a sweep."""

    flops: float = math.inf
    """Training FLOPs of the whole sweep, published results included."""
    wall_s: float = math.inf
    """Seconds of one run of the driver."""
    n_trials: float = math.inf
    """Trials of the whole sweep, published results included."""


@dataclass(frozen=True)
class Spending:
    """What counts against the limits: published results and trials started since."""

    flops: float
    n_trials: int

    def plus(self, remaining: Remaining) -> "Spending":
        """Spending once this trial has run, too."""
        return Spending(self.flops + remaining.train_flops, self.n_trials + 1)

    def is_within(self, limits: Limits) -> bool:
        """Whether no limit is passed."""
        return self.flops <= limits.flops and self.n_trials <= limits.n_trials


@dataclass(frozen=True)
class Job:
    """A trial that waits for a worker."""

    remaining: Remaining
    share_done: float = 0.0
    """Share of its steps that a checkpoint has behind it."""
    failures: tuple[Failure, ...] = ()
    """Of this run of the driver, oldest first."""

    @property
    def whole_work(self) -> float:
        """Expected duration from the start, in FLOPs of a worker."""
        return expected_work(self.remaining.trial, self.remaining.planned.flops_per_token)

    @property
    def work_left(self) -> float:
        """Expected duration from the checkpoint on, in FLOPs of a worker."""
        return (1 - self.share_done) * self.whole_work


def expected_work(trial: Trial, flops_per_token: FlopsPerToken) -> float:
    """Expected duration of a whole trial, in FLOPs of a worker."""
    tokens = trial.n_steps * trial.tokens_per_step
    return tokens * (flops_per_token.total + OVERHEAD_FLOPS_PER_TOKEN)


def expected_time_left(
    running: Sequence[float], waiting: float, n_slots: int, time_per_work_s: float
) -> float:
    """Seconds until everything is done.

    `running` is the work left in each running trial, `waiting` that of all which wait. Longest
    first keeps all slots busy, but no trial ends before its own work is done.
    """
    shared = (sum(running) + waiting) / max(1, n_slots)
    return time_per_work_s * max(shared, *running, 0.0)


def longest_first(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in the order in which to start them; ties by trial, so that the order is the plan's."""
    return sorted(jobs, key=lambda job: (-job.work_left, job.remaining.trial_id))


def next_job(waiting: Sequence[Job], spent: Spending, limits: Limits) -> Job | None:
    """The first waiting job that the limits allow.

    One that has failed before has been paid for.
    """
    for job in waiting:
        if job.failures or spent.plus(job.remaining).is_within(limits):
            return job
    return None


def may_retry(failures: Sequence[Failure]) -> bool:
    """Whether to try again after these failures of one trial, the last one just now.

    A lost process says little about the trial; the same exception twice says that it is the
    trial's own, and a third time would teach nothing.
    """
    if len(failures) >= MAX_ATTEMPTS:
        return False
    last = failures[-1]
    return last.kind == "died" or not any(_is_same(last, other) for other in failures[:-1])


def _is_same(one: Failure, other: Failure) -> bool:
    return (one.kind, one.error_class, one.message) == (
        other.kind,
        other.error_class,
        other.message,
    )
