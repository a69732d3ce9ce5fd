"""What a results folder knows beside its observations: loss curves, plan, spend, the question."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import yaml

from analysis import notation
from analysis.errors import SourceError
from analysis.report.tables import Table
from analysis.tables.parquet_parts import read_parquet
from analysis.tables.points import FloatArray
from sweeper.store.storage import StoragePath
from sweeper.trials.plan import Plan
from sweeper.trials.resources import BY_DEFAULT


@dataclass(frozen=True)
class LossCurve:
    """Training loss of one run: the mean since the previous row, not a bound."""

    tokens: FloatArray
    loss: FloatArray
    """Nats per token."""


@dataclass(frozen=True)
class Training:
    """How a sweep was trained; empty for a table of somebody else."""

    curves: Mapping[str, LossCurve] = field(default_factory=dict)
    """By run, of the trial that trained it furthest."""
    losses: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The whole table."""
    spend: Table = field(default_factory=lambda: Table((), ()))
    asked: Mapping[str, Any] = field(default_factory=dict)
    """The `ask` of the sweep file, as it stands there."""
    bits_per_nat: Mapping[str, float] = field(default_factory=dict)
    """By series: bits per byte of text over nats per token."""


def training_of(
    source: StoragePath, plan: Plan | None, device_s_left: Mapping[str, float]
) -> Training:
    """Of a results folder; raises `SourceError` where it is damaged. `device_s_left`: seconds of
    devices that missing trials are expected to take, by id.
    """
    if not (source / "trials").is_dir():
        return Training()
    try:
        trials = read_parquet(source / "trials")
        observations = read_parquet(source / "observations")
        losses = read_parquet(source / "losses") if (source / "losses").is_dir() else None
        sweep = yaml.safe_load((source / "sweep.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SourceError(
            f"{source}: its trials, losses or sweep file cannot be read ({error}); run the "
            "sweep again to rewrite them, or `sweeper verify` to see what is wrong"
        ) from error
    losses = pd.DataFrame() if losses is None else losses
    return Training(
        curves=_curves(trials, losses),
        losses=losses,
        spend=_spend(trials, plan, device_s_left),
        asked=(sweep.get("ask") if isinstance(sweep, dict) else None) or {},
        bits_per_nat=_bits_per_nat(observations),
    )


def _curves(trials: pd.DataFrame, losses: pd.DataFrame) -> dict[str, LossCurve]:
    if losses.empty:
        return {}
    longest = trials.sort_values(["tokens", "trial_id"]).drop_duplicates(
        "trajectory_id", keep="last"
    )
    run_of = dict(zip(longest["trial_id"], longest["trajectory_id"], strict=True))
    kept = losses[losses["trial_id"].isin(run_of)].sort_values(["trial_id", "tokens"])
    return {
        run_of[trial]: LossCurve(
            mine["tokens"].to_numpy(np.float64), mine["loss_nats_per_token"].to_numpy(np.float64)
        )
        for trial, mine in kept.groupby("trial_id", sort=True)
    }


def _bits_per_nat(observations: pd.DataFrame) -> dict[str, float]:
    """The ratio is that of tokens to bytes, one number a corpus."""
    if "bound_bits_per_byte" not in observations.columns:
        return {}
    known = observations.dropna(subset=["bound_bits_per_byte"])
    known = known[known["bound_nats_per_token"] > 0]
    ratio = known["bound_bits_per_byte"] / known["bound_nats_per_token"]
    return {
        str(label): float(value) for label, value in ratio.groupby(known["series"]).median().items()
    }


def _spend(trials: pd.DataFrame, plan: Plan | None, device_s_left: Mapping[str, float]) -> Table:
    """FLOPs, device time and money, spent and planned, of each series and in all."""
    planned = {each.trial_id: each for each in plan.trials} if plan else {}
    resources = {trial: each.resources for trial, each in planned.items()}
    own = trials if plan is None else trials[trials["sweep"] == plan.name]
    device_s = [
        (train + evaluated) * resources.get(trial, BY_DEFAULT).n_devices(device)
        for trial, train, evaluated, device in zip(
            own["trial_id"], own["train_time_s"], own["eval_time_s"], own["device"], strict=True
        )
    ]
    own = own.assign(device_s=device_s)
    missing = [each for trial, each in planned.items() if trial not in set(trials["trial_id"])]
    labels = sorted({*trials["series"], *(each.series for each in planned.values())})
    price = plan.price_per_hour if plan else None
    rows = []
    for label in [*labels, "in all"]:
        done = own if label == "in all" else own[own["series"] == label]
        left = [each for each in missing if label in ("in all", each.series)]
        flops, hours = float(done["train_flops"].sum()), float(done["device_s"].sum()) / 3600.0
        flops_left = sum(each.train_flops for each in left)
        # Without a plan, or before anything of it was timed, nobody knows.
        hours_left = None
        if plan is not None and (device_s_left or not left):
            hours_left = sum(device_s_left.get(each.trial_id, 0.0) for each in left) / 3600.0
        money = () if price is None else (_amount(hours, price), _amount(hours_left, price))
        rows.append(
            (
                label,
                str(len(done)),
                str(len(left)),
                _flops(flops),
                _flops(flops_left),
                *(_amount(hours), _amount(hours_left), *money),
            )
        )
    taken = len(trials) - len(own)
    devices = "GPU" if (own["device"] == "cuda").any() else "core"
    at_price = () if price is None else ("spent", "planned yet")
    columns = (
        "series", "trials done", "to do", "FLOPs spent", "FLOPs planned yet",
        f"{devices}-hours spent", f"{devices}-hours planned yet",
        *(f"money {when} at {price:g} an hour" for when in at_price),
    )  # fmt: skip
    if taken:
        what = f"{taken} trials taken over from other sweeps"
        rows.append((what, *("" for _ in columns[1:])))
    return Table(columns, tuple(rows))


def _amount(hours: float | None, price: float | None = None) -> str:
    """Hours, or what they cost."""
    if hours is None:
        return "unknown"
    return f"{hours:.3g}" if price is None else f"{hours * price:.2f}"


def _flops(value: float) -> str:
    return notation.flops(value) if value else "0"
