"""Verbs that draw a fit: `plot` and `report`."""

from pathlib import Path
from typing import Any

import click

from sweeper.store.storage import StorePath
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
def plot(source: StorePath, out: Path, names: tuple[str, ...], **options: Any) -> None:
    """Draw the figures of a fit as PNG, SVG or PDF.

    Example: sweeper plot results/quick -o figures
    """
    from analysis.answers.compare import compare_all
    from analysis.figures.gallery import FIGURES
    from analysis.figures.render import save_figures
    from analysis.sensitivity.sensitivity import with_sensitivity

    table, result = fitted(source, options)
    comparisons = compare_all(result)
    if not names or "sensitivity" in names:
        comparisons = with_sensitivity(table, result, comparisons)
    saved = save_figures(table, result, comparisons, out, names or tuple(FIGURES))
    for path in saved.paths:
        say(f"wrote {path}")
    for name, reason in saved.skipped:
        say(f"no figure {name}: {reason}")


@click.command()
@fit_options
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="HTML file.")
@published_option
def report(source: StorePath, out: Path, **options: Any) -> None:
    """Write one HTML page with answers, curves, comparisons, laws and provenance.

    Example: sweeper report results/quick -o report.html
    """
    from analysis.answers.compare import compare_all
    from analysis.report.html import write_report
    from analysis.report.provenance import provenance_of
    from analysis.sensitivity.sensitivity import with_sensitivity

    table, result = fitted(source, options)
    comparisons = with_sensitivity(table, result, compare_all(result))
    write_report(source.name, table, result, comparisons, provenance_of(source), out)
    say(f"wrote {out}")
