"""Ray, started on this machine or joined on a cluster. It is imported here only.

Embedded Ray listens on the loopback interface only, keeps its files in one short folder of /tmp
that ends with it, reports to nobody and needs no home folder.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeper.errors import ConfigError
from sweeper.executors import ray_private, reaper
from sweeper.executors.machine import available_cores, temporary_folder
from sweeper.executors.stop import WARNINGS, deaf_to_interrupts, in_main_thread

OBJECT_STORE_BYTES = 100 * 2**20
"""Assignments and outcomes are a few kilobytes; by default Ray would reserve a third of memory."""

_ENVIRONMENT = {
    # Drop whatever Ray would print among our own lines, such as a page on each killed worker: no
    # worker's output comes this way, and the driver tells of failures itself.
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_USAGE_STATS_ENABLED": "0",
    **ray_private.QUIET_WITHOUT_GPUS,
}
_EMBEDDED = {ray_private.LOOPBACK_SWITCH: "0"}
_JOINING = ray_private.FEW_CONNECTION_TRIES

CONNECT_S = 10.0
"""Longest wait for a cluster's head to be reached."""


@contextlib.contextmanager
def joined(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected; without an address, Ray is started here and ends with this.

    Raises ConfigError when that fails.
    """
    if address is not None:
        _check(address)
    with contextlib.ExitStack() as cleanup:
        ray = _import_ray(is_embedded=address is None)
        folder = cleanup.enter_context(temporary_folder()) if address is None else None
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if folder is not None:
            options |= {
                "num_cpus": available_cores(),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                **ray_private.options_for_folder(ray, folder),
            }
        cleanup.callback(_end, ray, folder)  # before, because starting may be interrupted
        try:
            with _import_path_for_children(), _children_without_signals(), _own_sigterm_handler():
                ray.init(address=address or "local", **options)
        except (OSError, RuntimeError, ValueError) as error:
            where = f"at {address}" if address else "on this machine"
            raise ConfigError(
                f"Ray {where} cannot be used ({type(error).__name__}: {error}); check --address, "
                "or run without Ray by --executor inline"
            ) from error
        yield ray


def _check(address: str) -> None:
    """Raise ConfigError where an address is of another kind, or nobody listens there.

    Of the former Ray says little, and of the latter nothing for a quarter of an hour. With an empty
    address, or `local`, it would start here, and not on the loopback interface.
    """
    if "://" in address or address in ("", "local"):
        raise ConfigError(
            f"--address: found {address or 'nothing'}; expected HOST:PORT of a cluster's head, "
            "whose port is 6379 unless it was told another, or `auto` on a machine of the cluster. "
            "Leave it out to start Ray here; to send the driver to a cluster, use `sweeper submit`"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--address: nobody answers at {address} ({error}); check host and port, and whether "
            "the cluster is up, or run without Ray by --executor inline"
        ) from error


def _import_ray(*, is_embedded: bool) -> Any:
    """Ray, imported here because it reads its environment when it is imported."""
    settings = _ENVIRONMENT | (_EMBEDDED if is_embedded else _JOINING)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.autoscaler.sdk
    import ray.exceptions
    import ray.util.scheduling_strategies

    if is_embedded:
        ray_private.read_loopback_switch(ray)
    return ray


def _end(ray: Any, folder: Path | None) -> None:
    """Leave a cluster, or end the Ray that was started here, but for what its raylet has started.

    Ray that is interrupted at it would end again when Python does, and write to its folder after
    that is gone.
    """
    if folder is not None and ray_private.dead_processes(ray):
        # Trials would go on for the seconds that Ray needs to find out that it is dead.
        reaper.kill_writers(folder.resolve(), os.getpid())
    ray_private.kill_processes_at_shutdown(ray)
    with deaf_to_interrupts():
        ray.shutdown()


@contextlib.contextmanager
def _import_path_for_children() -> Iterator[None]:
    """Let processes started meanwhile import what this one can, in the same order."""
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
def _children_without_signals() -> Iterator[None]:
    """Let processes started meanwhile ignore what stops a driver, as Ray itself does for SIGINT.

    A signal to the whole process group (from a terminal, `timeout` or a batch system) is for the
    driver to act on. A raylet that obeys it takes the workers along before they can write a
    checkpoint, and leaves the driver waiting for it.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, *WARNINGS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextlib.contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keep a driver's handler of SIGTERM, which `ray.init` replaces, when Ray is started again."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(handler) and in_main_thread():
            signal.signal(signal.SIGTERM, handler)
