"""What a person sees of a running sweep: a live panel in a terminal, else one line per event."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import assert_never

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeper.orchestration import events
from sweeper.orchestration.cost import (
    CostModel,
    Timing,
    probe_timings,
    progress_timing,
    record_timings,
    time_left,
)
from sweeper.orchestration.events import EndReason, Event
from sweeper.store.assignment import Assignment, FailureKind
from sweeper.store.attempts import Progress, read_progress
from sweeper.store.layout import Store
from sweeper.store.probes import probes_of
from sweeper.sweepfile.quantities import count, duration
from sweeper.trials.plan import PlannedTrial
from sweeper.verbs.output import plain

MAX_TRIAL_LINES = 8
BAR_COLUMNS = 24
TIME_LEFT_EVERY_S = 10.0

_END_WORDS: dict[EndReason, str] = {
    "complete": "complete",
    "interrupted": "interrupted",
    "limit": "stopped at its limit",
    "same_error": "stopped, as one trial after another ends in the same error",
    "disk_full": "stopped, as the disk is full; free some space",
    "executor": "stopped, as nothing can run any more",
    "superseded": "left to another driver",
}

_KIND_WORDS: dict[FailureKind, str] = {
    "error": "failed",
    "gpu_oom": "ran out of GPU memory",
    "host_oom": "ran out of memory",
    "disk_full": "found the disk full",
    "preempted": "was preempted",
    "crashed": "crashed",
    "stalled": "stalled",
}


@contextlib.contextmanager
def shown(console: Console, store: Store) -> Iterator[Callable[[Event], None]]:
    """A function to give events to; shows them on `console` while the context lasts."""

    def print_line(event: Event) -> None:
        # Labels and error messages may look like markup of `rich`, or hold control characters.
        line = plain(describe(event, store))
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    if not console.is_terminal:
        yield print_line
        return
    panel = Panel(store)

    def show(event: Event) -> None:
        panel.update(event)
        # Starts fill the panel; endings stay on the screen above it.
        if not isinstance(event, events.TrialStarted | events.SweepStarted):
            print_line(event)

    # An object store charges for each read of a progress file.
    rate = 2 if isinstance(store.folder, Path) else 0.2
    with Live(console=console, get_renderable=panel.render, refresh_per_second=rate):
        yield show


def describe(event: Event, store: Store) -> str:
    """One line on one event."""
    match event:
        case events.SweepStarted() if event.n_done == event.n_planned:
            return f"sweep {event.name}: all {event.n_planned} trials are published already"
        case events.SweepStarted():
            return (
                f"sweep {event.name}: {event.n_waiting} of {event.n_planned} trials to run, "
                f"{event.flops_waiting:.2g} FLOPs, "
                f"{event.executor} with {event.n_slots} × {event.device}"
            )
        case events.ResultsTaken(published):
            by_sweep = Counter(head.sweep for head in published)
            sources = ", ".join(f"{n} from sweep {name}" for name, n in sorted(by_sweep.items()))
            flops = sum(head.train_flops for head in published)
            return f"results taken over: {sources}; {flops:.2g} FLOPs not spent again"
        case events.Notice(text):
            return text
        case events.SweepOutcome():
            return (
                f"sweep {store.folder.name} {_END_WORDS[event.reason]}: {event.n_done} done, "
                f"of these {event.n_diverged} diverged; {event.n_failed} failed, "
                f"{event.n_left} left"
            )
        case events.TrialRefused(planned, reason):
            what = f"{planned.series} {count(planned.params.trunk)}"
            return f"trial {planned.trial_id} refused: {what} {reason}"
        case _:
            return f"trial {event.assignment.trial.trial_id} {_describe_attempt(event, store)}"


def _describe_attempt(event: events.AttemptEvent, store: Store) -> str:
    assignment, what = event.assignment, _what(event.assignment)
    match event:
        case events.TrialStarted():
            number, flops = assignment.attempt.number, assignment.planned.train_flops
            again = f", attempt {number}" if number > 1 else ""
            return f"started: {what}, {flops:.2g} FLOPs{again}"
        case events.TrialPublished(_, published):
            took = duration(published.work_time_s)
            if published.is_diverged:
                return f"diverged: {what}, after step {published.steps}, {took}"
            bound = published.last_bound_nats_per_token
            return f"done: {what}, bound {bound:.3f} nats/token, {took}"
        case events.TrialInterrupted():
            return f"interrupted: {what}, behind a checkpoint"
        case events.TrialFailed(_, failure, will_retry):
            attempts = store.attempts(assignment.trial.trial_id)
            folder = f"{store.folder.name}/{attempts.parent.name}/{attempts.name}"
            trace = f"{folder}/{assignment.attempt.number}.traceback.txt"
            then = "trying again" if will_retry else f"given up; traceback in {trace}"
            error = f"{failure.error_class}: {failure.message}".rstrip(": ")
            return f"{_KIND_WORDS[failure.kind]}: {what}, {error}; {then}"
        case _:
            assert_never(event)


class Panel:
    """What is running, from events and from the progress files of the running trials."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._start: events.SweepStarted | None = None
        self._running: dict[str, Assignment] = {}
        self._n_done = self._n_failed = 0
        self._flops_done = 0.0
        self._waiting: dict[str, PlannedTrial] = {}
        # Of the trials that were published since the start, and of what was probed before.
        self._timings: list[Timing] = []
        self._probes: list[Timing] = []
        self._shown: tuple[float, str] = (-math.inf, "")
        """When the time left was last computed, and what it was."""

    def update(self, event: Event) -> None:
        """Account for an event."""
        match event:
            case events.SweepStarted():
                self._start = event
                self._n_done = event.n_done
                self._flops_done = event.flops_done
                self._waiting = {planned.trial_id: planned for planned in event.waiting}
                probes = probes_of(self._store)
                self._probes = probe_timings(event.waiting, probes, event.device)
            case events.ResultsTaken(published, settled):
                self._n_done += len(published)
                self._flops_done += sum(head.train_flops for head in published)
                for trial_id in settled:
                    self._waiting.pop(trial_id, None)
            case events.TrialStarted(assignment):
                self._running[assignment.trial.trial_id] = assignment
                self._waiting.pop(assignment.trial.trial_id, None)
            case events.TrialPublished(assignment, published):
                del self._running[assignment.trial.trial_id]
                self._n_done += 1
                share = 1 - published.continued_steps / assignment.trial.n_steps
                self._flops_done += share * assignment.planned.train_flops
                planned, device = assignment.planned, published.device
                self._timings += record_timings([planned], [published], device)
            case events.TrialFailed(assignment, _, will_retry):
                del self._running[assignment.trial.trial_id]
                self._n_failed += not will_retry
                if will_retry:
                    self._waiting[assignment.trial.trial_id] = assignment.planned
            case events.TrialInterrupted(assignment):
                del self._running[assignment.trial.trial_id]
                self._waiting[assignment.trial.trial_id] = assignment.planned

    def render(self) -> RenderableType:
        """The panel as it is now. Called by a thread of `rich`, so it only reads."""
        if self._start is None:
            return Text("starting workers …")
        running = list(self._running.values())
        reported = [read_progress(self._store, each.trial.trial_id) for each in running]
        reports = [each.progress if each else None for each in reported]
        flops = self._flops_done + sum(report.flops_done for report in reports if report)
        share = flops / self._start.flops_planned if self._start.flops_planned else 1.0
        head = _grid()
        head.add_row(
            Text(plain(self._start.name), style="bold"),
            Bar(1.0, 0.0, share, width=BAR_COLUMNS, color="green", bgcolor="grey35"),
            Text(f"{share:4.0%} of {self._start.flops_planned:.2g} FLOPs"),
        )
        counts = Text(
            f"{len(running)} running, {self._n_done}/{self._start.n_planned} done, "
            f"{self._n_failed} failed, {self._time_left(running, reports)}",
            no_wrap=True,
            overflow="ellipsis",
        )
        lines = _grid()
        for assignment, report in list(zip(running, reports, strict=True))[:MAX_TRIAL_LINES]:
            done = report.step / report.n_steps if report else 0.0
            steps = f"{report.step:,}/{report.n_steps:,}" if report else "starting"
            loss = report.loss_nats_per_token if report else None
            lines.add_row(
                Text(f"  {assignment.trial.trial_id}", style="dim"),
                Text(plain(_what(assignment))),
                Bar(1.0, 0.0, done, width=BAR_COLUMNS // 2, color="blue", bgcolor="grey35"),
                Text(steps, justify="right"),
                Text("" if loss is None else f"loss {loss:.3f}"),
            )
        hidden = len(running) - MAX_TRIAL_LINES
        return Group(head, counts, lines, *([Text(f"… and {hidden} more")] if hidden > 0 else []))

    def _time_left(self, running: list[Assignment], reports: list[Progress | None]) -> str:
        """As `sweeper status` has it; computed anew every few seconds, as it takes a while."""
        now_s = time.monotonic()
        if now_s - self._shown[0] >= TIME_LEFT_EVERY_S or not self._shown[1]:
            self._shown = now_s, self._compute_time_left(running, reports)
        return self._shown[1] or "time left unknown"

    def _compute_time_left(self, running: list[Assignment], reports: list[Progress | None]) -> str:
        timings, begun = list(self._timings), []
        for assignment, report in zip(running, reports, strict=True):
            begun.append((assignment.planned, report.step / report.n_steps if report else 0.0))
            if report:
                timings.append(progress_timing(assignment.planned, report))
        model = CostModel(timings, self._probes)
        if not model.is_measured or self._start is None:
            return ""
        waiting = [(planned, 0.0) for planned in list(self._waiting.values())]
        left = time_left(model, begun, waiting, self._start.n_slots)
        return f"about {duration(left.p50_s)} left (p90 {duration(left.p90_s)})"


def _grid() -> Table:
    """Cells side by side; what does not fit is cut, so that a line stays one line."""
    grid = Table.grid(padding=(0, 1))
    for _ in range(5):
        grid.add_column(no_wrap=True, overflow="ellipsis")
    return grid


def _what(assignment: Assignment) -> str:
    return f"{assignment.planned.series} {count(assignment.planned.params.trunk)}"
