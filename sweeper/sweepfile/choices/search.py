"""A search in a sweep file: what is searched with Optuna, where and how."""

import json
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from sweeper.sweepfile.choices.pruner import PrunerChoice
from sweeper.sweepfile.fields import (
    Count,
    Distinct,
    Number,
    OneOrSeveral,
    Pair,
    Part,
    Seed,
    Several,
    Size,
    Tokens,
    wrong,
)

SamplerName = Literal["tpe", "gp", "random", "qmc", "cmaes", "nsga2"]


def _increasing(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] < ends[1]:
        raise wrong("expected [low, high] with low < high")
    return ends


def _positive(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] <= 0:
        raise wrong("expected a low end above 0, as the logarithm is searched", 0)
    return ends


def _whole_percents(shares: tuple[float, ...]) -> tuple[float, ...]:
    for i, share in enumerate(shares):
        if not 1 <= 100 * share <= 99 or not math.isclose(100 * share, round(100 * share)):
            raise wrong("expected whole percents of a run from 1% to 99%", i)
        if i and share <= shares[i - 1]:
            raise wrong("expected shares in increasing order", i)
    return shares


def _distinct_choices(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    first: dict[str, int] = {}
    for i, choice in enumerate(choices):
        # As a study shows it, where 0.1 and "0.1" would be one choice.
        text = choice if isinstance(choice, str) else json.dumps(choice)
        if text in first:
            raise wrong(f"the same as entry {first[text]}; expected distinct entries", i)
        first[text] = i
    return choices


Milestones = Annotated[tuple[Number, ...], Several, AfterValidator(_whole_percents)]
Ends = Annotated[tuple[Number, Number], Pair, AfterValidator(_increasing)]


class DimensionChoice(Part):
    """The values of one setting: a range, a range in the logarithm, or a list."""

    span: Ends | None = Field(default=None, alias="range")
    """[low, high]"""
    log: Annotated[Ends, AfterValidator(_positive)] | None = None
    """[low, high], searched in the logarithm."""
    choices: Annotated[tuple[Any, ...], Several, AfterValidator(_distinct_choices)] | None = None
    """As they would stand in the sweep file."""

    @model_validator(mode="after")
    def _exactly_one(self) -> "DimensionChoice":
        given = [key for key in ("log", "span", "choices") if key in self.model_fields_set]
        if not given:
            raise wrong("expected exactly one of log, range and choices")
        if len(given) > 1:
            second = "range" if given[1] == "span" else given[1]
            raise wrong("a second way; expected exactly one", second, at_key=True)
        return self


class ReferenceCell(Part):
    """Where settings are compared."""

    size: Size
    """As in isoflop."""
    tokens: Tokens
    """Training tokens."""


class SearchChoice(Part):
    """A search by Optuna over settings of some series, at one size and number of tokens."""

    search: dict[str, DimensionChoice] = Field(default_factory=dict)
    """By the name of a key of `train` or of an option of the family."""
    at: ReferenceCell | None = None
    """Size and tokens of every run."""
    series: Annotated[tuple[str, ...], OneOrSeveral, Distinct] = ()
    """Labels; several are tuned together, each with an objective of its own. Absent: all."""
    trials: Annotated[Count, Field(ge=1, le=10_000)] = 24
    """Settings to try."""
    parallel: Annotated[Count, Field(ge=1, le=1_000)] = 4
    """Settings that are chosen, and trained, at a time."""
    sampler: SamplerName = "tpe"
    """Of Optuna."""
    seeds: Annotated[tuple[Seed, ...], Several, Distinct] = ()
    """One run of every setting for each, of whose bounds the mean counts; absent: `seed`."""
    pruner: PrunerChoice | None = None
    """Which settings are given up before their runs end; absent: none."""
    milestones: Milestones = (0.25, 0.5)
    """Shares of a run after which the pruner is asked."""

    @model_validator(mode="after")
    def _sensible(self) -> "SearchChoice":
        if "search" not in self.model_fields_set:
            return self
        if not self.search:
            raise wrong("expected at least one setting: {weight_decay: {log: [1e-3, 1]}}", "search")
        if self.at is None:
            raise wrong("expected the key 'at': {size: 20K, tokens: 1.5M}")
        if self.pruner is None and "milestones" in self.model_fields_set:
            raise wrong("of a pruner: expected pruner beside it", "milestones", at_key=True)
        if self.sampler == "cmaes":
            n_ranges = sum(one.choices is None for one in self.search.values())
            if n_ranges < 2:
                raise wrong(f"{n_ranges} of range or log; expected at least 2", "sampler")
        return self
