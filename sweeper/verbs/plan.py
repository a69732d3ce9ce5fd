"""The verb `plan`, and how verbs plan a sweep."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweeper.errors import one_per_kind
from sweeper.store.storage import StoragePath
from sweeper.verbs.cost import cost_here, cost_text, limit_warnings, probe_here
from sweeper.verbs.driving.expected import asked_text, expected
from sweeper.verbs.memory import gpu_bytes_here, peaks_of, refuse_misfits
from sweeper.verbs.options import json_option, results_option, sweep_arguments
from sweeper.verbs.output import TextTable, plain, print_json, say, show

if TYPE_CHECKING:
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.schema import LoadedSweep


@click.command()
@sweep_arguments
@results_option
@click.option(
    "--probe", "is_probed", is_flag=True, help="Time some training steps of each size first."
)
@click.option(
    "--memory",
    "is_traced",
    is_flag=True,
    help="Trace the peak memory of each size; seconds for each.",
)
@json_option
def plan(sweep_file: Path, results: StoragePath, as_json: bool, **options: Any) -> None:
    """List every trial of a sweep, with its cost, and what is left out and why.

    The time it takes on this machine follows from trials finished in the results folder and from
    probes, at most 2 s for each size, which are kept there.

    Where resources.gpu_memory is named or this machine has GPUs, a plan that does not fit is
    refused with what would fit.

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
    expectation = expected(loaded.sweep, planned)
    peaks = peaks_of(planned) if options["is_traced"] else None
    if as_json:
        of_answer = {} if expectation is None else {"expected_interval_ratio": expectation.ratio}
        of_cost = {"cost": dataclasses.asdict(cost) if cost else None}
        kept = kept_bytes(planned.trials, planned.plan.keep)
        of_models = {"keep": {"models": planned.plan.keep, "bytes": kept}}
        printed = plan_to_json(planned)
        for trial, peak in zip(printed["trials"], peaks or (), strict=peaks is not None):
            trial["peak_memory_bytes"] = peak
        print_json({**printed, **of_models, **of_cost, **of_answer})
        return
    show(plan_view(planned, peaks))
    if (ask := loaded.sweep.ask) is not None and expectation is not None:
        say(asked_text(ask, expectation, len(planned.trials)))
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
    runs_here: bool = True,
) -> "tuple[LoadedSweep, PlannedSweep]":
    """A sweep file with its overrides, and its plan for GPUs or not; None: as on this machine.

    Raises ConfigError for a plan that takes more memory than GPUs have, those that the file names
    or, where it names none and the sweep runs here, those of this machine.
    """
    from sweeper.data.corpus import cache_beside
    from sweeper.planning.recipe import bfloat16_from_width
    from sweeper.sweepfile.schema import load_sweep

    loaded = load_sweep(sweep_file, overrides)
    width = bfloat16_from_width(has_gpu=has_gpu(loaded, is_on_gpus))
    cache = cache_beside(results) if loaded.sweep.corpus.is_costly_to_read else None
    planned = planner(loaded, bfloat16_from_width=width, cache_folder=cache)
    is_for_gpus_here = runs_here and width == 0
    refuse_misfits(loaded, planned, gpu_bytes_here() if is_for_gpus_here else None)
    return loaded, planned


def has_gpu(loaded: "LoadedSweep", is_on_gpus: bool | None = None) -> bool:
    """Whether trials run on GPUs: as the sweep file says, else as there are any."""
    if loaded.sweep.resources.gpus != "auto":
        return loaded.sweep.resources.gpus > 0
    if is_on_gpus is not None:
        return is_on_gpus
    from sweeper.executors.machine import may_have_gpus

    if not may_have_gpus():
        return False
    import torch

    return torch.cuda.is_available()


def plan_view(
    sweep: "PlannedSweep", peaks: Sequence[int] | None = None
) -> Iterator[str | TextTable]:
    """The trials, what is left out, warnings and totals, to be printed in this order.

    `peaks`: bytes of memory of every trial, where they are to be shown.
    """
    from sweeper.planning.kept_bytes import bytes_text, kept_bytes
    from sweeper.planning.memory import gigabytes
    from sweeper.sweepfile.choices.question import GPU_FLOPS_PER_S
    from sweeper.sweepfile.quantities import count

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
    memory = ["memory"] if peaks else []
    why = ["why"] if sweep.reasons else []
    if n_bytes := kept_bytes(sweep.trials, sweep.plan.keep):
        yield f"keeps at most {bytes_text(n_bytes)} of models (keep: {sweep.plan.keep})"
    table = TextTable(
        "trial", "series", *numbers, *memory, "observed at", *why, numbers=(*numbers, *memory)
    )
    for i, planned in enumerate(sweep.trials):
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
            *([gigabytes(peaks[i])] if peaks else []),
            span,
            *([plain(sweep.reasons.get(planned.trial_id, "in the design"))] if why else []),
        )
    yield table
    kept = {each.trajectory_id: each for each in sweep.trials if each.keeps_checkpoint}
    if kept:
        n_bytes = sum(each.checkpoint_bytes for each in kept.values())
        is_for_good = any(each.checkpoint_kept_until == "always" for each in kept.values())
        until = "you delete them" if is_for_good else "the sweep is complete"
        yield (
            f"checkpoints of {len(kept)} runs, {count(n_bytes)} bytes in all, stay until {until}: "
            "longer runs go on from them"
        )
    yield from _tuned_view(sweep)
    if sweep.skipped:
        # The part before the comma is a number that differs from cell to cell.
        sides = Counter(cell.reason.partition(", ")[2] or cell.reason for cell in sweep.skipped)
        reasons = "; ".join(f"{n} {reason}" for reason, n in sides.most_common())
        yield f"left out: {len(sweep.skipped)} cells ({_escaped(reasons)}); --json lists them"
    for text in one_per_kind((each.code, each.message) for each in sweep.warnings):
        yield f"[yellow]warning:[/yellow] {_escaped(text)}"


def _tuned_view(sweep: "PlannedSweep") -> Iterator[str | TextTable]:
    """Which law gave which number, how far it reaches, and what the length of a run costs."""
    from sweeper.sweepfile.quantities import count

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
