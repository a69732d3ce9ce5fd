"""A plan: the trials of a sweep, and where each is observed."""

from dataclasses import dataclass
from typing import Any

from sweeper.trials.flops import FlopsPerToken
from sweeper.trials.ladder import ParameterGroups
from sweeper.trials.resources import BY_DEFAULT, KeepModels, Resources
from sweeper.trials.text_options import AS_BYTES, TextOptions
from sweeper.trials.trial import Trial, canonical, from_canonical


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

    @property
    def trial_id(self) -> str:
        """Hash of the trial."""
        return self.trial.trial_id

    @property
    def trajectory_id(self) -> str:
        """Hash of the trial without its observed steps."""
        return self.trial.trajectory_id

    @property
    def train_flops(self) -> float:
        """Training FLOPs of the trial from its start."""
        return self.cells[-1].flops

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as `plan.json` holds them."""
        # Not dataclasses.asdict, which copies every value and takes three times as long.
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
        return sum({planned.trial_id: planned.train_flops for planned in self.trials}.values())


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
