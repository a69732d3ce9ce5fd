"""Stopping a driver from outside: `sweeper cancel`, and what it says."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from planted import planned_sweep, submitted_store

from sweeper.cli import cli
from sweeper.errors import StoreError
from sweeper.orchestration.lease import StopRequest, Superseded, driver_at_work, held
from sweeper.store.layout import Store, store_at
from sweeper.verbs import cancel

DEADLINE_S = 30.0
"""Longest life of a driver of these tests; one that is cancelled ends within a second."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return submitted_store(tmp_path / "results" / "planted", planned_sweep())


@contextlib.contextmanager
def driver(store: Store, *heeds: StopRequest | Superseded) -> Iterator[list[str]]:
    """A driver in a thread, which ends at one of some orders; gives the orders it took."""
    taken: list[str] = []
    started, released = threading.Event(), threading.Event()

    def drive() -> None:
        with held(store) as lease:
            started.set()
            give_up_s = time.monotonic() + DEADLINE_S
            while time.monotonic() < give_up_s and not released.is_set():
                order = lease.stop_request()
                if order in heeds:
                    taken.append(order)
                    return
                time.sleep(0.02)

    thread = threading.Thread(target=drive)
    thread.start()
    assert started.wait(DEADLINE_S)
    try:
        yield taken
    finally:
        released.set()
        thread.join()


SWEEP = """\
name: tiny
corpus: {source: "synthetic:markov?vocab=16&tokens=20000", seq_len: 16}
series: {masked: {family: masked}}
design: {grid: {sizes: [1.7K], tokens: [20K]}}
train: {batch_tokens: 128, learning_rate: 0.05}
evaluation: {sequences: 16}
"""


@pytest.mark.slow
def test_a_second_driver_is_refused_and_takes_over_on_request(tmp_path: Path) -> None:
    file, results = tmp_path / "tiny.yaml", tmp_path / "results"
    file.write_text(SWEEP)
    arguments = ["run", str(file), "--results", str(results), "--executor", "inline"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    with driver(store_at(results, "tiny"), "superseded") as taken:
        refused = CliRunner().invoke(cli, arguments)
        assert isinstance(refused.exception, StoreError)
        assert "--takeover" in str(refused.exception)
        done = CliRunner().invoke(cli, [*arguments, "--takeover"])
        assert done.exit_code == 0, done.output
    assert taken == ["superseded"]


def _cancel(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cancel", str(store.folder), *arguments])


def test_a_driver_is_asked_to_stop_and_waited_for(store: Store) -> None:
    with driver(store, "stop") as taken:
        result = _cancel(store)
        assert driver_at_work(store) is None
    assert taken == ["stop"]
    assert result.exit_code == 0
    assert "let its trials write checkpoints and stop" in result.output
    assert "it has stopped" in result.output


def test_now_means_without_checkpoints(store: Store) -> None:
    with driver(store, "stop_now") as taken:
        result = _cancel(store, "--now", "--json")
    assert taken == ["stop_now"]
    assert json.loads(result.stdout)["is_stopped"]


def test_what_to_type_to_go_on_is_said(store: Store) -> None:
    with driver(store, "stop"):
        result = _cancel(store)
    sweep_file = store.folder / "sweep.yaml"
    assert f"sweeper run {sweep_file} --results {sweep_file.parent.parent}" in result.output


def test_where_no_driver_is_at_work_there_is_nothing_to_stop(store: Store) -> None:
    result = _cancel(store)
    assert result.exit_code == 0
    assert "no driver is at work" in result.output
    assert json.loads(_cancel(store, "--json").stdout) == {"driver": None, "is_stopped": True}


def test_a_driver_that_stays_is_reported_and_not_waited_for_without_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel, "WAIT_S", 0.5)
    monkeypatch.setattr(cancel, "SAY_INTERVAL_S", 0.1)
    with driver(store, "superseded"):
        result = _cancel(store)
        assert result.exit_code == 4
        assert "waiting for its trials to stop" in result.output
        assert "still at work" in result.output
        unwatched = _cancel(store, "--no-wait")
        assert unwatched.exit_code == 0
        assert "still at work" in unwatched.output


def test_an_order_does_not_stop_the_next_driver(store: Store) -> None:
    with driver(store, "stop"):
        _cancel(store)
    with held(store) as lease:
        assert lease.stop_request() is None
