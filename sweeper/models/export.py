"""A kept model as a folder of its own, with a model card. Needs no torch."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.errors import ConfigError, OutputError, StoreError
from sweeper.models.card import model_card
from sweeper.models.config import (
    CARD_FILE,
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    ModelConfig,
    read_config,
)
from sweeper.models.kept import KeptModel, local_model
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.results import read_without_losses, record_stamps
from sweeper.trials.trial import from_canonical


def choose(
    models: Sequence[KeptModel],
    store: Store,
    trial_id: str,
    step: int | None = None,
    budget_flops: float | None = None,
) -> KeptModel:
    """The one kept model of a trial, whose id may be shortened, at a step or budget.

    Raises ConfigError, which says what there is, where none or several are meant.
    """
    of_trial = [model for model in models if model.trial_id.startswith(trial_id)]
    if len(trial_ids := {model.trial_id for model in of_trial}) > 1:
        raise ConfigError(
            f"--trial {trial_id}: {len(trial_ids)} trials with kept models begin so; expected one: "
            f"{', '.join(sorted(trial_ids))}"
        )
    if not of_trial:
        known = [each for each in record_stamps(store) if each.startswith(trial_id)]
        problem = "is published, but its weights were not kept" if known else "is no trial here"
        raise ConfigError(f"--trial {trial_id}: {problem}; {_kept_text(models)}")
    found = [
        model
        for model in of_trial
        if step in (None, model.step) and budget_flops in (None, model.budget_flops)
    ]
    if len(found) == 1:
        return found[0]
    steps = ", ".join(
        f"--step {model.step}"
        + (f" (--budget {model.budget_flops:g})" if model.budget_flops else "")
        for model in of_trial
    )
    problem = "its weights are kept at several steps" if found else "its weights are not kept there"
    raise ConfigError(f"--trial {trial_id}: {problem}; expected one of {steps}")


def export_model(store: Store, model: KeptModel, folder: Path) -> None:
    """Write the model to a folder that is not there, or empty; whole, or not at all.

    Raises OutputError for any other folder, StoreError where the model is damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: exists and is not an empty folder; choose another name")
    (record,) = read_without_losses([store.record(model.trial_id)])
    with local_model(model.path) as source:
        # The trial as it was published, and as the plan calls it now.
        config = dataclasses.replace(
            read_config(source),
            label=model.label,
            trial_id=model.trial_id,
            trial=from_canonical(record["identity"]),
            budget_flops=model.budget_flops,
        )
        card = model_card(config, record, _manifest(store))

        def write(temporary: Path) -> None:
            shutil.copyfile(source / WEIGHTS_FILE, temporary / WEIGHTS_FILE)
            if (source / TOKENIZER_FILE).exists():
                shutil.copyfile(source / TOKENIZER_FILE, temporary / TOKENIZER_FILE)
            (temporary / CONFIG_FILE).write_bytes(config.encoded())
            (temporary / CARD_FILE).write_text(card, encoding="utf-8")

        _check_weights(source, config)
        if not files.create_folder_with(folder.absolute(), write):
            raise OutputError(f"{folder}: exists by now; choose another name")


def _check_weights(source: Path, config: ModelConfig) -> None:
    path = source / WEIGHTS_FILE
    if not path.is_file() or files.sha256(path) != config.weights_sha256:
        raise StoreError(
            f"{path}: missing or damaged; `sweeper verify` names all that is, and a trial whose "
            "record is deleted is trained again"
        )


def _manifest(store: Store) -> dict[str, Any]:
    try:
        return dict(files.read_json(store.manifest))
    except (OSError, ValueError, TypeError):
        return {}


def _kept_text(models: Sequence[KeptModel]) -> str:
    if not models:
        return "no weights are kept in this folder (keep: none, or trained before it)"
    named = ", ".join(
        f"{model.trial_id} ({model.label}, step {model.step})" for model in models[:20]
    )
    more = f" and {len(models) - 20} more" if len(models) > 20 else ""
    return f"kept are {named}{more}"
