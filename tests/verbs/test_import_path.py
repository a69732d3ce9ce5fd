"""Files of the user's that have the names of our modules, or of libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # one process after another

ROOT = Path(__file__).parents[2]

TABLE = """\
family,params,tokens,flops,loss
a,1e6,2e7,1.2e14,3.2
a,2e6,1e7,1.2e14,3.1
a,4e6,5e6,1.2e14,3.3
"""


def _sweeper(
    *arguments: str, cwd: Path, first_on_path: Path | None = None, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(folder) for folder in (first_on_path, ROOT) if folder)
    return subprocess.run(
        [sys.executable, *options, "-m", "sweeper", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "table.csv").write_text(TABLE)
    return tmp_path


def test_the_package_is_a_command(folder: Path) -> None:
    shown = _sweeper("--version", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("sweeper, version ")


@pytest.mark.parametrize("name", ["analysis.py", "analysis/__init__.py"])
def test_our_analysis_comes_before_any_other(folder: Path, name: str) -> None:
    other = folder / "path" / name
    other.parent.mkdir(parents=True)
    other.write_text("MINE = 1\n")
    fitted = _sweeper(
        "fit", "table.csv", "--bootstrap", "10", cwd=folder, first_on_path=folder / "path"
    )
    assert fitted.returncode == 0, fitted.stderr
    assert fitted.stdout


@pytest.mark.parametrize("name", ["analysis", "queue", "click", "numpy"])
def test_files_in_the_working_folder_stand_for_no_library(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text("MINE = 1\n")
    fitted = _sweeper("fit", "table.csv", "--bootstrap", "10", cwd=folder)
    assert fitted.returncode == 0, fitted.stderr


def test_a_file_in_place_of_a_library_is_named(folder: Path) -> None:
    other = folder / "path" / "numpy.py"
    other.parent.mkdir()
    other.write_text("MINE = 1\n")
    fitted = _sweeper("fit", "table.csv", cwd=folder, first_on_path=other.parent)
    assert fitted.returncode == 2
    assert f"{other} was imported in place of a library: rename that file" in fitted.stderr
    assert "Traceback" not in fitted.stderr


@pytest.mark.ray
def test_workers_of_ray_do_not_import_from_the_working_folder(folder: Path) -> None:
    for name in ("sweeper", "analysis", "queue", "torch"):
        (folder / f"{name}.py").write_text("MINE = 1\n")
    (folder / "pilot.yaml").write_text(
        'name: pilot\ncorpus: {source: "synthetic:markov?vocab=16&tokens=100000", seq_len: 16}\n'
        "series: {ar: {family: ar}}\ndesign: {grid: {sizes: [1.7K], tokens: [20K]}}\n"
        "train: {batch_tokens: 128}\nevaluation: {sequences: 16}\n"
    )
    done = _sweeper("run", "pilot.yaml", cwd=folder, options=("-P",))
    assert done.returncode == 0, done.stdout + done.stderr
