"""Verbs that need a fit: `fit`, `compare`, `predict`, `propose`, `plot` and `report`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.store.storage import StoragePath
from sweeper.verbs.options import (
    fit_options,
    fit_options_with_budget,
    json_option,
    published_option,
    remarks_option,
)
from sweeper.verbs.output import print_json, say

if TYPE_CHECKING:
    from analysis.answers.predict import Prediction
    from analysis.fitting.fit import FitResult
    from analysis.pareto.answer import ParetoAnswer
    from analysis.tables.tidy import TidyTable
    from sweeper.trials.plan import Plan


@click.command()
@fit_options
@remarks_option
@json_option
def fit(source: StoragePath, as_json: bool, all_remarks: bool, **options: Any) -> None:
    """Fit isoFLOP optima, scaling laws and a loss surface to every series.

    SOURCE is a results folder, or a CSV, JSON or Parquet table with the columns family, params,
    tokens, flops, loss. It may have budget_flops, loss_stderr, seed, run_id, batch_tokens,
    learning_rate, and outlier: rows marked 1 are left out.

    Example: sweeper fit results/quick --bootstrap 4000
    """
    from analysis.fitting.fit import to_json
    from analysis.report.text import summary

    _, result = fitted(source, options)
    if as_json:
        print_json(to_json(result))
    else:
        say(summary(result, in_full=all_remarks))


@click.command()
@fit_options
@click.option("--baseline", required=True, metavar="LABEL", help="Series that sets the losses.")
@click.option("--against", required=True, metavar="LABEL", help="Series that must reach them.")
@published_option
@click.option(
    "--sensitivity", "in_full", is_flag=True, help="Show every variation, not only verdicts."
)
@remarks_option
@json_option
def compare(
    source: StoragePath, baseline: str, against: str, in_full: bool, as_json: bool, **options: Any
) -> None:
    """How much more compute one series needs than another, at equal loss.

    Each number is shown with its values under other conventions for parameters and FLOPs, under
    other forms of the fit, and with sizes and budgets left out.

    Example: sweeper compare results/quick --baseline masked --against uniform
    """
    from analysis.answers.compare import compare as compare_series
    from analysis.answers.compare import to_json
    from analysis.report.published_table import exponents_of, published_json
    from analysis.report.sensitivity_text import sensitivity_text
    from analysis.report.text import comparison_text
    from analysis.sensitivity.sensitivity import sensitivities

    table, result = fitted(source, options)
    comparison = compare_series(result, baseline, against)
    tried = next(iter(sensitivities(table, result, [comparison])), None)
    if as_json:
        published = {"published": published_json(result.published)} if result.published else {}
        print_json(to_json(comparison, tried.to_json() if tried else None) | published)
    else:
        say(comparison_text(comparison, tried, in_full=options["all_remarks"]))
        if result.published:
            say("\n".join(["", *exponents_of(result.published).lines()]))
        if in_full and tried is not None:
            say(f"\n{sensitivity_text(tried)}")


@click.command()
@fit_options_with_budget
@click.option("--family", metavar="LABEL", help="Series to predict.")
@click.option("--flops", metavar="C", help="Training budget, for instance 1e21.")
@click.option(
    "--register",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it as a sealed forecast, once.",
)
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show what became of a forecast in SOURCE instead.",
)
@json_option
def predict(source: StoragePath, as_json: bool, check: Path | None, **options: Any) -> None:
    """Compute-optimal size, tokens and loss of a series at a budget, and how to train there.

    Intervals cover 95 % of what a new run at that budget would show, if the laws hold there.

    Example: sweeper predict results/quick --family masked --flops 1e13
    """
    from analysis.answers.predict import predict as predict_series
    from analysis.answers.predict import to_json
    from analysis.report.text import prediction_text

    if check is not None:
        _show_outcome(source, check, as_json, options)
        return
    for name in ("family", "flops"):
        if options[name] is None:
            raise click.UsageError(f"Missing option '--{name}'.")
    budget = _number(options["flops"], "--flops")
    table, result = fitted(source, options)
    prediction = predict_series(result, options["family"], budget)
    if options["register"] is not None:
        _register(options["register"], table, result, prediction, source.name)
    if as_json:
        print_json(to_json(prediction))
    else:
        say(prediction_text(prediction))


def _show_outcome(source: StoragePath, file: Path, as_json: bool, options: dict[str, Any]) -> None:
    from analysis.answers.forecast import check, read_forecast
    from analysis.report.forecasts import forecast_text

    if options["register"] is not None or options["family"] is not None:
        raise click.UsageError("--check FILE says itself what it forecasts: leave out the others")
    outcome = check(read_forecast(file), file.name, read_table(source, options))
    if as_json:
        print_json(outcome.to_json())
    else:
        say(forecast_text(outcome))


def _register(
    file: Path, table: "TidyTable", result: "FitResult", prediction: "Prediction", source: str
) -> None:
    from analysis.answers.forecast import Forecast, register
    from sweeper.store.attempts import utc_now
    from sweeper.store.submission import version

    forecast = Forecast.of(
        table,
        result,
        prediction,
        source=source,
        sweeper_version=version("sweeper") or "unknown",
        registered_at=utc_now(),
    )
    register(forecast, file)
    say(f"registered {file}; next: sweeper predict SOURCE --check {file}", err=True)


@click.command()
@fit_options
@click.option("--family", metavar="LABEL", help="Series to add runs to; without it, all.")
@click.option("--baseline", metavar="LABEL", help="The other series of a multiplier.")
@click.option(
    "--interval",
    default="params",
    show_default=True,
    help="What to narrow: params|tokens|loss|multiplier.",
)
@click.option("--at", metavar="C", help="Budget to ask about; without it, the largest bracketed.")
@click.option("--number", default=8, show_default=True, metavar="N", help="How many runs.")
@json_option
def propose(source: StoragePath, as_json: bool, **options: Any) -> None:
    """Which runs to add next: first to bracket open budgets, then to narrow an interval the most.

    Ends with a design to paste into the sweep file; only its new cells are trained.

    Example: sweeper propose results/quick --family masked --interval params
    """
    from analysis.answers.propose import Request, to_json
    from analysis.answers.propose import propose as propose_runs
    from analysis.report.text import proposals_text

    at = None if options["at"] is None else _number(options["at"], "--at")
    _, result = fitted(source, options)
    named = [name for name in (options["baseline"], options["family"]) if name is not None]
    families = tuple(named or result.families)
    # Checkpoints of published trials are removed: a longer run is trained from its start.
    request = Request(families, options["interval"], at, options["number"], resumes=False)
    found = propose_runs(result, request)
    if as_json:
        print_json(to_json(found))
    else:
        say(proposals_text(found))


@click.command()
@fit_options
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder or file.")
@click.option(
    *("--figure", "--what", "names"),
    multiple=True,
    metavar="NAME",
    help="Draw only this; repeatable.",
)
@published_option
def plot(source: StoragePath, out: Path, names: tuple[str, ...], **options: Any) -> None:
    """Draw the figures of a fit as PNG, SVG or PDF.

    Example: sweeper plot results/quick -o figures
    """
    from analysis.answers.compare import compare_all
    from analysis.figures.render import FIGURES, check_names, save_drawn, save_figures
    from analysis.sensitivity.sensitivity import sensitivities
    from analysis.sensitivity.study import Study

    check_names(names)
    if names == ("pareto",):  # a table of samples has nothing to fit
        from analysis.figures.pareto import pareto
        from analysis.pareto.answer import Asked, answer
        from analysis.pareto.samples import load_samples

        samples = load_samples(source)
        found = answer(samples, Asked(n_resamples=options["bootstrap"], seed=options["seed"]))
        saved = save_drawn({"pareto": lambda: pareto(found)}, samples.fingerprint, out)
    else:
        table, result = fitted(source, options)
        comparisons = compare_all(result)
        is_asked_for = not names or "sensitivity" in names
        tried = sensitivities(table, result, comparisons) if is_asked_for else ()
        study = Study(table, result, comparisons, tried, samples=read_samples(source, options))
        saved = save_figures(study, out, names or tuple(FIGURES))
    for path in saved.paths:
        say(f"wrote {path}")
    for name, reason in saved.skipped:
        say(f"no figure {name}: {reason}")


@click.command()
@fit_options
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="HTML file.")
@published_option
@click.option(
    "--forecast",
    "forecasts",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show what became of a registered forecast; repeatable.",
)
def report(source: StoragePath, out: Path, forecasts: tuple[Path, ...], **options: Any) -> None:
    """Write one HTML page with answers, curves, comparisons, laws and provenance.

    Example: sweeper report results/quick -o report.html
    """
    from analysis.answers.compare import compare as compare_series
    from analysis.answers.forecast import check, read_forecast
    from analysis.report.html import write_report
    from analysis.report.page.training import training_of
    from analysis.report.provenance import provenance_of
    from analysis.sensitivity.recounted import recounts
    from analysis.sensitivity.sensitivity import sensitivities
    from analysis.sensitivity.study import Study, question_of

    registered = [(read_forecast(file), file.name) for file in forecasts]
    # A few laws of others are always at hand on the page.
    shows_published = options["published"] is not None
    table, result = fitted(source, options | {"published": options["published"] or "main"})
    outcomes = [check(forecast, name, table) for forecast, name in registered]
    plan = _plan_of(source)
    training = training_of(source, plan, _device_s_left(source, plan))
    question = question_of(result, *_asked(training.asked))
    comparisons = [compare_series(result, *pair) for pair in question.compared]
    tried = sensitivities(table, result, comparisons)
    counted = recounts(table, result, comparisons)
    study = Study(
        table,
        result,
        comparisons,
        tried,
        counted,
        shows_published,
        question,
        read_samples(source, options),
    )
    write_report(source.name, study, provenance_of(source), out, outcomes, training)
    say(f"wrote {out}")


def _plan_of(source: StoragePath) -> "Plan | None":
    """What a results folder plans; None for a table."""
    from sweeper.store.layout import Store
    from sweeper.store.submission import read_plan

    store = Store(source)
    return read_plan(store) if (source / "trials").is_dir() and store.plan.exists() else None


def _device_s_left(source: StoragePath, plan: "Plan | None") -> Mapping[str, float]:
    """Of what a plan still lacks, as far as its records tell; same records, same numbers."""
    from sweeper.orchestration.cost import device_s_left
    from sweeper.store.layout import Store
    from sweeper.store.results import published

    return {} if plan is None else device_s_left(plan, published(Store(source)))


def _asked(ask: Mapping[str, Any]) -> tuple[tuple[str, str] | None, float | None]:
    """The pair and the budget that a sweep file asks about, where it asks about two series."""
    from sweeper.sweepfile.quantities import parse_number

    if ask.get("interval") != "multiplier":
        return None, None
    at = ask.get("at")
    return (ask["baseline"], ask["against"]), None if at is None else parse_number(at)


def fitted(source: StoragePath, options: dict[str, Any]) -> "tuple[TidyTable, FitResult]":
    """A source as a tidy table, and its fit under the `fit_options`."""
    # Before numpy is imported, which reads them then: on small matrices threads only cost time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from analysis.fitting.fit import FitSettings, fit_table

    table = read_table(source, options)
    delta = options["huber_delta"]
    try:
        delta = delta if delta == "auto" else float(delta)
    except ValueError:
        raise click.BadParameter(
            f"expected auto or a number (inf is least squares), not {delta!r}",
            param_hint="--huber-delta",
        ) from None
    settings = FitSettings(
        huber_delta=delta,
        isoflop=options["isoflop"],
        n_bootstrap=options["bootstrap"],
        seed=options["seed"],
    )
    result = fit_table(table, settings)
    if options.get("published") is not None:
        from analysis.report.published_table import with_published

        result = with_published(result, options["published"])
    return table, result


def read_table(source: StoragePath, options: dict[str, Any]) -> "TidyTable":
    """A source as a tidy table, read as the `fit_options` say."""
    from analysis.tables.load import load
    from analysis.tables.tidy import Reading

    reading = Reading(_names(options["columns"]), options["runs"], options["all_settings"])
    return load(source, options["params"], options["flops_convention"], reading)


def read_samples(source: StoragePath, options: dict[str, Any]) -> "ParetoAnswer | None":
    """What the samples of a results folder say; None where it has none, or of several protocols."""
    from analysis.errors import TableError
    from analysis.pareto.answer import Asked, answer
    from analysis.pareto.samples import load_samples_of

    asked = Asked(n_resamples=options["bootstrap"], seed=options["seed"])
    try:
        table = load_samples_of(source)
        return None if table is None else answer(table, asked)
    except TableError as error:  # the fit is not to blame, and is shown
        say(f"warning: samples are not shown: {error}", err=True)
        return None


def _names(columns: tuple[str, ...]) -> dict[str, str]:
    """NAME=THEIRS, each name once."""
    names: dict[str, str] = {}
    for text in columns:
        ours, _, theirs = (part.strip() for part in text.partition("="))
        if not ours or not theirs:
            message = f"expected NAME=THEIRS, for instance loss=val/nll, not {text!r}"
            raise click.BadParameter(message, param_hint="--column")
        if ours in names:
            message = f"{ours} is given twice: {names[ours]!r} and {theirs!r}"
            raise click.BadParameter(message, param_hint="--column")
        names[ours] = theirs
    return names


def _number(text: str, option: str) -> float:
    from sweeper.sweepfile.quantities import parse_number

    try:
        return parse_number(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, not {text!r}", param_hint=option) from None
