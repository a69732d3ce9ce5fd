"""Law files: the best learning rate and batch of each series, as `sweeper tune` measures them.

A law file is YAML that people read, share and name in `train.laws` of a sweep file. Numbers have
six significant digits: what was written and read is written as the same bytes.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sweeper.errors import ConfigError
from sweeper.families import family_names
from sweeper.store import files
from sweeper.sweepfile.document import read_document
from sweeper.sweepfile.fields import Count, Number, Pair, Part, Several, Share, Slug, wrong
from sweeper.sweepfile.messages import problems
from sweeper.sweepfile.problems import expected_one_of
from sweeper.sweepfile.strict_yaml.dump import dump
from sweeper.trials.ladder import BackboneName
from sweeper.trials.trial import OptimizerName, Schedule
from sweeper.trials.tuned_laws import Curvature, LawKey, SizeTokensLaw, TunedLaw

LAW_FILE_VERSION = 1
DIGITS = 6  # significant ones of every number
MAX_LOG = 690.0  # of a coefficient: e^690 = 1e300, near the largest number there is


def _increasing(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise wrong("expected [low, high] with low <= high")
    return pair


def _positive(value: object) -> float:
    # Not `parse_number`, whose bound suits what people type: a coefficient is the value at one
    # parameter and one token, far from everything that was measured.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("expected a number above 0")
    return float(value)


Coefficient = Annotated[float, BeforeValidator(_positive)]
Interval = Annotated[tuple[Number, Number], Pair, AfterValidator(_increasing)]
Range = Annotated[tuple[Coefficient, Coefficient], Pair, AfterValidator(_increasing)]


class KeyPart(Part):
    """What a law was measured for."""

    family: str
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the family, defaults included."""
    backbone: BackboneName
    optimizer: OptimizerName
    schedule: Schedule
    betas: Annotated[tuple[Share, Share], Pair]
    weight_decay: Annotated[Number, Field(ge=0)]
    ema: Share

    @pydantic.field_validator("family")
    @classmethod
    def _known_family(cls, name: str) -> str:
        if name not in family_names():
            raise wrong(expected_one_of(name, family_names()))
        return name

    @property
    def key(self) -> LawKey:
        """The same as the planner compares it."""
        return LawKey(
            family=self.family,
            family_options=tuple(sorted(self.options.items())),
            backbone=self.backbone,
            optimizer=self.optimizer,
            schedule=self.schedule,
            betas=self.betas,
            weight_decay=self.weight_decay,
            ema_decay=self.ema,
        )


class LawPart(Part):
    """coefficient · params^params_exponent · tokens^tokens_exponent."""

    coefficient: Coefficient
    params_exponent: Number
    tokens_exponent: Number

    @property
    def law(self) -> SizeTokensLaw:
        """The same with the log of its coefficient."""
        log_coefficient = math.log(self.coefficient)
        return SizeTokensLaw(log_coefficient, self.params_exponent, self.tokens_exponent)


class CurvaturePart(Part):
    """Second derivatives of the log loss in log rate and log batch."""

    rate: Number
    batch: Number
    cross: Number

    @model_validator(mode="after")
    def _one_minimum(self) -> "CurvaturePart":
        if not (self.rate > 0 and self.rate * self.batch > self.cross**2):
            raise wrong("expected one minimum: rate > 0 and rate · batch > cross²")
        return self


class LawIntervals(Part):
    """95 % intervals of a law's numbers."""

    coefficient: Range | None = None
    params_exponent: Interval | None = None
    tokens_exponent: Interval | None = None


class CurvatureIntervals(Part):
    """95 % intervals of a curvature's numbers."""

    rate: Interval | None = None
    batch: Interval | None = None
    cross: Interval | None = None


class Intervals(Part):
    """95 % intervals of the numbers that have one."""

    learning_rate: LawIntervals = LawIntervals()
    batch_tokens: LawIntervals = LawIntervals()
    curvature: CurvatureIntervals = CurvatureIntervals()

    @property
    def by_name(self) -> dict[str, tuple[float, float]]:
        """By dotted name, as a `TunedLaw` has them."""
        found: dict[str, tuple[float, float]] = {}
        for part, names in self:
            for name, interval in names:
                if interval is not None and name == "coefficient":
                    low, high = interval
                    found[f"{part}.log_coefficient"] = (math.log(low), math.log(high))
                elif interval is not None:
                    found[f"{part}.{name}"] = interval
        return found


class MeasuredPart(Part):
    """Where a law was measured, and by what."""

    params: Range
    """Smallest and largest size, trunk parameters."""
    tokens: Range
    """Fewest and most training tokens."""
    runs: Annotated[Count, Field(ge=0)] = 0
    records: tuple[str, ...] = ()
    """Ids of the trials."""
    corpus: str = ""
    seq_len: Annotated[Count, Field(ge=0)] = 0
    noise: Annotated[Number, Field(ge=0)] = 0.0
    """Standard deviation of the log loss of a run about the law."""


class LawEntry(Part):
    """One law of a file."""

    series: Slug
    """What the sweep that measured it calls its series; a law is found by its key."""
    key: KeyPart
    learning_rate: LawPart
    """At the best batch."""
    batch_tokens: LawPart
    curvature: CurvaturePart
    interval_95: Intervals = Intervals()
    measured: MeasuredPart

    @property
    def law(self) -> TunedLaw:
        """What it says."""
        return TunedLaw(
            key=self.key.key,
            learning_rate=self.learning_rate.law,
            batch_tokens=self.batch_tokens.law,
            curvature=Curvature(**dict(self.curvature)),
            params_range=self.measured.params,
            tokens_range=self.measured.tokens,
            intervals=self.interval_95.by_name,
        )


class LawFile(Part):
    """A whole law file."""

    version: Literal[1]
    laws: Annotated[tuple[LawEntry, ...], Several]

    @model_validator(mode="after")
    def _distinct_keys(self) -> "LawFile":
        first: dict[str, int] = {}
        for i, entry in enumerate(self.laws):
            j = first.setdefault(repr(entry.key.key), i)
            if i != j:
                raise wrong(f"the same as that of entry {j}; expected one law a key", "laws", i)
        return self


@dataclass(frozen=True)
class Measurement:
    """What a law file says of one law beside its numbers."""

    series: str
    records: tuple[str, ...]
    """Ids of the trials that the law was fitted to."""
    corpus: str
    seq_len: int
    noise: float
    """Standard deviation of the log loss of a run about the law."""


@dataclass(frozen=True)
class Provenance:
    """Where the laws of a file come from."""

    command: str
    measurements: tuple[Measurement, ...]
    """One for each law, in their order."""


def read_laws(path: Path) -> tuple[TunedLaw, ...]:
    """The laws of a file; raises ConfigError with the position of everything that is wrong."""
    document = read_document(path, "law file", f"version: {LAW_FILE_VERSION}")
    try:
        return tuple(entry.law for entry in LawFile.model_validate(document.value).laws)
    except pydantic.ValidationError as error:
        raise ConfigError(document.describe(problems(error, LawFile))) from error


def write_laws(path: Path, laws: tuple[TunedLaw, ...], provenance: Provenance) -> None:
    """Write a law file, as a whole; raises OutputError where that cannot be done."""
    entries = [
        _entry(law, measurement)
        for law, measurement in zip(laws, provenance.measurements, strict=True)
    ]
    # One after another, so that a line between them sets them apart.
    text = "\n".join(dump([entry]) for entry in entries)
    files.write_output(path, f"{_head(provenance.command)}\nlaws:\n{text}".encode())


def _head(command: str) -> str:
    lines = [
        "Laws of the best learning rate and batch size, for the sweep files that name this one:",
        "train: {learning_rate: tuned, batch_tokens: tuned, laws: FILE}",
        "",
        "value = coefficient · params^params_exponent · tokens^tokens_exponent, with trunk",
        "parameters and training tokens; learning_rate is the best one at the best batch.",
        f"Made by: {' '.join(command.split())}",
    ]
    comments = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    return f"{comments}version: {LAW_FILE_VERSION}"


def _entry(law: TunedLaw, measurement: Measurement) -> dict[str, Any]:
    key, curvature = law.key, law.curvature
    return {
        "series": measurement.series,
        "key": {
            "family": key.family,
            "options": dict(key.family_options),
            "backbone": key.backbone,
            "optimizer": key.optimizer,
            "schedule": key.schedule,
            "betas": list(key.betas),
            "weight_decay": key.weight_decay,
            "ema": key.ema_decay,
        },
        "learning_rate": _law(law.learning_rate),
        "batch_tokens": _law(law.batch_tokens),
        "curvature": {name: _short(number) for name, number in vars(curvature).items()},
        "interval_95": _intervals(law),
        "measured": {
            "params": [_short(n) for n in law.params_range],
            "tokens": [_short(n) for n in law.tokens_range],
            "runs": len(measurement.records),
            "records": list(measurement.records),
            "corpus": measurement.corpus,
            "seq_len": measurement.seq_len,
            "noise": _short(measurement.noise),
        },
    }


def _intervals(law: TunedLaw) -> dict[str, dict[str, list[float]]]:
    written: dict[str, dict[str, list[float]]] = {}
    for part, names in Intervals():
        for name, _ in names:
            is_log = name == "coefficient"
            interval = law.intervals.get(f"{part}.log_{name}" if is_log else f"{part}.{name}")
            if interval is not None:
                ends = [_exp(end) if is_log else _short(end) for end in interval]
                written.setdefault(part, {})[name] = ends
    return written


def _law(law: SizeTokensLaw) -> dict[str, float]:
    return {
        "coefficient": _exp(law.log_coefficient),
        "params_exponent": _short(law.params_exponent),
        "tokens_exponent": _short(law.tokens_exponent),
    }


def _exp(log: float) -> float:
    """A coefficient; ends of an interval that determine nothing are cut to what a number holds."""
    return _short(math.exp(min(MAX_LOG, max(-MAX_LOG, log))))


def _short(number: float) -> float:
    """A number of so many digits; a whole one is written without a point."""
    rounded = float(f"{number:.{DIGITS}g}") + 0.0  # no −0.0
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
