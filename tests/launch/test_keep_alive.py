"""A driver's job is submitted again when it dies, and only then. A fake server, a fake clock."""

import dataclasses
from collections.abc import Iterable, Iterator

import pytest

from sweeper.errors import ConfigError
from sweeper.launch.keep_alive import (
    MAX_YOUNG_DEATHS,
    POLL_S,
    SETTLE_S,
    START_S,
    YOUNG_S,
    JobWatch,
    exit_code,
    keep_alive,
    watch_start,
)
from sweeper.launch.ray_jobs import JobRequest, JobState

REQUEST = JobRequest("quick", "name: quick\n", "/shared", takeover=True)
RUNNING, DEAD = JobState("running"), JobState("failed", -9)
UNKNOWN = JobState("unknown", message="connection refused")


class FakeServer:
    """Answers each look with the next of some states, the last of them for ever."""

    def __init__(self, states: Iterable[JobState], refusals: int = 0, log: str = "") -> None:
        self._states: Iterator[JobState] = iter(states)
        self._state = RUNNING
        self._refusals, self._log = refusals, log
        self.n_submitted, self.n_looks = 0, 0
        self.submitted: list[JobRequest] = []

    def submit(self, request: JobRequest) -> str:
        if self._refusals:
            self._refusals -= 1
            raise ConfigError("no answer")
        self.n_submitted += 1
        self.submitted.append(request)
        return f"again-{self.n_submitted}"

    def look(self, job_id: str) -> JobState:
        self.n_looks += 1
        self._state = next(self._states, self._state)
        return self._state

    def log(self, job_id: str) -> str:
        return self._log


class FakeWorld:
    """What a watch needs: it says into a list, and its clock only moves while it pauses."""

    def __init__(self, server: FakeServer) -> None:
        self.said: list[str] = []
        self.time_s = 0.0
        self.watch = JobWatch(
            server, self.said.append, self._pause, lambda: self.time_s, self._latest
        )

    def _latest(self, request: JobRequest) -> JobRequest:
        return dataclasses.replace(request, text="name: edited\n")

    def _pause(self, seconds: float) -> None:
        self.time_s += seconds


def _kept(states: Iterable[JobState], refusals: int = 0) -> tuple[FakeServer, FakeWorld, JobState]:
    server = FakeServer(states, refusals)
    world = FakeWorld(server)
    _, state = keep_alive(world.watch, REQUEST, "first")
    return server, world, state


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (JobState("succeeded", 0), 0),
        (JobState("failed", 1), 1),
        (JobState("failed", 2), 2),
        (JobState("failed", 3), 3),
        (JobState("failed", 4), 4),
        (JobState("stopped"), 3),
    ],
)
def test_a_job_that_ends_by_itself_is_not_repeated(state: JobState, code: int) -> None:
    server, world, last = _kept([JobState("pending"), RUNNING, RUNNING, state])
    assert server.n_submitted == 0
    assert world.said == []
    assert exit_code(last) == code


@pytest.mark.parametrize(
    "death", [DEAD, JobState("failed", 137), JobState("failed"), JobState("forgotten")]
)
def test_a_job_that_dies_is_submitted_again(death: JobState) -> None:
    server, world, last = _kept([RUNNING, death, RUNNING, JobState("succeeded", 0)])
    assert server.n_submitted == 1
    assert [line.partition(":")[0] for line in world.said] == [
        "job first died",
        "submitted again as job again-1",
    ]
    assert exit_code(last) == 0


def test_what_is_submitted_again_is_the_sweep_as_it_was_edited_last() -> None:
    server, _, _ = _kept([RUNNING, DEAD, JobState("succeeded", 0)])
    (again,) = server.submitted
    assert again.text == "name: edited\n"


def test_only_the_first_job_takes_over_from_others() -> None:
    server, _, _ = _kept([RUNNING, DEAD, JobState("succeeded", 0)])
    assert REQUEST.takeover
    assert [again.takeover for again in server.submitted] == [False]


def test_a_server_that_does_not_answer_is_asked_again_and_nothing_is_submitted() -> None:
    hours = [UNKNOWN] * 1000
    server, world, _ = _kept([RUNNING, *hours, RUNNING, JobState("succeeded", 0)])
    assert server.n_submitted == 0
    assert len(world.said) == 1
    assert "waiting: connection refused" in world.said[0]
    assert world.time_s >= 1000 * POLL_S


def test_a_server_that_refuses_a_submission_is_asked_again() -> None:
    server, world, _ = _kept([DEAD, JobState("succeeded", 0)], refusals=2)
    assert server.n_submitted == 1
    assert len([line for line in world.said if "cannot be submitted again now" in line]) == 2


def test_jobs_that_die_young_are_given_up_and_old_ones_are_not() -> None:
    server, world, last = _kept([DEAD])
    assert server.n_submitted == MAX_YOUNG_DEATHS - 1
    assert "given up" in world.said[-1]
    assert exit_code(last) is None
    life = [RUNNING] * (1 + int(YOUNG_S / POLL_S))
    deaths = 3 * MAX_YOUNG_DEATHS
    server, _, _ = _kept([*([*life, DEAD] * deaths), JobState("succeeded", 0)])
    assert server.n_submitted == deaths


def test_a_cluster_without_this_package_is_named_and_not_asked_again() -> None:
    with pytest.raises(ConfigError, match="no command `sweeper` on its path"):
        _kept([RUNNING, JobState("failed", 127)])


@pytest.mark.parametrize(
    ("states", "log", "n_looks"),
    [
        ([JobState("pending"), RUNNING, JobState("failed", 2)], "error: no GPU", 3),
        ([RUNNING], "sweep quick: 3 of 3 trials to run, …", SETTLE_S + 2),
        ([RUNNING, JobState("succeeded", 0)], "sweep quick: all 3 trials are published", 2),
        ([RUNNING], "warning: few sizes", START_S + 2),
        ([UNKNOWN], "", START_S + 2),
    ],
)
def test_the_start_is_watched_until_the_driver_begins_or_ends(
    states: list[JobState], log: str, n_looks: int
) -> None:
    server = FakeServer(states, log=log)
    assert watch_start(FakeWorld(server).watch, REQUEST, "first") == states[-1]
    assert server.n_looks == n_looks
