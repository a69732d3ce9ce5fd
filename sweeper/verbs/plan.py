"""Verbs before anything runs, `init` and `plan`, and how verbs plan a sweep."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeper.store.storage import StorePath
from sweeper.verbs.options import json_option, results_option, sweep_arguments
from sweeper.verbs.output import print_json, say, show

if TYPE_CHECKING:
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.schema import LoadedSweep


@click.command()
@click.argument("sweep_file", type=click.Path(path_type=Path))
def init(sweep_file: Path) -> None:
    """Write a commented sweep file to start from.

    Example: sweeper init my-sweep.yaml
    """
    from sweeper.sweepfile.example import write_example

    write_example(sweep_file)
    say(f"wrote {sweep_file}; next: sweeper plan {sweep_file}")


@click.command()
@sweep_arguments
@results_option
@json_option
def plan(sweep_file: Path, overrides: tuple[str, ...], results: StorePath, as_json: bool) -> None:
    """List every trial of a sweep, with its cost, and what is left out and why.

    Where the corpus is not at hand, corpus.assume of the sweep file stands in for it.

    Example: sweeper plan sweeps/quick.yaml --set train.seeds=[0,1]
    """
    from sweeper.planning.planner import plan_to_json, preview_sweep
    from sweeper.verbs.plan_view import plan_view

    _, planned = planned_sweep(sweep_file, overrides, results, preview_sweep)
    if as_json:
        print_json(plan_to_json(planned))
    else:
        show(plan_view(planned))


def planned_sweep(
    sweep_file: Path,
    overrides: tuple[str, ...],
    results: StorePath,
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


def has_gpus_at(address: str) -> bool:
    """Whether a Ray cluster has GPUs, or may start nodes with some."""
    from sweeper.executors.ray_executor import nodes_at

    return any(node.gpus for node in nodes_at(address))
