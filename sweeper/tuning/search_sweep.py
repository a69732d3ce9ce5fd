"""A search as an ordinary sweep, `<name>-search`, which each generation of its trials extends.

Its sweep file is all that is written down of what was decided, and its published records are all
that decides what comes next. So planning, driving, storing and resuming are those of any sweep,
and a search that is killed at any moment goes on as if it had not been.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import ConfigError
from sweeper.planning.planner import PlannedSweep
from sweeper.planning.search_space import SEARCHED_KEYS, search_space
from sweeper.store.layout import Store
from sweeper.store.results import read_records, record_paths
from sweeper.sweepfile.document import Problem, document_of, dump
from sweeper.sweepfile.schema import LoadedSweep, validated
from sweeper.trials.plan import PlannedTrial
from sweeper.tuning.search import (
    Search,
    Settings,
    Tried,
    corners,
    propose_generation,
    text_of,
)


@dataclass(frozen=True)
class SearchSweep:
    """A search and where its sweep is kept."""

    loaded: LoadedSweep
    """The sweep that asks for the search."""
    search: Search
    store: Store
    plan: Callable[[LoadedSweep], PlannedSweep]


@dataclass(frozen=True)
class Revision:
    """The search sweep with all that was decided by then."""

    loaded: LoadedSweep
    planned: PlannedSweep
    settings: tuple[Settings, ...]
    """Of all trials, by number."""


def search_of(loaded: LoadedSweep, vocab_size: int) -> Search:
    """The search of a sweep; raises InvalidSweep for what it cannot vary."""
    choice = loaded.sweep.tune
    return Search(
        space=search_space(loaded.sweep, choice, vocab_size),
        labels=choice.series or tuple(loaded.sweep.series),
        n_trials=choice.trials,
        n_parallel=choice.parallel,
        sampler=choice.sampler,
        seed=choice.seed,
    )


def check_search(sweep: SearchSweep) -> None:
    """Raise ConfigError for a search with a corner that cannot be trained, or beyond its limits."""
    fields = _fields(sweep, corners(sweep.search))
    fields.pop("limits", None)  # of all trials, of which corners are none
    planned = sweep.plan(validated(document_of(dump(fields), _source(sweep))))
    limits, n_series = sweep.loaded.sweep.limits, len(sweep.search.labels)
    n_runs = sweep.search.n_trials * n_series * len(_seeds(sweep))
    flops = n_runs * max(trial.train_flops for trial in planned.trials)
    problems = []
    if n_runs > limits.n_trials:
        expected = f"the search has {n_runs:,}: raise it or lower tune.trials"
        problems.append(Problem(("limits", "trials"), expected))
    if flops > limits.flops:
        expected = f"the search costs up to {flops:.3g} FLOPs: raise it or lower tune.trials"
        problems.append(Problem(("limits", "flops"), expected))
    if problems:
        raise ConfigError(sweep.loaded.document.describe(problems))


def search_name(name: str) -> str:
    """The sweep in which the search of a sweep is made."""
    return f"{name}-search"


def open_revision(sweep: SearchSweep) -> Revision | None:
    """The revision of which trials are still to be trained; None when the search is over."""
    last = submitted_revision(sweep)
    return last if last and None in results(sweep, last) else next_revision(sweep)


def next_revision(sweep: SearchSweep) -> Revision | None:
    """What follows the last revision submitted; None if nothing does, or before its results."""
    search, last = sweep.search, submitted_revision(sweep)
    decided = last.settings if last else ()
    tried = [one for one in results(sweep, last) if one] if last else []
    if len(tried) < len(decided) or len(decided) == search.n_trials:
        return None
    generation = len(decided) // search.n_parallel
    first = search.numbers(generation).start
    proposed = propose_generation(search, tried[:first], generation)
    # Where there were to be fewer trials before, some of this generation are decided already.
    return _revision(sweep, (*decided, *proposed[len(decided) - first :]))


def submitted_revision(sweep: SearchSweep) -> Revision | None:
    """The search as last submitted; None where there is none, or one of another sweep file."""
    path = sweep.store.folder / "sweep.yaml"
    if not path.exists():
        return None
    try:
        submitted = document_of(path.read_text("utf-8"), str(path)).value
        settings = _settings_in(sweep, submitted["series"])
    except (ConfigError, KeyError, TypeError):
        return None
    # What was decided for another space, corpus or seed does not count; its results still do,
    # where the same trials are chosen again.
    again = document_of(_text(sweep, settings), str(path)).value
    for key in ("limits", "resources", "retry", "keep"):  # none of them changes a number
        submitted.pop(key, None)
        again.pop(key, None)
    if not settings or submitted != again:
        return None
    return _revision(sweep, settings[: sweep.search.n_trials])


def results(sweep: SearchSweep, revision: Revision) -> list[Tried | None]:
    """What each trial led to, by number; None for one that is not published in full."""
    bounds, diverged = _observed(sweep.store)
    by_series: dict[str, list[PlannedTrial]] = {}
    for planned in revision.planned.trials:
        by_series.setdefault(planned.series, []).append(planned)

    def result(number: int) -> Tried | None:
        settings = revision.settings[number]
        objectives: list[tuple[float, float]] = []
        for label in sweep.search.labels:
            runs = by_series[_series_label(sweep.search, number, label)]
            points = [(run.trajectory_id, run.trial.n_steps) for run in runs]
            if any(trajectory in diverged for trajectory, _ in points):
                return Tried(settings, (), ())
            if not all(point in bounds for point in points):
                return None
            each, stderrs = zip(*(bounds[point] for point in points), strict=True)
            # All seeds are evaluated on the same sequences with the same noise, so that the
            # standard error of their mean is that of one of them.
            objectives.append((sum(each) / len(each), max(stderrs)))
        means, errors = zip(*objectives, strict=True)
        return Tried(settings, means, errors)

    return [result(number) for number in range(len(revision.settings))]


def _observed(store: Store) -> tuple[dict[tuple[str, int], tuple[float, float]], set[str]]:
    """Bound and standard error by trajectory and step, and the trajectories that diverged."""
    bounds: dict[tuple[str, int], tuple[float, float]] = {}
    diverged: set[str] = set()
    for record in read_records(record_paths(store)):
        trajectory = record["trial"]["trajectory_id"]
        if record["trial"]["status"] == "diverged":
            diverged.add(trajectory)
        for row in record["observations"]:
            bounds[trajectory, row["step"]] = (
                row["bound_nats_per_token"],
                row["bound_stderr_nats_per_token"],
            )
    return bounds, diverged


def _revision(sweep: SearchSweep, settings: tuple[Settings, ...]) -> Revision:
    loaded = validated(document_of(_text(sweep, settings), _source(sweep)))
    return Revision(loaded, sweep.plan(loaded), settings)


def _source(sweep: SearchSweep) -> str:
    return f"{sweep.loaded.document.source} (search)"


def _text(sweep: SearchSweep, settings: Sequence[Settings]) -> str:
    """The sweep file of a search with these trials."""
    return dump(_fields(sweep, settings))


def _fields(sweep: SearchSweep, settings: Sequence[Settings]) -> dict[str, Any]:
    asked: dict[str, Any] = sweep.loaded.document.value
    at = asked["tune"]["at"]
    return {
        **{key: value for key, value in asked.items() if key not in ("tune", "ask")},
        "name": search_name(asked["name"]),
        "description": _description(sweep),
        "series": dict(_series(sweep, settings)),
        "design": {"list": [{"size": at["size"], "tokens": at["tokens"]}]},
        "keep": "none",
    }


def _description(sweep: SearchSweep) -> str:
    """What was searched and how: all that decides the settings besides the results."""
    search = sweep.search
    space = ", ".join(
        f"{name} in {[*map(text_of, dimension.choices)] or list(dimension.ends or ())}"
        f"{' by its logarithm' if dimension.is_log else ''}"
        for name, dimension in search.space.items()
    )
    return (
        f"Search for {sweep.loaded.sweep.name}, series {', '.join(search.labels)}: {space}; "
        f"{search.n_parallel} at a time by {search.sampler}, seed {search.seed}"
    )


def _series(
    sweep: SearchSweep, settings: Sequence[Settings]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each trial as a series, or as one for each of the series tuned together."""
    written = sweep.loaded.document.value["series"]
    seeds = _seeds(sweep)
    n_before: Counter[str] = Counter()
    for number, chosen in enumerate(settings):
        # A sampler that chooses the same again wants to know it better: with seeds of its own.
        same = text_of([[name, chosen[name]] for name in sweep.search.space])
        shift = n_before[same] * (max(seeds) + 1)
        n_before[same] += 1
        for label in sweep.search.labels:
            options = {key: value for key, value in chosen.items() if key not in SEARCHED_KEYS}
            train = {key: value for key, value in chosen.items() if key in SEARCHED_KEYS}
            own = written[label]
            yield (
                _series_label(sweep.search, number, label),
                {
                    **own,
                    **options,
                    "train": {
                        **own.get("train", {}),
                        **train,
                        "seeds": [seed + shift for seed in seeds],
                    },
                },
            )


def _seeds(sweep: SearchSweep) -> tuple[int, ...]:
    choice = sweep.loaded.sweep.tune
    return choice.seeds or (choice.seed,)


def _series_label(search: Search, number: int, label: str) -> str:
    return f"t{number:04d}" if len(search.labels) == 1 else f"t{number:04d}-{label}"


def _settings_in(sweep: SearchSweep, series: dict[str, Any]) -> tuple[Settings, ...]:
    """The inverse of `_series`; raises KeyError and TypeError where it was not written by that."""
    n_settings = len(series) // len(sweep.search.labels)
    first = [
        series[_series_label(sweep.search, number, sweep.search.labels[0])]
        for number in range(n_settings)
    ]
    return tuple(
        {
            name: entry["train"][name] if name in SEARCHED_KEYS else entry[name]
            for name in sweep.search.space
        }
        for entry in first
    )
