"""A sweep's results folder: its layout.

    results/<sweep>/
      sweep.yaml                     the sweep file as last submitted      (submission.py)
      revisions/0001.yaml …          every revision as submitted           (submission.py)
      manifest.json                  versions, git commit, hardware        (submission.py)
      plan.json                      derived: planned trials and cells     (submission.py)
      records.json                   derived: heads of the records         (results.py)
      published/<trial_id>.json      write-once result of a trial          (results.py)
      attempts/<trial_id>/<n>.json   started and how it ended              (attempts.py)
      attempts/<trial_id>/progress.json                                    (attempts.py)
      attempts.jsonl                 attempts at published trials          (attempts.py)
      checkpoints/<trajectory_id>/   while a trial of it needs them   (checkpoints.py)
      models/<trajectory_id>/step-…/ weights that stay                 (models/kept.py)
      drivers/<epoch>.json …         who is, or was, at work here           (lease.py)
      sampling/                      measurements of samples          (measurements.py)
      trials/ losses/ observations/ samples/   Parquet, derived            (tables.py)

Beside the sweeps' folders lie caches that can be made anew, `.corpora` (data/corpus.py) and
`.probes.json` (probes.py); for an object store, in the user's cache.

The published records are the only source of truth: everything derived can be deleted and is
rebuilt by the next run. A trial never depends on this folder's place, so folders can be moved.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import StoreError
from sweeper.store.storage import StoragePath, require_exclusive_creation
from sweeper.trials.records import TableName
from sweeper.trials.trial import Trial


@dataclass(frozen=True)
class Store:
    """The paths of one sweep's results."""

    folder: StoragePath
    """Absolute, so that workers find it from any working directory; or a prefix of object names."""

    @property
    def plan(self) -> StoragePath:
        """Derived: enough to know what is missing without planning again."""
        return self.folder / "plan.json"

    @property
    def published(self) -> StoragePath:
        """Folder of one write-once record per trial."""
        return self.folder / "published"

    @property
    def record_index(self) -> StoragePath:
        """Derived: the heads of all records in one file."""
        return self.folder / "records.json"

    @property
    def manifest(self) -> StoragePath:
        """Versions and hardware of the last run."""
        return self.folder / "manifest.json"

    @property
    def drivers(self) -> StoragePath:
        """Folder of the last few drivers, the one at work included: `<epoch>.json`."""
        return self.folder / "drivers"

    def record(self, trial_id: str) -> StoragePath:
        """Where a trial is published."""
        return self.published / f"{trial_id}.json"

    @property
    def attempt_archive(self) -> StoragePath:
        """Attempts at published trials, in one file."""
        return self.folder / "attempts.jsonl"

    def attempts(self, trial_id: str) -> StoragePath:
        """Folder of a trial's attempts, `<number>.json`, and of its `progress.json`."""
        return self.folder / "attempts" / trial_id

    def checkpoints(self, trial: Trial) -> StoragePath:
        """Folder of the checkpoints of a trial's trajectory."""
        # A trial that observes other steps of the same run, or is longer, may resume from it if it
        # has passed none of them unobserved. The worker judges that.
        return self.all_checkpoints / trial.trajectory_id

    @property
    def all_checkpoints(self) -> StoragePath:
        """Folder of one folder of checkpoints per trajectory."""
        return self.folder / "checkpoints"

    def checkpoint(self, trial: Trial, step: int) -> StoragePath:
        """The checkpoint of a trial's trajectory at a step."""
        return self.checkpoints(trial) / f"step-{step:08}.pt"

    @property
    def models(self) -> StoragePath:
        """Folder of the models that are kept, one folder for each run."""
        return self.folder / "models"

    def table(self, name: TableName) -> StoragePath:
        """Folder of one Parquet dataset."""
        return self.folder / name


def checkpoint_steps(folder: StoragePath) -> list[int]:
    """The steps of the checkpoints in a trajectory's folder, increasing."""
    stems = [path.stem.removeprefix("step-") for path in folder.glob("step-*.pt")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def share_kept(store: Store, trial: Trial) -> float:
    """Share of a new trial's steps that lie behind a checkpoint before all that it observes."""
    steps = checkpoint_steps(store.checkpoints(trial))
    usable = (step for step in steps if step < trial.observe_at_steps[0])
    return max(usable, default=0) / trial.n_steps


def store_at(results: StoragePath, sweep: str) -> Store:
    """The store of a sweep below `results`, to write to; StoreError if name or store is no use."""
    if not sweep.isprintable() or sweep.startswith(".") or not sweep or Path(sweep).name != sweep:
        raise StoreError(
            f"sweep name {sweep!r} does not name one folder below {results}; use letters, digits "
            "and dashes"
        )
    folder = _absolute(results / sweep)
    require_exclusive_creation(folder)
    return Store(folder)


def local_caches(results: StoragePath) -> Path:
    """The folder of what can be made anew: `results`, or the user's cache for an object store."""
    if isinstance(results, Path):
        return results
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sweeper"


def open_store(folder: StoragePath) -> Store:
    """The store in an existing results folder; raises StoreError when it is none."""
    store = Store(_absolute(folder))
    if not store.plan.is_file():
        reason = "is not a results folder (no plan.json)" if folder.is_dir() else "does not exist"
        raise StoreError(f"{folder} {reason}; name a folder that `sweeper run` has written")
    return store


def _absolute(folder: StoragePath) -> StoragePath:
    return folder.resolve() if isinstance(folder, Path) else folder
