"""What a page says when the driver of its sweep is killed, and that it goes on."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbed import Sweep, kill_group, wait_until
from noted import STEP_NOTES
from planted import assignment_of, planted_result
from served import asked, served

from sweeper.store.results import publish, published
from sweeper.store.submission import read_plan

pytestmark = pytest.mark.slow

STATE = "/sweeps/planted/state"


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    found = Sweep(tmp_path / "results" / "planted", tmp_path / "notes")
    monkeypatch.setenv(STEP_NOTES, str(found.notes_folder))
    yield found
    for driver in found.drivers:
        kill_group(driver)


def test_a_page_outlives_the_driver_and_says_that_it_is_gone(sweep: Sweep) -> None:
    driver = sweep.start("inline", "noted.run_noting_slow_steps")
    sweep.wait_for_step(2)
    with served(sweep.folder.parent) as server:
        assert f"Driver: process {driver.pid}" in asked(server, STATE)[1]
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        wait_until(lambda: "No driver is at work" in asked(server, STATE)[1])
        assert "Driver: process" not in asked(server, STATE)[1]
        # Whoever publishes next, with a driver or without, is followed.
        done = {head.trial_id for head in published(sweep.store)}
        lacking = [each for each in read_plan(sweep.store).trials if each.trial_id not in done]
        assignment = assignment_of(sweep.store, lacking[-1], attempt=9)
        publish(assignment, planted_result(assignment))
        published_s = time.monotonic()
        while f"{len(done) + 1} done" not in asked(server, STATE)[1]:
            assert time.monotonic() - published_s < 5.0
            time.sleep(0.1)
        assert asked(server, "/")[0].status == 200
