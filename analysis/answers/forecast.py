"""Forecasts that are registered before the run, sealed, and checked against it afterwards.

A file holds one JSON object: what was predicted, from what, and `seal`, the SHA-256 of everything
else in canonical form (keys sorted, no spaces, ASCII). A row of a table is known by a digest of its
family, params, tokens, flops and loss in twelve digits; a table by that of its sorted digests.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analysis import notation
from analysis.answers.predict import Estimate, Prediction
from analysis.errors import SettingsError, SourceError
from analysis.fitting.fit import FitResult
from analysis.tables.tidy import TidyTable
from sweeper.errors import OutputError
from sweeper.store.files import create_exclusively

SCHEMA = "sweeper-forecast/1"
SAME = 0.10
"""How far compute, size and tokens of a run may lie from the forecast's, relative."""

Verdict = Literal["hit", "miss", "known", "not_observed"]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What was promised, and from what."""

    source: str
    """Name of the table or results folder."""
    table_sha256: str
    rows: tuple[str, ...]
    """Digests of the rows of the series that were known."""
    params_convention: str
    flops_convention: str
    settings: dict[str, Any]
    """Of the fit."""
    family: str
    flops: float
    params: Estimate
    tokens: Estimate
    loss: Estimate
    """Of one new run of that size on those tokens, nats per token."""
    extrapolation_decades: float
    sweeper_version: str
    registered_at: str
    """ISO 8601, UTC."""

    @classmethod
    def of(
        cls,
        table: TidyTable,
        result: FitResult,
        prediction: Prediction,
        *,
        source: str,
        sweeper_version: str,
        registered_at: str,
    ) -> "Forecast":
        """Of a prediction from a table; raises `SettingsError` where nothing was predicted."""
        params, tokens, loss = prediction.params, prediction.tokens, prediction.loss
        if params is None or tokens is None or loss is None:
            reasons = "; ".join(warning.message for warning in prediction.warnings)
            raise SettingsError(f"nothing to register for {prediction.family}: {reasons}")
        digests = row_digests(table)
        settings = dataclasses.asdict(result.settings)
        if settings["huber_delta"] != "auto":  # may be infinite, which JSON has no word for
            settings["huber_delta"] = str(settings["huber_delta"])
        return cls(
            source=source,
            table_sha256=table_digest(digests),
            rows=tuple(sorted(digest for family, digest in digests if family == prediction.family)),
            params_convention=result.params_convention,
            flops_convention=result.flops_convention,
            settings=settings,
            family=prediction.family,
            flops=prediction.flops,
            params=params,
            tokens=tokens,
            loss=loss,
            extrapolation_decades=prediction.extrapolation_decades,
            sweeper_version=sweeper_version,
            registered_at=registered_at,
        )


@dataclass(frozen=True)
class Observed:
    """A run where the forecast is."""

    params: float
    tokens: float
    flops: float
    loss: float
    verdict: Verdict


@dataclass(frozen=True)
class Outcome:
    """A forecast, and the runs that tell whether it came true."""

    name: str
    """Of its file."""
    forecast: Forecast
    observed: tuple[Observed, ...]

    @property
    def verdict(self) -> Verdict:
        """Of the runs that the forecast did not know: a miss if one of them missed."""
        verdicts = {each.verdict for each in self.observed}
        for verdict in ("miss", "hit", "known"):
            if verdict in verdicts:
                return verdict
        return "not_observed"

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON, without the digests."""
        found = notation.to_json(self.forecast)
        del found["rows"]
        observed = notation.to_json(self.observed)
        return {"name": self.name, "verdict": self.verdict, "forecast": found, "observed": observed}


def register(forecast: Forecast, path: Path) -> None:
    """Write a forecast once; raises `OutputError` where the file exists or cannot be written."""
    content = {"schema": SCHEMA, **notation.to_json(forecast)}
    data = json.dumps({**content, "seal": seal(content)}, indent=1, allow_nan=False)
    try:
        is_new = create_exclusively(path, f"{data}\n".encode())
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror}); choose another path"
        raise OutputError(message) from error
    if not is_new:
        raise OutputError(
            f"{path}: exists, and holds {_held_by(path)}; forecasts are never replaced: choose "
            "another name"
        )


def read_forecast(path: Path) -> Forecast:
    """A registered forecast; raises `SourceError` where it is absent, none, or was edited."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found_seal, schema = content.pop("seal"), content.pop("schema")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path}: no forecast; expected a file of `sweeper predict --register`"
        raise SourceError(message) from error
    if schema != SCHEMA:
        raise SourceError(f"{path}: found the layout {schema!r}, this sweeper reads {SCHEMA!r}")
    if found_seal != seal({"schema": schema, **content}):
        raise SourceError(
            f"{path}: its seal does not fit its content: it was changed after it was registered, "
            "and counts no more; restore it"
        )
    try:
        for name in ("params", "tokens", "loss"):
            low, high = content[name]["ci"]
            content[name] = Estimate(content[name]["value"], (low, high))
        return Forecast(**{**content, "rows": tuple(content["rows"])})
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: no forecast; its fields are not those of one") from error


def check(forecast: Forecast, name: str, table: TidyTable) -> Outcome:
    """The runs of a table that a forecast speaks of; raises `SettingsError` for other counts."""
    for option, ours, theirs in (
        ("params", table.params_convention, forecast.params_convention),
        ("flops", table.flops_convention, forecast.flops_convention),
    ):
        if ours != theirs:
            raise SettingsError(
                f"{name}: its {option} count {theirs}, those of this table {ours}; expected the "
                f"same, by the option for {option} conventions"
            )
    known, (low, high) = set(forecast.rows), forecast.loss.ci
    asked = forecast.params.value, forecast.tokens.value, forecast.flops
    observed = []
    for row, (_, digest) in zip(_rows(table), row_digests(table), strict=True):
        family, params, tokens, flops, loss = row
        if family != forecast.family or not all(map(_is_near, (params, tokens, flops), asked)):
            continue
        verdict: Verdict = "hit" if low <= loss <= high else "miss"
        verdict = "known" if digest in known else verdict
        observed.append(Observed(params, tokens, flops, loss, verdict))
    return Outcome(name, forecast, tuple(observed))


def seal(content: dict[str, Any]) -> str:
    """SHA-256 of JSON values in canonical form, in hexadecimal."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def row_digests(table: TidyTable) -> list[tuple[str, str]]:
    """Family and digest of every row: of each learning rate and batch, and stray ones, too."""
    digests = []
    for family, *numbers in _rows(table):
        text = "\n".join([family, *(f"{number:.12g}" for number in numbers)])
        digests.append((family, hashlib.sha256(text.encode()).hexdigest()[:16]))
    return digests


def table_digest(digests: Iterable[tuple[str, str]]) -> str:
    """SHA-256 of the rows of a table, whatever their order."""
    return hashlib.sha256("\n".join(sorted(digest for _, digest in digests)).encode()).hexdigest()


def _rows(table: TidyTable) -> Iterator[tuple[str, float, float, float, float]]:
    """Family, params, tokens, flops and loss, of rows that no fit reads, too."""
    # A loss that all others contradict is no evidence for a law, and a miss all the same.
    frame = table.every_setting
    if table.stray is not None:
        frame = pd.concat([frame, table.stray.drop(index=frame.index, errors="ignore")])
    columns = (frame[name].tolist() for name in ("family", "params", "tokens", "flops", "loss"))
    yield from zip(*columns, strict=True)


def _is_near(found: float, asked: float) -> bool:
    return abs(math.log(found / asked)) <= math.log1p(SAME)


def _held_by(path: Path) -> str:
    try:
        held = read_forecast(path)
    except SourceError:
        return "no forecast that is intact"
    return f"the forecast of {held.family} at {held.flops:.3g} FLOPs of {held.registered_at}"
