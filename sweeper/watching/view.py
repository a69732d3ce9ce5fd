"""A sweep as it goes: what runs, what happened last, what it spends, and its valleys so far.

All of it is read from the store, so that it needs no driver and outlives any.
"""

import hashlib
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import SweeperError
from sweeper.orchestration.status import SweepStatus, status
from sweeper.store import files
from sweeper.store.attempts import Progress, attempts, begun_trials, read_progress
from sweeper.store.layout import Store
from sweeper.store.results import (
    Published,
    published,
    read_without_losses,
    record_stamps,
)
from sweeper.store.submission import read_plan
from sweeper.sweepfile.quantities import duration
from sweeper.trials.plan import Labels, Plan, PlannedTrial
from sweeper.trials.resources import Limits

MAX_LOSSES = 400  # of a running trial, the latest
N_EVENTS = 6  # the last ones
MIN_SIZES = 3  # of a budget that is drawn as a valley
AGES_S = 4.0  # time after which a view of a sweep that is alive is made again, for its times


@dataclass(frozen=True)
class Running:
    """A trial that runs."""

    planned: PlannedTrial
    progress: Progress | None
    """None before its first report."""
    losses: tuple[float, ...]
    """Training losses in nats per token, as they were seen look by look, oldest first."""


@dataclass(frozen=True)
class Happened:
    """Something that became of a trial."""

    at: str
    """ISO 8601, UTC."""
    planned: PlannedTrial
    what: str
    """For instance `done, bound 3.412 nats/token, 31 s`."""


@dataclass(frozen=True)
class Valley:
    """Bounds of one series at its largest budget with enough sizes, as far as they are published.

    Here the lowest point alone decides what is bracketed; a fit takes its noise into account.
    """

    series: str
    budget_flops: float
    sizes: tuple[int, ...]
    """Trunk parameters, ascending."""
    bounds: tuple[float, ...]
    """Nats per token; the mean over seeds."""
    n_bracketed: int
    n_budgets: int
    """Of the series, with as many sizes."""

    @property
    def best(self) -> int:
        """Position of the lowest bound."""
        return self.bounds.index(min(self.bounds))


@dataclass(frozen=True, kw_only=True)
class View:
    """What there is to see of a sweep."""

    status: SweepStatus
    limits: Limits
    running: tuple[Running, ...]
    happened: tuple[Happened, ...]
    """The last few, oldest first."""
    valleys: tuple[Valley, ...]

    @property
    def share_done(self) -> float:
        """Of the planned FLOPs."""
        planned = self.status.flops_planned
        return self.status.flops_done / planned if planned else 1.0

    @property
    def state(self) -> str:
        """One word on the sweep."""
        counts = self.status.counts
        if self.status.is_driver_alive or counts["running"]:
            return "running"
        if counts["pending"] or counts["interrupted"]:
            return "stopped" if sum(counts.values()) > counts["pending"] else "not begun"
        return "failed" if counts["failed"] else "complete"

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will come of itself."""
        return self.state in ("complete", "failed")


class Watch:
    """Looks at one store again and again, and remembers what does not change or is not kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._points: dict[str, tuple[tuple[str, int, float], ...]] = {}
        """Trajectory, step and bound of the observations of each published trial."""
        self._losses: dict[str, list[tuple[int, float]]] = {}
        self._seen: tuple[str, float, View] | None = None

    def look(self) -> View:
        """The sweep now. Raises StoreError for a damaged plan or record.

        Where no file has changed since the last look, that one is given again, so that looking at
        a sweep that rests costs next to nothing.
        """
        now_s, stamp = time.monotonic(), store_stamp(self._store)
        if self._seen is not None:
            last, at_s, view = self._seen
            is_alive = view.state == "running"
            if last == stamp and not (is_alive and now_s - at_s > AGES_S):
                return view
        view = self._view()
        self._seen = stamp, now_s, view
        return view

    def _view(self) -> View:
        plan, now = read_plan(self._store), status(self._store)
        states = {trial.trial_id: trial.state for trial in now.trials}
        running = [each for each in plan.trials if states[each.trial_id] == "running"]
        return View(
            status=now,
            limits=_limits(self._store),
            running=tuple(self._running(planned) for planned in running),
            happened=tuple(_happened(self._store, plan, published(self._store))),
            valleys=tuple(self._valleys(plan)),
        )

    def _running(self, planned: PlannedTrial) -> Running:
        reported = read_progress(self._store, planned.trial_id)
        progress = reported.progress if reported else None
        seen = self._losses.setdefault(planned.trial_id, [])
        if progress is not None and (loss := progress.loss_nats_per_token) is not None:
            while seen and seen[-1][0] >= progress.step:  # resumed from a checkpoint behind it
                seen.pop()
            seen.append((progress.step, loss))
            del seen[:-MAX_LOSSES]
        return Running(planned, progress, tuple(loss for _, loss in seen))

    def _valleys(self, plan: Plan) -> Iterator[Valley]:
        stamps = record_stamps(self._store)
        new = [self._store.record(each) for each in stamps if each not in self._points]
        for path, record in zip(new, read_without_losses(new), strict=True):
            is_done = record["trial"]["status"] == "done"
            self._points[path.stem] = tuple(
                (row["trajectory_id"], row["step"], row["bound_nats_per_token"])
                for row in (record["observations"] if is_done else ())
            )
        yield from valleys(plan, [point for each in stamps for point in self._points[each]])


def valleys(plan: Plan, points: Sequence[tuple[str, int, float]]) -> Iterator[Valley]:
    """One for each series with enough sizes at some budget; points are trajectory, step, bound."""
    labels = Labels.of(plan)
    size_of = {each.trajectory_id: each.params.trunk for each in plan.trials}
    found: dict[str, dict[float, dict[int, list[float]]]] = {}
    for trajectory, step, bound in dict.fromkeys(points):
        budget = labels.budget_flops.get((trajectory, step))
        if budget is not None:
            of_series = found.setdefault(labels.series[trajectory], {})
            sizes = of_series.setdefault(budget, defaultdict(list))
            sizes[size_of[trajectory]].append(bound)
    for series, budgets in sorted(found.items()):
        drawn = {
            budget: [(size, math.fsum(each) / len(each)) for size, each in sorted(sizes.items())]
            for budget, sizes in sorted(budgets.items())
            if len(sizes) >= MIN_SIZES
        }
        if drawn:
            budget = max(drawn)
            sizes_, bounds = zip(*drawn[budget], strict=True)
            n_bracketed = sum(_is_bracketed([each for _, each in row]) for row in drawn.values())
            yield Valley(series, budget, sizes_, bounds, n_bracketed, len(drawn))


def _is_bracketed(bounds: Sequence[float]) -> bool:
    return 0 < bounds.index(min(bounds)) < len(bounds) - 1


def store_stamp(store: Store) -> str:
    """What changes when a sweep does: a digest of the stamps of its plan, records and reports."""
    own = files.stamps(store.folder)
    parts: list[Mapping[str, str] | Sequence[str]] = [
        record_stamps(store),
        {name: own.get(name, "") for name in ("plan.json", "sweep.yaml")},
        sorted(name for name in files.stamps(store.drivers) if name.endswith(".json")),
        *(files.stamps(store.attempts(trial_id)) for trial_id in sorted(begun_trials(store))),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _happened(store: Store, plan: Plan, records: Sequence[Published]) -> list[Happened]:
    """The last events that results and attempts tell of."""
    planned = {each.trial_id: each for each in plan.trials}
    found = []
    for head in records:
        if (trial := planned.get(head.trial_id)) is None or not head.finished_at:
            continue
        what = f"diverged after step {head.steps:,}"
        if not head.is_diverged:
            what = f"done, bound {head.last_bound_nats_per_token:.3f} nats/token"
        found.append(Happened(head.finished_at, trial, f"{what}, {duration(head.work_time_s)}"))
    done = {head.trial_id for head in records}
    for trial_id in begun_trials(store) & planned.keys() - done:
        for attempt in attempts(store, trial_id):
            again = f", attempt {attempt.number}" if attempt.number > 1 else ""
            found.append(Happened(attempt.started_at, planned[trial_id], f"started{again}"))
            if attempt.outcome is not None and attempt.ended_at is not None:
                error = f"{attempt.error_class}: {attempt.error_message}"
                what = f"failed: {error}" if attempt.has_failed else str(attempt.outcome)
                found.append(Happened(attempt.ended_at, planned[trial_id], what))
    return sorted(found, key=lambda each: (each.at, each.planned.trial_id))[-N_EVENTS:]


def _limits(store: Store) -> Limits:
    """Of the sweep file as submitted; none where it cannot be read here."""
    # Late: pydantic takes a while, and nobody else here needs it.
    from sweeper.sweepfile.schema import load_sweep

    path = store.folder / "sweep.yaml"
    if not isinstance(path, Path):
        return Limits()
    try:
        return load_sweep(path).sweep.limits
    except (SweeperError, OSError):
        return Limits()


BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Values as blocks from the lowest to the highest, means of neighbours where there are more."""
    if not values:
        return ""
    n = min(width, len(values))
    ends = [round(i * len(values) / n) for i in range(n + 1)]
    means = [
        math.fsum(values[start:end]) / (end - start) for start, end in itertools.pairwise(ends)
    ]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in means)
