"""Offline runs of Weights & Biases, read back from their logs by wandb's own messages."""

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from client_exports import exported, needs
from planted import planned_sweep
from planted_export import contents, grow, grown_store, runs
from wandb_log import read_run

from sweeper.store.layout import Store

pytestmark = [needs("wandb"), pytest.mark.slow]  # a process for each export, and wandb's own

LABELS = ("a/b: c?",)


def read_back(folder: Path) -> dict[str, dict[str, Any]]:
    found = [read_run(path) for path in sorted(folder.glob("wandb/*/run-*.wandb"))]
    return {run["id"]: run for run in found}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and its first export, to be copied."""
    folder = tmp_path_factory.mktemp("first")
    store = grown_store(folder, LABELS)
    # What is in the environment does not send anything.
    done = exported(store.folder, "--to", "wandb", "-o", folder / "out", WANDB_MODE="online")
    assert "2 new runs, 0 changed, 0 as they were" in done.stdout, done.stderr
    return folder


@pytest.fixture
def place(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path / "place")
    return tmp_path / "place"


def test_the_log_has_the_numbers_that_were_published(first: Path) -> None:
    found = read_back(first / "out")
    shown = runs(Store(first / "planted"))
    assert set(found) == {run.run_id for run in shown}
    for run in shown:
        back = found[run.run_id]
        assert (back["name"], back["group"], back["project"]) == (run.name, run.series, "planted")
        assert back["exit_code"] == 1  # the one diverged, the other failed
        assert back["config"]["optimizer"]["schedule"] == "constant"
        plain = {name: value for name, value in run.settings.items() if "." not in name}
        assert back["config"].items() >= plain.items()
        assert back["summary"].items() >= run.summary.items()
        assert {
            step: {name: value for name, value in values.items() if not name.startswith("_")}
            for step, values in back["history"].items()
        } == {
            point.step: {
                **point.values,
                "progress/tokens": point.tokens,
                "progress/flops": point.flops,
            }
            for point in run.points
        }


def test_a_run_tells_nothing_of_the_machine_that_exports(first: Path) -> None:
    assert {run["host"] for run in read_back(first / "out").values()} == {""}
    for name, data in contents(first / "out").items():
        assert str(first).encode() not in data, name


def test_exporting_twice_changes_nothing_and_a_grown_sweep_adds_what_is_new(place: Path) -> None:
    out, store = place / "out", Store(place / "planted")
    before = contents(out)
    again = exported(store.folder, "--to", "wandb", "-o", out)
    assert "0 new runs, 0 changed, 2 as they were" in again.stdout, again.stderr
    assert contents(out) == before
    (folder,) = out.glob(f"wandb/*-{runs(store)[0].run_id}")
    left = out / ".tmp-killed" / "wandb"
    left.mkdir(parents=True)  # as a killed export leaves it
    grow(store, planned_sweep(LABELS, widths=(8, 16, 32)))
    more = exported(store.folder, "--to", "wandb", "-o", out)
    assert "1 new runs, 1 changed, 1 as they were" in more.stdout, more.stderr
    assert not left.exists()
    assert set(read_back(out)) == {run.run_id for run in runs(store)}
    kept = str(folder.relative_to(out))
    after = contents(out)
    assert {n: d for n, d in after.items() if n.startswith(kept)} == {
        n: d for n, d in before.items() if n.startswith(kept)
    }


class Refusing(BaseHTTPRequestHandler):
    """A server that knows nobody."""

    def do_POST(self) -> None:
        self.send_error(401)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_runs_that_cannot_be_sent_stay_to_be_sent_later(place: Path) -> None:
    out, store = place / "out", Store(place / "planted")
    before = contents(out)
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = exported(
            store.folder, "--to", "wandb", "-o", out, "--online",
            WANDB_BASE_URL=f"http://127.0.0.1:{server.server_port}", WANDB_API_KEY="0" * 40,
        )  # fmt: skip
        server.shutdown()
    assert done.returncode == 2, done.stdout
    assert "2 runs could not be sent" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(out).items() >= before.items()
    again = exported(store.folder, "--to", "wandb", "-o", out)
    assert "2 as they were" in again.stdout, again.stderr


def test_a_project_that_wandb_refuses_is_told_before_anything_is_written(place: Path) -> None:
    done = exported(place / "planted", "--to", "wandb", "-o", place / "new", "--project", "a/b")
    assert done.returncode == 2
    assert "project 'a/b': / cannot be in its name" in done.stderr
    assert not (place / "new").exists()
