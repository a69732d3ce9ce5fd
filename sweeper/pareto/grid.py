"""Which samples to measure: models × samplers × steps × temperatures, and the controls. Pure."""

import dataclasses
import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from sweeper.errors import ConfigError, did_you_mean
from sweeper.trials.sampling_task import CONTROL_FAMILY, SamplingTask


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trained model that is there."""

    series: str
    family: str
    trial_id: str
    trajectory_id: str
    weights: str
    """Their hash."""
    folder: str
    """Below the sweep's folder."""
    budget_flops: float | None
    bound_nats_per_token: float
    samplers: tuple[str, ...]
    """Those of its family."""
    is_exact: bool
    """Whether it has a likelihood, and so can judge."""


@dataclass(frozen=True, kw_only=True)
class JudgeChoice:
    """Who scores samples."""

    name: str
    revision: str
    """Hash of its weights."""
    folder: str
    """Below the sweep's folder, or absolute."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What to vary; empty means all, or the default."""

    series: tuple[str, ...] = ()
    budget_flops: float | None = None
    """Models of this budget; None: of the largest one that all series have."""
    samplers: tuple[str, ...] = ("ancestral",)
    steps: tuple[int, ...] = ()
    """Empty: the powers of two up to the length of a sequence."""
    temperatures: tuple[float, ...] = (0.7, 0.85, 1.0, 1.15)
    top_p: tuple[float, ...] = (1.0,)
    n_sequences: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_sequences < 2:
            raise ConfigError(f"--sequences {self.n_sequences}: expected at least 2, for an error")
        for name, values, least, most in (
            ("--steps", self.steps, 1.0, math.inf),
            ("--temperatures", self.temperatures, 0.0, math.inf),
            ("--top-p", self.top_p, math.nextafter(0.0, 1.0), 1.0),
        ):
            for value in values:
                if not least <= value <= most:
                    raise ConfigError(
                        f"{name} {value:g}: expected steps from 1, temperatures from 0 and "
                        "0 < top-p <= 1"
                    )


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all measurements of a sweep have in common."""

    context_tokens: int
    data_fingerprint: str
    device: Literal["cpu", "cuda"]
    sampling_version: int
    controls: tuple[str, ...]


def chosen_models(candidates: Collection[Candidate], grid: Grid) -> tuple[Candidate, ...]:
    """The best model of each series at one budget, in the order of their labels.

    Raises ConfigError where there is none, or a series has none at the budget.
    """
    labels = sorted({each.series for each in candidates})
    if not labels:
        raise ConfigError(
            "no trained model is kept here; expected some: set keep: optimal in the sweep file and "
            "run the sweep again"
        )
    for label in grid.series:
        if label not in labels:
            hint = did_you_mean(label, labels)
            raise ConfigError(f"--models {label}: expected some of {', '.join(labels)}{hint}")
    wanted = grid.series or tuple(labels)
    budget = grid.budget_flops
    if budget is None:
        budget = _common_budget(candidates, wanted)
    chosen = []
    for label in wanted:
        there = [each for each in candidates if each.series == label]
        mine = [each for each in there if budget is None or each.budget_flops == budget]
        if not mine:
            known = ", ".join(sorted({f"{each.budget_flops:g}" for each in there}))
            raise ConfigError(
                f"--budget {budget:g}: no model of {label} is kept; expected one of {known}"
            )
        chosen.append(min(mine, key=_by_bound))
    return tuple(sorted(chosen, key=lambda each: each.series))


def _common_budget(candidates: Collection[Candidate], wanted: Sequence[str]) -> float | None:
    """The largest budget that all series have a model of; None where models have none."""
    budgets = [
        {each.budget_flops for each in candidates if each.series == label} for label in wanted
    ]
    common = set.intersection(*budgets)
    if not common:
        listed = "; ".join(
            f"{label} {', '.join(f'{b:g}' for b in sorted(filter(None, found)))}"
            for label, found in zip(wanted, budgets, strict=True)
        )
        raise ConfigError(
            f"no budget has a model of every series ({listed}); expected a common one: name series "
            "with --models, or train the missing budgets"
        )
    return max((each for each in common if each is not None), default=None)


def best_judge(candidates: Collection[Candidate]) -> JudgeChoice:
    """The exact model of the lowest bound; raises ConfigError where there is none."""
    exact = [each for each in candidates if each.is_exact]
    if not exact:
        raise ConfigError(
            "no kept model can judge: that takes an exact likelihood, as ar has, and there is "
            "none; add ar: {family: ar} to the series of the sweep file and run it, or name a "
            "Hugging Face model with --judge FOLDER"
        )
    best = min(exact, key=_by_bound)
    return JudgeChoice(
        name=f"{best.series} {best.trial_id}", revision=best.weights, folder=best.folder
    )


def _by_bound(model: Candidate) -> tuple[float, str]:
    return model.bound_nats_per_token, model.weights


def tasks_of(
    models: Sequence[Candidate], judge: JudgeChoice | None, grid: Grid, common: Surroundings
) -> tuple[SamplingTask, ...]:
    """All rows to measure: the controls, then the models, the fewest steps first.

    A model that is the judge has rows without one.
    """
    unknown = set(grid.samplers).difference(*(model.samplers for model in models))
    if unknown:
        known = sorted({name for model in models for name in model.samplers})
        raise ConfigError(
            f"--samplers {min(unknown)}: no model here has it; expected some of {', '.join(known)}"
        )
    steps = grid.steps or powers_of_two(common.context_tokens)
    tasks = [_control(name, models[0], judge, grid, common) for name in common.controls]
    for n_steps, model in itertools.product(steps, models):
        # What is drawn token by token takes as many steps as there are, whatever it is asked.
        n_steps = common.context_tokens if model.is_exact else n_steps
        own = _task(
            model, None if judge and judge.revision == model.weights else judge, grid, common
        )
        for sampler, temperature, top_p in itertools.product(
            [name for name in grid.samplers if name in model.samplers],
            grid.temperatures,
            grid.top_p,
        ):
            tasks.append(
                dataclasses.replace(
                    own, n_steps=n_steps, sampler=sampler, temperature=temperature, top_p=top_p
                )
            )
    return tuple({task.task_id: task for task in tasks}.values())


def powers_of_two(length: int) -> tuple[int, ...]:
    """1, 2, 4 … up to a length, and that itself."""
    return (*(2**power for power in range(length.bit_length()) if 2**power < length), length)


def _control(
    name: str, model: Candidate, judge: JudgeChoice | None, grid: Grid, common: Surroundings
) -> SamplingTask:
    """A control; the folder is that of some model, whose tokenizer it shares."""
    return dataclasses.replace(
        _task(model, judge, grid, common),
        series=name,
        family=CONTROL_FAMILY,
        trial_id="",
        trajectory_id="",
        source=f"control:{name}",
        sampler=name,
    )


def _task(
    model: Candidate, judge: JudgeChoice | None, grid: Grid, common: Surroundings
) -> SamplingTask:
    """One step of a model at temperature 1."""
    return SamplingTask(
        series=model.series,
        family=model.family,
        trial_id=model.trial_id,
        trajectory_id=model.trajectory_id,
        source=model.weights,
        model_folder=model.folder,
        sampler="ancestral",
        n_steps=1,
        temperature=1.0,
        top_p=1.0,
        n_sequences=grid.n_sequences,
        context_tokens=common.context_tokens,
        data_fingerprint=common.data_fingerprint,
        judge=judge.name if judge else "",
        judge_revision=judge.revision if judge else "",
        judge_folder=judge.folder if judge else "",
        seed=grid.seed,
        device=common.device,
        sampling_version=common.sampling_version,
    )
