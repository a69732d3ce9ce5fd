"""Which trials of a search go on, by a pruner of Optuna: a pure function of what they measured.

The trials of a generation run to the first milestone. There they report and the pruner is asked,
in the order of their numbers, when all have come; those that it lets go on run to the next.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.pruners import BasePruner

from sweeper.sweepfile.choices.pruner import Patient, PrunerChoice, PrunerName
from sweeper.tuning.search import Search


@dataclass(frozen=True)
class Course:
    """What a trial measured at the milestones that it has passed, one entry for each."""

    bounds: tuple[tuple[float, ...], ...]
    """Nats per token, one for each series."""
    stderrs: tuple[tuple[float, ...], ...]
    has_diverged: bool = False


@dataclass(frozen=True)
class Standing:
    """How a trial stands."""

    state: Literal["open", "pruned", "diverged", "done"]
    n_milestones: int
    """Those that it is to reach, or has reached."""


def standings(search: Search, courses: Sequence[Course]) -> list[Standing]:
    """Of each trial that is decided, by number."""
    if search.pruner is None:
        return [_unpruned(course) for course in courses]
    study = optuna.create_study(
        study_name="search",  # by which hyperband deals out its brackets
        direction="minimize",
        sampler=optuna.samplers.RandomSampler(0),
        pruner=_pruner(search.pruner, search.milestones[0]),
    )
    found: list[Standing] = []
    while len(found) < len(courses):
        numbers = search.numbers(len(found) // search.n_parallel)
        found += _of_generation(study, search.milestones, courses[numbers.start : numbers.stop])
    return found


def _unpruned(course: Course) -> Standing:
    if course.has_diverged:
        return Standing("diverged", 1)
    return Standing("done" if course.bounds else "open", 1)


def _of_generation(
    study: optuna.Study, milestones: Sequence[int], courses: Sequence[Course]
) -> list[Standing]:
    """Of a generation, which the study is told of as far as all its trials have come."""
    trials = [study.ask() for _ in courses]
    found = {i: Standing("open", 1) for i in range(len(courses))}
    going = set(found)
    for n, percent in enumerate(milestones, start=1):
        found |= {i: Standing("open", n) for i in going}
        arrived = {i: courses[i].bounds[n - 1][0] for i in going if len(courses[i].bounds) >= n}
        diverged = {i for i in going - set(arrived) if courses[i].has_diverged}
        found |= {i: Standing("diverged", n) for i in diverged}
        if len(arrived) + len(diverged) < len(going):
            break
        for i in sorted(diverged):
            study.tell(trials[i], state=optuna.trial.TrialState.FAIL)
        for i in sorted(arrived):
            trials[i].report(arrived[i], percent)
            if n == len(milestones):
                found[i] = Standing("done", n)
                study.tell(trials[i], arrived[i])
            elif trials[i].should_prune():
                found[i] = Standing("pruned", n)
                study.tell(trials[i], state=optuna.trial.TrialState.PRUNED)
        going = {i for i in arrived if found[i].state == "open"}
    return [found[i] for i in sorted(found)]


def _pruner(choice: PrunerChoice, first_milestone: int) -> BasePruner:
    """The pruner that a sweep file names, with its options."""
    options = choice.options.model_dump()
    if isinstance(choice.options, Patient):
        inner = choice.options.pruner
        options["wrapped_pruner"] = _pruner(inner, first_milestone) if inner else None
        del options["pruner"]
    options |= {
        "successive_halving": {"min_resource": first_milestone},
        "hyperband": {"min_resource": first_milestone, "max_resource": 100},
    }.get(choice.name, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of patient
        return PRUNERS[choice.name](**options)


PRUNERS: Mapping[PrunerName, Callable[..., BasePruner]] = {
    "successive_halving": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "threshold": optuna.pruners.ThresholdPruner,
    "patient": optuna.pruners.PatientPruner,
}
