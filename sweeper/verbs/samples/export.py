"""The verb that takes a model out of a results folder: `export`."""

from pathlib import Path

import click

from sweeper.store.storage import StoragePath, place
from sweeper.verbs.output import say


@click.command()
@click.argument("source", type=place)
@click.option(
    "--trial", "trial_id", required=True, metavar="ID", help="Its id, or how that begins."
)
@click.option("--step", type=int, metavar="S", help="Optimiser steps taken.")
@click.option("--budget", type=float, metavar="C", help="Budget in FLOPs, such as 1e12.")
@click.option(
    "--output", "-o", "folder", required=True, type=click.Path(path_type=Path), metavar="DIR"
)
def export(
    source: StoragePath, trial_id: str, step: int | None, budget: float | None, folder: Path
) -> None:
    """Write a kept model to a folder: weights (safetensors), config, tokenizer, model card.

    `sweeper.load_model(DIR)` reads it where there is torch and nothing else.

    Example: sweeper export results/quick --trial 3f9a12 -o my-model
    """
    from sweeper.models.export import choose, export_model
    from sweeper.models.kept import kept_models
    from sweeper.store.layout import open_store

    store = open_store(source)
    model = choose(kept_models(store), store, trial_id, step, budget)
    export_model(store, model, folder)
    say(
        f"wrote {folder}: {model.label}, step {model.step:,}, bound "
        f"{model.bound_nats_per_token:.4f} nats per token; next: "
        f"python -c \"import sweeper; network, family = sweeper.load_model('{folder}')\""
    )
