"""Sweeps whose results lie in an object store end as those in a folder do."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import planted
import pytest
from click.testing import CliRunner
from planted import kind_of_store, planned_sweep, submitted_store

from sweeper.cli import cli
from sweeper.executors.inline import InlineExecutor
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.verify import verify
from sweeper.planning.planner import plan_sweep
from sweeper.store.assignment import Assignment
from sweeper.store.attempts import begin_attempt
from sweeper.store.layout import Store, open_store
from sweeper.store.pending import pending_trials
from sweeper.store.results import read_records
from sweeper.store.storage import StoragePath, place
from sweeper.store.tables import read_table
from sweeper.sweepfile.schema import load_sweep
from sweeper.training.worker import run_trial

VOLATILE = ["n_attempts", "started_at", "finished_at"]
"""Columns of `trials` that say when and how often, not what."""

SWEEP = """\
name: pilot
corpus: {source: "synthetic:markov?vocab=16&tokens=100000", seq_len: 16}
series: {ar: {family: ar}}
design: {isoflop: {budgets: [3e8, 6e8], sizes: [1.7K, 2.6K, 3.7K, 5K]}}
train: {batch_tokens: 128, learning_rate: 0.05}
evaluation: {sequences: 8}
"""


@pytest.fixture
def objects(tmp_path: Path) -> StoragePath:
    """A prefix of an object store, for the results of all sweeps."""
    return kind_of_store("objects", tmp_path / "bucket")


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[pd.DataFrame]:
    """The tables of the planted sweep, run in a folder without disturbance."""
    return _tables(_run(submitted_store(tmp_path / "folder" / "planted", planned_sweep())))


def _run(store: Store) -> Store:
    stop = StopSignal()
    executor = InlineExecutor(planted.run_planted, stop.is_requested)
    run = SweepRun(
        store=store,
        plan=planned_sweep(),
        executor=executor,
        stop=stop,
        on_event=lambda _event: None,
    )
    assert run_sweep(run).exit_code == 0
    return store


def _tables(store: Store) -> list[pd.DataFrame]:
    trials, losses, observations = (
        read_table(store, name).to_pandas() for name in ("trials", "losses", "observations")
    )
    return [trials.drop(columns=VOLATILE), losses, observations]


def _assert_complete(store: Store, undisturbed: list[pd.DataFrame]) -> None:
    for table, expected in zip(_tables(store), undisturbed, strict=True):
        pd.testing.assert_frame_equal(table, expected)
    assert verify(store.folder) == []
    assert not list(store.folder.rglob(".tmp-*"))
    assert not (store.folder / "checkpoints").exists()


def _driver(folder: StoragePath, executor: str, run_trial: str) -> subprocess.Popen[str]:
    support = Path(planted.__file__).parent
    modules = [support, support.parents[1], os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, support / "planted_driver.py", str(folder), executor, run_trial],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, modules))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_until_one_is_published(folder: StoragePath) -> None:
    give_up_s = time.monotonic() + 60
    while not list((folder / "published").glob("*.json")):
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_tables_are_those_of_a_folder(
    objects: StoragePath, undisturbed: list[pd.DataFrame]
) -> None:
    _assert_complete(_run(submitted_store(objects / "planted", planned_sweep())), undisturbed)


@pytest.mark.slow
def test_driver_that_is_killed_is_resumed(
    objects: StoragePath, undisturbed: list[pd.DataFrame]
) -> None:
    folder = objects / "planted"
    driver = _driver(folder, "inline", "run_planted_slowly")
    _wait_until_one_is_published(folder)
    driver.kill()
    driver.communicate()
    driver = _driver(folder, "inline", "run_planted_slowly")
    output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    assert "6 of 6" not in output
    _assert_complete(open_store(folder), undisturbed)


@pytest.mark.ray
@pytest.mark.slow
def test_workers_that_are_killed_are_replaced_and_resume(
    objects: StoragePath, undisturbed: list[pd.DataFrame]
) -> None:
    folder = objects / "planted"
    driver = _driver(folder, "ray", "run_and_die_midway")
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 0, errors
    store = open_store(folder)
    assert set(read_table(store, "trials").to_pandas().n_attempts) == {2}
    _assert_complete(store, undisturbed)


def _sweeper(*arguments: object, exit_code: int = 0) -> str:
    """What a verb prints. In this process, which knows the test store."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result.stdout


@pytest.mark.slow
def test_every_verb_takes_a_url(objects: StoragePath, tmp_path: Path) -> None:
    sweep_file, folder = tmp_path / "pilot.yaml", tmp_path / "results"
    sweep_file.write_text(SWEEP)
    for results in (objects, folder):
        _sweeper("run", sweep_file, "--results", results, "--executor", "inline")
    source = objects / "pilot"
    again = _sweeper("run", sweep_file, "--results", objects, "--executor", "inline")
    assert "published already" in again
    assert f"next: sweeper fit {source}" in again
    counts: dict[str, Any] = json.loads(_sweeper("status", source, "--json"))["counts"]
    assert sum(counts.values()) == counts["done"] > 0
    assert f"{source}: sound" in _sweeper("verify", source)
    fits = [
        _sweeper("fit", each, "--json", "--bootstrap", 20) for each in (source, folder / "pilot")
    ]
    assert json.loads(fits[0])["families"] == json.loads(fits[1])["families"]
    page = tmp_path / "report.html"
    _sweeper("report", source, "-o", page, "--bootstrap", 20)
    assert "git commit" in page.read_text()  # from the manifest, in the store, too
    assert not (Path.cwd() / "bucket:").exists()


def test_memory_of_this_process_is_no_place_for_workers(tmp_path: Path) -> None:
    (tmp_path / "pilot.yaml").write_text(SWEEP)
    result = CliRunner().invoke(cli, ["run", f"{tmp_path}/pilot.yaml", "--results", "memory://x"])
    assert result.exit_code == 2
    assert "--executor inline" in result.output


def test_memory_of_this_process_serves_trials_in_it(
    tmp_path: Path, undisturbed: list[pd.DataFrame]
) -> None:
    folder = place(f"memory://{tmp_path}") / "planted"
    _assert_complete(_run(submitted_store(folder, planned_sweep())), undisturbed)


class StopAfter:
    """Asks to stop at the n-th question."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def _losses(results: StoragePath, sweep_file: Path, *, stop_at_steps: tuple[int, ...]) -> object:
    """The losses of a sweep's smallest trial that is stopped, and resumed from its checkpoint."""
    loaded = load_sweep(sweep_file, ())
    plan = plan_sweep(loaded, bfloat16_from_width=10**9).plan
    store = submitted_store(results / "pilot", plan)
    pending = pending_trials(plan.trials, ())[0]
    done = 0
    for step in (*stop_at_steps, pending.trial.n_steps):
        attempt = begin_attempt(
            store, pending.trial_id, executor="inline", device="cpu", n_threads=1
        )
        assigned = Assignment(store.folder, plan.name, pending, attempt)
        outcome = run_trial(assigned, stop=StopAfter(step - done))
        is_last = step == pending.trial.n_steps
        assert outcome == ("published" if is_last else "interrupted")
        names = [path.name for path in store.checkpoints(pending.trial).glob("*")]
        assert names[-1:] == ([] if is_last else [f"step-{step:08}.pt"])
        done = step
    return read_records([store.record(pending.trial_id)])[0]["losses"]


@pytest.mark.slow
def test_stopped_trial_resumes_from_its_checkpoint_in_the_store(
    objects: StoragePath, tmp_path: Path
) -> None:
    sweep_file = tmp_path / "pilot.yaml"
    sweep_file.write_text(SWEEP)
    undisturbed = _losses(tmp_path / "folder", sweep_file, stop_at_steps=())
    assert _losses(objects, sweep_file, stop_at_steps=(3, 30)) == undisturbed
