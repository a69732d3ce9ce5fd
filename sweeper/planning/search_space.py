"""What a search chooses from: every setting checked against `train` and the series' families."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pydantic

from sweeper.errors import ConfigError
from sweeper.families import decoded_option, encoded_options, load_family
from sweeper.sweepfile.choices.search import DimensionChoice, SearchChoice
from sweeper.sweepfile.choices.training import Series, Train
from sweeper.sweepfile.messages import problems
from sweeper.sweepfile.problems import InvalidSweep, Problem, expected_one_of
from sweeper.sweepfile.schema import Sweep

SEARCHED_KEYS = tuple(
    key for key in Train.model_fields if key not in ("laws", "max_horizon_bias", "seeds")
)
"""Keys of `train` that can be searched: `tune.seeds` has the seeds, and laws are no settings."""
INSIDE = 0.381966  # share of a range at which one of whole numbers is told from one of reals

Refusal = Callable[[Any], str]
"""Why a value cannot stand for a setting; empty if it can."""


@dataclass(frozen=True)
class Dimension:
    """The values of one setting."""

    ends: tuple[float, float] | None
    """Lowest and highest value; None for choices."""
    is_log: bool = False
    is_whole: bool = False
    """Whole numbers alone."""
    multiple_of: int = 1
    """Of a whole number; both ends are such multiples."""
    choices: tuple[Any, ...] = ()
    """As they would stand in the sweep file."""


def search_space(sweep: Sweep, search: SearchChoice, vocab_size: int) -> dict[str, Dimension]:
    """The settings a search varies, in the order of the file; raises InvalidSweep."""
    labels = search.series or tuple(sweep.series)
    space: dict[str, Dimension] = {}
    found: list[Problem] = []
    for i, label in enumerate(labels):
        if label not in sweep.series:
            path = ("tune", "series", i) if len(labels) > 1 else ("tune", "series")
            found.append(Problem(path, expected_one_of(label, sweep.series)))
    if found:
        raise InvalidSweep(found)
    found += _problems_of_several(search, len(labels))
    for name, choice in search.search.items():
        refusals = [_refusal(name, sweep.series[label], vocab_size) for label in labels]
        if None in refusals:
            found.append(_unknown(name, [sweep.series[label] for label in labels], vocab_size))
            continue
        known = [refusal for refusal in refusals if refusal]
        if wrong_values := [*_value_problems(name, choice, known)]:
            found += wrong_values
            continue
        dimension = _dimension(choice, known)
        if name == "batch_tokens":
            dimension = _in_multiples(dimension, sweep.corpus.seq_len)
        space[name] = dimension
    if found:
        raise InvalidSweep(found)
    return space


def _problems_of_several(search: SearchChoice, n_series: int) -> Iterator[Problem]:
    """What cannot search several series together, each with an objective of its own."""
    if n_series == 1:
        return
    if search.sampler == "cmaes":
        expected = f"for {n_series} series — expected gp, nsga2, qmc, random or tpe"
        yield Problem(("tune", "sampler"), expected)
    if search.pruner:
        expected = (
            f"for {n_series} series, each with an objective of its own — a pruner judges by one: "
            "leave it out, or name one series in tune.series"
        )
        yield Problem(("tune", "pruner"), expected, at_key=True)


def _refusal(name: str, series: Series, vocab_size: int) -> Refusal | None:
    """What judges a setting of a series; None where the series has no such setting."""
    if name in SEARCHED_KEYS:
        return lambda value: _refused_by_train(name, value)
    options = {key: decoded_option(value) for key, value in series.options.items()}
    if name not in _options_of(series, vocab_size):
        return None

    def refused_by_family(value: Any) -> str:
        asked = {**options, name: decoded_option(value)}
        try:
            encoded_options(load_family(series.family, vocab_size=vocab_size, **asked))
        except ConfigError as error:
            return str(error)
        return ""

    return refused_by_family


def _refused_by_train(name: str, value: Any) -> str:
    try:
        Train.model_validate({name: value})
    except pydantic.ValidationError as error:
        return problems(error, Train)[0].expected
    return ""


def _options_of(series: Series, vocab_size: int) -> list[str]:
    options = {key: decoded_option(value) for key, value in series.options.items()}
    family = load_family(series.family, vocab_size=vocab_size, **options)
    return [name for name, _ in encoded_options(family)]


def _unknown(name: str, tuned: list[Series], vocab_size: int) -> Problem:
    """A name that is no key of `train`, nor an option of every series."""
    shared = [_options_of(series, vocab_size) for series in tuned]
    options = [option for option in shared[0] if all(option in each for each in shared)]
    whose = f"the family {tuned[0].family}" if len(tuned) == 1 else "all of the series"
    expected = (
        f"neither a key of train nor an option of {whose}; "
        f"{expected_one_of(name, [*SEARCHED_KEYS, *options])}"
    )
    return Problem(("tune", "search", name), expected, f"unknown key {name!r}", at_key=True)


def _value_problems(
    name: str, choice: DimensionChoice, refusals: list[Refusal]
) -> Iterator[Problem]:
    kind = "choices" if choice.choices else "log" if choice.log else "range"
    for i, value in enumerate(choice.choices or choice.log or choice.span or ()):
        for refused in refusals:
            if expected := refused(plain(value)):
                yield Problem(("tune", "search", name, kind, i), expected)
                break


def _in_multiples(dimension: Dimension, unit: int) -> Dimension:
    """The range without the numbers that are no multiple; as it is where none of them is one."""
    if dimension.ends is None:
        return dimension
    low, high = math.ceil(dimension.ends[0] / unit) * unit, dimension.ends[1] // unit * unit
    if low >= high:
        return dimension
    return dataclasses.replace(dimension, ends=(low, high), multiple_of=unit)


def plain(value: Any) -> Any:
    """A whole number without its decimal point, anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _dimension(choice: DimensionChoice, refusals: list[Refusal]) -> Dimension:
    if choice.choices:
        return Dimension(None, choices=choice.choices)
    ends = choice.log or choice.span
    assert ends is not None  # exactly one is given
    inside = ends[0] + INSIDE * (ends[1] - ends[0])
    # A setting that takes both ends and nothing of what lies between takes whole numbers.
    is_whole = any(refused(inside) for refused in refusals)
    return Dimension(ends, is_log=choice.log is not None, is_whole=is_whole)
