"""Runs as those of Weights & Biases, offline: folders that `wandb sync` sends when asked."""

import datetime
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import OutputError
from sweeper.exports.destination import Change, imported, write_runs
from sweeper.exports.folder import claimed
from sweeper.exports.runs import Run, Value
from sweeper.exports.source import Tables
from sweeper.store.storage import TEMPORARY_PREFIX

DIGEST_FILE = ".sweeper-digest"
"""In a run's folder: by it an export knows a run that has not changed."""
LONGEST_NAME = 128
"""Of groups and runs."""
_NOT_IN_PROJECTS = "/\\#?%:"


@dataclass(frozen=True)
class WandbFolder:
    """A folder with `wandb/offline-run-<start>-<trial id>` for each run."""

    folder: Path
    project: str
    is_online: bool = False
    """Whether runs are sent afterwards, those that were not sent before."""
    what = "runs"

    @property
    def next_step(self) -> str:
        """How it is sent, or shown."""
        if self.is_online:
            return f"look at the project {self.project} on the server"
        return f"wandb sync {self.folder / 'wandb'}, which sends them to your account"

    def write(self, tables: Tables) -> Counter[Change]:
        """Write runs that are new or have changed; send what was not sent, if asked."""
        if bad := sorted(set(self.project) & set(_NOT_IN_PROJECTS)):
            raise OutputError(
                f"project {self.project!r}: {' '.join(bad)} cannot be in its name; choose another "
                "by --project"
            )
        # wandb reads it when it is imported; reports of its own errors would be sent.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        wandb = imported("wandb", "wandb")
        with claimed(self.folder, "wandb", tables.sweep):
            runs = self.folder / "wandb"
            runs.mkdir(exist_ok=True)
            known = {path.name.rpartition("-")[2]: path for path in runs.glob("offline-run-*")}

            def write(run: Run) -> Change:
                former = known.get(run.run_id)
                if former is not None and _digest(former) == run.digest:
                    return "same"
                self._write(wandb, run, former)
                return "new" if former is None else "changed"

            changes = write_runs(tables, write)
            if self.is_online:
                _send(runs)
        return changes

    def _write(self, wandb: Any, run: Run, former: Path | None) -> None:
        scratch = self.folder / f"{TEMPORARY_PREFIX}{run.run_id}"
        scratch.mkdir()
        try:
            self._log(wandb, run, scratch)
            (made,) = (scratch / "wandb").glob("offline-run-*")
            for name in ("logs", "tmp"):  # notes of the client on this machine
                shutil.rmtree(made / name, ignore_errors=True)
            (made / DIGEST_FILE).write_text(run.digest)
            if former is not None:
                shutil.rmtree(former)
            started = datetime.datetime.fromisoformat(run.started_at or "1970-01-01")
            name = f"offline-run-{started:%Y%m%d_%H%M%S}-{run.run_id}"
            made.rename(self.folder / "wandb" / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _log(self, wandb: Any, run: Run, scratch: Path) -> None:
        # All that wandb would add of this machine is left out: it has not trained these runs.
        settings = wandb.Settings(
            mode="offline", root_dir=str(scratch), silent=True, console="off",
            disable_git=True, disable_code=True, save_code=False, disable_job_creation=True,
            x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
            x_save_requirements=False, host="",
        )  # fmt: skip
        try:
            logged = wandb.init(
                project=self.project,
                id=run.run_id,
                name=run.name[-LONGEST_NAME:],
                group=run.series[:LONGEST_NAME],
                config=_nested(run.settings),
                settings=settings,
                reinit="finish_previous",
            )
            for point in run.points:
                progress = {"progress/tokens": point.tokens, "progress/flops": point.flops}
                logged.log({**point.values, **progress}, step=point.step)
            logged.summary.update(dict(run.summary))
            logged.finish(exit_code=int(run.summary["status"] != "done"))
        except wandb.Error as error:
            raise OutputError(f"{self.folder}: wandb does not write {run.name}: {error}") from error


def _nested(settings: Mapping[str, Value]) -> dict[str, Any]:
    """Settings with those like `optimizer.name` as dictionaries, which wandb shows as such."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        group, _, rest = name.partition(".")
        if rest:
            nested.setdefault(group, {})[rest] = value
        else:
            nested[name] = value
    return nested


def _digest(folder: Path) -> str:
    path = folder / DIGEST_FILE
    return path.read_text() if path.is_file() else ""


def _send(runs: Path) -> None:
    """Send runs by `wandb sync`, which marks what it has sent; raises OutputError if any stays."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", str(runs)]
    with tempfile.TemporaryDirectory() as notes:  # which it would leave where the user is
        code = subprocess.run(
            command, check=False, env=os.environ | {"WANDB_DIR": notes}
        ).returncode
    waiting = [path for path in runs.glob("offline-run-*") if not [*path.glob("*.synced")]]
    if code or waiting:
        raise OutputError(
            f"{runs}: {len(waiting)} runs could not be sent (wandb sync ended with code {code}); "
            "all of them are written: see what it said, `wandb login` if need be, and export again"
        )
