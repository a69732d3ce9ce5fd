"""A search as a pure function of its history: which settings to try next, and which did best.

Trials are chosen in generations of `parallel`. What the sampler of Optuna is told is rebuilt from
the results each time: nothing of a study is ever stored. What a trial is made of, and how it is
trained, is left to `search_sweep.py`.
"""

import json
import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sweeper.planning.search_space import Dimension, plain
from sweeper.sweepfile.choices.pruner import PrunerChoice
from sweeper.sweepfile.choices.search import SamplerName

Settings = Mapping[str, Any]
"""A value for each name of a search space, as it would stand in the sweep file."""

DIGITS = 4  # of a number that is tried; more would only make the sweep file hard to read

# Optuna logs every trial and, as the driver cannot heed it, advice on how to be faster.
logging.getLogger("optuna").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Search:
    """What is searched, and how."""

    space: Mapping[str, Dimension]
    labels: tuple[str, ...]
    """Series that are tuned together: one objective each."""
    n_trials: int
    n_parallel: int
    sampler: SamplerName
    seed: int
    pruner: PrunerChoice | None = None
    milestones: tuple[int, ...] = (100,)
    """Percents of a run at which a trial is judged; the last is its end."""

    @property
    def n_generations(self) -> int:
        """Generations until all trials are made."""
        return math.ceil(self.n_trials / self.n_parallel)

    def numbers(self, generation: int) -> range:
        """The trials of one generation."""
        first = generation * self.n_parallel
        return range(first, min(first + self.n_parallel, self.n_trials))


@dataclass(frozen=True)
class Tried:
    """One setting and what it led to."""

    settings: Settings
    bounds: tuple[float, ...]
    """Nats per token, one for each series; empty where a run diverged, or the trial was pruned."""
    stderrs: tuple[float, ...]
    """Of the bounds: evaluation alone."""
    reports: tuple[tuple[int, float], ...] = ()
    """Percent of the run, and the bound there, of a search with a pruner."""
    is_pruned: bool = False


def propose_generation(
    search: Search, history: Sequence[Tried], generation: int
) -> list[dict[str, Any]]:
    """The settings of a generation, given the results of all trials before it.

    The same history gives the same settings. Raises ValueError for a history of another length.
    """
    numbers = search.numbers(generation)
    if len(history) != numbers.start:
        raise ValueError(
            f"generation {generation} wants {numbers.start} results, not {len(history)}"
        )
    study = study_of(search, history)
    # Each trial is in the study, running, when the next one is chosen, so that a sampler which
    # heeds that (TPE as a liar, GP) does not choose it twice.
    return [_settings_of(search, _ask(study, search, number)) for number in numbers]


def study_of(search: Search, history: Sequence[Tried]) -> optuna.Study:
    """A study in memory with all trials of a history."""
    study = optuna.create_study(
        directions=["minimize"] * len(search.labels), sampler=optuna.samplers.RandomSampler(0)
    )
    if SAMPLERS[search.sampler].keeps_notes:
        _replay(study, search, history)
    else:
        told = zip(history, told_values(history), strict=True)
        study.add_trials([frozen_trial(search, tried, values) for tried, values in told])
    return study


def frozen_trial(
    search: Search, tried: Tried, values: tuple[float, ...] | None
) -> optuna.trial.FrozenTrial:
    """A trial as Optuna has it, with the values it is to be told; None: a failure, or pruned."""
    return optuna.trial.create_trial(
        state=_state(tried, values),
        # A pruned trial has the value that it was last seen at, as when a study is told of it.
        values=(tried.reports[-1][1],) if tried.is_pruned else values,
        params=params_of(search, tried.settings),
        distributions=distributions(search),
        intermediate_values=dict(tried.reports),
    )


def _state(tried: Tried, values: tuple[float, ...] | None) -> optuna.trial.TrialState:
    if tried.is_pruned:
        return optuna.trial.TrialState.PRUNED
    return optuna.trial.TrialState.FAIL if values is None else optuna.trial.TrialState.COMPLETE


def told_values(history: Sequence[Tried]) -> list[tuple[float, ...] | None]:
    """What a sampler is told of each trial; None where there is nothing to tell, or it was pruned.

    A diverged trial is told as the worst that did not diverge, in each objective. Left out, as
    Optuna leaves out failures, it would be tried again and again; at the bound of a blind model,
    several times that of all others, it would be all that a Gaussian process sees.
    """
    finished = [tried.bounds for tried in history if tried.bounds]
    worst = tuple(map(max, zip(*finished, strict=True))) or None
    return [None if tried.is_pruned else tried.bounds or worst for tried in history]


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """The space as Optuna has it."""
    return {name: _distribution(dimension) for name, dimension in search.space.items()}


def params_of(search: Search, settings: Settings) -> dict[str, Any]:
    """Settings as Optuna has them: choices as text."""
    return {
        name: text_of(settings[name]) if dimension.choices else settings[name]
        for name, dimension in search.space.items()
    }


def text_of(choice: Any) -> str:
    """A choice as a study shows it."""
    return choice if isinstance(choice, str) else json.dumps(choice)


def corners(search: Search) -> list[dict[str, Any]]:
    """Settings at the ends of all ranges, with every choice among them."""
    n_choices = max(1, *(len(dimension.choices) for dimension in search.space.values()))
    return [
        {
            name: dimension.choices[i % len(dimension.choices)]
            if dimension.ends is None
            else _setting(dimension, dimension.ends[end])
            for name, dimension in search.space.items()
        }
        for i in range(n_choices)
        for end in (0, 1)
    ]


def best(history: Sequence[Tried]) -> list[int]:
    """Numbers of the trials that none beats in every objective: with one, the lowest bound."""
    finished = [(number, tried.bounds) for number, tried in enumerate(history) if tried.bounds]
    return [
        number
        for number, bounds in finished
        if not any(
            other != bounds and all(a <= b for a, b in zip(other, bounds, strict=True))
            for _, other in finished
        )
    ]


@dataclass(frozen=True)
class Sampler:
    """A sampler of Optuna."""

    make: Callable[[Search, int], optuna.samplers.BaseSampler]
    """For a search and the seed of one trial."""
    keeps_notes: bool = False
    """It reads what it noted in the study when it chose earlier trials, not only their results."""


SAMPLERS: Mapping[SamplerName, Sampler] = {
    "tpe": Sampler(lambda _, seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True)),
    "gp": Sampler(lambda _, seed: optuna.samplers.GPSampler(seed=seed)),
    "random": Sampler(lambda _, seed: optuna.samplers.RandomSampler(seed=seed)),
    # All of its trials must be points of one sequence, so they share its seed.
    "qmc": Sampler(
        lambda search, _: optuna.samplers.QMCSampler(seed=search.seed, scramble=True),
        keeps_notes=True,
    ),
    "cmaes": Sampler(
        lambda _, seed: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        keeps_notes=True,
    ),
    # A population is what is trained at a time; two is the fewest that can cross.
    "nsga2": Sampler(
        lambda search, seed: optuna.samplers.NSGAIISampler(
            seed=seed, population_size=max(2, search.n_parallel)
        ),
        keeps_notes=True,
    ),
}


def _replay(study: optuna.Study, search: Search, history: Sequence[Tried]) -> None:
    """Let the sampler choose each generation again, for its notes, and replace what it chose."""
    values = told_values(history)
    for generation in range(math.ceil(len(history) / search.n_parallel)):
        numbers = search.numbers(generation)
        trials = []
        for number in numbers:
            study.enqueue_trial(params_of(search, history[number].settings))
            trials.append(_ask(study, search, number))
        for number, trial in zip(numbers, trials, strict=True):
            told, tried = values[number], history[number]
            for percent, bound in tried.reports if len(search.labels) == 1 else ():
                trial.report(bound, percent)
            study.tell(trial, told, state=None if told else _state(tried, told))


def _ask(study: optuna.Study, search: Search, number: int) -> optuna.Trial:
    # A sampler of its own for each trial, as what one keeps in memory (random states, kernels)
    # would depend on when the search was last interrupted.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of QMC
        study.sampler = SAMPLERS[search.sampler].make(search, _seed(search.seed, number))
        trial = study.ask(distributions(search))
        # Asking for the relative parameters makes the sampler choose them for a trial of the past,
        # too, whose `params` are its own, and note it.
        _ = trial.relative_params
    return trial


def _settings_of(search: Search, trial: optuna.Trial) -> dict[str, Any]:
    params = {**(trial.relative_params or {}), **trial.params}
    return {name: _setting(search.space[name], params[name]) for name in search.space}


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.ends is None:
        return CategoricalDistribution([text_of(choice) for choice in dimension.choices])
    low, high = dimension.ends
    if dimension.is_whole:
        return IntDistribution(int(low), int(high), log=dimension.is_log)
    return FloatDistribution(low, high, log=dimension.is_log)


def _setting(dimension: Dimension, param: Any) -> Any:
    """A value of Optuna as the sweep file would have it."""
    if dimension.ends is None:
        return next(choice for choice in dimension.choices if text_of(choice) == param)
    if dimension.is_whole:
        return round(param / dimension.multiple_of) * dimension.multiple_of
    low, high = dimension.ends
    return plain(min(max(float(f"{param:.{DIGITS}g}"), low), high))
