"""One driver per sweep, tried with processes that are killed, stopped and raced."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lease_process
import pytest
from lease_process import FASTER
from planted import KINDS, kind_of_store

from sweeper.errors import StoreError
from sweeper.orchestration import lease
from sweeper.orchestration.lease import StopRequest, driver_at_work, held, request_stop
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.storage import StoragePath

PATIENCE_S = 30.0
"""Longest wait for another process on a busy machine; a test that passes waits far less."""

N_RACES = 20


class Process:
    """Another process that can be a driver."""

    def __init__(self, folder: StoragePath) -> None:
        self.folder = folder
        self.popen = subprocess.Popen(
            [sys.executable, lease_process.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def hold(
        self, *, takeover: bool = False, at_s: float = 0.0, folder: StoragePath | None = None
    ) -> None:
        self.tell(hold=str(folder or self.folder), takeover=takeover, at_s=at_s)

    def tell(self, **command: object) -> None:
        assert self.popen.stdin
        self.popen.stdin.write((json.dumps(command) + "\n").encode())

    def says(self) -> dict[str, Any]:
        """The next event."""
        assert self.popen.stdout
        assert select.select([self.popen.stdout], [], [], PATIENCE_S)[0], "says nothing"
        event: dict[str, Any] = json.loads(self.popen.stdout.readline())
        return event

    def kill(self) -> None:
        with self.popen:  # closes its pipes and waits
            self.popen.kill()


Start = Callable[[], Process]


@pytest.fixture(params=KINDS)
def results(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StoragePath:
    """A results folder, on disk or in an object store, where there are no locks."""
    if request.param == "objects":
        for module, name, value in FASTER:
            monkeypatch.setattr(module, name, value)
    return kind_of_store(request.param, tmp_path)


on_file_systems = pytest.mark.parametrize("results", ["folder"], indirect=True)


@pytest.fixture
def store(results: StoragePath) -> Store:
    return Store(results / "planted")


@pytest.fixture
def start(store: Store) -> Iterator[Start]:
    """Start another process."""
    started: list[Process] = []

    def start_one() -> Process:
        started.append(Process(store.folder))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()


def test_a_second_driver_is_told_who_holds_the_sweep_and_what_to_do(
    store: Store, start: Start
) -> None:
    other = start()
    other.hold()
    assert other.says()["held"] == 1
    time.sleep(0.2)  # its first heartbeat
    with pytest.raises(StoreError) as refused, held(store):
        pass
    message = str(refused.value)
    assert f"process {other.popen.pid} on {socket.gethostname()} since 20" in message
    assert "last heartbeat 0 s ago" in message
    assert f"`sweeper cancel {store.folder}`" in message
    assert "--takeover" in message


def test_a_killed_driver_does_not_block_the_next(store: Store, start: Start) -> None:
    first, second = start(), start()
    first.hold()
    assert first.says()["held"] == 1
    first.kill()
    second.hold()
    event = second.says()
    assert event["held"] == 2
    assert event["after_s"] < lease.WATCH_S + 2


@on_file_systems
def test_a_file_system_knows_at_once_that_a_driver_was_killed(store: Store, start: Start) -> None:
    other = start()
    other.hold()
    other.says()
    assert (driver := driver_at_work(store)) is not None
    assert (driver.epoch, driver.pid, driver.host) == (1, other.popen.pid, socket.gethostname())
    assert abs(driver.started_s - time.time()) < PATIENCE_S
    other.kill()
    start_s = time.monotonic()
    assert driver_at_work(store) is None
    assert time.monotonic() - start_s < 0.5


def test_a_driver_that_hangs_is_taken_over_and_learns_of_it_when_it_wakes(
    store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "TAKEOVER_WAIT_S", 0.5)
    hung = start()
    hung.hold()
    hung.says()
    os.kill(hung.popen.pid, signal.SIGSTOP)
    start_s = time.monotonic()
    with held(store, takeover=True) as own:
        assert time.monotonic() - start_s < lease.WATCH_S + lease.TAKEOVER_WAIT_S + 2
        os.kill(hung.popen.pid, signal.SIGCONT)
        assert hung.says() == {"order": "superseded"}
        assert hung.says() == {"released": 1}
        assert own.epoch == 2
        assert own.stop_request() is None
        assert (driver := driver_at_work(store)) is not None
        assert driver.pid == os.getpid()


@on_file_systems
def test_a_hung_driver_still_holds_a_sweep_on_a_file_system(store: Store, start: Start) -> None:
    hung = start()
    hung.hold()
    hung.says()
    os.kill(hung.popen.pid, signal.SIGSTOP)
    with pytest.raises(StoreError, match="heartbeat"), held(store):
        pass


def test_takeover_waits_until_a_living_driver_has_let_go(store: Store, start: Start) -> None:
    old, new = start(), start()
    old.hold()
    old.says()
    new.hold(takeover=True)
    assert old.says() == {"order": "superseded"}
    assert old.says() == {"released": 1}
    event = new.says()
    assert event["held"] == 2
    assert event["after_s"] < lease.WATCH_S + 2


@pytest.mark.slow
@pytest.mark.parametrize("takeover", [False, True], ids=["run", "takeover"])
def test_of_drivers_that_start_at_the_same_instant_one_succeeds(
    results: StoragePath, start: Start, takeover: bool
) -> None:
    old, racers = start(), (start(), start())
    for i in range(N_RACES):
        folder = results / f"race-{i}"
        if takeover:
            old.hold(folder=folder)
            old.says()
        at_s = time.monotonic() + 0.02
        for racer in racers:
            racer.hold(folder=folder, takeover=takeover, at_s=at_s)
        events = [racer.says() for racer in racers]
        assert [len([e for e in events if each in e]) for each in ("held", "refused")] == [1, 1]
        (refused,) = [event["refused"] for event in events if "refused" in event]
        assert "driver" in refused
        if takeover:
            assert old.says() == {"order": "superseded"}
            old.says()
        winner = racers["refused" in events[0]]
        winner.tell(release=True)
        assert winner.says() == {"released": 1 + takeover}


def test_a_driver_learns_within_half_a_second_that_it_should_stop(
    store: Store, start: Start
) -> None:
    driver = start()
    driver.hold()
    driver.says()
    orders: tuple[StopRequest, ...] = ("stop", "stop_now")
    for order in orders:
        given = request_stop(store, order)
        start_s = time.monotonic()
        assert given is not None
        assert given.pid == driver.popen.pid
        assert driver.says() == {"order": order}
        assert time.monotonic() - start_s < 0.5
    request_stop(store, "stop")  # takes nothing back
    time.sleep(2 * lease.LOOK_INTERVAL_S)
    driver.tell(release=True)
    assert driver.says() == {"released": 1}


def test_a_request_to_stop_never_reaches_a_later_driver(store: Store) -> None:
    with held(store) as first:
        request_stop(store, "stop_now")
        assert first.stop_request() == "stop_now"
    with held(store) as second:
        assert second.stop_request() is None


def test_nobody_is_asked_to_stop_when_nobody_is_at_work(store: Store) -> None:
    assert request_stop(store, "stop") is None
    with held(store):
        pass
    assert request_stop(store, "stop") is None
    assert not list(store.drivers.glob("*.stop"))


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_nothing(
    store: Store, start: Start, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    other = start()
    other.hold()
    other.says()
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + jump_s)
    assert driver_at_work(store) is not None
    with pytest.raises(StoreError, match="at work"), held(store):
        pass
    other.kill()
    assert driver_at_work(store) is None


def _move_to_another_machine(store: Store) -> None:
    path = store.drivers / "1.json"
    files.replace(path, files.to_json({**files.read_json(path), "host": "elsewhere"}))


@pytest.mark.slow
@on_file_systems
def test_locks_of_another_machine_are_not_believed(
    store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "WATCH_S", 1.5 * lease.BEAT_INTERVAL_S)
    other = start()
    other.hold()
    other.says()
    _move_to_another_machine(store)
    assert (driver := driver_at_work(store)) is not None
    assert driver.host == "elsewhere"
    os.kill(other.popen.pid, signal.SIGSTOP)
    time.sleep(0.1)
    assert driver_at_work(store) is None  # although its lock is held


def test_a_driver_that_ended_is_known_to_have_ended_without_waiting(store: Store) -> None:
    with held(store):
        assert driver_at_work(store) is not None
    _move_to_another_machine(store)
    start_s = time.monotonic()
    assert driver_at_work(store) is None
    assert time.monotonic() - start_s < 0.5


def test_an_error_lets_go_of_the_sweep(store: Store) -> None:
    with pytest.raises(RuntimeError), held(store):
        raise RuntimeError
    with held(store) as own:
        assert own.epoch == 2


def test_the_record_of_a_driver_names_its_process_and_nothing_else(store: Store) -> None:
    with held(store):
        fields = files.read_json(store.drivers / "1.json")
    assert set(fields) == {"host", "pid", "started_at", "took_over", "token"}


def test_few_files_of_past_drivers_are_kept(store: Store) -> None:
    for epoch in range(1, 13):
        with held(store) as own:
            assert own.epoch == epoch
            request_stop(store, "stop")
    epochs = {int(path.name.partition(".")[0]) for path in store.drivers.iterdir()}
    assert epochs == set(range(9, 13))
    assert len(list(store.drivers.iterdir())) <= 4 * lease.N_EPOCHS_KEPT


def test_a_driver_whose_record_was_pruned_is_superseded(store: Store) -> None:
    with held(store) as own:
        (store.drivers / "1.json").unlink()
        assert own.stop_request() == "superseded"
    assert not list(store.drivers.glob("*.json"))


def test_a_damaged_record_of_a_driver_is_an_error_that_says_what_to_do(store: Store) -> None:
    files.replace(store.drivers / "3.json", b'{"host": ')
    with pytest.raises(StoreError, match=r"3\.json is not the record of a driver.*delete it"):
        driver_at_work(store)


def test_a_driver_that_just_took_over_is_not_taken_over_at_once(store: Store) -> None:
    path = store.drivers / "1.json"
    with held(store):
        files.replace(path, files.to_json({**files.read_json(path), "took_over": True}))
        with pytest.raises(StoreError, match="wait for it"), held(store, takeover=True):
            pass


@pytest.mark.slow
@on_file_systems
def test_a_driver_killed_on_another_machine_is_replaced_within_ten_seconds(
    store: Store, start: Start
) -> None:
    other = start()
    other.hold()
    other.says()
    _move_to_another_machine(store)
    other.kill()
    start_s = time.monotonic()
    with held(store) as own:
        assert time.monotonic() - start_s < 10
        assert own.epoch == 2
