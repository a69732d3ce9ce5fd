"""The verb `report`: one page of everything that a fit says."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.store.storage import StoragePath
from sweeper.verbs.fit import fitted, read_samples
from sweeper.verbs.options import fit_options, published_option
from sweeper.verbs.output import say

if TYPE_CHECKING:
    from sweeper.trials.plan import Plan


@click.command()
@fit_options
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="HTML file; unless given, report.html in the results folder, of a table in this one.",
)
@published_option
@click.option(
    "--forecast",
    "forecasts",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show what became of a registered forecast; repeatable.",
)
def report(
    source: StoragePath, out: Path | None, forecasts: tuple[Path, ...], **options: Any
) -> None:
    """Write one HTML page with answers, curves, comparisons, laws and provenance.

    Example: sweeper report results/quick
    """
    from analysis.answers.compare import compare as compare_series
    from analysis.answers.forecast import check, read_forecast
    from analysis.report.html import write_report
    from analysis.report.page.training import training_of
    from analysis.report.provenance import provenance_of
    from analysis.sensitivity.recounted import recounts
    from analysis.sensitivity.sensitivity import sensitivities
    from analysis.sensitivity.study import Study, question_of

    if out is None:
        out = (source if isinstance(source, Path) and source.is_dir() else Path()) / "report.html"
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
    if plan is None:
        return {}
    from sweeper.orchestration.cost import device_s_left
    from sweeper.store.layout import Store
    from sweeper.store.results import published

    return device_s_left(plan, published(Store(source)))


def _asked(ask: Mapping[str, Any]) -> tuple[tuple[str, str] | None, float | None]:
    """The pair and the budget that a sweep file asks about, where it asks about two series."""
    from sweeper.sweepfile.quantities import parse_number

    if ask.get("interval") != "multiplier":
        return None, None
    at = ask.get("at")
    return (ask["baseline"], ask["against"]), None if at is None else parse_number(at)
