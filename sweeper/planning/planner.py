"""From a sweep to its plan; pure, but `plan_sweep` and `preview_sweep` load the corpus, too."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sweeper.data.corpus import Corpus, load_corpus
from sweeper.data.sources import NO_COLUMNS, reads_rows
from sweeper.errors import ConfigError, DataError, MissingPackage, UnavailableData
from sweeper.planning import checks
from sweeper.planning.auto_design import resolved_design, with_seeds
from sweeper.planning.checks import CorpusFacts, PlanWarning
from sweeper.planning.design import added_runs, resolving_targets, targets_by_variant
from sweeper.planning.kept_bytes import keep_problems
from sweeper.planning.limits import limit_problems
from sweeper.planning.runs import Run, Setting, SkippedCell, plan_runs
from sweeper.planning.search_space import search_space
from sweeper.planning.series import misfit_batches, resolve_series
from sweeper.planning.tuned import TunedRun, law_for
from sweeper.sweepfile.document import SweepDocument
from sweeper.sweepfile.problems import InvalidSweep, Problem
from sweeper.sweepfile.schema import LoadedSweep, Sweep
from sweeper.trials.flops import BACKWARD_FACTOR
from sweeper.trials.ladder import parameter_groups, trunk_params
from sweeper.trials.plan import Plan, PlannedTrial
from sweeper.trials.trial import ENDLESS_SCHEDULES, Data, Evaluation, Trial


@dataclass(frozen=True)
class Totals:
    """Size and cost of a plan."""

    n_trials: int
    n_cells: int
    tokens: int
    train_flops: float
    eval_flops: float
    """One forward pass over the validation set for each cell."""

    @property
    def eval_share(self) -> float:
        """Evaluation FLOPs in units of training FLOPs."""
        return self.eval_flops / self.train_flops


@dataclass(frozen=True)
class PlannedSweep:
    """A plan, with what its owner should know before it runs."""

    plan: Plan
    skipped: tuple[SkippedCell, ...]
    corpus: CorpusFacts
    warnings: tuple[PlanWarning, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    """What trials are for, by id, where nobody listed them."""
    tuned: tuple[TunedRun, ...] = ()
    """Runs whose rate or batch a law says, without their seeds."""

    @property
    def trials(self) -> tuple[PlannedTrial, ...]:
        """The trials of the plan."""
        return self.plan.trials

    @property
    def totals(self) -> Totals:
        """Size and cost of the plan."""
        return Totals(
            n_trials=len(self.trials),
            n_cells=sum(len(planned.cells) for planned in self.trials),
            tokens=sum(planned.cells[-1].tokens for planned in self.trials),
            train_flops=self.plan.train_flops,
            eval_flops=math.fsum(
                len(planned.cells)
                * planned.trial.evaluation.n_sequences
                * planned.trial.data.seq_len
                * planned.flops_per_token.total
                / BACKWARD_FACTOR  # no backward pass
                for planned in self.trials
            ),
        )


def plan_sweep(
    loaded: LoadedSweep, *, bfloat16_from_width: float, cache_folder: Path | None = None
) -> PlannedSweep:
    """Load the corpus and plan; every error names its place in the sweep file."""
    try:
        choice = loaded.sweep.corpus
        corpus = load_corpus(choice.source, cache_folder, choice.reading)
    except (ConfigError, DataError) as error:
        hint = "; corpus.assume serves `sweeper plan` alone" if loaded.sweep.corpus.assume else ""
        problem = Problem(("corpus", "source"), f"{error}{hint}")
        raise type(error)(loaded.document.describe([problem])) from error
    with _positions(loaded.document):
        if "text_column" in choice.model_fields_set and not reads_rows(
            choice.source, choice.reading
        ):
            expected = f"the corpus {NO_COLUMNS}"
            raise InvalidSweep([Problem(("corpus", "text_column"), expected, at_key=True)])
        return make_plan(loaded.sweep, corpus, bfloat16_from_width=bfloat16_from_width)


def preview_sweep(
    loaded: LoadedSweep, *, bfloat16_from_width: float, cache_folder: Path | None = None
) -> PlannedSweep:
    """Like `plan_sweep`, but `corpus.assume` stands in for a corpus that is not available."""
    try:
        return plan_sweep(
            loaded, bfloat16_from_width=bfloat16_from_width, cache_folder=cache_folder
        )
    except (UnavailableData, MissingPackage) as error:
        choice = loaded.sweep.corpus
        if choice.assume is None:
            raise
        facts = CorpusFacts(choice.source, None, seq_len=choice.seq_len, **dict(choice.assume))
        warning = PlanWarning(
            "assumed_corpus",
            f"planned for the corpus that corpus.assume describes, {facts.train_tokens:,} training "
            f"tokens of {facts.vocab_size:,}, as {facts.source!r} is not at hand: trials have no "
            f"ids and cannot be run here ({error.__cause__})",
        )
    with _positions(loaded.document):
        planned = _plan_on(loaded.sweep, facts, bfloat16_from_width)
    return dataclasses.replace(planned, warnings=(warning, *planned.warnings))


def plan_revision(
    loaded: LoadedSweep, facts: CorpusFacts, *, bfloat16_from_width: float
) -> PlannedSweep:
    """Plan a revised sweep on a corpus that is known from its first plan."""
    with _positions(loaded.document):
        return _plan_on(loaded.sweep, facts, bfloat16_from_width)


def make_plan(sweep: Sweep, corpus: Corpus, *, bfloat16_from_width: float) -> PlannedSweep:
    """The plan of a sweep on a corpus; raises InvalidSweep with every problem found."""
    facts = CorpusFacts(
        source=sweep.corpus.source,
        fingerprint=corpus.fingerprint,
        vocab_size=corpus.tokens.vocab_size,
        seq_len=sweep.corpus.seq_len,
        train_tokens=len(corpus.tokens.train),
        validation_tokens=len(corpus.tokens.validation),
        bytes_per_token=corpus.tokens.bytes_per_token,
    )
    _refuse(checks.assumption_problems(sweep, facts))
    return _plan_on(sweep, facts, bfloat16_from_width)


def _plan_on(sweep: Sweep, facts: CorpusFacts, bfloat16_from_width: float) -> PlannedSweep:
    _refuse(checks.size_problems(sweep))
    _refuse(checks.corpus_problems(sweep, facts))
    runs = _runs(sweep, facts)
    _refuse(misfit_batches(sweep, [run.series for run in runs]))
    _refuse(checks.run_problems(sweep, runs))
    _refuse(limit_problems(sweep, runs, partial(_runs, facts=facts)))
    made = [(run, [*_trials(sweep, facts, run, bfloat16_from_width)]) for run in runs]
    trials = tuple(trial for _, of_run in made for trial in of_run)
    _refuse(_twin_problems(trials))
    _refuse(keep_problems(sweep.keep, trials))
    return PlannedSweep(
        plan=Plan(sweep.name, trials, sweep.resources.price_per_hour, sweep.keep.models),
        skipped=tuple(cell for run in runs for cell in run.skipped),
        corpus=facts,
        warnings=tuple(checks.warnings(sweep, facts, runs)),
        reasons={each.trial_id: run.why for run, of_run in made if run.why for each in of_run},
        tuned=tuple(run.tuned for run in runs if run.tuned),
    )


def _runs(sweep: Sweep, facts: CorpusFacts) -> list[Run]:
    """The runs of all series, those of the design before those added to it."""
    all_series = resolve_series(sweep, facts.vocab_size)
    if sweep.tune.search:
        search_space(sweep, sweep.tune, facts.vocab_size)  # raises what would refuse the search
    setting = Setting(facts.seq_len, facts.vocab_size, backbone=sweep.backbone)
    design, automatic = sweep.design, resolved_design(sweep, all_series, setting)
    if automatic is not None:
        design = automatic.design
        all_series = tuple(with_seeds(one, automatic.n_seeds) for one in all_series)
    if design.isoflop:
        window = design.isoflop.tokens_per_param
        setting = dataclasses.replace(setting, tokens_per_param=window)
    shared_targets = targets_by_variant(design)
    deciding = resolving_targets(design, shared_targets)
    runs: list[Run] = []
    problems: list[Problem] = []
    for series in all_series:
        of_design = targets_by_variant(design, series.label).items()
        asked = [(variant, targets, shared_targets[variant]) for variant, targets in of_design]
        for variant, targets in added_runs(design, series.label):
            asked.append((variant, targets, deciding[variant.rung]))
        for variant, targets, shared in asked:
            own = series.varied(variant)
            try:
                law = law_for(sweep, own)
            except InvalidSweep as error:
                problems += error.problems
                continue
            found = plan_runs(own, variant.rung, targets, shared, setting, law)
            why = variant.why or ("" if automatic is None else automatic.why_of(variant.rung))
            runs += [dataclasses.replace(run, why=why) for run in found]
    _refuse(problems)
    return runs


def plan_to_json(sweep: PlannedSweep) -> dict[str, Any]:
    """What `sweeper plan --json` prints."""
    totals = sweep.totals
    return {
        "name": sweep.plan.name,
        "corpus": dataclasses.asdict(sweep.corpus),
        "totals": {**dataclasses.asdict(totals), "eval_share": totals.eval_share},
        "trials": [
            {
                # The id depends on the tokens, which nobody knows where the corpus is assumed.
                "trial_id": planned.trial_id if sweep.corpus.fingerprint else None,
                **_trial_to_json(planned),
                **({"why": why} if (why := sweep.reasons.get(planned.trial_id)) else {}),
            }
            for planned in sweep.trials
        ],
        "skipped": [
            {
                "series": cell.series,
                "size": dataclasses.asdict(cell.rung),
                "params_trunk": trunk_params(cell.rung),
                "budget_flops": cell.budget_flops,
                "tokens": round(cell.tokens),
                "reason": cell.reason,
            }
            for cell in sweep.skipped
        ],
        "tuned": [dataclasses.asdict(run) for run in sweep.tuned],
        "warnings": [dataclasses.asdict(warning) for warning in sweep.warnings],
    }


@contextlib.contextmanager
def _positions(document: SweepDocument) -> Iterator[None]:
    """Give every problem of a plan its position in the sweep file."""
    try:
        yield
    except InvalidSweep as error:
        raise ConfigError(document.describe(error.problems)) from error


def _trial_to_json(planned: PlannedTrial) -> dict[str, Any]:
    trial, params = planned.trial, planned.params
    return {
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


def _trials(
    sweep: Sweep, facts: CorpusFacts, run: Run, bfloat16_from_width: float
) -> Iterator[PlannedTrial]:
    """The trials of one run, one for each seed; none where the window leaves it no cell."""
    if not run.cells:
        return
    train, precision = run.series.train, run.series.train.precision
    is_endless = train.schedule in ENDLESS_SCHEDULES
    if precision == "auto":  # as `recipe.py` says
        precision = "bfloat16" if run.rung.width >= bfloat16_from_width else "float32"
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
        precision=precision,
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
            checkpoint_kept_until=sweep.checkpoints_kept_until if is_endless else "published",
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


def _refuse(problems: Iterable[Problem]) -> None:
    found = dict.fromkeys(problems)  # series share most problems of a rung
    if found:
        raise InvalidSweep(found)
