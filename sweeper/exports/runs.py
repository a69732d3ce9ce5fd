"""One trial as trackers see it: a run with settings, a log by step, and a summary."""

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sweeper.exports.source import Row, Tables
from sweeper.sweepfile.quantities import count

Value = str | int | float
"""What a setting or a number of a summary may be."""

TRAINING = ("loss_nats_per_token", "learning_rate", "grad_norm")
"""Columns of `losses`, logged as `train/<column>`."""
EVALUATION = (
    "bound_nats_per_token",
    "bound_stderr_nats_per_token",
    "bound_bits_per_byte",
    "bound_given_prefix_nats_per_token",
    "bound_given_prefix_stderr_nats_per_token",
)
"""Columns of `observations`, logged as `eval/<column>`."""
OUTCOME = (
    "status", "steps", "tokens", "train_flops", "train_time_s", "eval_time_s", "n_attempts",
    "started_at", "finished_at", "device", "n_threads", "torch_version",
    "error_class", "error_message",
)  # fmt: skip
"""Columns of `trials` that say how the trial went; the others, and `tokens`, are its settings."""
_AS_JSON = ("family_options", "optimizer")


@dataclass(frozen=True)
class Point:
    """What was logged at one step."""

    step: int
    tokens: int
    flops: float
    values: Mapping[str, float]
    """By name: `train/…` and `eval/…`."""


@dataclass(frozen=True)
class Run:
    """A trial with everything that is exported of it; no value is null."""

    run_id: str
    """The trial's id."""
    name: str
    """Series, size, tokens and id: readable, and no other run has it."""
    series: str
    started_at: str
    """ISO 8601, UTC."""
    settings: Mapping[str, Value]
    points: tuple[Point, ...]
    """By step, which increases; a trial that logged nothing has one without values."""
    summary: Mapping[str, Value]

    @property
    def digest(self) -> str:
        """What changes when anything of the run does."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def runs_of(tables: Tables) -> Iterator[Run]:
    """The runs of a sweep, one at a time, without those whose losses are not there yet."""
    evaluations: dict[str, list[Row]] = defaultdict(list)
    for row in tables.read("observations").to_pylist():
        # By trajectory: of two trials that observed one point of one run, the table names one.
        evaluations[row["trajectory_id"]].append(row)
    for row, curve in tables.trials():
        if row["trial_id"] not in tables.without_losses:
            observed = [
                each for each in evaluations[row["trajectory_id"]] if each["step"] <= row["steps"]
            ]
            yield _run(row, curve, sorted(observed, key=lambda each: each["step"]))


def _run(row: Row, curve: pa.Table, observed: Sequence[Row]) -> Run:
    points = _points(row, curve, observed)
    settings = _settings(row)
    if observed and observed[-1]["step"] == row["steps"]:
        settings |= _known({"budget_flops": observed[-1]["budget_flops"]})
    size, tokens = count(row["params_trunk"]), count(row["tokens"])
    return Run(
        run_id=row["trial_id"],
        name=f"{row['series']} {size} {tokens} {row['trial_id']}",
        series=row["series"],
        started_at=row["started_at"],
        settings=settings,
        points=points,
        summary=_summary(row, points),
    )


def _settings(row: Row) -> dict[str, Value]:
    """Columns of `trials`, options and optimiser spelt out: `optimizer.beta1`."""
    outcome = {*OUTCOME, *_AS_JSON} - {"tokens"}
    plain = {name: value for name, value in row.items() if name not in outcome}
    for column in _AS_JSON:
        for name, value in json.loads(row[column]).items():
            is_plain = isinstance(value, str | int | float)
            plain[f"{column}.{name}"] = value if is_plain else json.dumps(value)
    groups = ("trunk", "embedding", "head", "conditioning")
    plain["params_total"] = sum(row[f"params_{group}"] for group in groups)
    return _known(plain)


def _points(row: Row, curve: pa.Table, observed: Sequence[Row]) -> tuple[Point, ...]:
    at: dict[int, tuple[Row, dict[str, float]]] = {}
    for rows, prefix, columns in (
        (curve.to_pylist(), "train", TRAINING),
        (observed, "eval", EVALUATION),
    ):
        for each in rows:
            _, values = at.setdefault(each["step"], (each, {}))
            known = _known({column: each[column] for column in columns})
            values |= {f"{prefix}/{column}": float(value) for column, value in known.items()}
    if not at:
        return (Point(row["steps"], row["tokens"], row["train_flops"], {}),)
    return tuple(
        Point(step, at[step][0]["tokens"], at[step][0]["flops"], at[step][1]) for step in sorted(at)
    )


def _summary(row: Row, points: Sequence[Point]) -> dict[str, Value]:
    """How the trial went, and the last value of everything that was logged, as `final/…`."""
    last = {name: value for point in points for name, value in point.values.items()}
    return {
        **_known({name: row[name] for name in OUTCOME}),
        **{f"final/{name.partition('/')[2]}": value for name, value in last.items()},
    }


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
