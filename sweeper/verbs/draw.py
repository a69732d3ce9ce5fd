"""Verbs that draw a fit: `plot` and `report`."""

from pathlib import Path
from typing import Any

import click

from sweeper.store.storage import StoragePath
from sweeper.verbs.fit import fitted
from sweeper.verbs.options import fit_options, published_option
from sweeper.verbs.output import say


@click.command()
@fit_options
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder or file.")
@click.option(
    "--figure", "names", multiple=True, metavar="NAME", help="Draw only this; repeatable."
)
@published_option
def plot(source: StoragePath, out: Path, names: tuple[str, ...], **options: Any) -> None:
    """Draw the figures of a fit as PNG, SVG or PDF.

    Example: sweeper plot results/quick -o figures
    """
    from analysis.answers.compare import compare_all
    from analysis.figures.render import FIGURES, Study, save_figures
    from analysis.sensitivity.sensitivity import sensitivities

    table, result = fitted(source, options)
    comparisons = compare_all(result)
    is_asked_for = not names or "sensitivity" in names
    tried = sensitivities(table, result, comparisons) if is_asked_for else ()
    study = Study(table, result, comparisons, tried)
    saved = save_figures(study, out, names or tuple(FIGURES))
    for path in saved.paths:
        say(f"wrote {path}")
    for name, reason in saved.skipped:
        say(f"no figure {name}: {reason}")


@click.command()
@fit_options
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="HTML file.")
@published_option
def report(source: StoragePath, out: Path, **options: Any) -> None:
    """Write one HTML page with answers, curves, comparisons, laws and provenance.

    Example: sweeper report results/quick -o report.html
    """
    from analysis.answers.compare import compare_all
    from analysis.figures.render import Study
    from analysis.report.html import write_report
    from analysis.report.provenance import provenance_of
    from analysis.sensitivity.sensitivity import sensitivities

    table, result = fitted(source, options)
    comparisons = compare_all(result)
    study = Study(table, result, comparisons, sensitivities(table, result, comparisons))
    write_report(source.name, study, provenance_of(source), out)
    say(f"wrote {out}")
