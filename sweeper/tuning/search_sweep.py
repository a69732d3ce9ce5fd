"""A search as an ordinary sweep, `<name>-search`, which each generation of its trials extends.

Its sweep file is all that is written down of what was decided, and its published records are all
that decides what comes next. So planning, driving, storing and resuming are those of any sweep,
and a search that is killed at any moment goes on as if it had not been.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import ConfigError
from sweeper.planning.planner import PlannedSweep
from sweeper.planning.runs import MIN_STEPS
from sweeper.planning.search_space import SEARCHED_KEYS, search_space
from sweeper.store.layout import Store
from sweeper.store.pending import pending_trials
from sweeper.store.results import published, read_records, record_paths
from sweeper.sweepfile.document import document_of
from sweeper.sweepfile.problems import Problem
from sweeper.sweepfile.schema import LoadedSweep, validated
from sweeper.sweepfile.strict_yaml.dump import dump
from sweeper.trials.plan import Observation, PlannedTrial
from sweeper.trials.trial import ENDLESS_SCHEDULES
from sweeper.tuning.pruning import Course, Standing, standings
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
    whole: PlannedSweep
    """With every run to its end."""
    planned: PlannedSweep
    """With every run as far as its trial has come."""
    settings: tuple[Settings, ...]
    """Of all trials, by number."""


def search_of(loaded: LoadedSweep, vocab_size: int) -> Search:
    """The search of a sweep; raises InvalidSweep for what it cannot vary."""
    choice = loaded.sweep.tune
    shares = choice.milestones if choice.pruner else ()
    return Search(
        space=search_space(loaded.sweep, choice, vocab_size),
        labels=choice.series or tuple(loaded.sweep.series),
        n_trials=choice.trials,
        n_parallel=choice.parallel,
        sampler=choice.sampler,
        seed=choice.seed,
        pruner=choice.pruner,
        milestones=(*(round(100 * share) for share in shares), 100),
    )


def check_search(sweep: SearchSweep) -> None:
    """Raise ConfigError for a search with a corner that cannot be trained, or beyond its limits."""
    fields = _fields(sweep, corners(sweep.search))
    fields.pop("limits", None)  # of all trials, of which corners are none
    planned = sweep.plan(validated(document_of(dump(fields), _source(sweep))))
    limits, n_series = sweep.loaded.sweep.limits, len(sweep.search.labels)
    n_runs = sweep.search.n_trials * n_series * len(_seeds(sweep))
    flops = n_runs * max(trial.train_flops for trial in planned.trials)
    problems = [*_pruner_problems(sweep.search, planned)]
    if n_runs > limits.n_trials:
        expected = f"the search has {n_runs:,}: raise it or lower tune.trials"
        problems.append(Problem(("limits", "trials"), expected))
    if flops > limits.flops:
        expected = f"the search costs up to {flops:.3g} FLOPs: raise it or lower tune.trials"
        problems.append(Problem(("limits", "flops"), expected))
    if problems:
        raise ConfigError(sweep.loaded.document.describe(problems))


def _pruner_problems(search: Search, planned: PlannedSweep) -> Iterator[Problem]:
    """Why the runs of a search cannot be stopped and lengthened."""
    if search.pruner is None:
        return
    schedules = {each.trial.optimizer.schedule for each in planned.trials}
    if other := sorted(schedules.difference(ENDLESS_SCHEDULES)):
        expected = f"a run with schedule {other[0]} cannot be lengthened: expected constant alone"
        yield Problem(("tune", "pruner"), expected, at_key=True)
        return
    least = min(_step(each, search.milestones[0]) for each in planned.trials)
    if least < MIN_STEPS:
        expected = f"{least} steps until the first; expected at least {MIN_STEPS}: raise it"
        yield Problem(("tune", "milestones"), expected)


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
    if last and len(tried) < len(decided):
        # Trials that are not pruned go on to their next milestone.
        goes_on = search.pruner and pending_trials(last.planned.trials, published(sweep.store))
        return last if goes_on else None
    if len(decided) == search.n_trials:
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
    courses = _courses(sweep, revision.whole, len(revision.settings))
    found = zip(revision.settings, courses, standings(sweep.search, courses), strict=True)
    return [_tried(sweep.search, *one) for one in found]


def flops_saved(sweep: SearchSweep, revision: Revision) -> float:
    """Training FLOPs of what pruned trials would have been trained on."""
    courses = _courses(sweep, revision.whole, len(revision.settings))
    labels = {
        _series_label(sweep.search, number, label)
        for number, standing in enumerate(standings(sweep.search, courses))
        for label in sweep.search.labels
        if standing.state == "pruned"
    }
    pairs = zip(revision.whole.trials, revision.planned.trials, strict=True)
    return math.fsum(
        whole.train_flops - cut.train_flops for whole, cut in pairs if whole.series in labels
    )


def _tried(search: Search, settings: Settings, course: Course, standing: Standing) -> Tried | None:
    """What a trial led to, if that is known."""
    if standing.state == "open":
        return None
    reports: tuple[tuple[int, float], ...] = ()
    if search.pruner is not None:
        reached = course.bounds[: standing.n_milestones]
        reports = tuple(
            (percent, bound) for percent, (bound,) in zip(search.milestones, reached, strict=False)
        )
    if standing.state == "done":
        return Tried(settings, course.bounds[-1], course.stderrs[-1], reports)
    return Tried(settings, (), (), reports, is_pruned=standing.state == "pruned")


def _courses(sweep: SearchSweep, whole: PlannedSweep, n_trials: int) -> list[Course]:
    """What each trial has measured so far, by number."""
    bounds, diverged = _observed(sweep.store)
    by_series: dict[str, list[PlannedTrial]] = {}
    for planned in whole.trials:
        by_series.setdefault(planned.series, []).append(planned)

    def measured(runs: Sequence[PlannedTrial], percent: int) -> tuple[float, float] | None:
        points = [(run.trajectory_id, _step(run, percent)) for run in runs]
        if not all(point in bounds for point in points):
            return None
        each, stderrs = zip(*(bounds[point] for point in points), strict=True)
        # All seeds are evaluated on the same sequences with the same noise, so that the standard
        # error of their mean is that of one of them.
        return sum(each) / len(each), max(stderrs)

    def course(number: int) -> Course:
        labels = (_series_label(sweep.search, number, label) for label in sweep.search.labels)
        objectives = [by_series[label] for label in labels]
        passed = []
        for percent in sweep.search.milestones:
            found = [one for runs in objectives if (one := measured(runs, percent))]
            if len(found) < len(objectives):
                break
            passed.append(tuple(zip(*found, strict=True)))
        return Course(
            bounds=tuple(means for means, _ in passed),
            stderrs=tuple(errors for _, errors in passed),
            has_diverged=any(run.trajectory_id in diverged for runs in objectives for run in runs),
        )

    return [course(number) for number in range(n_trials)]


def _step(planned: PlannedTrial, percent: int) -> int:
    """The step after a share of a whole run."""
    return round(planned.trial.n_steps * percent / 100)


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
    whole = planned = sweep.plan(loaded)
    if sweep.search.pruner:
        planned = _as_far_as_they_come(sweep, whole, len(settings))
    return Revision(loaded, whole, planned, settings)


def _as_far_as_they_come(sweep: SearchSweep, whole: PlannedSweep, n_trials: int) -> PlannedSweep:
    """The plan with every run up to the milestone that its trial is to reach."""
    search = sweep.search
    found = standings(search, _courses(sweep, whole, n_trials))
    reach = {
        _series_label(search, number, search.labels[0]): search.milestones[: one.n_milestones]
        for number, one in enumerate(found)
    }
    may_keep = sweep.loaded.sweep.resources.keep_checkpoints != "never"
    trials = tuple(
        _observed_at(planned, reach[planned.series], may_keep) for planned in whole.trials
    )
    return dataclasses.replace(whole, plan=dataclasses.replace(whole.plan, trials=trials))


def _observed_at(planned: PlannedTrial, percents: Sequence[int], may_keep: bool) -> PlannedTrial:
    """A run that ends at the last of some milestones, and is observed at all of them."""
    # Same batches, rates and warmup as of the whole run, whose start it is.
    trial, kept_until = planned.trial, planned.checkpoint_kept_until
    steps = tuple(_step(planned, percent) for percent in percents)
    if may_keep and kept_until == "published" and percents[-1] < 100:
        kept_until = "complete"
    tokens = [step * trial.tokens_per_step for step in steps]
    per_token = planned.flops_per_token.total
    return dataclasses.replace(
        planned,
        trial=dataclasses.replace(trial, observe_at_steps=steps),
        cells=tuple(
            Observation(None, step, n_tokens, n_tokens * per_token)
            for step, n_tokens in zip(steps, tokens, strict=True)
        ),
        checkpoint_kept_until=kept_until,
    )


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
    search, pruned = sweep.search, ""
    if search.pruner is not None:
        options = text_of(search.pruner.model_dump(mode="json", exclude_none=True))
        pruned = f", pruned at {[*search.milestones[:-1]]} % of each run by {options}"
    space = ", ".join(
        f"{name} in {[*map(text_of, dimension.choices)] or list(dimension.ends or ())}"
        f"{' by its logarithm' if dimension.is_log else ''}"
        for name, dimension in search.space.items()
    )
    return (
        f"Search for {sweep.loaded.sweep.name}, series {', '.join(search.labels)}: {space}; "
        f"{search.n_parallel} at a time by {search.sampler}, seed {search.seed}{pruned}"
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
