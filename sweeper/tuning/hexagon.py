"""The runs that measure the best learning rate and batch of a series: hexagons at a few sizes.

Rate and batch trade off against each other, so they are varied together: a centre and six points
about it in log rate and log batch. At a constant rate each run is observed at several numbers of
tokens, which gives a cell of seven points for each of them.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.planning import recipe
from sweeper.planning.design import TargetPoint
from sweeper.planning.planner import PlannedSweep
from sweeper.planning.runs import MIN_STEPS, Setting, name_of, optimizer_for
from sweeper.planning.series import ResolvedSeries
from sweeper.sweepfile.choices.training import Train
from sweeper.sweepfile.choices.tune import TuneChoice
from sweeper.sweepfile.fields import WarmupShare
from sweeper.sweepfile.problems import InvalidSweep, Problem
from sweeper.trials.ladder import LARGEST_SIZE_MISMATCH, Rung, trunk_params

COST_SHARE = 0.15  # of the planned FLOPs that tuning may take, where sizes allow it
SIZE_STEP = 4.0  # least ratio of two sizes, as asked for
TOKENS_STEP = 3  # ratio of one observation's tokens to those of the one before
N_OBSERVATIONS = 3
# Half the fewest of a planned batch, so that points lie on both sides of any that may be the best.
MIN_SEQUENCES = recipe.MIN_BATCH_SEQUENCES // 2
# Of the radius: log rate, log batch.
OFFSETS = (
    (0.0, 0.0),
    *((math.cos(math.pi * i / 3), math.sin(math.pi * i / 3)) for i in range(6)),
)


@dataclass(frozen=True)
class TuningSize:
    """One size, and where each of its runs is observed."""

    rung: Rung
    tokens: tuple[int, ...]
    """Increasing."""


@dataclass(frozen=True)
class Point:
    """A learning rate and a batch to try."""

    learning_rate: float
    batch_tokens: int

    @property
    def logs(self) -> tuple[float, float]:
        """Log rate and log batch."""
        return math.log(self.learning_rate), math.log(self.batch_tokens)


def point_at(log_rate: float, log_batch: float, seq_len: int) -> Point:
    """The point of whole sequences and three digits nearest to two logs."""
    sequences = max(MIN_SEQUENCES, round(math.exp(log_batch) / seq_len))
    return Point(float(f"{math.exp(log_rate):.3g}"), sequences * seq_len)


def centre(train: Train, size: TuningSize, setting: Setting, radius: float) -> Point:
    """What the sweep file says, or `auto` stands for, at the middle tokens of a size."""
    targets = [TargetPoint((), tokens, "tokens") for tokens in size.tokens]
    optimizer = optimizer_for(train, size.rung, targets, setting)
    # High enough for the points of smallest batch not to fall together with it.
    lowest = math.ceil(MIN_SEQUENCES * radius ** max(dy for _, dy in OFFSETS))
    batch_tokens = max(optimizer.batch_sequences, lowest) * setting.seq_len
    rate = optimizer.learning_rate
    if train.learning_rate == "auto":
        rate = recipe.learning_rate(batch_tokens, setting.backbone)
    return Point(rate, batch_tokens)


def hexagon(middle: Point, radius: float, seq_len: int) -> tuple[Point, ...]:
    """A centre and the six points about it, fewer where some coincide in whole sequences."""
    x, y = middle.logs
    r = math.log(radius)
    return tuple(dict.fromkeys(point_at(x + r * dx, y + r * dy, seq_len) for dx, dy in OFFSETS))


def entry(
    series: ResolvedSeries, rung: Rung, tokens: Sequence[int], point: Point
) -> dict[str, Any]:
    """One run, as an entry of a `list` design."""
    train = {"learning_rate": point.learning_rate, "batch_tokens": point.batch_tokens}
    warmup, first = series.train.warmup, tokens[0] // point.batch_tokens
    if isinstance(warmup, WarmupShare):
        warmup = warmup.steps(tokens[-1] // point.batch_tokens)
    if warmup != "auto":  # meant for longer runs
        train["warmup"] = min(warmup, recipe.warmup_steps(first))
    return {
        "series": series.label,
        "size": {"layers": rung.n_layers, "width": rung.width, "heads": rung.n_heads},
        "tokens": [*tokens],
        "train": train,
    }


def first_round(
    all_series: Sequence[ResolvedSeries],
    sizes: Sequence[TuningSize],
    setting: Setting,
    radius: float,
) -> list[dict[str, Any]]:
    """A hexagon for every series and size, as entries of a `list` design."""
    return [
        entry(series, size.rung, size.tokens, point)
        for series in all_series
        for size in sizes
        for point in hexagon(centre(series.train, size, setting, radius), radius, setting.seq_len)
    ]


def tuning_sizes(
    planned: PlannedSweep,
    all_series: Sequence[ResolvedSeries],
    setting: Setting,
    choice: TuneChoice,
) -> tuple[TuningSize, ...]:
    """The sizes that a sweep file names, or those of its design that cost little.

    Of what costs at most COST_SHARE of the plan, that which costs the most, as it lies nearest to
    what the laws are for; else the cheapest. Raises InvalidSweep where no size will do.
    """

    def has_steps(size: TuningSize) -> bool:
        largest_batch = _largest_batch(size, all_series, setting, choice.radius)
        return size.tokens[0] >= MIN_STEPS * largest_batch

    options = {
        rung: [
            size
            for tokens in _lengths(planned, rung, choice)
            if has_steps(size := TuningSize(rung, tokens))
        ]
        for rung in choice.sizes or _rungs(planned)
    }
    _refuse_short(options, all_series, setting, choice)
    affordable = COST_SHARE * planned.totals.train_flops

    def cost(sizes: Sequence[TuningSize]) -> float:
        return len(OFFSETS) * sum(
            setting.flops_per_token(size.rung, series.needs.doubled_share).total * size.tokens[-1]
            for series, size in itertools.product(all_series, sizes)
        )

    candidates = list(
        itertools.product(*options.values()) if choice.sizes else _pairs(options.values())
    )
    if not candidates:
        expected = (
            f"no two sizes a factor {SIZE_STEP:g} apart whose runs are long enough to be observed "
            f"twice after {MIN_STEPS} steps of the largest batch tried: expected such sizes, or "
            "tune: {sizes: […], tokens: […]}"
        )
        raise InvalidSweep([Problem(("design",), expected)])
    # Of equal cost, the one that is observed more often.
    n_observed = {sizes: sum(len(size.tokens) for size in sizes) for sizes in candidates}
    within = [sizes for sizes in candidates if cost(sizes) <= affordable]
    if within:
        return max(within, key=lambda sizes: (cost(sizes), n_observed[sizes]))
    return min(candidates, key=lambda sizes: (cost(sizes), -n_observed[sizes]))


def _pairs(options: Iterable[Sequence[TuningSize]]) -> Iterator[tuple[TuningSize, ...]]:
    least_step = SIZE_STEP * (1 - LARGEST_SIZE_MISMATCH)  # rungs are near the sizes asked for
    every = sorted(itertools.chain(*options), key=lambda size: trunk_params(size.rung))
    for small, large in itertools.combinations(every, 2):
        if trunk_params(large.rung) >= least_step * trunk_params(small.rung):
            yield small, large


def _refuse_short(
    options: dict[Rung, list[TuningSize]],
    all_series: Sequence[ResolvedSeries],
    setting: Setting,
    choice: TuneChoice,
) -> None:
    """Refuse sizes or tokens named by the owner that leave too few steps."""
    problems = []
    for i, rung in enumerate(choice.sizes):
        if options[rung]:
            continue
        found = (
            f"{name_of(rung)} is observed after fewer than {MIN_STEPS} steps of the largest batch"
        )
        if not choice.tokens:
            expected = f"{found} wherever the design ends its runs: expected tokens: […] beside it"
            problems.append(Problem(("tune", "sizes", i), expected))
            continue
        size = TuningSize(rung, tuple(sorted(choice.tokens)))
        least = MIN_STEPS * _largest_batch(size, all_series, setting, choice.radius)
        at = choice.tokens.index(size.tokens[0])
        expected = f"{found} tried: expected at least {least:,}, or a smaller radius"
        problems.append(Problem(("tune", "tokens", at), expected))
    if problems:
        raise InvalidSweep(problems)


def _rungs(planned: PlannedSweep) -> list[Rung]:
    """Sizes of the plan, smallest first."""
    return sorted({one.trial.rung for one in planned.trials}, key=trunk_params)


def _lengths(planned: PlannedSweep, rung: Rung, choice: TuneChoice) -> list[tuple[int, ...]]:
    """Where runs of a size might be observed."""
    if choice.tokens:
        return [tuple(sorted(choice.tokens))]
    own = [one for one in planned.trials if one.trial.rung == rung] or planned.trials
    longest = {int(float(f"{cell.tokens:.2g}")) for one in own for cell in one.cells}
    # Fewer observations where the shortest would have too few steps.
    return [
        tuple(n // TOKENS_STEP**k for k in reversed(range(n_observations)))
        for n in sorted(longest)
        for n_observations in range(2, N_OBSERVATIONS + 1)
    ]


def _largest_batch(
    size: TuningSize, all_series: Sequence[ResolvedSeries], setting: Setting, radius: float
) -> int:
    """Tokens of the largest batch that is tried at a size."""
    return max(
        point.batch_tokens
        for series in all_series
        for point in hexagon(centre(series.train, size, setting, radius), radius, setting.seq_len)
    )
