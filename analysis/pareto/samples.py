"""The `samples` table as measured settings of one protocol; rows of several are refused."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from analysis.errors import SettingsError, SourceError, TableError
from analysis.pareto.metrics import METRICS, Estimate, Metric, Numbers
from analysis.tables.parquet_parts import (
    PARQUET_SUFFIXES,
    is_results_folder,
    read_parquet,
    unreadable,
)
from analysis.tables.text_files import read_text_table
from sweeper.store.storage import StoragePath
from sweeper.trials.records import CONDITIONS
from sweeper.trials.sampling_task import CONTROL_FAMILY

EntropyOf = Literal["unigram", "ngram"]
ENTROPY_COLUMNS: dict[EntropyOf, str] = {
    "unigram": "unigram_entropy_nats",
    "ngram": "ngram_entropy_nats_per_token",
}
"""The first of a sample's own token histogram, as published; the second of the whole text."""

SpeedOf = Literal["time", "calls"]
SPEED_UNITS: dict[SpeedOf, str] = {"time": "tokens/s", "calls": "tokens per call"}
"""Tokens of a sequence per call of the network need no clock, and are fair where calls cost alike:
not to those that keep a cache."""

_WORDS = ("series", "family", "trial_id", "sampler")
_NUMBERS = ("n_steps", "temperature", "top_p", *ENTROPY_COLUMNS.values())
_NO_JUDGE = "none"
_RANGE_OF_REPEATS = 2.326  # expected range of five normal draws, in standard deviations


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to generate, measured: a row of the table."""

    series: str
    model: str
    """Trial whose weights generated; empty for a control."""
    is_control: bool
    """Whether it is a sampler that no good metric may prefer to a trained model."""
    sampler: str
    n_steps: int
    temperature: float
    top_p: float
    speed: Estimate | None
    """None of a control."""
    entropies: Mapping[EntropyOf, float]
    """Of the samples, nats per token."""
    qualities: Mapping[str, Estimate]
    """By metric; without those that were not measured."""


@dataclass(frozen=True)
class SamplesTable:
    """Settings that were all measured alike."""

    name: str
    settings: tuple[Setting, ...]
    protocol: Mapping[str, str]
    """What all rows share."""
    fingerprint: str
    """First 16 hex digits of the SHA-256 of the rows."""
    speed_of: SpeedOf = "time"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that any trained model has a number of."""
        measured = {name for each in self.trained for name in each.qualities}
        return tuple(metric for metric in METRICS if metric.name in measured)

    @property
    def trained(self) -> tuple[Setting, ...]:
        """All but the controls."""
        return tuple(each for each in self.settings if not each.is_control)

    @property
    def controls(self) -> tuple[Setting, ...]:
        """Samplers that should rank last."""
        return tuple(each for each in self.settings if each.is_control)


def load_samples(
    source: StoragePath, chosen: Mapping[str, str] | None = None, speed_of: SpeedOf = "time"
) -> SamplesTable:
    """The samples of a results folder, or of a table of ours in Parquet or text.

    `chosen` are values of conditions: of each only rows with that value are read. Raises
    `SourceError` for what cannot be read, `TableError` for rows that cannot be used or compared.
    """
    path = source / "samples" if (source / "samples").is_dir() else source
    try:
        if not path.exists():
            message = f"{path}: no such file or folder; expected a results folder or its samples"
            raise SourceError(message)
        is_text = not path.is_dir() and path.suffix.lower() not in PARQUET_SUFFIXES
        frame = read_text_table(path).frame if is_text else read_parquet(path)
    except OSError as error:
        raise unreadable(path, error) from error
    return samples_of(frame, source.name, chosen, speed_of)


def load_samples_of(source: StoragePath) -> SamplesTable | None:
    """The samples of a results folder; None where there are none, or it is another source."""
    folder = source / "samples"
    if not folder.is_dir() or not is_results_folder(source):
        return None
    frame = read_parquet(folder)
    return None if frame.empty else samples_of(frame, source.name)


def samples_of(
    frame: pd.DataFrame,
    name: str,
    chosen: Mapping[str, str] | None = None,
    speed_of: SpeedOf = "time",
) -> SamplesTable:
    """The rows of a `samples` table; raises as `load_samples` does."""
    missing = [column for column in (*_WORDS, *_NUMBERS) if column not in frame.columns]
    if missing:
        raise TableError(
            f"{name}: samples without {', '.join(missing)}; expected the table that `sweeper "
            "pareto` writes"
        )
    for column, value in (chosen or {}).items():
        if column not in CONDITIONS:
            expected = f"expected one of {', '.join(CONDITIONS)}"
            raise SettingsError(f"--only {column}={value}: no such condition; {expected}")
        if column in frame.columns:
            frame = frame[frame[column].map(_written).isin((value, ""))]
    if frame.empty:
        raise TableError(f"{name}: no samples; run `sweeper pareto` on the results folder first")
    protocol = _shared_conditions(frame, name)
    rows = [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False)]
    settings = tuple(_setting(row, f"{name}, row {n}", speed_of) for n, row in enumerate(rows, 1))
    text = frame.to_csv(index=False, lineterminator="\n")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return SamplesTable(name, settings, protocol, digest, speed_of)


def groups_over_temperature(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Settings that differ in temperature alone, by rising temperature."""
    groups: dict[tuple[Any, ...], list[Setting]] = {}
    for each in settings:
        key = (each.series, each.model, each.sampler, each.n_steps, each.top_p)
        groups.setdefault(key, []).append(each)
    return [sorted(groups[key], key=lambda each: each.temperature) for key in sorted(groups)]


def _shared_conditions(frame: pd.DataFrame, name: str) -> dict[str, str]:
    shared = {}
    for column in [column for column in CONDITIONS if column in frame.columns]:
        written = frame[column].map(_written)
        # The judge itself has no numbers of a judge.
        counts = written[~written.isin(("", _NO_JUDGE))].value_counts()
        if len(counts) > 1:
            values = " and ".join(f"{value!r} in {n} rows" for value, n in counts.items())
            raise TableError(
                f"{name}: samples of different protocols: {column} is {values}; such rows are not "
                f"compared: choose one, for instance --only {column}={counts.index[0]}"
            )
        if len(counts):
            shared[column] = str(counts.index[0])
    return shared


def _setting(row: Mapping[str, Any], where: str, speed_of: SpeedOf) -> Setting:
    numbers = _numbers(row, where)
    is_control = _written(row["family"]) == CONTROL_FAMILY
    speed = None if is_control else _speed(row, numbers, where, speed_of)
    found = {metric.name: metric.estimate(numbers) for metric in METRICS}
    return Setting(
        series=_written(row["series"]),
        model=_written(row["trial_id"]),
        is_control=is_control,
        sampler=_written(row["sampler"]),
        n_steps=int(numbers["n_steps"]),
        temperature=numbers["temperature"],
        top_p=numbers["top_p"],
        speed=speed,
        entropies={name: numbers[column] for name, column in ENTROPY_COLUMNS.items()},
        qualities={name: each for name, each in found.items() if each is not None},
    )


def _speed(row: Mapping[str, Any], numbers: Numbers, where: str, of: SpeedOf) -> Estimate:
    columns = {"time": ("tokens_per_s",), "calls": ("context_tokens", "network_evaluations")}[of]
    for column in columns:
        if numbers.get(column, 0.0) <= 0:
            raise TableError(
                f"{where}, column {column!r}: {_written(row.get(column)) or 'nothing'}, expected a "
                "positive number of every trained model"
            )
    if of == "calls":
        new_tokens = numbers["context_tokens"] - numbers.get("prefix_tokens", 0.0)
        return Estimate(new_tokens / numbers["network_evaluations"])
    # Not divided by the root of the repeats: what is slow in one is often slow in the next.
    deviation = numbers.get("tokens_per_s_spread", 0.0) / _RANGE_OF_REPEATS
    return Estimate(numbers["tokens_per_s"], numbers["tokens_per_s"] * deviation)


def _numbers(row: Mapping[str, Any], where: str) -> Numbers:
    """Finite numeric columns; raises TableError for one that is needed and is none."""
    numbers = {}
    for column, value in row.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number):
            numbers[str(column)] = number
    for column in _NUMBERS:
        if column not in numbers:
            found = _written(row[column]) or "nothing"
            raise TableError(f"{where}, column {column!r}: {found}, expected a number")
    return numbers


def _written(value: Any) -> str:
    """A cell as text; empty for null."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)
