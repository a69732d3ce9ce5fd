"""Plans that cost more than their own limits allow, and the largest smaller plan that does not."""

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sweeper.planning.runs import Run
from sweeper.sweepfile.choices.design import Design, ListedRuns
from sweeper.sweepfile.problems import Problem
from sweeper.sweepfile.schema import Sweep
from sweeper.trials.ladder import Rung, nearest_rung, trunk_params

PlanRuns = Callable[[Sweep], Sequence[Run]]
"""All runs of a sweep."""


@dataclass(frozen=True)
class _Smaller:
    """A sweep with less in its design, and how to ask for it."""

    sweep: Sweep
    how: str


@dataclass(frozen=True)
class _Chain:
    """Ways to make a plan smaller, each dropping more than the one before."""

    ways: list[_Smaller]
    is_by_size: bool
    """Whether sizes go first, and all budgets or tokens stay."""


def limit_problems(sweep: Sweep, runs: Sequence[Run], plan_runs: PlanRuns) -> Iterator[Problem]:
    """Limits on trials and FLOPs that a plan breaks."""
    limits, n_trials, flops = sweep.limits, n_trials_of(runs), flops_of(sweep, runs)
    if n_trials <= limits.n_trials and flops <= limits.flops:
        return
    # Without its largest sizes a budget may lose its minimum, so these alone go only where fewer
    # trials are wanted: one run passes all budgets of its size.
    chains = [each for each in _chains(sweep) if n_trials > limits.n_trials or not each.is_by_size]
    largest = _largest_within(sweep, [each.ways for each in chains], plan_runs)
    if n_trials > limits.n_trials:
        yield Problem(("limits", "trials"), f"the plan has {n_trials:,}: raise it, or {largest}")
    if flops > limits.flops:
        expected = f"the plan costs {flops:.3g} FLOPs: raise it, or {largest}"
        yield Problem(("limits", "flops"), expected)


def n_trials_of(runs: Sequence[Run]) -> int:
    """Trials of all runs, one for each seed."""
    return sum(len(run.series.train.seeds) for run in runs if run.cells)


def flops_of(sweep: Sweep, runs: Sequence[Run]) -> float:
    """Training FLOPs of all runs with all their seeds, each going on from shorter ones if kept."""
    is_kept = sweep.checkpoints_kept_until != "published"
    found: dict[tuple[object, ...], float] = {}
    for number, run in enumerate(runs):
        for seed in run.series.train.seeds if run.cells else ():
            apart = number if not is_kept else (run.series.label, run.rung, run.optimizer)
            flops = max(cell.flops for cell in run.cells)
            found[apart, seed] = max(flops, found.get((apart, seed), 0.0))
    return math.fsum(found.values())


def _largest_within(sweep: Sweep, chains: Sequence[Sequence[_Smaller]], plan_runs: PlanRuns) -> str:
    """How to make the plan of most FLOPs, among those that drop from one end, within the limits."""
    found: list[tuple[float, str]] = []
    for ways in chains:
        # Each way drops more than the one before, so the first that fits is the largest.
        low, high = 0, len(ways)
        while low < high:
            middle = (low + high) // 2
            if _is_within(sweep, plan_runs(ways[middle].sweep)):
                high = middle
            else:
                low = middle + 1
        if low < len(ways):
            runs = plan_runs(ways[low].sweep)
            flops = flops_of(sweep, runs)
            cost = f"{n_trials_of(runs):,} trials, {flops:.3g} FLOPs"
            found.append((flops, f"plan the largest that fits, {cost}: {ways[low].how}"))
    if not found:
        return "plan less: not even its smallest run fits"
    return max(found)[1]


def _is_within(sweep: Sweep, runs: Sequence[Run]) -> bool:
    is_something = any(run.cells for run in runs)
    is_sound = not any(run.problems for run in runs)
    n_trials, flops = n_trials_of(runs), flops_of(sweep, runs)
    is_allowed = n_trials <= sweep.limits.n_trials and flops <= sweep.limits.flops
    return is_something and is_sound and is_allowed


def _chains(sweep: Sweep) -> Iterator[_Chain]:
    by_seeds = [
        _Smaller(_with_seeds(sweep, n), _set("train.seeds", sweep.train.seeds[:n]))
        for n in range(len(sweep.train.seeds) - 1, 0, -1)
    ]
    for number, of_design in enumerate(_chains_of(sweep.design)):
        by_design = [
            _Smaller(sweep.model_copy(update={"design": design}), how) for design, how in of_design
        ]
        yield _Chain(by_design, is_by_size=number > 0)
        if by_seeds:  # all but one, then the design, too
            last = by_seeds[-1].how
            then = [_Smaller(_with_seeds(one.sweep, 1), f"{last} {one.how}") for one in by_design]
            yield _Chain([*by_seeds, *then], is_by_size=number > 0)


def _chains_of(design: Design) -> Iterator[list[tuple[Design, str]]]:
    """Designs that lack the most expensive budgets, tokens, sizes or entries, and how to ask."""
    if design.isoflop:
        yield from _grids(design, "isoflop", "budgets", design.isoflop.budgets)
    elif design.grid:
        yield from _grids(design, "grid", "tokens", design.grid.tokens)
    elif design.zipped:
        pairs = sorted(
            zip(design.zipped.sizes, design.zipped.tokens, strict=True),
            key=lambda pair: trunk_params(pair[0]) * pair[1],
        )
        yield [_zipped(design, pairs[:n]) for n in range(len(pairs) - 1, 0, -1)]
    elif design.listed:
        yield [_without(design, n) for n in range(1, len(design.listed))]


def _grids(
    design: Design, name: str, lengths: str, amounts: Sequence[float]
) -> Iterator[list[tuple[Design, str]]]:
    """Without the largest budgets or tokens, and then without the largest sizes; or these alone."""
    grid = getattr(design, name)
    amounts = sorted(amounts)
    sizes: list[Rung] = sorted(grid.sizes, key=trunk_params)

    def smaller(n_amounts: int, n_sizes: int) -> tuple[Design, str]:
        kept: dict[str, tuple[object, ...]] = {}
        if n_amounts < len(amounts):
            kept[lengths] = tuple(amounts[:n_amounts])
        if n_sizes < len(sizes):
            kept["sizes"] = tuple(sizes[:n_sizes])
        how = " ".join(_set(f"design.{name}.{key}", values) for key, values in kept.items())
        return design.model_copy(update={name: grid.model_copy(update=kept)}), how

    fewer_sizes = range(len(sizes) - 1, 0, -1)
    yield [
        *(smaller(n, len(sizes)) for n in range(len(amounts) - 1, 0, -1)),
        *(smaller(1, n) for n in fewer_sizes),
    ]
    yield [smaller(len(amounts), n) for n in fewer_sizes]


def _zipped(design: Design, pairs: Sequence[tuple[Rung, int]]) -> tuple[Design, str]:
    assert design.zipped is not None
    sizes, tokens = zip(*pairs, strict=True)
    zipped = design.zipped.model_copy(update={"sizes": sizes, "tokens": tokens})
    sets = f"{_set('design.zip.sizes', sizes)} {_set('design.zip.tokens', tokens)}"
    return design.model_copy(update={"zipped": zipped}), sets


def _without(design: Design, n_dropped: int) -> tuple[Design, str]:
    """Without the entries of a list that cost most."""
    entries = design.listed or ()
    dearest = sorted(range(len(entries)), key=lambda i: -_amount_of(entries[i]))[:n_dropped]
    kept = tuple(entry for i, entry in enumerate(entries) if i not in dearest)
    names = ", ".join(f"design.list.{i}" for i in sorted(dearest))
    return design.model_copy(update={"listed": kept}), f"leave out {names}"


def _amount_of(entry: ListedRuns) -> float:
    """Parameters × tokens or steps of the longest runs of all its sizes."""
    by_size = sum(trunk_params(rung) * steps for _, rung, steps in entry.steps_by_size or ())
    longest = max(entry.tokens or entry.steps or (0,))
    return by_size + sum(trunk_params(rung) * longest for rung in entry.all_sizes)


def _with_seeds(sweep: Sweep, n_seeds: int) -> Sweep:
    train = sweep.train.model_copy(update={"seeds": sweep.train.seeds[:n_seeds]})
    return sweep.model_copy(update={"train": train})


def _set(key: str, values: Sequence[object]) -> str:
    """The override for a shell; one without spaces is left as people write it."""
    override = f"{key}=[{','.join(map(_written, values))}]"
    return f"--set {shlex.quote(override) if ' ' in override else override}"


def _written(value: object) -> str:
    if not isinstance(value, Rung):
        return _number(value) if isinstance(value, float) else str(value)
    params = trunk_params(value)
    try:
        if nearest_rung(params) == value:
            return str(params)
    except ValueError:  # a size of its own, off the ladder
        pass
    return f"{{layers: {value.n_layers}, width: {value.width}, heads: {value.n_heads}}}"


def _number(value: float) -> str:
    """As short as it says the same."""
    return f"{value:g}" if float(f"{value:g}") == value else f"{value:.17g}"
