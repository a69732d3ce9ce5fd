"""The verb that finds settings: `tune`."""

from pathlib import Path
from typing import Any

import click

from sweeper.errors import ConfigError
from sweeper.store.storage import StoragePath
from sweeper.verbs.driving.drive import Machines, machine_options
from sweeper.verbs.options import json_option, results_option, sweep_arguments
from sweeper.verbs.tuning.laws import tune_laws
from sweeper.verbs.tuning.search import loaded_search, search


@click.command()
@sweep_arguments
@results_option
@machine_options
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Law file to write; by default the one that the sweep file names, or NAME-laws.yaml.",
)
@click.option(
    "--export-study",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Train nothing; write what a search found as a journal that optuna-dashboard opens.",
)
@json_option
@click.pass_context
def tune(context: click.Context, /, sweep_file: Path, results: StoragePath, **options: Any) -> None:
    """Measure the best learning rate and batch size of every series, and write them as laws.

    Runs of two small sizes are trained as a sweep of their own, DIR/<name>-tune, at rates and
    batches about those of the sweep file. Run it again to resume. Name the law file in the sweep
    file, train: {learning_rate: tuned, batch_tokens: tuned, laws: FILE}, to use it.

    A sweep file with tune: {search: …} has other settings searched instead, with Optuna, as the
    sweep DIR/<name>-search, and the best are shown.

    Example: sweeper tune sweeps/quick.yaml -o laws.yaml
    """
    machines = Machines.of(options)
    machines.check(results)
    overrides, out, as_json = options["overrides"], options["out"], options["as_json"]
    journal = options["export_study"]
    if (searched := loaded_search(sweep_file, overrides)) is not None:
        if out is not None:
            raise click.UsageError("-o is for laws, and a search finds none")
        context.exit(search(searched, results, machines, journal, as_json=as_json))
    if journal is not None:
        raise ConfigError(f"{sweep_file}: no tune.search, so there is no study to export")
    context.exit(tune_laws(sweep_file, overrides, results, machines, out, as_json=as_json))
