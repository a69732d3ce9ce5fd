"""The verb `plot`: figures of a fit, for a screen or a paper."""

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
@published_option
def plot(source: StoragePath, out: Path, names: tuple[str, ...], **options: Any) -> None:
    """Draw the figures of a fit as PNG, SVG or PDF.

    A folder gets every figure in all three formats, a file the first one that was asked for.

    Example: sweeper plot results/quick --what frontier --width column -o frontier.pdf
    """
    from analysis.answers.compare import compare_all
    from analysis.figures.render import FIGURES, check_names, save_drawn, save_figures
    from analysis.figures.style import Look
    from analysis.sensitivity.sensitivity import sensitivities
    from analysis.sensitivity.study import Study

    check_names(names)
    look = Look.of(options["width"], options["style"])
    if look.left_out:
        left_out = ", ".join(look.left_out)
        why = "--width says sizes, and labels are no LaTeX"
        say(f"{options['style']}: not taken, as {why}: {left_out}", err=True)
    if names == ("pareto",):  # a table of samples has nothing to fit
        from analysis.figures.pareto import pareto
        from analysis.pareto.answer import Asked, answer
        from analysis.pareto.samples import load_samples

        samples = load_samples(source)
        found = answer(samples, Asked(n_resamples=options["bootstrap"], seed=options["seed"]))
        drawn = {"pareto": lambda look: pareto(found, look)}
        saved = save_drawn(drawn, samples.fingerprint, out, look=look)
    else:
        table, result = fitted(source, options)
        comparisons = compare_all(result)
        is_asked_for = not names or "sensitivity" in names
        tried = sensitivities(table, result, comparisons) if is_asked_for else ()
        study = Study(table, result, comparisons, tried, samples=read_samples(source, options))
        saved = save_figures(study, out, names or tuple(FIGURES), look=look)
    for path in saved.paths:
        say(f"wrote {path}")
    for name, reason in saved.skipped:
        say(f"no figure {name}: {reason}")
