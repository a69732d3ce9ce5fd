"""From a sweep to the trials that realise it: which runs, observed where, at what cost.

Pure apart from `plan_sweep` and `preview_sweep`, which also load the corpus. Everything derived
(batch, learning rate, warmup, steps) is resolved before a trial gets its identity.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.data.corpus import Corpus, load_corpus
from sweeper.errors import ConfigError, DataError, MissingPackage, UnavailableData
from sweeper.planning import checks
from sweeper.planning.checks import CorpusFacts, PlanWarning
from sweeper.planning.design import targets_by_variant
from sweeper.planning.runs import Cell as Cell  # a word of plans, for whoever reads them
from sweeper.planning.runs import Run, Setting, SkippedCell, plan_runs
from sweeper.planning.series import misfit_batches, resolve_series
from sweeper.store.plan_file import StoredCell, StoredPlan, StoredTrial
from sweeper.sweepfile.document import InvalidSweep, Problem, SweepDocument
from sweeper.sweepfile.schema import AssumedCorpus, CorpusChoice, LoadedSweep, Sweep
from sweeper.trials.flops import BACKWARD_FACTOR, FlopsPerToken
from sweeper.trials.ladder import ParameterGroups, parameter_groups, trunk_params
from sweeper.trials.resources import Resources
from sweeper.trials.text_options import Reading
from sweeper.trials.trial import Data, Evaluation, Precision, Trial


@dataclass(frozen=True)
class PlannedTrial:
    """One trial and the cells it fills, in the order of its observed steps."""

    series: str
    trial: Trial
    cells: tuple[Cell, ...]
    params: ParameterGroups
    flops_per_token: FlopsPerToken
    source: str
    """Corpus as named in the sweep file."""
    reading: Reading
    resources: Resources

    @property
    def trial_id(self) -> str | None:
        """The trial's id; None where the corpus is assumed, as it depends on the tokens."""
        return self.trial.trial_id if self.trial.data.fingerprint else None


@dataclass(frozen=True)
class Totals:
    """Size and cost of a plan."""

    n_trials: int
    n_cells: int
    tokens: int
    """Training tokens of all trials."""
    train_flops: float
    eval_flops: float
    """One forward pass over the validation set for each cell."""

    @property
    def eval_share(self) -> float:
        """Evaluation FLOPs in units of training FLOPs."""
        return self.eval_flops / self.train_flops


@dataclass(frozen=True)
class Plan:
    """All trials of a sweep."""

    name: str
    trials: tuple[PlannedTrial, ...]
    skipped: tuple[SkippedCell, ...]
    totals: Totals
    corpus: CorpusFacts
    warnings: tuple[PlanWarning, ...]


def plan_sweep(
    loaded: LoadedSweep, *, bfloat16_from_width: float, cache_folder: Path | None = None
) -> Plan:
    """Load the corpus and plan; every error names its place in the sweep file."""
    try:
        choice = loaded.sweep.corpus
        corpus = load_corpus(choice.source, cache_folder, choice.reading)
    except (ConfigError, DataError) as error:
        hint = "; corpus.assume serves `sweeper plan` alone" if loaded.sweep.corpus.assume else ""
        problem = Problem(("corpus", "source"), f"{error}{hint}")
        raise type(error)(loaded.document.describe([problem])) from error
    with _placed(loaded.document):
        return make_plan(loaded.sweep, corpus, bfloat16_from_width=bfloat16_from_width)


def preview_sweep(
    loaded: LoadedSweep, *, bfloat16_from_width: float, cache_folder: Path | None = None
) -> Plan:
    """Like `plan_sweep`, but a corpus that is not at hand is what `corpus.assume` says of it."""
    try:
        return plan_sweep(
            loaded, bfloat16_from_width=bfloat16_from_width, cache_folder=cache_folder
        )
    except (UnavailableData, MissingPackage) as error:
        if loaded.sweep.corpus.assume is None:
            raise
        facts = _assumed_facts(loaded.sweep.corpus, loaded.sweep.corpus.assume)
        warning = checks.assumed_corpus(facts, str(error.__cause__))
    with _placed(loaded.document):
        plan = _plan_on(loaded.sweep, facts, bfloat16_from_width)
    return dataclasses.replace(plan, warnings=(warning, *plan.warnings))


def make_plan(sweep: Sweep, corpus: Corpus, *, bfloat16_from_width: float) -> Plan:
    """The plan of a sweep on a corpus; raises InvalidSweep with every problem found.

    `precision: auto` is bfloat16 for rungs at least `bfloat16_from_width` wide (`precision.py`).
    """
    facts = _facts(sweep, corpus)
    _refuse(checks.assumption_problems(sweep, facts))
    return _plan_on(sweep, facts, bfloat16_from_width)


def _plan_on(sweep: Sweep, facts: CorpusFacts, bfloat16_from_width: float) -> Plan:
    _refuse(checks.size_problems(sweep))
    _refuse(checks.corpus_problems(sweep, facts))
    runs = _runs(sweep, facts.vocab_size)
    _refuse(misfit_batches(sweep, [run.series for run in runs]))
    _refuse(checks.run_problems(sweep, runs))
    _refuse(checks.limit_problems(sweep, runs))
    trials = tuple(
        trial for run in runs for trial in _trials(sweep, facts, run, bfloat16_from_width)
    )
    _refuse(_twin_problems(trials))
    return Plan(
        name=sweep.name,
        trials=trials,
        skipped=tuple(cell for run in runs for cell in run.skipped),
        totals=_totals(trials),
        corpus=facts,
        warnings=tuple(checks.warnings(sweep, facts, runs)),
    )


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as one JSON object."""
    return {
        "name": plan.name,
        "corpus": dataclasses.asdict(plan.corpus),
        "totals": {**dataclasses.asdict(plan.totals), "eval_share": plan.totals.eval_share},
        "trials": [_trial_to_json(planned) for planned in plan.trials],
        "skipped": [
            {
                "series": cell.series,
                "size": dataclasses.asdict(cell.rung),
                "params_trunk": trunk_params(cell.rung),
                "budget_flops": cell.budget_flops,
                "tokens": round(cell.tokens),
                "reason": cell.reason,
            }
            for cell in plan.skipped
        ],
        "warnings": [dataclasses.asdict(warning) for warning in plan.warnings],
    }


@contextlib.contextmanager
def _placed(document: SweepDocument) -> Iterator[None]:
    """Give every problem of a plan its place in the sweep file."""
    try:
        yield
    except InvalidSweep as error:
        raise ConfigError(document.describe(error.problems)) from error


def _trial_to_json(planned: PlannedTrial) -> dict[str, Any]:
    trial, params = planned.trial, planned.params
    return {
        "trial_id": planned.trial_id,
        "series": planned.series,
        "family": trial.family,
        "family_options": dict(trial.family_options),
        "seed": trial.seed,
        "size": dataclasses.asdict(trial.rung),
        "params_trunk": params.trunk,
        "params_total": params.total,
        "batch_tokens": trial.tokens_per_step,
        "optimizer": trial.optimizer.name,
        "schedule": trial.optimizer.schedule,
        "learning_rate": trial.optimizer.learning_rate,
        "warmup_steps": trial.optimizer.warmup_steps,
        "precision": trial.precision,
        "steps": trial.n_steps,
        "tokens": planned.cells[-1].tokens,
        "flops": planned.cells[-1].flops,
        "cells": [dataclasses.asdict(cell) for cell in planned.cells],
    }


def _facts(sweep: Sweep, corpus: Corpus) -> CorpusFacts:
    return CorpusFacts(
        source=sweep.corpus.source,
        fingerprint=corpus.fingerprint,
        vocab_size=corpus.vocab_size,
        seq_len=sweep.corpus.seq_len,
        train_tokens=len(corpus.train_tokens),
        validation_tokens=len(corpus.validation_tokens),
        bytes_per_token=corpus.bytes_per_token,
    )


def _assumed_facts(choice: CorpusChoice, assumed: AssumedCorpus) -> CorpusFacts:
    return CorpusFacts(
        source=choice.source,
        fingerprint=None,
        vocab_size=assumed.vocab_size,
        seq_len=choice.seq_len,
        train_tokens=assumed.train_tokens,
        validation_tokens=assumed.validation_tokens,
        bytes_per_token=assumed.bytes_per_token,
    )


def _runs(sweep: Sweep, vocab_size: int) -> list[Run]:
    window = sweep.design.isoflop.tokens_per_param if sweep.design.isoflop else (0.0, math.inf)
    setting = Setting(sweep.corpus.seq_len, vocab_size, window, sweep.backbone)
    all_targets = targets_by_variant(sweep.design)
    runs: list[Run] = []
    for series in resolve_series(sweep, vocab_size):
        for variant, targets in targets_by_variant(sweep.design, series.label).items():
            own = series.varied(variant)
            runs += plan_runs(own, variant.rung, targets, all_targets[variant], setting)
    return runs


def _trials(
    sweep: Sweep, facts: CorpusFacts, run: Run, bfloat16_from_width: float
) -> Iterator[PlannedTrial]:
    """The trials of one run, one for each seed; none where the window leaves it no cell."""
    if not run.cells:
        return
    train = run.series.train
    extra_input_ids = run.series.needs.extra_input_ids
    params = parameter_groups(run.rung, facts.vocab_size, extra_input_ids, sweep.backbone)
    first = Trial(
        family=run.series.family,
        family_options=run.series.options,
        rung=run.rung,
        data=Data(facts.fingerprint or "", facts.vocab_size, facts.seq_len),
        optimizer=run.optimizer,
        evaluation=Evaluation(sweep.evaluation.sequences, sweep.evaluation.seed),
        observe_at_steps=tuple(cell.step for cell in run.cells),
        seed=train.seeds[0],
        precision=_precision(run, bfloat16_from_width),
        backbone=sweep.backbone,
        prefix_share=train.prefix_share,
    )
    for seed in train.seeds:
        trial = dataclasses.replace(first, seed=seed)
        yield PlannedTrial(
            series=run.series.label,
            trial=trial,
            cells=run.cells,
            params=params,
            flops_per_token=run.flops_per_token,
            source=facts.source,
            reading=sweep.corpus.reading,
            resources=sweep.resources.of(run.rung, sweep.corpus.seq_len),
        )


def _twin_problems(trials: Iterable[PlannedTrial]) -> Iterator[Problem]:
    """Series that would train the same trials under two labels."""
    first: dict[Trial, str] = {}
    for planned in trials:
        label = first.setdefault(planned.trial, planned.series)
        if label != planned.series:
            expected = f"the same trials as series {label!r}; expected series that differ"
            path = ("series", planned.series)
            yield Problem(path, expected, f"the series {planned.series!r}", at_key=True)


def _precision(run: Run, bfloat16_from_width: float) -> Precision:
    asked = run.series.train.precision
    if asked == "auto":
        return "bfloat16" if run.rung.width >= bfloat16_from_width else "float32"
    return asked


def _totals(trials: tuple[PlannedTrial, ...]) -> Totals:
    return Totals(
        n_trials=len(trials),
        n_cells=sum(len(planned.cells) for planned in trials),
        tokens=sum(planned.cells[-1].tokens for planned in trials),
        train_flops=math.fsum(planned.cells[-1].flops for planned in trials),
        eval_flops=math.fsum(map(_eval_flops, trials)),
    )


def _eval_flops(planned: PlannedTrial) -> float:
    trial = planned.trial
    tokens = len(planned.cells) * trial.evaluation.n_sequences * trial.data.seq_len
    return tokens * planned.flops_per_token.total / BACKWARD_FACTOR


def _refuse(problems: Iterable[Problem]) -> None:
    found = dict.fromkeys(problems)  # series share most problems of a rung
    if found:
        raise InvalidSweep(found)


def stored_plan(plan: Plan) -> StoredPlan:
    """A plan as the store keeps it."""
    return StoredPlan(plan.name, tuple(_stored(planned) for planned in plan.trials))


def _stored(planned: PlannedTrial) -> StoredTrial:
    return StoredTrial(
        series=planned.series,
        trial_id=planned.trial.trial_id,
        trajectory_id=planned.trial.trajectory_id,
        source=planned.source,
        reading=planned.reading,
        resources=planned.resources,
        trial=planned.trial,
        cells=tuple(
            StoredCell(cell.budget_flops, cell.step, cell.tokens, cell.flops)
            for cell in planned.cells
        ),
        params=planned.params,
        flops_per_token=planned.flops_per_token,
    )
