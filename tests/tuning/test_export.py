"""An exported search opens in Optuna's dashboard."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweeper.errors import OutputError
from sweeper.planning.search_space import Dimension
from sweeper.tuning.export import export_study
from sweeper.tuning.search import Search, Tried

SPACE = {
    "ema": Dimension((0.0, 0.999)),
    "betas": Dimension(None, choices=([0.9, 0.95], [0.9, 0.99])),
}
TRIED = (
    Tried({"ema": 0.9, "betas": [0.9, 0.95]}, (2.5, 2.75), (0.01, 0.02)),
    Tried({"ema": 0.1, "betas": [0.9, 0.99]}, (), ()),
    Tried({"ema": 0.5, "betas": [0.9, 0.99]}, (2.25, 3.0), (0.01, 0.02)),
)
SEARCH = Search(SPACE, ("masked", "uniform"), 4, 2, "tpe", seed=0)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "study.log"
    export_study(SEARCH, TRIED, "planted", path)
    return path


def test_a_journal_holds_the_trials_with_their_settings_bounds_and_errors(journal: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.load_study(study_name="planted", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    first = study.trials[0]
    assert first.params == {"ema": 0.9, "betas": "[0.9, 0.95]"}
    assert first.values == [2.5, 2.75]
    assert first.user_attrs == {"stderr of masked": 0.01, "stderr of uniform": 0.02}
    assert study.metric_names == ["bound of masked", "bound of uniform"]


def test_nothing_is_overwritten_and_nothing_left_behind(journal: Path) -> None:
    before = journal.read_bytes()
    with pytest.raises(OutputError, match=r"study\.log exists already; choose another name"):
        export_study(SEARCH, TRIED[:1], "other", journal)
    assert journal.read_bytes() == before
    assert [*journal.parent.iterdir()] == [journal]


def test_a_place_that_is_no_folder_is_told(journal: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        export_study(SEARCH, TRIED, "planted", journal / "study.log")


def test_the_dashboard_counts_the_trials(journal: Path) -> None:
    pytest.importorskip("optuna_dashboard")  # of the extra dev
    with dashboard(journal) as address:
        page = urllib.request.urlopen(f"{address}/dashboard", timeout=10).read().decode()
        (study,) = fetched(f"{address}/api/studies")["study_summaries"]
        trials = fetched(f"{address}/api/studies/{study['study_id']}")["trials"]
    assert "Optuna Dashboard" in page
    assert study["study_name"] == "planted"
    assert [trial["state"] for trial in trials] == ["Complete", "Fail", "Complete"]
    assert [trial["values"] for trial in trials if "values" in trial] == [[2.5, 2.75], [2.25, 3.0]]


@contextlib.contextmanager
def dashboard(journal: Path) -> Iterator[str]:
    """The address of a dashboard that shows a journal while the context lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = str(Path(sys.executable).parent / "optuna-dashboard")
    command = [program, str(journal), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, process.communicate()[0].decode()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def fetched(address: str) -> Any:
    return json.loads(urllib.request.urlopen(address, timeout=10).read())
