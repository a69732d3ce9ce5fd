"""Watch the driver's job on a cluster, and submit it again when it dies. Policy, and no Ray."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from sweeper.errors import ConfigError, ExitCode
from sweeper.launch.ray_jobs import JobRequest, JobState

POLL_S = 5.0  # between two looks at a job
LOOK_S = 1.0  # between two looks at a job that starts
START_S = 60.0  # longest wait for a driver to begin with its sweep
# What a driver that has begun gets to refuse trials, or to find that nothing is left.
SETTLE_S = 3.0

YOUNG_S = 120.0  # a job that dies sooner after its start has hardly done anything
MAX_YOUNG_DEATHS = 3  # in a row; then another try would not help

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # of a shell


class Jobs(Protocol):
    """What is asked of a job server."""

    def submit(self, request: JobRequest) -> str:
        """Submit a driver under a new id."""

    def look(self, job_id: str) -> JobState:
        """How a job stands."""

    def log(self, job_id: str) -> str:
        """What the job has printed."""


@dataclass(frozen=True)
class JobWatch:
    """What watching a job needs."""

    jobs: Jobs
    say: Callable[[str], None]
    pause: Callable[[float], None]
    now_s: Callable[[], float]
    """A clock that never jumps."""
    latest: Callable[[JobRequest], JobRequest]
    """The request with the sweep file as it was submitted last."""


def watch_start(watch: JobWatch, request: JobRequest, job_id: str) -> JobState:
    """How a job stands once its driver has begun with the sweep, has ended, or takes its time."""
    # What only the cluster can find (a missing corpus, GPUs that no node has) is found by then.
    give_up_s = watch.now_s() + START_S
    while True:
        state = watch.jobs.look(job_id)
        if first_line(request) in watch.jobs.log(job_id):
            give_up_s = min(give_up_s, watch.now_s() + SETTLE_S)
        if state.has_ended or watch.now_s() > give_up_s:
            return state
        watch.pause(LOOK_S)


def first_line(request: JobRequest) -> str:
    """How the first line begins that a driver prints of a sweep."""
    return f"sweep {request.sweep}: "


def keep_alive(watch: JobWatch, request: JobRequest, job_id: str) -> tuple[str, JobState]:
    """The last job of a sweep, submitted again until one ends by itself, and how that ended."""
    n_young_deaths, started_s, is_silent = 0, watch.now_s(), False
    while True:
        state = watch.jobs.look(job_id)
        if exit_code(state) is not None:  # it ended by itself, or was asked to stop
            return job_id, state
        # A server that does not answer is not dead: it is asked again until it does.
        if state.status == "unknown" and not is_silent:
            watch.say(f"job {job_id}: the job server cannot be asked, waiting: {state.message}")
        is_silent = state.status == "unknown"
        if state.has_ended:
            died_young = watch.now_s() - started_s < YOUNG_S
            n_young_deaths = n_young_deaths + 1 if died_young else 0
            watch.say(f"job {job_id} died: {_how(state)}")
            if n_young_deaths == MAX_YOUNG_DEATHS:
                watch.say(f"{n_young_deaths} jobs in a row died soon after their start: given up")
                return job_id, state
            job_id, started_s = _submit_again(watch, request, job_id), watch.now_s()
        watch.pause(POLL_S)


def exit_code(state: JobState) -> int | None:
    """The exit code of a sweep whose job has ended for good; None while it runs, or if it died."""
    if state.status == "succeeded":
        return ExitCode.DONE
    if state.status == "stopped":
        return ExitCode.INTERRUPTED
    if state.status != "failed":
        return None
    if state.exit_code in (_NOT_FOUND, _NOT_EXECUTABLE):
        raise ConfigError(
            "the cluster's head node has no command `sweeper` on its path; install this package "
            "there and on all workers, in the environment that Ray was started from"
        )
    return state.exit_code if state.exit_code in [*ExitCode] else None


def _submit_again(watch: JobWatch, request: JobRequest, dead_id: str) -> str:
    while True:
        try:
            # A driver that is at work by now was started later: leave it its sweep.
            job_id = watch.jobs.submit(replace(watch.latest(request), takeover=False))
        except ConfigError as error:
            watch.say(f"job {dead_id}: cannot be submitted again now, waiting: {error}")
            watch.pause(POLL_S)
        else:
            watch.say(f"submitted again as job {job_id}")
            return job_id


def _how(state: JobState) -> str:
    if state.status == "forgotten":
        return "its cluster has forgotten it"
    if state.exit_code is not None:
        return f"exit code {state.exit_code}"
    return state.message or "no reason given"
