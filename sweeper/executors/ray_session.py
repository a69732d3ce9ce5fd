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
from sweeper.executors.machine import available_cores, temporary_folder
from sweeper.executors.stop import deaf_to_interrupts

OBJECT_STORE_BYTES = 100 * 2**20
"""Assignments and outcomes are a few kilobytes; by default Ray would reserve a third of memory."""

_ENVIRONMENT = {
    # Drop whatever Ray would print among our own lines, such as a page on each killed worker: no
    # worker's output comes this way, and the driver tells of failures itself.
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without it Ray warns that workers without a GPU will see all of them in a later version.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_CLUSTER_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for macOS and Windows. With "0" this machine is 127.0.0.1 and every server binds to
it. On Linux `_node_ip_address="127.0.0.1"` is replaced by the public address instead."""

_EMBEDDED = {_CLUSTER_SWITCH: "0"}
_JOINING = {
    # Tries, of 40 s each, to reach who listens but is no Ray; by default 20.
    "RAY_gcs_server_port_wait_time_s": "1"
}

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
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            options |= {
                "num_cpus": available_cores(),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_temp_dir": str(cleanup.enter_context(temporary_folder())),
                # Or Ray would put the working folder first on the workers' import path, where a
                # user's `queue.py` would be taken for the library. It changes nothing else here.
                "job_config": ray.job_config.JobConfig(_client_job=True),
            }
        cleanup.callback(_end, ray)  # before, because starting may be interrupted
        try:
            with _import_path_for_children(), _children_without(signal.SIGTERM):
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

    if is_embedded:  # where Ray had been imported before, it read the switch too early
        constants = ray._private.ray_constants
        constants.ENABLE_RAY_CLUSTER = constants.env_bool(_CLUSTER_SWITCH, False)
    return ray


def _end(ray: Any) -> None:
    """Leave a cluster, or end the Ray that was started here, but for what its raylet has started.

    Its processes do not heed SIGTERM, and Ray would wait a second for each of them. Ray that is
    interrupted at it would end again when Python does, and write to its folder after that is gone.
    """
    if node := ray._private.worker._global_node:
        kill_all = node.kill_all_processes
        node.kill_all_processes = lambda **_: kill_all(check_alive=False, allow_graceful=False)
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
