"""What is tried next follows from what was tried, and from nothing else."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from sweeper.planning.search_space import Dimension
from sweeper.tuning.search import (
    SAMPLERS,
    Search,
    Settings,
    Tried,
    best,
    propose_generation,
    study_of,
    told_values,
)

SPACE = {
    "weight_decay": Dimension((1e-3, 1.0), is_log=True),
    "shift": Dimension((-4.0, 4.0)),
    "warmup": Dimension((10.0, 100.0), is_whole=True),
    "betas": Dimension(None, choices=([0.9, 0.95], [0.9, 0.99])),
}
SLOW = {"gp": [pytest.mark.slow]}  # half a second a trial
EACH = [pytest.param(name, id=name, marks=SLOW.get(name, [])) for name in SAMPLERS]
WITH_SERIES = [
    pytest.param(name, labels, id=f"{name}-{len(labels)}", marks=SLOW.get(name, []))
    for name in SAMPLERS
    for labels in (("uniform",), ("masked", "uniform"))
    if name != "cmaes" or len(labels) == 1
]


def search(sampler: Any = "tpe", labels: tuple[str, ...] = ("uniform",), **changes: Any) -> Search:
    asked = {"n_trials": 18, "n_parallel": 4, "sampler": sampler, "seed": 0, **changes}
    return Search(space=SPACE, labels=labels, **asked)


def planted(settings: Settings, labels: Sequence[str] = ("uniform",)) -> Tried:
    """A valley at weight decay .05 and shift 1; the other objective has it at shift -1."""
    decay = math.log(settings["weight_decay"] / 0.05) ** 2
    bounds = tuple(
        2 + 0.1 * decay + (settings["shift"] - (-1) ** (i + len(labels) - 1)) ** 2
        for i, _ in enumerate(labels)
    )
    return Tried(settings, bounds, tuple(0.01 for _ in labels))


def searched(asked: Search) -> list[Tried]:
    history: list[Tried] = []
    for generation in range(asked.n_generations):
        proposed = propose_generation(asked, history, generation)
        history += [planted(settings, asked.labels) for settings in proposed]
    return history


@pytest.mark.parametrize(("sampler", "labels"), WITH_SERIES)
def test_the_same_history_gives_the_same_distinct_settings(
    sampler: str, labels: tuple[str, ...]
) -> None:
    asked = search(sampler, labels, n_trials=14)
    history = searched(asked)
    for generation in (0, 2, 3):  # whatever was asked in between
        numbers = asked.numbers(generation)
        again = propose_generation(asked, history[: numbers.start], generation)
        assert again == [history[number].settings for number in numbers]
    assert [*asked.numbers(3)] == [12, 13]
    if sampler != "nsga2":  # which may keep a parent as it is
        assert len({str(tried.settings) for tried in history}) == 14


@pytest.mark.parametrize("sampler", EACH)
def test_settings_stand_as_in_a_sweep_file(sampler: str) -> None:
    for tried in searched(search(sampler)):
        decay, shift = tried.settings["weight_decay"], tried.settings["shift"]
        assert 1e-3 <= decay <= 1
        assert decay == float(f"{decay:.4g}")
        assert -4 <= shift <= 4
        assert type(tried.settings["warmup"]) is int
        assert 10 <= tried.settings["warmup"] <= 100
        assert tried.settings["betas"] in SPACE["betas"].choices


def test_a_search_with_another_seed_tries_something_else() -> None:
    first, second = (propose_generation(search(seed=seed), [], 0) for seed in (0, 1))
    assert first != second


def test_quasi_random_settings_are_the_points_of_one_sequence() -> None:
    space = {name: SPACE[name] for name in ("weight_decay", "shift")}
    asked = Search(space, ("uniform",), 17, 4, "qmc", seed=3)
    history = searched(asked)
    cells = {
        (int(math.log10(t.settings["weight_decay"]) // 0.75), int(t.settings["shift"] // 2))
        for t in history[1:]
    }
    assert len(cells) >= 13  # of 16 cells in expectation; independent draws fill 10


@pytest.mark.parametrize("sampler", [p for p in EACH if p.id in ("gp", "cmaes")])
def test_a_search_closes_in_on_the_valley(sampler: str) -> None:
    history = searched(search(sampler, n_trials=32))
    first, last = (
        sum(t.bounds[0] for t in part) / len(part) for part in (history[:8], history[-8:])
    )
    assert last - 2 < (first - 2) / 4


def test_the_front_of_two_objectives_lies_between_their_valleys() -> None:
    asked = search("nsga2", ("masked", "uniform"), n_trials=60, n_parallel=6)
    history = searched(asked)
    front = best(history)
    assert len(front) >= 3
    study = study_of(asked, history)
    assert front == [trial.number for trial in study.best_trials]
    assert all(-1.5 < history[number].settings["shift"] < 1.5 for number in front)


def test_a_diverged_trial_is_told_as_the_worst_that_did_not_diverge() -> None:
    asked = search("tpe", n_trials=4)
    first, second, third, fourth = propose_generation(asked, [], 0)
    history = [
        Tried(first, (2.5,), (0.1,)),
        Tried(second, (), ()),
        Tried(third, (3.5,), (0.1,)),
        Tried(fourth, (2.0,), (0.1,)),
    ]
    assert told_values(history) == [(2.5,), (3.5,), (3.5,), (2.0,)]
    assert best(history) == [3]
    told = study_of(asked, history).trials
    assert [trial.value for trial in told] == [2.5, 3.5, 3.5, 2.0]


@pytest.mark.parametrize("sampler", EACH)
def test_a_search_goes_on_when_all_of_its_first_trials_diverge(sampler: str) -> None:
    asked = search(sampler, n_trials=8)
    history = [Tried(settings, (), ()) for settings in propose_generation(asked, [], 0)]
    assert {trial.state.name for trial in study_of(asked, history).trials} == {"FAIL"}
    assert len(propose_generation(asked, history, 1)) == 4
    assert best(history) == []


def test_a_history_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="wants 4 results"):
        propose_generation(search(), [], 1)
