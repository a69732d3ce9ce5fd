"""Verbs before anything runs, `init` and `plan`, and how verbs plan a sweep."""

import dataclasses
import importlib.resources
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.errors import ConfigError
from sweeper.store.storage import StoragePath
from sweeper.verbs.cost import cost_here, cost_text, limit_warnings, probe_here
from sweeper.verbs.driving.expected import expected_width
from sweeper.verbs.options import json_option, results_option, sweep_arguments
from sweeper.verbs.output import TextTable, plain, print_json, say, show

if TYPE_CHECKING:
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.schema import LoadedSweep


@click.command()
@click.argument("sweep_file", type=click.Path(path_type=Path))
def init(sweep_file: Path) -> None:
    """Write a commented sweep file to start from.

    Example: sweeper init my-sweep.yaml
    """
    example = importlib.resources.files("sweeper.sweepfile").joinpath("example_sweep.yaml")
    try:
        with sweep_file.open("x", encoding="utf-8") as file:
            file.write(example.read_text("utf-8"))
    except FileExistsError as error:
        message = f"{sweep_file} exists already; choose another name or remove it"
        raise ConfigError(message) from error
    except OSError as error:
        raise ConfigError(
            f"{sweep_file} cannot be written ({error.strerror}); choose a folder that exists and "
            "is yours"
        ) from error
    say(f"wrote {sweep_file}; next: sweeper plan {sweep_file}")


@click.command()
@sweep_arguments
@results_option
@click.option(
    "--probe", "is_probed", is_flag=True, help="Time some training steps of each size first."
)
@json_option
def plan(sweep_file: Path, results: StoragePath, as_json: bool, **options: Any) -> None:
    """List every trial of a sweep, with its cost, and what is left out and why.

    The time it takes on this machine follows from trials finished in the results folder and from
    probes, at most 2 s for each size, which are kept there.

    Where the corpus cannot be read, the sizes in corpus.assume of the sweep file are used instead.

    Example: sweeper plan sweeps/quick.yaml --set train.seeds=[0,1]
    """
    from sweeper.planning.kept_bytes import kept_bytes
    from sweeper.planning.planner import plan_to_json, preview_sweep

    loaded, planned = planned_sweep(sweep_file, options["overrides"], results, preview_sweep)
    is_on_gpus = has_gpu(loaded)
    if options["is_probed"]:
        for line in probe_here(planned.plan, results, is_on_gpus=is_on_gpus):
            say(line, err=True)
    cost = cost_here(planned.plan, results, is_on_gpus=is_on_gpus)
    width = expected_width(loaded.sweep, planned)
    if as_json:
        expected = {} if loaded.sweep.ask is None else {"expected_interval_ratio": width}
        of_cost = {"cost": dataclasses.asdict(cost) if cost else None}
        kept = kept_bytes(planned.trials, planned.plan.keep)
        of_models = {"keep": {"models": planned.plan.keep, "bytes": kept}}
        print_json({**plan_to_json(planned), **of_models, **of_cost, **expected})
        return
    show(plan_view(planned))
    if (ask := loaded.sweep.ask) is not None:
        say(
            f"asked: {ask.interval} of {' and '.join(ask.labels)} within a factor {ask.within:g}; "
            + ("of this plan no interval is to be expected" if width is None else "")
            + (f"this plan is expected to give {width:.2f}" if width is not None else "")
            + (f", and up to {ask.rounds} rounds follow" if ask.rounds else "")
        )
    if cost is not None:
        say(cost_text(cost, len(planned.trials)))
        for warning in limit_warnings(cost, loaded.sweep.limits):
            say(f"warning: {warning}")


def planned_sweep(
    sweep_file: Path,
    overrides: tuple[str, ...],
    results: StoragePath,
    planner: "Callable[..., PlannedSweep]",
    *,
    is_on_gpus: bool | None = None,
) -> "tuple[LoadedSweep, PlannedSweep]":
    """A sweep file with its overrides, and its plan for GPUs or not; None: as on this machine."""
    from sweeper.data.corpus import cache_beside
    from sweeper.planning.recipe import bfloat16_from_width
    from sweeper.sweepfile.schema import load_sweep

    loaded = load_sweep(sweep_file, overrides)
    width = bfloat16_from_width(has_gpu=has_gpu(loaded, is_on_gpus))
    cache = cache_beside(results) if loaded.sweep.corpus.is_costly_to_read else None
    return loaded, planner(loaded, bfloat16_from_width=width, cache_folder=cache)


def has_gpu(loaded: "LoadedSweep", is_on_gpus: bool | None = None) -> bool:
    """Whether trials run on GPUs: as the sweep file says, else as there are any."""
    if loaded.sweep.resources.gpus != "auto":
        return loaded.sweep.resources.gpus > 0
    if is_on_gpus is not None:
        return is_on_gpus
    import torch

    return torch.cuda.is_available()


def plan_view(sweep: "PlannedSweep") -> Iterator[str | TextTable]:
    """The trials, what is left out, warnings and totals, to be printed in this order."""
    from sweeper.planning.kept_bytes import bytes_text, kept_bytes
    from sweeper.sweepfile.question import GPU_FLOPS_PER_S
    from sweeper.verbs.progress import count

    corpus, totals = sweep.corpus, sweep.totals
    gpu_hours = totals.train_flops / GPU_FLOPS_PER_S / 3600
    gpu_time = f"; about {count(gpu_hours)} GPU hours at {GPU_FLOPS_PER_S:.0e} FLOPs/s each"
    yield (
        f"[bold]{_escaped(sweep.plan.name)}[/bold]: {totals.n_trials} trials, {totals.n_cells} "
        f"observations, {totals.train_flops:.3g} training FLOPs on {count(totals.tokens)} tokens; "
        f"evaluation adds {totals.eval_share:.0%}{gpu_time if gpu_hours >= 1 else ''}"
    )
    yield (
        f"corpus {_escaped(corpus.source)}: {count(corpus.train_tokens)} training and "
        f"{count(corpus.validation_tokens)} validation tokens, vocabulary {corpus.vocab_size:,}, "
        + (f"fingerprint {corpus.fingerprint[:12]}" if corpus.fingerprint else "all assumed")
    )
    numbers = ("params", "layers × width", "batch", "rate", "steps", "tokens", "FLOPs")
    why = ["why"] if sweep.reasons else []
    if kept := kept_bytes(sweep.trials, sweep.plan.keep):
        yield f"keeps at most {bytes_text(kept)} of models (keep: {sweep.plan.keep})"
    table = TextTable("trial", "series", *numbers, "observed at", *why, numbers=numbers)
    for planned in sweep.trials:
        trial, cells = planned.trial, planned.cells
        # The budgets of a trial, or else its tokens: the first and the last.
        points = [f"{c.budget_flops:.3g}" if c.budget_flops else count(c.tokens) for c in cells]
        span = f"{points[0]} … {points[-1]} ({len(points)})" if len(points) > 1 else points[0]
        table.add(
            planned.trial_id if corpus.fingerprint else "–",
            plain(planned.series) + (f" seed {trial.seed}" if trial.seed else ""),
            count(planned.params.trunk),
            f"{trial.rung.n_layers} × {trial.rung.width}",
            count(trial.tokens_per_step),
            f"{trial.optimizer.learning_rate:g}",
            f"{trial.n_steps:,}",
            count(cells[-1].tokens),
            f"{cells[-1].flops:.3g}",
            span,
            *([plain(sweep.reasons.get(planned.trial_id, "in the design"))] if why else []),
        )
    yield table
    yield from _tuned_view(sweep)
    if sweep.skipped:
        # The part before the comma is a number that differs from cell to cell.
        sides = Counter(cell.reason.partition(", ")[2] or cell.reason for cell in sweep.skipped)
        reasons = "; ".join(f"{n} {reason}" for reason, n in sides.most_common())
        yield f"left out: {len(sweep.skipped)} cells ({_escaped(reasons)}); --json lists them"
    for warning in sweep.warnings:
        yield f"[yellow]warning[/yellow] {_escaped(f'[{warning.code}] {warning.message}')}"


def _tuned_view(sweep: "PlannedSweep") -> Iterator[str | TextTable]:
    """Which law gave which number, how far it reaches, and what the length of a run costs."""
    from sweeper.verbs.progress import count

    if not sweep.tuned:
        return
    yield (
        "[bold]tuned[/bold] for the geometric middle of each run; expected excess loss at its "
        "first and last observation over the best rate and batch there"
    )
    numbers = ("params", "tokens", "rate", "batch", "outside", "first", "last")
    table = TextTable("series", *numbers, "law", numbers=numbers)
    for run in sweep.tuned:
        table.add(
            plain(run.series),
            count(run.params),
            count(run.tokens),
            f"{run.learning_rate:g}" + ("" if "learning_rate" in run.keys else " (as given)"),
            count(run.batch_tokens) + ("" if "batch_tokens" in run.keys else " (as given)"),
            "no" if run.extrapolation <= 1 else f"{run.extrapolation:.2g}×",
            f"{run.first_excess:.2%}",
            f"{run.last_excess:.2%}",
            plain(f"{run.law} of {run.file}"),
        )
    yield table


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(plain(text))
