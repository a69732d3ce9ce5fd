"""The observations of our own store as a tidy table, under any convention for params and FLOPs.

The only place of `analysis` that knows the store's column names; they are documented in
`sweeper/trials/records.py`. Series become families, `bound_nats_per_token` the loss, trajectories
the runs.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import FitWarning, SettingsError, TableError
from analysis.tables.columns import RawTable
from analysis.tables.conventions import ConventionCounts
from analysis.tables.tidy import Reading, TidyTable, rows_to_fit, tidy_counted
from sweeper.errors import did_you_mean
from sweeper.trials.flops import FLOPS_CONVENTIONS, FlopsPerToken, flops_by_convention
from sweeper.trials.ladder import PARAMS_CONVENTIONS, ParameterGroups, params_by_convention

_NEEDED = (
    "series", "seed", "trajectory_id", "status", "step", "budget_flops", "tokens", "flops",
    "bound_nats_per_token", "bound_stderr_nats_per_token",
    "params_trunk", "params_embedding", "params_head", "params_conditioning",
    "flops_per_token_trunk", "flops_per_token_attention", "flops_per_token_head",
)  # fmt: skip

_OF_TRIALS = ("batch_tokens", "learning_rate")


def is_observations(frame: pd.DataFrame) -> bool:
    """Whether the columns are those of the store's `observations` table."""
    return {"series", "trajectory_id", "bound_nats_per_token"} <= set(frame.columns)


def from_observations(
    frame: pd.DataFrame,
    name: str,
    params: str | None,
    flops: str | None,
    reading: Reading | None = None,
) -> TidyTable:
    """Tidy table of the finished trials; conventions default to `trunk` and `full`."""
    if reading is not None and reading.columns:
        raise SettingsError(f"--column: {name} is a table of ours, whose columns are known")
    params, flops = params or "trunk", flops or "full"
    _check_convention("params", params, PARAMS_CONVENTIONS)
    _check_convention("flops", flops, FLOPS_CONVENTIONS)
    missing = [column for column in _NEEDED if column not in frame.columns]
    if missing:
        message = f"{name}: observations without {', '.join(missing)}; written by another version?"
        raise TableError(message)
    done = frame[frame["status"] == "done"]
    # A trial that extends a trajectory repeats its evaluations; each counts once.
    done = done.drop_duplicates(["series", "trajectory_id", "seed", "step", "budget_flops"])
    warnings = []
    for series, rest in frame[frame["status"] != "done"].groupby("series"):
        n_runs = rest["trajectory_id"].nunique()
        message = f"{name}: {len(rest)} observations of {n_runs} diverged runs are in no fit"
        warnings.append(FitWarning("diverged_left_out", message, str(series)))
    if done.empty:
        raise TableError(f"{name}: no observation of a finished trial; run the sweep first")
    rows: list[dict[str, Any]] = [dict(row) for _, row in done.iterrows()]
    counts = _counts(rows)
    table = pd.DataFrame(
        {
            "family": done["series"].to_numpy(),
            "params": counts.params[params],
            "tokens": done["tokens"].to_numpy(),
            "flops": counts.flops[flops],
            "loss": done["bound_nats_per_token"].to_numpy(),
            "loss_stderr": done["bound_stderr_nats_per_token"].to_numpy(),
            "budget_flops": done["budget_flops"].to_numpy(),
            "seed": done["seed"].to_numpy(),
            "run_id": done["trajectory_id"].to_numpy(),
        }
        | {name: done[name].to_numpy() for name in _OF_TRIALS if name in done.columns}
    )
    raw = RawTable(table, name, tuple(int(i) + 1 for i in done.index))
    result = rows_to_fit(raw, tidy_counted(raw), reading or Reading())
    return dataclasses.replace(
        result,
        warnings=(*warnings, *result.warnings),
        params_convention=params,
        flops_convention=flops,
        counts=counts.take(np.isin(np.arange(len(rows)), result.frame.index)),
    )


def _counts(rows: list[dict[str, Any]]) -> ConventionCounts:
    of_params = ("trunk", "embedding", "head", "conditioning")
    of_flops = ("trunk", "attention", "head")
    params: dict[str, list[float]] = {name: [] for name in PARAMS_CONVENTIONS}
    flops: dict[str, list[float]] = {name: [] for name in FLOPS_CONVENTIONS}
    for row in rows:
        sizes = ParameterGroups(**{name: int(row[f"params_{name}"]) for name in of_params})
        costs = FlopsPerToken(**{name: row[f"flops_per_token_{name}"] for name in of_flops})
        for name, counted in params.items():
            counted.append(float(params_by_convention(sizes, name)))
        for name, spent in flops.items():
            total = flops_by_convention(costs, row["params_trunk"], name) * float(row["tokens"])
            spent.append(float(row["flops"]) if name == "full" else total)  # as the store counted
    return ConventionCounts(
        params={name: np.array(values) for name, values in params.items()},
        flops={name: np.array(values) for name, values in flops.items()},
    )


def with_batch_and_rate(observations: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Observations with the batch and the learning rate of their trials."""
    known = trials[["trial_id", *_OF_TRIALS]].drop_duplicates("trial_id")
    return observations.merge(known, on="trial_id", how="left", validate="many_to_one")


def _check_convention(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        hint = did_you_mean(value, known)
        raise SettingsError(f"--{option} {value}: expected one of {', '.join(known)}{hint}")
