"""A search as a journal of Optuna, which its dashboard opens. Never read by us."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweeper.errors import OutputError
from sweeper.store import files
from sweeper.tuning.search import Search, Tried, frozen_trial


def export_study(search: Search, tried: Sequence[Tried], name: str, path: Path) -> None:
    """Write finished trials to a journal that must not exist yet, diverged ones as failures.

    Pruned ones have the state of Optuna for that; their values along the way are in it, too.

    Raises OutputError for a path that exists or cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.log"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of the names
            study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(journal))),
                study_name=name,
                directions=["minimize"] * len(search.labels),
            )
            study.set_metric_names([f"bound of {label}" for label in search.labels])
        for one in tried:
            notes = dict(zip(search.labels, one.stderrs, strict=False))
            frozen = frozen_trial(search, one, one.bounds or None)
            frozen.user_attrs = {f"stderr of {label}": error for label, error in notes.items()}
            study.add_trial(frozen)
        try:
            is_new = files.create_exclusively(path, journal.read_bytes())
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written ({error.strerror}); choose a folder that is yours"
            ) from error
    if not is_new:
        raise OutputError(f"{path} exists already; choose another name or remove it")
