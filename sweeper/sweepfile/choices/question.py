"""The parts of a sweep file that let a sweep plan itself: what is asked, and runs that follow."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sweeper.sweepfile.fields import (
    Budget,
    Count,
    Distinct,
    Number,
    OneOrSeveral,
    Part,
    Seed,
    Size,
    Slug,
    Tokens,
    wrong,
)

GPU_FLOPS_PER_S = 4e14  # a well-used H100 in bfloat16: 40 % of its peak of 989 TFLOPs/s


class AskChoice(Part):
    """A question: rounds of runs go on until its answer is narrow enough."""

    interval: Literal["multiplier", "params", "tokens", "loss"]
    """Of the compute multiplier of two series, or of N*, D* or L* of one."""
    baseline: Slug | None = None
    """Of a multiplier: the label whose loss is to be reached."""
    against: Slug | None = None
    """Of a multiplier: the label that is to reach it."""
    series: Slug | None = None
    """Of params, tokens or loss: the label."""
    at: Budget | None = None
    """Training FLOPs; absent: the largest budget that is bracketed."""
    within: Annotated[Number, Field(gt=1)] = 1.5
    """Where to stop: the 95 % interval's upper end over its lower one."""
    rounds: Annotated[Count, Field(ge=0, le=100)] = 8
    """At most so many after the first plan."""

    @model_validator(mode="after")
    def _names_what_the_interval_is_of(self) -> "AskChoice":
        is_pair = self.interval == "multiplier"
        needed = ("baseline", "against") if is_pair else ("series",)
        for key in ("baseline", "against", "series"):
            if key in needed and getattr(self, key) is None:
                raise wrong(f"expected the key {key!r}: the label of a series")
            if key not in needed and getattr(self, key) is not None:
                about = " and ".join(needed)
                raise wrong(f"a {self.interval} is asked of {about}: leave it out", key)
        if is_pair and self.baseline == self.against:
            raise wrong(f"expected another series than {self.baseline!r}", "against")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """Series that the answer is about; of a multiplier, the baseline first."""
        return tuple(label for _, label in self.named_labels())

    def named_labels(self) -> Iterator[tuple[str, str]]:
        """Each key that names a series, and the label."""
        for key in ("baseline", "against", "series"):
            if (label := getattr(self, key)) is not None:
                yield key, label


class AutoDesign(Part):
    """Sizes, budgets and seeds that fit a total cost, chosen from laws known beforehand."""

    total_flops: Budget | None = None
    """Training FLOPs of all runs."""
    gpu_hours: Annotated[Number, Field(gt=0)] | None = None
    """Of a GPU that trains at 4e14 FLOPs/s."""
    money: Annotated[Number, Field(gt=0)] | None = None
    """In the currency of the price."""
    price_per_gpu_hour: Annotated[Number, Field(gt=0)] | None = None
    """Of that GPU."""
    first_round: Annotated[Number, Field(gt=0, le=1)] = 0.5
    """Share of the total that is planned before there are data, where `ask` plans rounds after."""

    @model_validator(mode="after")
    def _one_total(self) -> "AutoDesign":
        given = [key for key in ("total_flops", "gpu_hours", "money") if getattr(self, key)]
        if not given:
            raise wrong("expected one of total_flops, gpu_hours, and money with price_per_gpu_hour")
        if len(given) > 1:
            raise wrong(f"a second total beside {given[0]}; expected one", given[1], at_key=True)
        if (self.money is None) != (self.price_per_gpu_hour is None):
            raise wrong("expected money and price_per_gpu_hour together")
        return self

    @property
    def flops(self) -> float:
        """The total in training FLOPs."""
        if self.total_flops is not None:
            return self.total_flops
        if self.money is not None and self.price_per_gpu_hour is not None:
            hours = self.money / self.price_per_gpu_hour
        else:
            hours = self.gpu_hours or 0.0
        return hours * 3600.0 * GPU_FLOPS_PER_S


class AddedRuns(Part):
    """Runs of one size beside the design, as `sweeper run` adds them round by round."""

    series: Annotated[tuple[str, ...], OneOrSeveral]
    """Labels."""
    size: Size
    """As in isoflop."""
    budgets: Annotated[tuple[Budget, ...], OneOrSeveral, Distinct] = ()
    """Training FLOPs at which the runs are observed."""
    tokens: Annotated[tuple[Tokens, ...], OneOrSeveral, Distinct] = ()
    """Or training tokens."""
    seeds: Annotated[tuple[Seed, ...], OneOrSeveral, Distinct] = (0,)
    """One run for each."""
    round: Annotated[Count, Field(ge=0)] = 0
    """By which it was added; 0: by hand."""
    why: str = ""
    """What it is for, as `sweeper plan` tells."""
    optional: bool = False
    """Leave out, rather than refuse, what would be observed after too few steps."""

    @model_validator(mode="after")
    def _one_kind_of_length(self) -> "AddedRuns":
        if bool(self.budgets) == bool(self.tokens):
            raise wrong("expected either budgets or tokens")
        return self
