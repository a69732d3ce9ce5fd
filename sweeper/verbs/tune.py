"""The verb that finds settings: `tune`."""

from pathlib import Path
from typing import Any

import click

from sweeper.errors import ConfigError
from sweeper.store.storage import StoragePath
from sweeper.verbs.driving import Machines, machine_options
from sweeper.verbs.options import json_option, results_option, sweep_arguments
from sweeper.verbs.search import (
    export_search,
    progress_on_stderr,
    result_of,
    run_search,
    search_sweep,
    show_result,
)


@click.command()
@sweep_arguments
@results_option
@machine_options
@click.option(
    "--export-study",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Train nothing; write the results so far as an Optuna journal, for optuna-dashboard.",
)
@json_option
@click.pass_context
def tune(
    context: click.Context,
    /,
    sweep_file: Path,
    results: StoragePath,
    export_study: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Try settings as `tune` in the sweep file says, and show which did best.

    The trials are a sweep of their own, DIR/<name>-search. Run it again to resume or to extend.

    Example: sweeper tune sweeps/search.yaml --export-study study.log
    """
    from sweeper.sweepfile.schema import load_sweep

    machines = Machines.of(options)
    machines.check(results)
    loaded = load_sweep(sweep_file, options["overrides"])
    if (choice := loaded.sweep.tune) is None:
        raise ConfigError(f"{sweep_file}: no 'tune' — expected tune: {{search: …, at: …}}")
    sweep = search_sweep(loaded, choice, results, machines)
    if export_study:
        export_search(sweep, loaded.sweep.name, export_study)
        return
    with progress_on_stderr(as_json):
        code = run_search(sweep, results, machines)
    show_result(result_of(sweep), as_json=as_json)
    context.exit(code)
