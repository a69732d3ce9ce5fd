"""The plan as it lies in the store: what a driver, `status` and `verify` work from.

Everything after planning reads `plan.json` instead of planning again, so none of it imports
families, corpora or torch.
"""

import json
from dataclasses import dataclass
from typing import Any

from sweeper.errors import StoreError
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.trials.flops import FlopsPerToken
from sweeper.trials.ladder import ParameterGroups
from sweeper.trials.resources import BY_DEFAULT, Resources
from sweeper.trials.text_options import AS_BYTES, TextOptions
from sweeper.trials.trial import Trial, canonical, from_canonical

PLAN_VERSION = 1
"""Version of the layout of `plan.json`."""


@dataclass(frozen=True)
class StoredCell:
    """One planned observation of a trial."""

    budget_flops: float | None
    """Budget the cell stands for; None outside isoFLOP designs."""
    step: int
    tokens: int
    flops: float
    """Training FLOPs until this step."""


@dataclass(frozen=True)
class StoredTrial:
    """One planned trial."""

    series: str
    trial_id: str
    trajectory_id: str
    source: str
    """Corpus as named in the sweep file."""
    trial: Trial
    cells: tuple[StoredCell, ...]
    params: ParameterGroups
    flops_per_token: FlopsPerToken
    reading: TextOptions = AS_BYTES
    resources: Resources = BY_DEFAULT


@dataclass(frozen=True)
class StoredPlan:
    """All planned trials of a sweep."""

    name: str
    trials: tuple[StoredTrial, ...]

    @property
    def train_flops(self) -> float:
        """Training FLOPs of all trials, each trained once."""
        return sum({trial.trial_id: trial.cells[-1].flops for trial in self.trials}.values())


def write_plan(store: Store, plan: StoredPlan) -> None:
    """Replace `plan.json`."""
    head = f'"version": {PLAN_VERSION},\n"name": {json.dumps(plan.name)}'
    # One trial per line: indented, ten thousand of them take two seconds to write.
    lines = ",\n".join(json.dumps(_fields_of(planned), allow_nan=False) for planned in plan.trials)
    files.replace(store.plan, f'{{\n{head},\n"trials": [\n{lines}\n]\n}}\n'.encode())


def read_plan(store: Store) -> StoredPlan:
    """The plan in the store; raises StoreError when it is absent, torn or of another version."""
    try:
        fields: dict[str, Any] = files.read_json(store.plan)
        version = fields["version"]
        if version == PLAN_VERSION:
            trials = tuple(_trial(entry) for entry in fields["trials"])
            return StoredPlan(fields["name"], trials)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.plan} cannot be read ({type(error).__name__}: {error}); run the sweep again "
            "to rewrite it"
        ) from error
    raise StoreError(
        f"{store.plan} has layout version {version}, this sweeper reads {PLAN_VERSION}; run the "
        "sweep again with this version to rewrite it"
    )


def _fields_of(planned: StoredTrial) -> dict[str, Any]:
    # Not dataclasses.asdict, which copies every value: with it this takes three times as long.
    return {
        "series": planned.series,
        "trial_id": planned.trial_id,
        "trajectory_id": planned.trajectory_id,
        "source": planned.source,
        "reading": vars(planned.reading),
        "resources": vars(planned.resources),
        "cells": [vars(cell) for cell in planned.cells],
        "params": vars(planned.params),
        "flops_per_token": vars(planned.flops_per_token),
        "trial": canonical(planned.trial),
    }


def _trial(entry: dict[str, Any]) -> StoredTrial:
    return StoredTrial(
        series=entry["series"],
        trial_id=entry["trial_id"],
        trajectory_id=entry["trajectory_id"],
        source=entry["source"],
        trial=from_canonical(entry["trial"]),
        cells=tuple(StoredCell(**cell) for cell in entry["cells"]),
        params=ParameterGroups(**entry["params"]),
        flops_per_token=FlopsPerToken(**entry["flops_per_token"]),
        reading=TextOptions(**entry.get("reading", {})),  # plans were once of bytes alone
        resources=Resources(**entry.get("resources", {})),
    )
