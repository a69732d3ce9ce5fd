"""Which trials of a search are not trained to their end: a pruner of Optuna and its options.

Steps are percents of a whole run.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from sweeper.sweepfile.fields import Count, Number, Part, written, wrong

PrunerName = Literal[
    "successive_halving", "hyperband", "median", "percentile", "threshold", "patient"
]


class Halving(Part):
    """Of the trials that have reached a step so far, the best `1 / reduction_factor` go on."""

    reduction_factor: Annotated[Count, Field(ge=2, le=100)] = 2
    """One trial of so many goes on."""
    bootstrap_count: Annotated[Count, Field(ge=0, le=10_000)] = 0
    """Trials at a step before any is stopped there."""


class SuccessiveHalving(Halving):
    """Steps at which trials are stopped lie a factor `reduction_factor` apart, from the first
    milestone on."""

    min_early_stopping_rate: Annotated[Count, Field(ge=0, le=100)] = 0
    """So many factors later the first of them."""


class Median(Part):
    """Trials go on that are better than the median of the finished ones, at the same step."""

    n_startup_trials: Annotated[Count, Field(ge=0, le=10_000)] = 5
    """Finished trials before any is stopped."""
    n_warmup_steps: Annotated[Count, Field(ge=0, le=100)] = 0
    """Before this step none is stopped."""
    interval_steps: Annotated[Count, Field(ge=1, le=100)] = 1
    """Steps from one look to the next."""
    n_min_trials: Annotated[Count, Field(ge=1, le=10_000)] = 1
    """Values at a step without which none is stopped there."""


class Percentile(Median):
    """Trials go on that are among this share of the finished ones, at the same step."""

    percentile: Annotated[Number, Field(ge=0, le=100)]
    """The share, in percent."""


class Threshold(Part):
    """Trials go on whose bound lies between two values, in nats per token."""

    lower: Number | None = None
    """At or above which trials go on."""
    upper: Number | None = None
    """At or below which they do."""
    n_warmup_steps: Annotated[Count, Field(ge=0, le=100)] = 0
    """As in median."""
    interval_steps: Annotated[Count, Field(ge=1, le=100)] = 1
    """As in median."""

    @model_validator(mode="after")
    def _one_end(self) -> "Threshold":
        if self.lower is None and self.upper is None:
            raise wrong("expected the key 'lower' or 'upper': {upper: 4.5}")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise wrong("expected lower < upper", "upper")
        return self


class Patient(Part):
    """Trials go on whose bound has not risen over the last milestones, else as `pruner` says."""

    patience: Annotated[Count, Field(ge=0, le=100)]
    """Milestones beside the last."""
    min_delta: Annotated[Number, Field(ge=0)] = 0.0
    """Nats per token by which it may rise."""
    pruner: "PrunerChoice | None" = None
    """Absent: they are stopped."""


def _with_options(value: Any) -> Any:
    """A pruner that is named alone has its default options."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, Mapping):
        return {name: {} if options is None else options for name, options in value.items()}
    return value


class _Pruners(Part):
    successive_halving: SuccessiveHalving | None = None
    hyperband: Halving | None = None
    median: Median | None = None
    percentile: Percentile | None = None
    threshold: Threshold | None = None
    patient: Patient | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "_Pruners":
        given = [*self.model_fields_set]
        if len(given) != 1:
            raise wrong(f"{len(given)} pruners; expected one: median, or {{median: {{…}}}}")
        return self

    @property
    def name(self) -> PrunerName:
        """Of the pruner."""
        return next(name for name in get_args(PrunerName) if name in self.model_fields_set)

    @property
    def options(self) -> Part:
        """Of the pruner."""
        options: Part = getattr(self, self.name)
        return options


PrunerChoice = Annotated[_Pruners, written(_with_options, PrunerName | _Pruners)]
Patient.model_rebuild()
