"""The verb `plot`: figures of a fit, for a screen or a paper."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from sweeper.store.storage import StoragePath
from sweeper.verbs.fit import fitted, read_samples
from sweeper.verbs.options import fit_options, published_option
from sweeper.verbs.output import say


@click.command()
@fit_options
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder or file.")
@click.option(
    *("--what", "--figure", "names"),
    multiple=True,
    metavar="NAME",
    help="Draw only this; repeatable.",
)
@click.option(
    "--width",
    default="9",
    show_default=True,
    metavar="WIDTH",
    help="column (3.25 in), page (6.75 in), or inches.",
)
@click.option(
    "--style",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A .mplstyle file of matplotlib, laid over our own.",
)
@click.option(
    *("--family", "families"),
    multiple=True,
    metavar="LABEL",
    help="Draw only this series; repeatable.",
)
@click.option("--baseline", metavar="LABEL", help="Compare others with this series alone.")
@click.option(
    "--against",
    multiple=True,
    metavar="LABEL",
    help="Draw only this series and the baseline; repeatable.",
)
@published_option
def plot(source: StoragePath, out: Path, names: tuple[str, ...], **options: Any) -> None:
    """Draw the figures of a fit as PNG, SVG or PDF.

    A folder gets every figure in all three formats, a file the first one that was asked for.

    Series that are left out keep their part in the fit, and the others their colours.

    Example: sweeper plot results/quick --what frontier --width column -o frontier.pdf
    """
    from analysis.figures.render import FIGURES, check_names, save_drawn, save_figures
    from analysis.figures.style import Look
    from analysis.sensitivity.selection import Selection
    from analysis.sensitivity.sensitivity import sensitivities
    from analysis.sensitivity.study import Study

    check_names(names)
    look = Look.of(options["width"], options["style"])
    if look.left_out:
        left_out = ", ".join(look.left_out)
        why = "--width says sizes, and labels are no LaTeX"
        say(f"{options['style']}: not taken, as {why}: {left_out}", err=True)
    chosen = Selection(options["families"], options["baseline"], options["against"])
    if names == ("pareto",):  # a table of samples has nothing to fit
        from analysis.figures.pareto import pareto
        from analysis.pareto.answer import Asked, answer
        from analysis.pareto.samples import load_samples

        if chosen != Selection():
            raise click.UsageError("--what pareto shows all that was sampled: choose no series")
        samples = load_samples(source)
        found = answer(samples, Asked(n_resamples=options["bootstrap"], seed=options["seed"]))
        drawn = {"pareto": lambda look: pareto(found, look)}
        saved = save_drawn(drawn, samples.fingerprint, out, look=look)
    else:
        table, result = fitted(source, options)
        shown, comparisons = chosen.of(result), chosen.comparisons(result)
        look = dataclasses.replace(look, labels=tuple(result.families))
        is_asked_for = not names or "sensitivity" in names
        tried = sensitivities(table, result, comparisons) if is_asked_for else ()
        study = Study(table, shown, comparisons, tried, samples=read_samples(source, options))
        saved = save_figures(study, out, names or tuple(FIGURES), look=look)
    for path in saved.paths:
        say(f"wrote {path}")
    for name, reason in saved.skipped:
        say(f"no figure {name}: {reason}")
