"""How `tune` measures laws: it drives the tuning sweep, fits, shows and writes."""

import dataclasses
import functools
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import ExitCode
from sweeper.store.storage import StoragePath
from sweeper.verbs.driving.drive import Machines, drive
from sweeper.verbs.output import TextTable, plain, print_json, progress_on_stderr, say, show
from sweeper.verbs.plan import has_gpu

if TYPE_CHECKING:
    from analysis.fitting.pooled_quadratic import TunedFit
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.schema import LoadedSweep
    from sweeper.trials.tuned_laws import LawKey
    from sweeper.tuning.further import FittedLaw
    from sweeper.tuning.gains import CheckedRate, Gain
    from sweeper.tuning.tuning_sweep import Tried, Tuning


def tune_laws(
    sweep_file: Path,
    overrides: tuple[str, ...],
    results: StoragePath,
    machines: Machines,
    out: Path | None,
    *,
    as_json: bool,
) -> ExitCode:
    """Train what is missing, then show and write the laws of every series; how that ended."""
    tuning, named = _tuning(sweep_file, overrides, results, machines)
    with progress_on_stderr(as_json):
        code = _train(tuning, results, machines)
    if code != ExitCode.DONE:
        return code
    path = out or sweep_file.parent / (named or f"{tuning.loaded.sweep.name}-laws.yaml")
    words = ["sweeper", "tune", str(sweep_file)]
    words += [word for each in overrides for word in ("--set", each)]
    answers = answers_of(tuning)
    write_answers(path, tuning, answers, shlex.join(words))
    if as_json:
        print_json({"laws": str(path), "series": [_to_json(answer) for answer in answers]})
        return code
    show(tuning_view(answers))
    for answer in answers:
        for warning in answer.fit.warnings:
            say(f"warning: {warning.message} [{warning.code}]", err=True)
    say(f"wrote {path}")
    return code


def _tuning(
    sweep_file: Path, overrides: tuple[str, ...], results: StoragePath, machines: Machines
) -> "tuple[Tuning, str]":
    """How a sweep file is tuned, and the one law file that it names, or nothing."""
    from sweeper.data.corpus import cache_beside
    from sweeper.planning.planner import plan_revision, plan_sweep
    from sweeper.planning.recipe import bfloat16_from_width
    from sweeper.store.layout import store_at
    from sweeper.sweepfile.document import apply_overrides, read_document
    from sweeper.sweepfile.named_laws import named_law_files, without_laws
    from sweeper.sweepfile.schema import validated
    from sweeper.tuning.tuning_sweep import tuning_name, tuning_of

    document = apply_overrides(read_document(sweep_file), overrides)
    loaded, named = validated(without_laws(document)), named_law_files(document)
    width = bfloat16_from_width(has_gpu=has_gpu(loaded, machines.is_on_gpus()))
    cache = cache_beside(results) if loaded.sweep.corpus.is_costly_to_read else None
    base = plan_sweep(loaded, bfloat16_from_width=width, cache_folder=cache)

    def plan(revision: "LoadedSweep") -> "PlannedSweep":
        return plan_revision(revision, base.corpus, bfloat16_from_width=width)

    store = store_at(results, tuning_name(loaded.sweep.name))
    return tuning_of(loaded, base, store, plan, fitted_law), named[0] if len(named) == 1 else ""


def _train(tuning: "Tuning", results: StoragePath, machines: Machines) -> ExitCode:
    """Train every round that is not published yet."""
    from sweeper.tuning.tuning_sweep import open_revision

    def next_round(
        _loaded: "LoadedSweep", _planned: "PlannedSweep", tell: Callable[[str], None]
    ) -> "tuple[LoadedSweep, PlannedSweep] | None":
        if (revision := open_revision(tuning)) is None:
            return None
        tell(revision.loaded.document.remarks[-1])
        return revision.loaded, revision.planned

    if (revision := open_revision(tuning)) is None:
        return ExitCode.DONE
    planned, base = revision.planned, tuning.base
    for warning in planned.warnings:
        say(f"warning: {warning.message} [{warning.code}]", err=True)
    flops = planned.totals.train_flops
    say(
        f"tuning takes {planned.totals.n_trials} runs and {flops:.2g} FLOPs, "
        f"{flops / base.totals.train_flops:.0%} of what the sweep itself takes; a few may follow"
    )
    outcome = drive(revision.loaded, revision.planned, results, machines, next_round)
    if outcome is None:
        return ExitCode.INTERRUPTED
    if outcome.exit_code != ExitCode.DONE:
        say("run the same command again to finish what is missing", err=True)
    return outcome.exit_code


@functools.cache  # rounds are decided, and then shown, by the same fits
def _fit(label: str, key: "LawKey", tried: "tuple[Tried, ...]") -> "TunedFit":
    import numpy as np

    from analysis.fitting.pooled_quadratic import TuningRuns, fit_tuned_law

    runs = TuningRuns(
        params_P=np.array([each.params for each in tried], float),
        tokens_P=np.array([each.tokens for each in tried], float),
        learning_rate_P=np.array([each.point.learning_rate for each in tried]),
        batch_tokens_P=np.array([each.point.batch_tokens for each in tried], float),
        loss_P=np.array([each.bound for each in tried]),
        run_P=np.array([each.run for each in tried]),
    )
    return fit_tuned_law(runs, key, label)


def fitted_law(label: str, key: "LawKey", tried: "Sequence[Tried]") -> "FittedLaw":
    """The law of one series, and which cells bracket their best."""
    from sweeper.tuning.further import Cell, FittedLaw

    fit = _fit(label, key, tuple(tried))
    cells = tuple(Cell(cell.params, cell.tokens, cell.bracketed) for cell in fit.cells)
    return FittedLaw(fit.law, cells)


@dataclass(frozen=True)
class Answer:
    """What tuning found for one series."""

    label: str
    tried: "tuple[Tried, ...]"
    """What the law was fitted to."""
    fit: "TunedFit"
    gains: "tuple[Gain, ...]"
    checked: "tuple[CheckedRate, ...]"


def answers_of(tuning: "Tuning") -> list[Answer]:
    """What was found for each series, once every round is published."""
    from sweeper.planning.tuned import law_key
    from sweeper.tuning.gains import checked_rates, gains
    from sweeper.tuning.tuning_sweep import all_tried, is_tuning_size, rounds

    *_, last = rounds(tuning)
    every = all_tried(tuning, last)
    answers = []
    for series in tuning.series:
        label, key = series.label, law_key(tuning.loaded.sweep, series)
        tried = tuple(every[label])
        before = tuple(each for each in tried if is_tuning_size(tuning, each.rung))
        # The checks test the law of the runs before them; the law to use takes all there is.
        tested, fit = _fit(label, key, before), _fit(label, key, tried)
        answers.append(
            Answer(
                label=label,
                tried=tried,
                fit=fit,
                gains=gains(tuning, last, label, fit.law),
                checked=checked_rates(tuning, last, label, tested.law),
            )
        )
    return answers


def write_answers(path: Path, tuning: "Tuning", answers: Sequence[Answer], command: str) -> None:
    """Write the law file."""
    from sweeper.sweepfile.law_file import Measurement, Provenance, write_laws

    corpus = tuning.loaded.sweep.corpus
    measurements = tuple(
        Measurement(
            series=answer.label,
            records=tuple(dict.fromkeys(each.trial_id for each in answer.tried)),
            corpus=corpus.source,
            seq_len=corpus.seq_len,
            noise=answer.fit.noise_sd,
        )
        for answer in answers
    )
    laws = tuple(answer.fit.law for answer in answers)
    write_laws(path, laws, Provenance(command, measurements))


def tuning_view(answers: Sequence[Answer]) -> Iterator[str | TextTable]:
    """For each series: the best at three cells, exponents, gains and what was checked."""
    from rich.markup import escape

    from sweeper.planning.recipe import BATCH_EXPONENT, RATE_EXPONENT
    from sweeper.sweepfile.quantities import count

    for answer in answers:
        fit, law = answer.fit, answer.fit.law
        n_runs = len({each.run for each in answer.tried})
        yield (
            f"[bold]{escape(plain(answer.label))}[/bold]: {n_runs} runs, {len(fit.cells)} cells; "
            f"a run's log loss scatters by {fit.noise_sd:.2%}"
        )
        numbers = ("params", "tokens", "best rate", "best batch")
        table = TextTable(*numbers, "", numbers=numbers)
        middle = fit.cells[len(fit.cells) // 2]
        for cell in dict.fromkeys((fit.cells[0], middle, fit.cells[-1])):
            best_batch = law.best_batch(cell.params, cell.tokens)
            best_rate = law.best_rate(cell.params, cell.tokens, best_batch)
            rates = fit.rate_interval(cell.params, cell.tokens)
            batches = fit.batch_interval(cell.params, cell.tokens)
            table.add(
                count(cell.params),
                count(cell.tokens),
                f"{best_rate:.3g} [{rates[0]:.3g}, {rates[1]:.3g}]",
                f"{count(best_batch)} [{count(batches[0])}, {count(batches[1])}]",
                "" if cell.bracketed else "outside what was tried",
            )
        yield table
        along = law.learning_rate.tokens_exponent / law.batch_tokens.tokens_exponent
        yield f"  batch ∝ {_powers(answer, 'batch_tokens')}; published: D^{BATCH_EXPONENT:.2f}"
        yield (
            f"  rate ∝ {_powers(answer, 'learning_rate')}, so batch^{along:.2f} as tokens grow; "
            f"published: batch^{RATE_EXPONENT:.2f}"
        )
        for gain in answer.gains:
            measured = "" if gain.measured is None else f"; its runs show {gain.measured:.2%}"
            yield (
                f"  {count(gain.params)} on {count(gain.tokens)}: rate {gain.learning_rate:g} and "
                f"batch {count(gain.batch_tokens)} of the sweep file lose {gain.expected:.2%} by "
                f"the law{measured}"
            )
        for one in answer.checked:
            bound = "diverged" if one.bound is None else f"{one.bound:.4f} ± {one.stderr:.4f}"
            yield (
                f"  checked at {count(one.params)} on {count(one.tokens)}, batch "
                f"{count(one.batch_tokens)}, rate {one.learning_rate:g}: {bound}; the law without "
                f"these checks expected {one.expected:.2%} over the best"
            )


def _powers(answer: Answer, law: str) -> str:
    """Both exponents of a law with their intervals: `N^0.10 [0.00, 0.20] D^0.50 [0.40, 0.60]`."""
    parts = []
    for letter, name in (("N", "params_exponent"), ("D", "tokens_exponent")):
        low, high = answer.fit.law.intervals[f"{law}.{name}"]
        exponent = getattr(getattr(answer.fit.law, law), name)
        parts.append(f"{letter}^{exponent:.2f} \\[{low:.2f}, {high:.2f}]")
    return " ".join(parts)


def _to_json(answer: Answer) -> dict[str, Any]:
    fit, law = answer.fit, answer.fit.law
    return {
        "series": answer.label,
        "n_runs": len({each.run for each in answer.tried}),
        "noise_sd": fit.noise_sd,
        "learning_rate": dataclasses.asdict(law.learning_rate),
        "batch_tokens": dataclasses.asdict(law.batch_tokens),
        "curvature": dataclasses.asdict(law.curvature),
        "intervals": {name: list(ends) for name, ends in law.intervals.items()},
        "cells": [
            {
                "params": cell.params,
                "tokens": cell.tokens,
                "n_points": cell.n_points,
                "bracketed": cell.bracketed,
                "best_batch_tokens": (batch := law.best_batch(cell.params, cell.tokens)),
                "best_learning_rate": law.best_rate(cell.params, cell.tokens, batch),
                "batch_tokens_ci": list(fit.batch_interval(cell.params, cell.tokens)),
                "learning_rate_ci": list(fit.rate_interval(cell.params, cell.tokens)),
            }
            for cell in fit.cells
        ],
        "gains": [dataclasses.asdict(gain) for gain in answer.gains],
        "checked": [dataclasses.asdict(one) for one in answer.checked],
        "warnings": [dataclasses.asdict(warning) for warning in fit.warnings],
    }
