"""Sweeps to disturb, and what they should end in."""

from collections.abc import Iterator
from pathlib import Path

import planted
import pytest
from disturbed import Sweep, Tables, kill_group, tables
from noted import STEP_NOTES


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    """A planted sweep that has not been started."""
    sweep = Sweep(tmp_path / "results" / "planted", tmp_path / "notes")
    monkeypatch.setenv(STEP_NOTES, str(sweep.notes_folder))
    yield sweep
    for driver in sweep.drivers:
        kill_group(driver)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The tables of the planted sweep, run in this process without disturbance."""
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep = Sweep(folder / "planted", folder / "notes")
    assert sweep.run_here(planted.run_planted).exit_code == 0
    return tables(sweep.folder)
