"""A plan: the trials of a sweep, and where each is observed."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.trials.flops import FlopsPerToken
from sweeper.trials.ladder import ParameterGroups
from sweeper.trials.resources import BY_DEFAULT, KeepModels, Resources
from sweeper.trials.text_options import AS_BYTES, TextOptions
from sweeper.trials.trial import Trial, canonical, from_canonical

KeptUntil = Literal["published", "complete", "always"]
"""How long the last checkpoint of a trial is kept, from which a longer one goes on: until its
result is published, until its sweep is complete, or until somebody deletes it."""


@dataclass(frozen=True)
class Observation:
    """One planned evaluation of a trial."""

    budget_flops: float | None
    """Budget it stands for; None outside isoFLOP designs."""
    step: int
    tokens: int
    flops: float
    """Training FLOPs until this step, convention `full`."""


@dataclass(frozen=True)
class PlannedTrial:
    """One trial, and what training it needs that is not part of its identity."""

    series: str
    trial: Trial
    cells: tuple[Observation, ...]
    """One for each observed step of `trial`, in that order."""
    params: ParameterGroups
    flops_per_token: FlopsPerToken
    source: str
    """Corpus as named in the sweep file."""
    reading: TextOptions = AS_BYTES
    resources: Resources = BY_DEFAULT
    checkpoint_kept_until: KeptUntil = "published"

    @property
    def trial_id(self) -> str:
        """Hash of the trial."""
        return self.trial.trial_id

    @property
    def trajectory_id(self) -> str:
        """Hash of the trial without its observed steps."""
        return self.trial.trajectory_id

    @property
    def keeps_checkpoint(self) -> bool:
        """Whether a longer trial of its trajectory may go on where this one ended."""
        return self.checkpoint_kept_until != "published"

    @property
    def train_flops(self) -> float:
        """Training FLOPs of the trial from its start."""
        return self.cells[-1].flops

    @property
    def checkpoint_bytes(self) -> int:
        """About what a checkpoint takes: weights, two moments and any average, in float32."""
        n_copies = 4 if self.trial.optimizer.ema_decay else 3
        return 4 * n_copies * self.params.total

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as `plan.json` holds them."""
        # Not dataclasses.asdict, which copies every value and takes three times as long.
        kept = {"checkpoint_kept_until": self.checkpoint_kept_until}
        return {
            "series": self.series,
            "trial_id": self.trial_id,
            "trajectory_id": self.trajectory_id,
            "source": self.source,
            "reading": vars(self.reading),
            "resources": vars(self.resources),
            "cells": [vars(cell) for cell in self.cells],
            "params": vars(self.params),
            "flops_per_token": vars(self.flops_per_token),
            "trial": canonical(self.trial),
            **(kept if self.keeps_checkpoint else {}),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "PlannedTrial":
        """The inverse of `to_json`."""
        trial = from_canonical(fields["trial"])
        # Both are cached properties: hashing ten thousand trials again would take a second.
        vars(trial).update(trial_id=fields["trial_id"], trajectory_id=fields["trajectory_id"])
        return cls(
            series=fields["series"],
            trial=trial,
            cells=tuple(Observation(**cell) for cell in fields["cells"]),
            params=ParameterGroups(**fields["params"]),
            flops_per_token=FlopsPerToken(**fields["flops_per_token"]),
            source=fields["source"],
            reading=TextOptions(**fields.get("reading", {})),  # plans were once of bytes alone
            resources=Resources(**fields.get("resources", {})),
            checkpoint_kept_until=fields.get("checkpoint_kept_until", "published"),
        )


@dataclass(frozen=True)
class Plan:
    """All planned trials of a sweep."""

    name: str
    trials: tuple[PlannedTrial, ...]
    price_per_hour: float | None = None
    """What an hour of a GPU costs, or of a core where there are none; None where nobody said."""
    keep: KeepModels = "optimal"
    """Whose weights stay."""

    @property
    def train_flops(self) -> float:
        """Training FLOPs of all trials, each trained once."""
        return flops_to_train((planned, planned.train_flops) for planned in self.trials)


def flops_to_train(parts: Iterable[tuple[PlannedTrial, float]]) -> float:
    """FLOPs of so much of each trial; of those that lengthen one another, the most of any."""
    of_runs: dict[str, float] = {}
    for planned, flops in parts:
        run = planned.trajectory_id if planned.keeps_checkpoint else planned.trial_id
        of_runs[run] = max(flops, of_runs.get(run, 0.0))
    return math.fsum(of_runs.values())


@dataclass(frozen=True)
class Labels:
    """What the current plan calls each trajectory and each of its points."""

    # None of it is part of a trial's identity: renaming a series relabels its results.
    sweep: str
    series: dict[str, str]
    budget_flops: dict[tuple[str, int], float | None]
    """By trajectory and step."""

    @classmethod
    def of(cls, plan: Plan) -> "Labels":
        """The labels of a plan; where two series share a trajectory, the first one's."""
        series: dict[str, str] = {}
        budgets: dict[tuple[str, int], float | None] = {}
        for planned in plan.trials:
            trajectory_id = planned.trajectory_id
            series.setdefault(trajectory_id, planned.series)
            for cell in planned.cells:
                budgets.setdefault((trajectory_id, cell.step), cell.budget_flops)
        return cls(plan.name, series, budgets)
