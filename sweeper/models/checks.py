"""What is wrong with the models of a results folder. Reads every byte; needs no torch."""

from collections.abc import Iterable, Iterator
from typing import Any

from sweeper.errors import StoreError
from sweeper.models.config import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, read_config
from sweeper.models.kept import INDEX_FILE, index_of, local_model, model_folders, sorted_out
from sweeper.models.weights_file import read_header
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.storage import StoragePath
from sweeper.trials.plan import Plan

Flaw = tuple[str, StoragePath, str]
"""Code, file and message."""


def model_flaws(
    store: Store, plan: Plan, records: Iterable[dict[str, Any]], *, is_at_rest: bool
) -> Iterator[Flaw]:
    """All flaws of models; what is left over only `is_at_rest`, when no driver deletes it."""
    # A folder without a config is being written, or was when its worker was killed.
    whole = [f for f in model_folders(store) if is_at_rest or (f / CONFIG_FILE).exists()]
    torn = [flaw for folder in whole for flaw in _torn(folder)]
    yield from torn
    try:
        listed = index_of(store)
    except (ValueError, KeyError, TypeError) as error:
        message = f"not a list of models ({error}); delete it and run the sweep again"
        yield "torn-model-list", store.models / INDEX_FILE, message
        listed = {}
    there = {f"{each.parent.name}/{each.name}" for each in model_folders(store)}
    for name in sorted(set(listed) - there):
        run, _, model = name.partition("/")
        yield (
            "missing-model",
            store.models / run / model,
            "was kept and is gone; if it is needed, delete the record of its trial and run the "
            "sweep again",
        )
    if is_at_rest:
        is_torn = {path.parent for _, path, _ in torn}
        for folder in sorted_out(store, plan, [*records])[1]:
            if folder not in is_torn:
                yield (
                    "leftover-model",
                    folder,
                    "of no published trial, or not among those that stay; run the sweep again to "
                    "have it deleted, or delete it",
                )


def _torn(folder: StoragePath) -> Iterator[Flaw]:
    remedy = "delete the folder; its trial has to be trained again to have it back"
    try:
        config = read_config(folder)
    except StoreError as error:
        yield "torn-model", folder / CONFIG_FILE, f"{error}; or {remedy}"
        return
    path = folder / WEIGHTS_FILE
    try:
        with local_model(folder) as local, (local / WEIGHTS_FILE).open("rb") as file:
            read_header(file, path)
            sha256 = files.sha256(local / WEIGHTS_FILE)
            has_tokenizer = config.tokenizer != "file" or (local / TOKENIZER_FILE).is_file()
    except OSError as error:
        yield "torn-model", path, f"cannot be read ({error.strerror or error}); {remedy}"
    except StoreError as error:
        yield "torn-model", path, f"{error}; or {remedy}"
    else:
        if sha256 != config.weights_sha256:
            message = f"its sha-256 is not what config.json says: damaged; {remedy}"
            yield "torn-model", path, message
        if not has_tokenizer:
            yield "torn-model", folder / TOKENIZER_FILE, f"missing; {remedy}"
        if folder.parent.name != config.trial.trajectory_id:
            yield "torn-model", folder, f"holds a model of another trial; {remedy}"
