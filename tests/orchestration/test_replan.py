"""A plan that is handed to the driver at work."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from planted import KINDS, kind_of_store, planned_sweep, submitted_store

from sweeper.orchestration import lease
from sweeper.orchestration import replan as replan_module
from sweeper.orchestration.lease import held
from sweeper.orchestration.replan import new_plan, replan, replan_request
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.submission import read_plan, write_plan
from sweeper.trials.plan import Plan

SHORT, LONG = planned_sweep(steps=(10,)), planned_sweep(steps=(10, 20))


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(lease, "BEAT_INTERVAL_S", 0.2)  # what shows a driver in an object store
    return submitted_store(kind_of_store(request.param, tmp_path) / "planted", SHORT)


class Driver:
    """A driver in a thread, which does nothing but look for new plans."""

    def __init__(self, store: Store) -> None:
        self.store, self.plans = store, list[Plan]()
        self.is_at_work, self.may_look = threading.Event(), threading.Event()
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def wait_for(self, n_plans: int) -> list[Plan]:
        """The plans it was told, once there are so many: it notes a plan, then acts on it."""
        while len(self.plans) < n_plans:
            time.sleep(0.01)
        return self.plans

    def work(self) -> None:
        with held(self.store) as own:
            self.is_at_work.set()
            while not self.is_over.wait(0.01):
                if self.may_look.is_set() and (plan := new_plan(self.store, own.epoch)):
                    self.plans.append(plan)


@pytest.fixture
def driver(store: Store) -> Iterator[Driver]:
    driver = Driver(store)
    driver.thread.start()
    driver.is_at_work.wait()
    yield driver
    driver.is_over.set()
    driver.thread.join()


def test_the_driver_at_work_goes_on_with_the_new_plan(store: Store, driver: Driver) -> None:
    driver.may_look.set()
    handed = replan(store, LONG, "name: planted\n# longer\n")
    assert handed is not None
    assert handed.is_taken
    assert handed.driver.epoch == 1
    assert driver.wait_for(1) == [LONG]
    assert (store.folder / "sweep.yaml").read_text() == "name: planted\n# longer\n"
    assert (store.folder / "revisions" / "0002.yaml").exists()
    assert replan(store, SHORT, "name: planted\n") is not None
    assert driver.wait_for(2) == [LONG, SHORT]


def test_a_plan_that_is_no_other_is_not_handed_over(store: Store, driver: Driver) -> None:
    assert replan(store, SHORT, "name: planted\n# the same, with a comment\n") is None
    assert not (store.folder / "revisions" / "0002.yaml").exists()


def test_without_a_driver_nothing_is_written(store: Store) -> None:
    before = store.plan.read_bytes()
    assert replan(store, LONG, "name: planted\n") is None
    assert store.plan.read_bytes() == before


def test_a_driver_that_ends_without_looking_has_taken_nothing(store: Store, driver: Driver) -> None:
    def end_after_the_submission() -> None:
        while read_plan(store) != LONG:
            time.sleep(0.01)
        driver.is_over.set()

    end = threading.Thread(target=end_after_the_submission)
    end.start()
    assert replan(store, LONG, "name: planted\n") is None
    end.join()
    assert driver.plans == []
    assert read_plan(store) == LONG  # for the next driver


def test_a_driver_that_does_not_look_finds_the_plan_when_it_does(
    store: Store, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replan_module, "REPLAN_WAIT_S", 0.3)
    handed = replan(store, LONG, "name: planted\n")
    assert handed is not None
    assert not handed.is_taken
    driver.may_look.set()
    assert driver.wait_for(1) == [LONG]


def test_a_plan_is_told_once_and_a_damaged_one_not_at_all(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with held(store) as own:
        told, request = partial(new_plan, store, own.epoch), replan_request(store, own.epoch)
        assert told() is None
        write_plan(store, LONG)
        files.replace(request, b"")
        assert told() == LONG
        assert told() is None
        files.replace(store.plan, b'{"version": ')
        files.replace(request, b"")
        assert told() is None
        assert "going on with the plan as it was" in caplog.text
        write_plan(store, SHORT)
        files.replace(request, b"")
        assert told() == SHORT
