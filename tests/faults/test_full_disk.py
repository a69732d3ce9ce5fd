"""A disk that is full for a while: at a checkpoint, at a publication, in the driver's own files."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import planted
import pytest
from disturbed import SWEEPER, WAIT_S, Sweep, Tables
from filling import fill

from sweeper.orchestration.verify import verify

pytestmark = pytest.mark.slow

SMALL_DISK = "mount -t tmpfs -o size=2m none {folder} && echo mounted && exec sleep 600"


PILOT = """\
name: pilot
corpus: {source: "synthetic:markov?vocab=16&tokens=20000", seq_len: 16}
series: {masked: {family: masked}}
design: {isoflop: {budgets: [2e8], sizes: [1.7K, 2.6K]}}
train: {batch_tokens: 128}
evaluation: {sequences: 8}
"""


class SmallDisk:
    """A file system of two megabytes that only some processes see: no privileges are needed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.keeper = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", SMALL_DISK.format(folder=folder)],
            env={"PATH": os.environ["PATH"]},  # without the mark of the sweep's own processes
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.keeper.stdout
        self.is_there = self.keeper.stdout.readline() == "mounted\n"

    @property
    def seen_from_outside(self) -> Path:
        """The folder, for processes that do not see the file system."""
        return Path(f"/proc/{self.keeper.pid}/root{self.folder}")

    def enter(self) -> list[str]:
        """What to put before a command so that it sees the file system."""
        pid = str(self.keeper.pid)
        return ["nsenter", "--preserve-credentials", "-U", "-m", "-t", pid, "--"]

    def fill(self) -> None:
        """Leave not a byte."""
        fill(self.seen_from_outside)

    def free(self) -> None:
        """Remove what fills it up."""
        (self.seen_from_outside / "ballast").unlink()

    def close(self) -> None:
        """Give it up."""
        with self.keeper:
            self.keeper.kill()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here, and with it no small disk")
    disk = SmallDisk(tmp_path / "disk")
    if not disk.is_there:
        pytest.skip("this user may not mount a small disk here")
    yield disk
    disk.close()


@pytest.fixture
def sweep_on_it(sweep: Sweep, disk: SmallDisk) -> Sweep:
    """The sweep, its results on the small disk."""
    sweep.place(disk.folder / "planted", disk.seen_from_outside / "planted")
    sweep.prefix = disk.enter()
    return sweep


@pytest.mark.parametrize(
    ("executor", "run_trial"),
    [
        ("inline", "fill_before_checkpoint"),
        ("inline", "fill_after_publication"),
        pytest.param("ray", "fill_before_publication", marks=pytest.mark.ray),
    ],
)
def test_a_full_disk_stops_the_sweep_until_there_is_space(
    sweep_on_it: Sweep,
    disk: SmallDisk,
    undisturbed: Tables,
    tmp_path: Path,
    executor: str,
    run_trial: str,
) -> None:
    driver = sweep_on_it.start(executor, f"filling.{run_trial}")
    output = sweep_on_it.end(driver, exit_code=3)
    assert "stopped, as the disk is full; free some space" in output
    disk.free()
    assert _findings(disk, tmp_path / "full") <= {"missing-trial", "stale-table", "torn-table"}
    sweep_on_it.end(sweep_on_it.start("inline", "noted.run_noting_steps"))
    _findings(disk, tmp_path / "whole")
    sweep_on_it.place(tmp_path / "whole" / "planted")
    sweep_on_it.assert_as(undisturbed)


def test_a_disk_that_is_full_from_the_start_is_named(
    sweep_on_it: Sweep, disk: SmallDisk, tmp_path: Path
) -> None:
    file = tmp_path / "pilot.yaml"
    file.write_text(PILOT)
    command = [*SWEEPER, "run", str(file), "--executor", "inline"]
    command += ["--results", str(disk.folder)]
    disk.fill()
    output, errors = sweep_on_it.popen(command).communicate(timeout=WAIT_S)
    assert "the disk is full" in errors, output
    assert "Traceback" not in errors
    assert sweep_on_it.drivers[-1].returncode == 3
    disk.free()
    output = sweep_on_it.end(sweep_on_it.popen(command))
    assert "sweep pilot complete: 2 done" in output


def _findings(disk: SmallDisk, folder: Path) -> set[str]:
    """Kinds of findings in the results, copied to where this process sees them.

    A table that was never written counts as torn.
    """
    shutil.copytree(disk.seen_from_outside / "planted", folder / "planted")
    findings = verify(folder / "planted")
    torn = [finding for finding in findings if finding.code == "torn-table"]
    assert not any(planted.on_disk(finding.file).exists() for finding in torn)
    return {finding.code for finding in findings}
