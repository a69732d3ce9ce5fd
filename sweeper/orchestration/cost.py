"""What trials cost in seconds, learnt from those that were timed, and how long a sweep takes yet.

Pure: no clock, no files. Work is `expected_work` of a trial, in FLOPs of a worker, over its ranks.
"""

import bisect
import dataclasses
import heapq
import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sweeper.orchestration.device_time import recorded_device_s
from sweeper.orchestration.scheduler import ASSUMED_SPEED, work_per_token
from sweeper.store.attempts import Progress
from sweeper.store.pending import pending_trials
from sweeper.store.probes import probe_key
from sweeper.store.results import Published
from sweeper.trials.plan import Plan, PlannedTrial

FORWARD_SHARE = 1 / 3
"""Of a training step, where no evaluation has been timed: a backward pass costs twice as much."""
STARTUP_S, STARTUP_WEIGHT = 0.3, 3
"""Of a trial on a worker that has loaded its libraries, until more trials have shown another."""
SPREAD, SPREAD_WEIGHT = 0.1, 4.0
"""Standard deviation of log speed between trials alike, until so many have shown another."""
DOUBT_OF_ASSUMED, DOUBT_OF_PROBES = 0.7, 0.15
"""Standard deviation of log speed, common to all trials: a factor of two where nothing was timed;
less where probes were, alone on the machine and for a moment."""
DOUBT_PER_E_FOLD = 0.1
"""That of a size that nobody timed, by its distance in log parameters to the nearest that was."""
RECENT_TRIALS = 3.0
"""So many trials later a timing says half as much of how fast the machines are now."""
MAX_DRAWS, MAX_DRAWN_TRIALS = 200, 100_000

_P90 = 0.9


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a part of a trial took."""

    series: str
    params_trunk: int
    work: float
    """Of the training that was timed."""
    train_time_s: float
    eval_work: float = 0.0
    """Of training on as many tokens as were scored."""
    eval_time_s: float = 0.0
    startup_s: float | None = None
    """What a finished trial took beside both; None where it is not known."""
    ended_at: str | None = None
    """ISO 8601, UTC; None while it runs."""

    @classmethod
    def of(
        cls, planned: PlannedTrial, steps: int, n_observed: int, train_s: float, eval_s: float
    ) -> "Timing":
        """Of some steps of a trial, with what was observed on the way."""
        per_token = _work_per_token(planned)
        return cls(
            series=planned.series,
            params_trunk=planned.params.trunk,
            work=steps * planned.trial.tokens_per_step * per_token,
            train_time_s=train_s,
            eval_work=n_observed * _tokens_scored(planned) * per_token,
            eval_time_s=eval_s,
        )

    @property
    def log_cost(self) -> float:
        """Log of seconds per work."""
        return math.log(self.train_time_s / self.work)


def record_timings(
    trials: Iterable[PlannedTrial], records: Iterable[Published], device: str
) -> Iterator[Timing]:
    """Of the planned trials that were finished on a device, whoever trained them."""
    planned_by_id = {planned.trial_id: planned for planned in trials}
    for record in records:
        planned = planned_by_id.get(record.trial_id)
        if planned and record.device == device:
            train_s = record.work_time_s - record.eval_time_s
            n_observed = len(record.observed_steps)
            timing = Timing.of(planned, record.own_steps, n_observed, train_s, record.eval_time_s)
            yield dataclasses.replace(
                timing, startup_s=record.startup_s, ended_at=record.finished_at
            )


def progress_timing(planned: PlannedTrial, progress: Progress) -> Timing:
    """Of a trial that runs, or was interrupted, as it last reported."""
    n_observed = sum(cell.step <= progress.step for cell in planned.cells)
    times_s = progress.train_time_s, progress.eval_time_s
    return Timing.of(planned, progress.steps_taken, n_observed, *times_s)


def probe_timings(
    trials: Iterable[PlannedTrial], seconds_per_token: Mapping[str, float], device: str
) -> list[Timing]:
    """Of the probed ones among the planned trials, one for each series and size."""
    found: dict[tuple[str, int], Timing] = {}
    for planned in trials:
        kind = planned.series, planned.params.trunk
        if not seconds_per_token:
            break
        if kind not in found:
            seconds = seconds_per_token.get(probe_key(planned, device))
            if seconds is not None:
                # A rank alone on a device, where the work of a trial is shared by its ranks.
                step_s = seconds * planned.trial.tokens_per_step / planned.resources.n_ranks
                found[kind] = Timing.of(planned, 1, 0, step_s, 0.0)
    return [*found.values()]


@dataclass(frozen=True)
class TimeLeft:
    """Quantiles of the time until all is done."""

    p50_s: float
    p90_s: float


@dataclass(frozen=True, kw_only=True)
class ExpectedCost:
    """What the missing trials of a plan are expected to cost on one machine."""

    n_trials: int
    """Those that are missing."""
    device: str
    n_slots: int
    """Trials at a time."""
    wall: TimeLeft
    device_hours: float
    """Of GPUs, or of cores where there are none."""
    device_hours_spent: float
    """By trials of this sweep, as recorded."""
    price_per_hour: float | None
    is_measured: bool
    """Whether something of it was timed; else speeds are assumed."""


class CostModel:
    """Seconds of trials on one kind of device, from probes and from trials on it."""

    # Trials are read relative to the probes: one large trial that runs 20 % slower than its probe,
    # beside others, says the same of the sizes that were probed alone.
    def __init__(self, trials: Iterable[Timing] = (), probes: Iterable[Timing] = ()) -> None:
        self._probes = _Curve.fit((one, one.log_cost) for one in _usable(probes))
        timed = _usable(trials)
        self._trials = _Curve.fit(
            (one, one.log_cost - self._before_trials(one.series, one.params_trunk)) for one in timed
        )
        self._evaluation = _evaluation_share(timed)
        startups = [max(0.0, one.startup_s) for one in timed if one.startup_s is not None]
        # The median, as the first trial of a worker waits for its libraries, and is no measure.
        self._startup_s = statistics.median([*startups, *[STARTUP_S] * STARTUP_WEIGHT])
        misses = [
            one.log_cost
            - self._before_trials(one.series, one.params_trunk)
            - self._trials.expected(one.series, math.log(one.params_trunk))
            for one in timed
        ]
        self.spread = math.sqrt(
            (SPREAD_WEIGHT * SPREAD**2 + math.fsum(miss**2 for miss in misses))
            / (SPREAD_WEIGHT + len(misses))
        )
        self._drift = _drift(timed, misses)
        self.common_doubt = DOUBT_OF_PROBES if self._probes.sizes else DOUBT_OF_ASSUMED
        if timed:  # what slows one trial, say others on the machine, slows those beside it
            self.common_doubt = min(self.common_doubt, self.spread)
        self._log_costs: dict[tuple[str, int], float] = {}

    @property
    def is_measured(self) -> bool:
        """Whether anything has been timed."""
        return bool(self._trials.sizes or self._probes.sizes)

    def seconds(self, planned: PlannedTrial, share_done: float = 0.0) -> float:
        """Expected seconds of what is left of a trial: starting, training and evaluation."""
        key = planned.series, planned.params.trunk
        if key not in self._log_costs:
            log_params = math.log(planned.params.trunk)
            of_trials = self._trials.at(planned.series, log_params)
            self._log_costs[key] = self._before_trials(*key) + of_trials + self._drift
        per_token = _work_per_token(planned)
        trained = planned.trial.n_steps * planned.trial.tokens_per_step
        scored = len(planned.cells) * _tokens_scored(planned)
        work = per_token * (trained + self._evaluation * scored)
        startup_s = 0.0 if share_done else self._startup_s
        return startup_s + (1 - share_done) * work * math.exp(self._log_costs[key])

    def doubt(self, params_trunk: int) -> float:
        """Standard deviation of the log of what a size costs, common to all its trials."""
        timed = (*self._trials.sizes, *self._probes.sizes)
        distances = (abs(math.log(params_trunk) - size) for size in timed)
        return min(DOUBT_OF_ASSUMED, DOUBT_PER_E_FOLD * min(distances, default=0.0))

    def _before_trials(self, series: str, params_trunk: int) -> float:
        """Log of seconds per work by the probes, or as assumed."""
        if not self._probes.sizes:
            return -math.log(ASSUMED_SPEED)
        return self._probes.at(series, math.log(params_trunk))


def time_left(
    model: CostModel,
    running: Sequence[tuple[PlannedTrial, float]],
    waiting: Sequence[tuple[PlannedTrial, float]],
    n_slots: int,
) -> TimeLeft:
    """Until the last trial ends, on so many equal slots, longest first; trials with share done.

    A slot holds one trial, whatever that occupies. Speeds are log-normal: of all, of sizes, of
    trials.
    """
    queue = [(model.seconds(planned, share), planned) for planned, share in waiting]
    queue.sort(key=lambda pair: (-pair[0], pair[1].trial_id))
    begun = [(model.seconds(planned, share), planned) for planned, share in running]
    sized = [(seconds, planned.params.trunk) for seconds, planned in (*begun, *queue)]
    n_slots = max(1, n_slots, len(begun))
    doubts = {size: model.doubt(size) for size in dict.fromkeys(size for _, size in sized)}
    rng = random.Random(0)
    n_draws = max(20, min(MAX_DRAWS, MAX_DRAWN_TRIALS // max(1, len(sized))))
    ends = []
    for _ in range(n_draws):
        common = rng.gauss(0.0, model.common_doubt)
        of_size = {size: rng.gauss(common, doubt) for size, doubt in doubts.items()}
        free_s = [0.0] * n_slots
        for seconds, size in sized:
            log_factor = of_size[size] + rng.gauss(0.0, model.spread)
            heapq.heapreplace(free_s, free_s[0] + seconds * math.exp(log_factor))
        ends.append(max(free_s))
    ends.sort()
    return TimeLeft(statistics.median(ends), ends[math.ceil(_P90 * n_draws) - 1])


def expected_cost(
    plan: Plan,
    records: Collection[Published],
    model: CostModel,
    device: str,
    n_slots: int,
    share_done: Callable[[PlannedTrial], float] = lambda _: 0.0,
) -> ExpectedCost:
    """The cost of what is missing of a plan, at most so many trials at a time.

    `share_done`: of the steps of a missing trial, those that it need not take.
    """
    missing = [(each, share_done(each)) for each in pending_trials(plan.trials, records)]
    hours = math.fsum(
        model.seconds(planned, share) * planned.resources.n_devices(device) / 3600
        for planned, share in missing
    )
    return ExpectedCost(
        n_trials=len(missing),
        device=device,
        n_slots=min(n_slots, len(missing)),
        wall=time_left(model, [], missing, n_slots),
        device_hours=hours,
        device_hours_spent=math.fsum(recorded_device_s(plan, records).values()) / 3600,
        price_per_hour=plan.price_per_hour,
        is_measured=model.is_measured,
    )


def device_s_left(plan: Plan, records: Collection[Published]) -> dict[str, float]:
    """Device-seconds that each missing trial is expected to take, by those that were timed on the
    kind of device that most ran on; empty where none was.
    """
    devices = Counter(record.device for record in records)
    device = max(sorted(devices), key=lambda each: devices[each], default="cpu")
    model = CostModel(record_timings(plan.trials, records, device))
    if not model.is_measured:
        return {}
    return {
        planned.trial_id: model.seconds(planned) * planned.resources.n_devices(device)
        for planned in pending_trials(plan.trials, records)
    }


@dataclass(frozen=True)
class _Curve:
    """A quantity against log parameters: linear between sizes, level beyond, plus an offset of each
    series."""

    sizes: tuple[float, ...] = ()
    """Log parameters, increasing."""
    levels: tuple[float, ...] = ()
    offsets: dict[str, float] = field(default_factory=dict)
    own: dict[tuple[str, float], float] = field(default_factory=dict)
    """Of series and sizes that were timed themselves."""

    @classmethod
    def fit(cls, points: Iterable[tuple[Timing, float]]) -> "_Curve":
        found = defaultdict[tuple[str, float], list[tuple[float, float]]](list)
        for timing, value in points:
            key = timing.series, math.log(timing.params_trunk)
            found[key].append((value, timing.train_time_s))
        # Long trials say more than short ones.
        own = {
            key: math.fsum(value * weight for value, weight in pairs)
            / math.fsum(weight for _, weight in pairs)
            for key, pairs in found.items()
        }
        sizes = tuple(sorted({size for _, size in own}))
        offsets = dict.fromkeys((series for series, _ in own), 0.0)
        levels: dict[float, float] = {}
        for _ in range(5):  # in turn until they fit; not every series has every size
            for size in sizes:
                at_size = [own[key] - offsets[key[0]] for key in own if key[1] == size]
                levels[size] = statistics.fmean(at_size)
            for series in offsets:
                misses = [own[key] - levels[key[1]] for key in own if key[0] == series]
                offsets[series] = sum(misses) / (1 + len(misses))  # one alone counts half
        return cls(sizes, tuple(levels[size] for size in sizes), offsets, own)

    def at(self, series: str, size: float) -> float:
        """As timed, else as expected; 0 where nothing was."""
        return self.own.get((series, size), self.expected(series, size))

    def expected(self, series: str, size: float) -> float:
        """By the curve and the offset of a series."""
        if not self.sizes:
            return 0.0
        i = bisect.bisect_left(self.sizes, size)
        if i in (0, len(self.sizes)):
            level = self.levels[min(i, len(self.sizes) - 1)]
        else:
            share = (size - self.sizes[i - 1]) / (self.sizes[i] - self.sizes[i - 1])
            level = (1 - share) * self.levels[i - 1] + share * self.levels[i]
        return level + self.offsets.get(series, 0.0)


def _usable(timings: Iterable[Timing]) -> list[Timing]:
    return [one for one in timings if one.work > 0 and one.train_time_s > 0]


def _evaluation_share(timings: Sequence[Timing]) -> float:
    """Time of scoring a token in units of training on it."""
    scored = [one for one in timings if one.eval_work and one.eval_time_s]
    if not scored:
        return FORWARD_SHARE
    as_training_s = (one.eval_work * one.train_time_s / one.work for one in scored)
    return math.fsum(one.eval_time_s for one in scored) / math.fsum(as_training_s)


def _drift(timings: Sequence[Timing], misses: Sequence[float]) -> float:
    """How much slower, in log, trials have been of late than all of them let expect."""
    # Whatever else a machine has to do comes and goes while a sweep runs.
    latest_first = sorted(
        zip(timings, misses, strict=True),
        key=lambda pair: (pair[0].ended_at is None, pair[0].ended_at or ""),
        reverse=True,
    )
    weights = [0.5 ** (age / RECENT_TRIALS) for age in range(len(latest_first))]
    of_late = (weight * miss for weight, (_, miss) in zip(weights, latest_first, strict=True))
    return math.fsum(of_late) / (1 + math.fsum(weights))


def _work_per_token(planned: PlannedTrial) -> float:
    return work_per_token(planned) / planned.resources.n_ranks


def _tokens_scored(planned: PlannedTrial) -> int:
    """At each observation."""
    return planned.trial.evaluation.n_sequences * planned.trial.data.seq_len
