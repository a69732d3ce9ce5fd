"""`design` in a sweep file: which sizes are trained on how many tokens."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sweeper.sweepfile.choices.question import AddedRuns, AutoDesign
from sweeper.sweepfile.choices.training import Train
from sweeper.sweepfile.fields import (
    Budget,
    Distinct,
    Number,
    OneOrSeveral,
    Pair,
    Part,
    Several,
    Size,
    Sizes,
    StepsBySize,
    Tokens,
    distinct,
    wrong,
)
from sweeper.trials.ladder import Rung


class IsoFlopDesign(Part):
    """Every size observed at every budget its tokens-per-parameter window allows."""

    budgets: Annotated[tuple[Budget, ...], Several, Distinct]
    """Training FLOPs; order does not matter."""
    sizes: Sizes
    """Trunk parameters (20K), names of published models, or {layers, width, heads}."""
    tokens_per_param: Annotated[tuple[Number, Number], Pair] = (0.0, math.inf)
    """Window for tokens per trunk parameter, ends included."""

    on_unbracketed: Literal["warn", "propose", "extend"] = "warn"
    """Where a minimum lies outside the sizes: say so in fits, name the runs that would bracket it
    when `sweeper run` ends, or train these, too, within the limits."""

    @model_validator(mode="after")
    def _window(self) -> "IsoFlopDesign":
        low, high = self.tokens_per_param
        if not 0 <= low < high:
            raise wrong("expected [low, high] with 0 <= low < high", "tokens_per_param")
        return self


class GridDesign(Part):
    """Every size trained on every number of tokens."""

    sizes: Sizes
    """As in isoflop."""
    tokens: Annotated[tuple[Tokens, ...], Several, Distinct]
    """Training tokens."""


class ZipDesign(Part):
    """The first size on the first number of tokens, the second on the second, and so on."""

    sizes: Annotated[tuple[Size, ...], Several]
    """As in isoflop."""
    tokens: Annotated[tuple[Tokens, ...], Several]
    """As many numbers of training tokens."""

    @model_validator(mode="after")
    def _distinct_pairs(self) -> "ZipDesign":
        if len(self.sizes) != len(self.tokens):
            raise wrong(f"expected {len(self.sizes)} entries, one for each of sizes", "tokens")
        distinct([*zip(self.sizes, self.tokens, strict=True)], "tokens")
        return self


class ListedRuns(Part):
    """Runs observed at given lengths: one size or several, of one series, several or all."""

    series: Annotated[tuple[str, ...], OneOrSeveral] = ()
    """Labels; absent: every series."""
    size: Size | None = None
    """One size."""
    sizes: Sizes = ()
    """Or several that share a length."""
    tokens: Annotated[tuple[Tokens, ...], OneOrSeveral] | None = None
    """Training tokens at which the runs are observed, the last being their length."""
    steps: Annotated[tuple[Tokens, ...], OneOrSeveral] | None = None
    """Or optimiser steps."""
    steps_by_size: StepsBySize | None = None
    """Or optimiser steps of each size: {20K: 1000, 40K: 500}."""
    budget: Budget | None = None
    """Training FLOPs that the runs stand for, in whatever convention they were chosen by."""
    train: Train = Train()
    """What these runs train otherwise than the sweep and their series."""

    @property
    def all_sizes(self) -> tuple[Rung, ...]:
        """Sizes that share `tokens` or `steps`."""
        return self.sizes if self.size is None else (self.size,)

    @model_validator(mode="after")
    def _sensible(self) -> "ListedRuns":
        lengths = [key for key in ("tokens", "steps", "steps_by_size") if getattr(self, key)]
        sizes = [key for key in ("size", "sizes", "steps_by_size") if getattr(self, key)]
        if not lengths:
            raise wrong("expected one of the keys 'tokens', 'steps' and 'steps_by_size'")
        for keys in (lengths, sizes):
            if len(keys) > 1:
                expected = f"a second choice beside {keys[0]}; expected exactly one"
                raise wrong(expected, keys[1], at_key=True)
        if not sizes:
            raise wrong("expected the key 'size' or 'sizes'")
        return self


class Design(Part):
    """Exactly one way of choosing sizes and tokens, and runs added to it."""

    isoflop: IsoFlopDesign | None = None
    """Every size at every budget."""
    grid: GridDesign | None = None
    """Every size on every number of tokens."""
    zipped: ZipDesign | None = Field(default=None, alias="zip")
    """The first size on the first number of tokens, and so on."""
    listed: Annotated[tuple[ListedRuns, ...], Several] | None = Field(default=None, alias="list")
    """Run by run."""
    auto: AutoDesign | None = None
    """Sizes, budgets and seeds chosen for a total cost."""
    added: tuple[AddedRuns, ...] = ()
    """Further runs, by hand or by rounds of `sweeper run`."""

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        kinds = ("isoflop", "grid", "zip", "list", "auto")
        given = [key for key in value if key in kinds]
        if len(given) > 1:
            expected = f"a second design beside {given[0]}; expected exactly one"
            raise wrong(expected, given[1], at_key=True)
        if not given and set(value) <= {"added"}:
            raise wrong(f"expected exactly one of {', '.join(kinds)}")
        if given and value[given[0]] is None:
            raise wrong("expected the sizes and budgets or tokens of the design", given[0])
        return value
