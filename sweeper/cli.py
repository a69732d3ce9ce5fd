"""The front door: a few verbs around a sweep file and a source of results.

Only this module prints, and only it may import both `sweeper` and `analysis`. Imports are local to
each verb, so that `--help` is instant and the verbs that read results never load torch or ray.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.errors import FitError
from sweeper.errors import SweeperError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from analysis.fit import FitResult
    from analysis.tidy import TidyTable
    from sweeper.plan import Plan
    from sweeper.spec import LoadedSweep

BAD_INPUT = 2
INTERRUPTED = 3

Command = Callable[..., Any]


def main() -> None:
    """Run the command line; every user error is one message and exit code 2."""
    try:
        cli.main(prog_name="sweeper", standalone_mode=False)
    except click.exceptions.Exit as ending:
        sys.exit(ending.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; run the same command again to go on", err=True)
        sys.exit(INTERRUPTED)
    except (SweeperError, FitError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(BAD_INPUT)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sweeper")
def cli() -> None:
    """Scaling-law sweeps of discrete diffusion language models.

    \b
    sweeper run sweeps/quick.yaml         train what is missing of a sweep
    sweeper fit results/quick             fitted laws of every series
    sweeper compare results/quick --baseline masked --against uniform
    sweeper report results/quick -o report.html
    """


def sweep_arguments(command: Command) -> Command:
    """A sweep file and its overrides."""
    command = click.argument("sweep_file", type=click.Path(path_type=Path))(command)
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value of the sweep file, for instance train.seeds=[0,1].",
    )(command)


def json_option(command: Command) -> Command:
    """Print JSON for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(command)


def fit_options(command: Command) -> Command:
    """A source and how to fit it."""
    options = [
        click.argument("source", type=click.Path(path_type=Path)),
        click.option("--params", metavar="CONVENTION", help="trunk, trunk+head or total."),
        click.option(
            "--flops", metavar="CONVENTION", help="full, 6N, 6N+attention or no-attention."
        ),
        click.option("--isoflop", default="pair", show_default=True, help="pair|parabola|akima."),
        click.option(
            "--huber-delta", default="auto", show_default=True, help="Of the surface; or a number."
        ),
        click.option("--bootstrap", default=1000, show_default=True, metavar="N"),
        click.option("--seed", default=0, show_default=True),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@click.argument("sweep_file", type=click.Path(path_type=Path))
def init(sweep_file: Path) -> None:
    """Write a commented sweep file to start from.

    Example: sweeper init my-sweep.yaml
    """
    from sweeper.example import write_example

    write_example(sweep_file)
    click.echo(f"wrote {sweep_file}; next: sweeper plan {sweep_file}")


@cli.command()
@sweep_arguments
@json_option
def plan(sweep_file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """List every trial of a sweep, with its cost, and what is left out and why.

    Example: sweeper plan sweeps/quick.yaml --set train.seeds=[0,1]
    """
    from sweeper.plan import plan_to_json
    from sweeper.plan_view import plan_view

    _, planned = _planned(sweep_file, overrides)
    if as_json:
        _print_json(plan_to_json(planned))
    else:
        _show(plan_view(planned))


@cli.command()
@sweep_arguments
@click.option(
    "--results",
    default=Path("results"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of all results; the sweep's own is DIR/<name>.",
)
@click.option("--executor", default="ray", show_default=True, type=click.Choice(["ray", "inline"]))
@click.option("--address", help="Ray cluster to use; without it, Ray is embedded.")
def run(
    sweep_file: Path,
    overrides: tuple[str, ...],
    results: Path,
    executor: str,
    address: str | None,
) -> None:
    """Train what is missing of a sweep. Run it again to resume or to extend.

    Example: sweeper run sweeps/quick.yaml
    """


@cli.command()
@fit_options
@json_option
def fit(source: Path, as_json: bool, **options: Any) -> None:
    """Fit isoFLOP optima, scaling laws and a loss surface to every series.

    SOURCE is a results folder, or a CSV or Parquet table with the columns family, params, tokens,
    flops, loss.

    Example: sweeper fit results/quick --bootstrap 4000
    """
    from analysis.fit import to_json
    from analysis.summary import summary

    _, result = _fitted(source, options)
    if as_json:
        _print_json(to_json(result))
    else:
        click.echo(summary(result))


@cli.command()
@fit_options
@click.option("--baseline", required=True, metavar="LABEL", help="Series that sets the losses.")
@click.option("--against", required=True, metavar="LABEL", help="Series that must reach them.")
@json_option
def compare(source: Path, baseline: str, against: str, as_json: bool, **options: Any) -> None:
    """How much more compute one series needs than another, at equal loss.

    Example: sweeper compare results/quick --baseline masked --against uniform
    """
    from analysis.compare import compare as compare_series
    from analysis.compare import to_json
    from analysis.summary import comparison_text

    _, result = _fitted(source, options)
    comparison = compare_series(result, baseline, against)
    if as_json:
        _print_json(to_json(comparison))
    else:
        click.echo(comparison_text(comparison))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def status(folder: Path, as_json: bool) -> None:
    """What of a sweep is done, running, failed and waiting. Needs no running driver.

    Example: sweeper status results/quick
    """


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Check a results folder: anything torn, orphaned, duplicated or inconsistent is named.

    Example: sweeper verify results/quick
    """


def _fitted(source: Path, options: dict[str, Any]) -> "tuple[TidyTable, FitResult]":
    from analysis.fit import FitSettings, fit_table
    from analysis.load import load

    table = load(source, options["params"], options["flops"])
    settings = FitSettings(
        huber_delta=_huber_delta(options["huber_delta"]),
        isoflop=options["isoflop"],
        n_bootstrap=options["bootstrap"],
        seed=options["seed"],
    )
    return table, fit_table(table, settings)


def _huber_delta(text: str) -> Any:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(
            f"expected auto or a number (inf is least squares), not {text!r}",
            param_hint="--huber-delta",
        ) from None


def _planned(sweep_file: Path, overrides: tuple[str, ...]) -> "tuple[LoadedSweep, Plan]":
    from sweeper.plan import plan_sweep
    from sweeper.spec import load_sweep

    loaded = load_sweep(sweep_file, overrides)
    return loaded, plan_sweep(loaded, has_gpu=_has_gpu(loaded))


def _has_gpu(loaded: "LoadedSweep") -> bool:
    if loaded.sweep.resources.gpus != "auto":
        return loaded.sweep.resources.gpus > 0
    import torch

    return torch.cuda.is_available()


def _show(parts: "Iterable[RenderableType]") -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    for part in parts:
        console.print(part)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, allow_nan=False))
