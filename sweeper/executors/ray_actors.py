"""Runs trials in Ray actors: embedded on this machine, or on a cluster. All of Ray is here.

One pooled actor per slot. Ray's own retries are off, because policy is the driver's; a dead actor
is replaced at the next start. Each actor has two threads, so that it hears `stop` while it trains.

Embedded Ray listens on the loopback interface only, keeps its files in one short folder of /tmp
that ends with it, reports to nobody and needs no home folder.
"""

import contextlib
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sweeper.assignment import Assignment, Outcome, RunTrial
from sweeper.errors import ConfigError
from sweeper.executors.base import Executor, Failure, Finished
from sweeper.executors.machine import available_cores, temporary_folder

OBJECT_STORE_BYTES = 100 * 2**20
"""Assignments and outcomes are a few kilobytes; by default Ray would reserve a third of memory."""

WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Set in each worker before it imports torch."""

_ENVIRONMENT = {
    # Drop whatever Ray would print among our own lines, such as a page on each killed worker: no
    # worker's output comes this way, and the driver tells of failures itself.
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without it Ray warns that workers without a GPU will see all of them in a later version.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_EMBEDDED_ENVIRONMENT = {
    # Ray's switch for macOS and Windows: this machine is 127.0.0.1 and every server binds to it.
    # On Linux `_node_ip_address="127.0.0.1"` is replaced by the public address instead.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass(frozen=True)
class _Slot:
    """An actor, and what it runs."""

    actor: Any
    assignment: Assignment


class RayExecutor(Executor):
    """Slots in Ray actors: one per share of a GPU where there are GPUs, else one per core."""

    name = "ray"

    def __init__(
        self,
        run_trial: RunTrial,
        *,
        max_slots: int,
        address: str | None = None,
        gpus_per_trial: float | Literal["auto"] = "auto",
    ) -> None:
        """Without an `address`, Ray is started here and ends with the executor.

        No more than `max_slots` actors are started: there may be fewer trials than cores. `auto`
        is one GPU per trial where there is any. Raises ConfigError for more than one.
        """
        if gpus_per_trial != "auto" and not 0 <= gpus_per_trial <= 1:
            raise ConfigError(
                f"resources.gpus: {gpus_per_trial:g} GPUs per trial; expected a share between 0 "
                "and 1, or auto"
            )
        self._run_trial = run_trial
        self._max_slots, self._address = max_slots, address
        self._gpus_per_trial = gpus_per_trial
        self._slots = Slots(0, 0.0, 0.0)
        self._idle: list[Any] = []
        self._running: dict[Any, _Slot] = {}
        self._cleanup = contextlib.ExitStack()
        self._ray: Any = None

    def __enter__(self) -> Self:
        """Start or join Ray; raises ConfigError when that fails."""
        with contextlib.ExitStack() as cleanup:
            self._ray = _import_ray(is_embedded=self._address is None)
            self._init_ray(cleanup)
            totals = self._ray.cluster_resources()
            self._slots = slots(
                int(totals.get("CPU", 0)), int(totals.get("GPU", 0)), self._gpus_per_trial
            )
            self.n_slots = min(self._slots.n_slots, self._max_slots)
            self.device = "cuda" if self._slots.n_gpus else "cpu"
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all actors, and Ray where it was started here."""
        with self._cleanup:
            for actor in (*self._idle, *(slot.actor for slot in self._running.values())):
                self._kill(actor)
        self._idle, self._running = [], {}

    def start(self, assignment: Assignment) -> None:
        """Hand an attempt to an idle actor, or to a new one."""
        actor = self._idle.pop() if self._idle else self._new_actor()
        future = actor.run.remote(self._run_trial, assignment)
        self._running[future] = _Slot(actor, assignment)

    def poll(self, timeout_s: float) -> list[Finished]:
        """Wait for the first attempt to end, then take all that have."""
        if not self._running:
            return []
        futures = list(self._running)
        self._ray.wait(futures, num_returns=1, timeout=timeout_s)
        ready, _ = self._ray.wait(futures, num_returns=len(futures), timeout=0)
        return [self._finish(future) for future in ready]

    def stop(self) -> None:
        """Ask every running attempt to stop; its actor hears it in its second thread."""
        for slot in self._running.values():
            slot.actor.stop.remote()

    def _finish(self, future: Any) -> Finished:
        slot = self._running.pop(future)
        result = self._result(future)
        if isinstance(result, Failure) and result.kind == "died":
            self._kill(slot.actor)
        else:
            self._idle.append(slot.actor)
        return Finished(slot.assignment, result)

    def _result(self, future: Any) -> Outcome | Failure:
        exceptions = self._ray.exceptions
        try:
            result: Outcome | Failure = self._ray.get(future)
            return result
        except exceptions.RayTaskError as error:  # before the worker's own code, say an import
            return Failure.of(error.cause if isinstance(error.cause, Exception) else error)
        except exceptions.RayError as error:
            first_line = str(error).strip().splitlines()[0]
            return Failure("died", type(error).__name__, first_line, str(error))

    def _new_actor(self) -> Any:
        options = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}
        resources = {"num_cpus": self._slots.n_cpus, "num_gpus": self._slots.n_gpus}
        remote = self._ray.remote(**options, **resources)(_Worker)
        return remote.remote(WORKER_ENVIRONMENT)

    def _kill(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it may be dead, or Ray may be
            self._ray.kill(actor, no_restart=True)

    def _init_ray(self, cleanup: contextlib.ExitStack) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address is None:
            options |= {
                "num_cpus": available_cores(),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_temp_dir": str(cleanup.enter_context(temporary_folder())),
            }
        cleanup.callback(self._ray.shutdown)  # before, because starting may be interrupted
        try:
            with _import_path_for_children(), _children_without(signal.SIGTERM):
                self._ray.init(address=self._address or "local", **options)
        except (OSError, RuntimeError, ValueError) as error:
            where = f"at {self._address}" if self._address else "on this machine"
            raise ConfigError(
                f"Ray {where} cannot be used ({type(error).__name__}: {error}); check --address, "
                "or run without Ray by --executor inline"
            ) from error


@dataclass(frozen=True)
class Slots:
    """How many actors fit, and what each takes."""

    n_slots: int
    n_cpus: float
    n_gpus: float
    """A share 1/k, which is how Ray packs shares without waste; 0 computes on the CPU."""


def slots(n_cpus: int, n_gpus: int, gpus_per_trial: float | Literal["auto"]) -> Slots:
    """Slots of a machine or cluster: by shares of GPUs if it has any and they are wanted.

    A share is rounded up to the next 1/k. Actors on GPUs share the cores; others have one each.
    """
    share = 1.0 if isinstance(gpus_per_trial, str) else gpus_per_trial
    if not n_gpus or not share:
        return Slots(max(1, n_cpus), n_cpus=1.0, n_gpus=0.0)
    n_per_gpu = math.floor(1 / share)
    n_slots = n_gpus * n_per_gpu
    return Slots(n_slots, n_cpus=min(1.0, n_cpus / n_slots), n_gpus=1 / n_per_gpu)


class _Worker:
    """The actor: runs one attempt at a time, and hears `stop` meanwhile."""

    def __init__(self, environment: dict[str, str]) -> None:
        # Before torch: the function to run, and with it torch, is imported by the first `run`.
        os.environ.update(environment)
        self._stop = threading.Event()

    def run(self, run_trial: RunTrial, assignment: Assignment) -> Outcome | Failure:
        try:
            return run_trial(assignment, stop=self._stop.is_set)
        except Exception as error:  # noqa: BLE001 (recorded with the attempt; the sweep goes on)
            return Failure.of(error)

    def stop(self) -> None:
        self._stop.set()


def _import_ray(*, is_embedded: bool) -> Any:
    """Ray, imported here because it reads its environment when it is imported."""
    settings = _ENVIRONMENT | (_EMBEDDED_ENVIRONMENT if is_embedded else {})
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.exceptions

    return ray


@contextlib.contextmanager
def _import_path_for_children() -> Iterator[None]:
    """Let processes started meanwhile import what this one can, whatever their folder."""
    previous = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    try:
        yield
    finally:
        if previous is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = previous


@contextlib.contextmanager
def _children_without(number: signal.Signals) -> Iterator[None]:
    """Let processes started meanwhile ignore a signal, as Ray itself does for SIGINT.

    A signal to the whole process group (from a terminal, `timeout` or a batch system) is for the
    driver to act on. A raylet that obeys it takes the workers along before they can write a
    checkpoint, and leaves the driver waiting for it.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
