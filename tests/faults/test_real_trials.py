"""Trials that train a network, disturbed: they end in the very bits of an undisturbed run."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from disturbed import SWEEPER, Sweep, Tables, tables, wait_until
from processes import descendants, title

from sweeper.store.attempts import read_progress

SWEEP = """\
name: pilot
corpus: {source: "synthetic:markov?vocab=16&tokens=100000", seq_len: 16}
series: {ar: {family: ar}, masked: {family: masked}}
design: {isoflop: {budgets: [2e9], sizes: [1.7K]}}
train: {batch_tokens: 256}
evaluation: {sequences: 64}
resources: {checkpoint_every: 0.5s}
"""


@pytest.fixture
def pilot(sweep: Sweep) -> Sweep:
    """The sweep of this file instead of the planted one."""
    sweep.place(sweep.folder.with_name("pilot"))
    return sweep


def _command(sweep: Sweep, results: Path, executor: str) -> list[str]:
    file = sweep.notes_folder.with_name("pilot.yaml")
    file.write_text(SWEEP)
    command = [*SWEEPER, "run", str(file)]
    return [*command, "--results", str(results), "--executor", executor]


def _undisturbed(sweep: Sweep, folder: Path) -> Tables:
    sweep.end(sweep.popen(_command(sweep, folder, "inline")))
    return tables(folder / "pilot")


def _checkpoints(sweep: Sweep) -> list[Path]:
    return sorted((sweep.folder / "checkpoints").glob("*/step-*.pt"))


def _workers(pid: int) -> list[int]:
    """Processes of a driver's Ray that run an attempt."""
    return [each for each in descendants(pid) if title(each).endswith("Worker.run")]


def _n_reports(sweep: Sweep, attempt: int) -> int:
    """Trials whose attempt of that number, or a later one, has reported a step."""
    begun = [path.name for path in (sweep.folder / "attempts").glob("*")]
    reports = [read_progress(sweep.store, trial_id) for trial_id in begun]
    return sum(report is not None and report.attempt >= attempt for report in reports)


@pytest.mark.ray
@pytest.mark.slow
def test_bits_survive_a_killed_worker_a_killed_driver_and_half_a_checkpoint(
    pilot: Sweep, tmp_path: Path
) -> None:
    undisturbed, moments = _undisturbed(pilot, tmp_path / "undisturbed"), random.Random(0)
    command = _command(pilot, pilot.folder.parent, "ray")
    driver = pilot.popen(command)
    wait_until(lambda: len(_checkpoints(pilot)) > 1)
    time.sleep(moments.uniform(0.0, 0.5))
    os.kill(_workers(driver.pid)[0], signal.SIGKILL)
    killed_s = time.monotonic()
    wait_until(lambda: _n_reports(pilot, attempt=2) > 0)
    sys.stdout.write(f"trains again {time.monotonic() - killed_s:.1f} s after kill -9\n")
    time.sleep(moments.uniform(0.0, 0.5))
    workers, killed_s = _workers(driver.pid), time.monotonic()
    pilot.kill(driver)
    for pid in workers:  # as when the power fails
        os.kill(pid, signal.SIGKILL)
    newest = _checkpoints(pilot)[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    driver = pilot.popen(command)
    wait_until(lambda: _n_reports(pilot, attempt=3) > 0)
    sys.stdout.write(f"trains again {time.monotonic() - killed_s:.1f} s after the driver\n")
    output = pilot.end(driver)
    assert "sweep pilot complete: 2 done" in output
    pilot.assert_as(undisturbed)
