"""The front door: a few verbs around a sweep file and a source of results.

Only this module prints, and only it may import both `sweeper` and `analysis`. Imports are local to
each verb, so that `--help` is instant and the verbs that read results never load torch or ray.
"""

import json
import math
import os
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
    from sweeper.executors.base import Executor
    from sweeper.outcome import SweepOutcome
    from sweeper.plan import Plan
    from sweeper.scheduler import Limits
    from sweeper.spec import LoadedSweep
    from sweeper.stop_signal import StopSignal

BAD_INPUT = 2
INTERRUPTED = 3

PIPE_WIDTH = 140
"""Columns of tables that go to a file or a pipe."""

Command = Callable[..., Any]


def main() -> None:
    """Run the command line; every user error is one message and exit code 2."""
    try:
        sys.exit(cli.main(prog_name="sweeper", standalone_mode=False))  # verbs return None or exit
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; run the same command again to go on", err=True)
        sys.exit(INTERRUPTED)
    except (SweeperError, FitError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(BAD_INPUT)
    except BrokenPipeError:  # whoever read our output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror}; check path, permissions and disk", err=True)
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


def results_option(command: Command) -> Command:
    """Where results, and corpora that were costly to read, are kept."""
    return click.option(
        "--results",
        default=Path("results"),
        show_default=True,
        type=click.Path(path_type=Path),
        help="Folder of all results; the sweep's own is DIR/<name>.",
    )(command)


def json_option(command: Command) -> Command:
    """Print JSON for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(command)


def fit_options(command: Command) -> Command:
    """A source and how to fit it."""
    return _fit_options(command, "--flops", "--flops-convention")


def fit_options_beside_a_budget(command: Command) -> Command:
    """The same where `--flops` is the budget asked about."""
    return _fit_options(command, "--flops-convention")


def _fit_options(command: Command, *flops_convention: str) -> Command:
    options = [
        click.argument("source", type=click.Path(path_type=Path)),
        click.option("--params", metavar="CONVENTION", help="trunk, trunk+head or total."),
        click.option(
            *flops_convention,
            "flops_convention",
            metavar="CONVENTION",
            help="full, 6N, 6N+attention or no-attention.",
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


def published_option(command: Command) -> Command:
    """Published laws beside the fitted ones."""
    return click.option(
        "--published",
        is_flag=False,
        flag_value="main",
        metavar="[NAMES]",
        help="Show published laws too: gidd-*,chinchilla for instance, or all; alone, a few.",
    )(command)


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
@results_option
@json_option
def plan(sweep_file: Path, overrides: tuple[str, ...], results: Path, as_json: bool) -> None:
    """List every trial of a sweep, with its cost, and what is left out and why.

    Where the corpus is not at hand, corpus.assume of the sweep file stands in for it.

    Example: sweeper plan sweeps/quick.yaml --set train.seeds=[0,1]
    """
    from sweeper.plan import plan_to_json, preview_sweep
    from sweeper.plan_view import plan_view

    _, planned = _planned(sweep_file, overrides, results, preview_sweep)
    if as_json:
        _print_json(plan_to_json(planned))
    else:
        _show(plan_view(planned))


@cli.command()
@sweep_arguments
@results_option
@click.option("--executor", default="ray", show_default=True, type=click.Choice(["ray", "inline"]))
@click.option("--address", metavar="A", help="Ray cluster to use; without it, Ray is embedded.")
@click.pass_context
def run(context: click.Context, /, sweep_file: Path, results: Path, **options: Any) -> None:
    """Train what is missing of a sweep. Run it again to resume or to extend.

    Ctrl-C once: write checkpoints and stop. Twice: stop now.

    Example: sweeper run sweeps/quick.yaml --set train.seeds=[0,1]
    """
    from rich.console import Console

    from sweeper.driver import Run, run_sweep
    from sweeper.plan import plan_sweep
    from sweeper.progress import shown
    from sweeper.stop_signal import StopSignal
    from sweeper.store import locked, store_at
    from sweeper.submission import stored_plan, submit

    loaded, planned = _planned(sweep_file, options["overrides"], results, plan_sweep)
    for warning in planned.warnings:
        click.echo(f"warning: {warning.message} [{warning.code}]", err=True)
    store, stop = store_at(results, loaded.sweep.name), StopSignal()
    executor = _executor(options["executor"], options["address"], stop, planned, loaded)
    stored = stored_plan(planned)
    with locked(store), shown(Console(), store) as on_event:
        submit(store, stored, loaded.document.as_submitted())
        limits = _limits(loaded)
        outcome = run_sweep(Run(store, stored, executor, limits, stop, on_event))
    _say_what_next(results / loaded.sweep.name, outcome)
    context.exit(outcome.exit_code)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def status(folder: Path, as_json: bool) -> None:
    """What of a sweep is done, running, failed and waiting. Needs no running driver.

    Example: sweeper status results/quick
    """
    from sweeper.status import status as status_of
    from sweeper.status import to_json
    from sweeper.status_view import status_view
    from sweeper.store import open_store

    found = status_of(open_store(folder))
    if as_json:
        _print_json(to_json(found))
    else:
        _show(status_view(found))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def verify(context: click.Context, /, folder: Path, as_json: bool) -> None:
    """Check a results folder: what is torn, orphaned, duplicated or inconsistent is named.

    Exit code 1 when something is found.

    Example: sweeper verify results/quick
    """
    from sweeper.verify import to_json
    from sweeper.verify import verify as verify_folder

    findings = verify_folder(folder)
    if as_json:
        click.echo(to_json(findings))
    else:
        for finding in findings:
            click.echo(f"{finding.file}: {finding.message} [{finding.code}]")
        click.echo(f"{folder}: {len(findings)} findings" if findings else f"{folder}: sound")
    context.exit(1 if findings else 0)


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
@published_option
@click.option("--sensitivity", "in_full", is_flag=True, help="Every variation, not only verdicts.")
@json_option
def compare(
    source: Path, baseline: str, against: str, in_full: bool, as_json: bool, **options: Any
) -> None:
    """How much more compute one series needs than another, at equal loss.

    Each number comes with what becomes of it under other conventions for parameters and FLOPs,
    other forms of the fit, and with sizes and budgets left out.

    Example: sweeper compare results/quick --baseline masked --against uniform
    """
    from analysis.beside import published_json, published_text
    from analysis.compare import compare as compare_series
    from analysis.compare import to_json
    from analysis.sensitivity import with_sensitivity
    from analysis.sensitivity_text import sensitivity_text
    from analysis.summary import comparison_text

    table, result = _fitted(source, options)
    compared = compare_series(result, baseline, against)
    (comparison,) = with_sensitivity(table, result, [compared])
    if as_json:
        published = {"published": published_json(result.published)} if result.published else {}
        _print_json(to_json(comparison) | published)
    else:
        click.echo(comparison_text(comparison))
        if result.published:
            click.echo("\n" + published_text(result.published))
        if in_full and comparison.sensitivity is not None:
            click.echo(f"\n{sensitivity_text(comparison.sensitivity, (baseline, against))}")


@cli.command()
@fit_options_beside_a_budget
@click.option("--family", required=True, metavar="LABEL", help="Series to predict.")
@click.option("--flops", required=True, metavar="C", help="Training budget, for instance 1e21.")
@json_option
def predict(source: Path, family: str, flops: str, as_json: bool, **options: Any) -> None:
    """Compute-optimal size, tokens and loss of a series at a budget, and how to train there.

    Intervals hold 95 % of what a new run at that budget would show, if the laws go on there.

    Example: sweeper predict results/quick --family masked --flops 1e13
    """
    from analysis.predict import predict as predict_series
    from analysis.predict import to_json
    from analysis.summary import prediction_text

    budget = _number(flops, "--flops")
    _, result = _fitted(source, options)
    prediction = predict_series(result, family, budget)
    if as_json:
        _print_json(to_json(prediction))
    else:
        click.echo(prediction_text(prediction))


@cli.command()
@fit_options
@click.option("--family", metavar="LABEL", help="Series to add runs to; without it, all.")
@click.option("--baseline", metavar="LABEL", help="The other series of a multiplier.")
@click.option(
    "--interval",
    default="params",
    show_default=True,
    help="What to pin down: params|tokens|loss|multiplier.",
)
@click.option("--at", metavar="C", help="Budget at which; without it, the largest bracketed one.")
@click.option("--number", default=8, show_default=True, metavar="N", help="How many runs.")
@json_option
def propose(source: Path, as_json: bool, **options: Any) -> None:
    """Which runs to add next: what brackets open budgets, then what shrinks an interval most.

    Ends with a design to paste into the sweep file; only its new cells are trained.

    Example: sweeper propose results/quick --family masked --interval params
    """
    from analysis.proposal_text import proposals_text
    from analysis.propose import Request, to_json
    from analysis.propose import propose as propose_runs

    at = None if options["at"] is None else _number(options["at"], "--at")
    _, result = _fitted(source, options)
    named = [name for name in (options["baseline"], options["family"]) if name is not None]
    families = tuple(named or result.families)
    found = propose_runs(result, Request(families, options["interval"], at, options["number"]))
    if as_json:
        _print_json(to_json(found))
    else:
        click.echo(proposals_text(found))


@cli.command()
@fit_options
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder or file.")
@click.option("--figure", "names", multiple=True, metavar="NAME", help="Only this; repeatable.")
@published_option
def plot(source: Path, out: Path, names: tuple[str, ...], **options: Any) -> None:
    """Draw the figures of a fit as PNG, SVG or PDF.

    Example: sweeper plot results/quick -o figures
    """
    from analysis.compare import compare_all
    from analysis.figures import save_figures
    from analysis.plots import FIGURES
    from analysis.sensitivity import with_sensitivity

    table, result = _fitted(source, options)
    comparisons = compare_all(result)
    if not names or "sensitivity" in names:
        comparisons = with_sensitivity(table, result, comparisons)
    saved = save_figures(table, result, comparisons, out, names or tuple(FIGURES))
    for path in saved.paths:
        click.echo(f"wrote {path}")
    for name, reason in saved.skipped:
        click.echo(f"no figure {name}: {reason}")


@cli.command()
@fit_options
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="HTML file.")
@published_option
def report(source: Path, out: Path, **options: Any) -> None:
    """Write one HTML page with answers, curves, comparisons, laws and provenance.

    Example: sweeper report results/quick -o report.html
    """
    from analysis.compare import compare_all
    from analysis.provenance import provenance_of
    from analysis.report import write_report
    from analysis.sensitivity import with_sensitivity

    table, result = _fitted(source, options)
    comparisons = with_sensitivity(table, result, compare_all(result))
    write_report(source.name, table, result, comparisons, provenance_of(source), out)
    click.echo(f"wrote {out}")


def _fitted(source: Path, options: dict[str, Any]) -> "tuple[TidyTable, FitResult]":
    # Before numpy is imported: on matrices this small, threads only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from analysis.fit import FitSettings, fit_table
    from analysis.load import load

    table = load(source, options["params"], options["flops_convention"])
    settings = FitSettings(
        huber_delta=_huber_delta(options["huber_delta"]),
        isoflop=options["isoflop"],
        n_bootstrap=options["bootstrap"],
        seed=options["seed"],
    )
    result = fit_table(table, settings)
    if options.get("published") is not None:
        from analysis.beside import with_published

        result = with_published(result, options["published"])
    return table, result


def _number(text: str, option: str) -> float:
    from sweeper.quantities import parse_number

    try:
        return parse_number(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, not {text!r}", param_hint=option) from None


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


def _planned(
    sweep_file: Path, overrides: tuple[str, ...], results: Path, planner: "Callable[..., Plan]"
) -> "tuple[LoadedSweep, Plan]":
    from sweeper.corpus import CACHE
    from sweeper.precision import bfloat16_from_width
    from sweeper.spec import load_sweep

    loaded = load_sweep(sweep_file, overrides)
    width = bfloat16_from_width(has_gpu=_has_gpu(loaded))
    cache_folder = results / CACHE if loaded.sweep.corpus.is_costly_to_read else None
    return loaded, planner(loaded, bfloat16_from_width=width, cache_folder=cache_folder)


def _has_gpu(loaded: "LoadedSweep") -> bool:
    if loaded.sweep.resources.gpus != "auto":
        return loaded.sweep.resources.gpus > 0
    import torch

    return torch.cuda.is_available()


def _executor(
    name: str, address: str | None, stop: "StopSignal", planned: "Plan", loaded: "LoadedSweep"
) -> "Executor":
    from sweeper.worker import run_trial

    if name == "inline":
        from sweeper.executors.inline import InlineExecutor

        if address is not None:
            raise click.UsageError("--address is for --executor ray; inline runs in this process")
        return InlineExecutor(run_trial, stop.is_requested, "cuda" if _has_gpu(loaded) else "cpu")
    from sweeper.executors.ray_actors import RayExecutor

    gpus, n_trials = loaded.sweep.resources.gpus, len(planned.trials)
    return RayExecutor(run_trial, address=address, gpus_per_trial=gpus, max_slots=n_trials)


def _limits(loaded: "LoadedSweep") -> "Limits":
    from sweeper.scheduler import Limits

    limits = loaded.sweep.limits
    n_trials = math.inf if limits.trials is None else limits.trials
    return Limits(flops=limits.flops, wall_s=limits.wall_s, n_trials=n_trials)


def _say_what_next(folder: Path, outcome: "SweepOutcome") -> None:
    if outcome.n_left:
        click.echo("run the same command again to finish what is missing")
    else:
        click.echo(f"results in {folder}; next: sweeper fit {folder}")


def _show(parts: "Iterable[RenderableType]") -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for part in parts:
        console.print(part)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, allow_nan=False))
