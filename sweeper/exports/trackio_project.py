"""Runs as those of a local project of Trackio, in its own database."""

import os
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import OutputError
from sweeper.exports.destination import Change, imported, write_runs
from sweeper.exports.runs import Run
from sweeper.exports.source import Tables

DIGEST = "export_digest"
"""Setting by which an export knows a run that has not changed."""
_NO_TIME = "1970-01-01T00:00:00+00:00"
_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_DATASET_ID", "TRACKIO_BUCKET_ID", "TRACKIO_SERVER_URL")
"""Variables by which Trackio would send or fetch something."""


@dataclass(frozen=True)
class TrackioProject:
    """A project among those of a folder; its runs of other origin stay as they are."""

    folder: Path | None
    """Of the databases; None for Trackio's own."""
    project: str
    what = "runs"

    @property
    def next_step(self) -> str:
        """How it is shown."""
        where = f"TRACKIO_DIR={self.folder} " if self.folder else ""
        return f"{where}trackio show --project {self.project}"

    def write(self, tables: Tables) -> Counter[Change]:
        """Add runs that are new, and replace those that have changed, each in one transaction."""
        storage = _storage(self.folder)
        try:
            storage.validate_project_name(self.project)
            names = {each["id"]: each["name"] for each in storage.get_run_records(self.project)}
            return write_runs(tables, lambda run: self._write(storage, names, run))
        except (sqlite3.Error, OSError) as error:
            path = storage.get_project_db_path(self.project)
            raise OutputError(
                f"{path}: cannot be written ({error}); check the folder, or choose one by -o"
            ) from error
        except ValueError as error:
            raise OutputError(f"--project {self.project}: {error}") from error

    def _write(self, storage: Any, names: dict[str, str], run: Run) -> Change:
        digest, former = run.digest, names.get(run.run_id)
        if former is not None:
            known = storage.get_run_config(self.project, former, run_id=run.run_id) or {}
            if known.get(DIGEST) == digest:
                return "same"
            storage.delete_run(self.project, former, run_id=run.run_id)
        storage.bulk_log(
            project=self.project,
            run=run.name,
            run_id=run.run_id,
            metrics_list=[
                {**point.values, "progress/tokens": point.tokens, "progress/flops": point.flops}
                for point in run.points
            ],
            steps=[point.step for point in run.points],
            # The record does not say when each step was taken.
            timestamps=[run.started_at or _NO_TIME] * len(run.points),
            # Of two rows with one id, Trackio keeps the first.
            log_ids=[f"{run.run_id}-{point.step}" for point in run.points],
            config={
                **run.settings,
                **run.summary,
                DIGEST: digest,
                "_Group": run.series,
                "_Created": run.started_at or _NO_TIME,
            },
        )
        return "new" if former is None else "changed"


def _storage(folder: Path | None) -> Any:
    """What reads and writes the databases of a folder; nothing is sent or fetched."""
    # Trackio reads these when it is imported.
    for name in _ELSEWHERE:
        os.environ.pop(name, None)
    if folder is not None:
        os.environ["TRACKIO_DIR"] = str(folder.absolute())
    module = imported("trackio.sqlite_storage", "trackio")
    if folder is not None and Path(module.TRACKIO_DIR) != folder.absolute():
        raise OutputError(
            f"{folder}: this process uses Trackio with {module.TRACKIO_DIR} already; export in a "
            "process of its own"
        )
    return module.SQLiteStorage
