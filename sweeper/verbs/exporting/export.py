"""The verb `export`: one kept model as a folder, or all runs to where people keep theirs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sweeper.errors import ConfigError
from sweeper.exports.targets import TARGETS, Place, Target
from sweeper.store.storage import StoragePath
from sweeper.verbs.exporting import model, runs
from sweeper.verbs.options import source_argument


@dataclass(frozen=True)
class Asked:
    """What the options of both exports were given."""

    trial_id: str | None
    step: int | None
    budget: float | None
    target: Target | None
    project: str | None
    is_online: bool

    @property
    def of_models(self) -> dict[str, object]:
        """Options of the export of a model."""
        return {"--trial": self.trial_id, "--step": self.step, "--budget": self.budget}

    @property
    def of_runs(self) -> dict[str, object]:
        """Options of the export of all runs."""
        return {"--to": self.target, "--project": self.project, "--online": self.is_online}


@click.command()
@source_argument
@click.option("--trial", "trial_id", metavar="ID", help="Of a model: its id, or how that begins.")
@click.option("--step", type=int, metavar="S", help="Of a model: optimiser steps taken.")
@click.option("--budget", type=float, metavar="C", help="Of a model: FLOPs, such as 1e12.")
@click.option("--to", "target", type=click.Choice(TARGETS), help="Where all runs go.")
@click.option("--project", metavar="NAME", help="Of wandb and trackio; default: the sweep's name.")
@click.option("--online", "is_online", is_flag=True, help="Of wandb: send the runs, too.")
@click.option(
    "--output", "-o", "folder", type=click.Path(path_type=Path), metavar="DIR", help="To write to."
)
def export(source: StoragePath, folder: Path | None, **options: Any) -> None:
    """Write a kept model (--trial ID), or all runs (--to WHERE), to a folder.

    A model is weights (safetensors), config, tokenizer and model card; `sweeper.load_model(DIR)`
    reads it where there is torch and nothing else.

    Runs go to trackers (wandb, trackio, tensorboard) with settings, curves and bounds, or are
    written as the four tables (csv, parquet) or a Hugging Face data set (hf). Exporting again adds
    what is new. Nothing is sent anywhere without --online.

    \b
    Example: sweeper export results/quick --trial 3f9a12 -o my-model
             sweeper export results/quick --to tensorboard -o logs/quick
    """
    asked = Asked(**options)
    _check_mode(asked)
    if asked.target is not None:
        where = Place(asked.target, folder, asked.project, asked.is_online)
        runs.write_runs(source, where)
        return
    if folder is None:
        raise ConfigError("export --trial: needs a folder to write the model to: -o DIR")
    assert asked.trial_id is not None  # as there is no --to
    model.write_model(source, asked.trial_id, asked.step, asked.budget, folder)


def _check_mode(asked: Asked) -> None:
    """Raise ConfigError unless the options are all of one export: of a model, or of all runs."""
    of_models = [option for option, value in asked.of_models.items() if value is not None]
    of_runs = [option for option, value in asked.of_runs.items() if value]
    exports = (
        "`--trial ID -o DIR` writes the weights of one trial, `--to WHERE -o DIR` the numbers of "
        "all trials to a tracker or as tables"
    )
    if of_models and of_runs:
        raise ConfigError(
            f"export: {' and '.join([*of_models, *of_runs])} belong to two different exports; "
            f"{exports}: run one after the other"
        )
    if asked.trial_id is None and asked.target is None:
        alone = f", found {' and '.join([*of_models, *of_runs])} alone"
        found = alone if of_models or of_runs else ""
        raise ConfigError(f"export: expected --trial or --to{found}; {exports}")
