"""What a wheel holds, and that it is enough."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sweeper

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree, without looking at the network."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("sweeper", "analysis"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    built = subprocess.run(
        [sys.executable, "-c", "import setuptools.build_meta as b; print(b.build_wheel('dist'))"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "dist" / built.stdout.split()[-1]


def test_a_wheel_holds_every_module_and_every_file_that_modules_read(wheel: Path) -> None:
    assert wheel.name == f"sweeper-{sweeper.__version__}-py3-none-any.whl"
    kept = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        str(path.relative_to(ROOT))
        for top in ("sweeper", "analysis")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert kept == files
    assert {"sweeper/py.typed", "analysis/py.typed"} <= files


def test_an_installed_wheel_writes_a_template_and_plans_it(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)  # what an installer does with a pure wheel
    for words in (["init", "mine.yaml"], ["plan", "mine.yaml"]):
        done = subprocess.run(
            [sys.executable, "-m", "sweeper", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "masked" in done.stdout
