"""All private API of Ray that this project uses; each function was seen to work in Ray 2.60.0."""

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for macOS and Windows. With "0" this machine is 127.0.0.1 and every server binds to
it. On Linux `_node_ip_address="127.0.0.1"` is replaced by the public address instead."""

FEW_CONNECTION_TRIES = {"RAY_gcs_server_port_wait_time_s": "1"}
"""Environment. Tries, of 40 s each, to reach who listens but is no Ray; by default 20."""

QUIET_WITHOUT_GPUS = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Environment. Else Ray warns that workers without a GPU will see all of them in a later version.
"""

_VITAL_PROCESSES = ("gcs_server", "raylet")
"""What embedded Ray cannot work without. A raylet ends with either of its two agents."""


def read_loopback_switch(ray: Any) -> None:
    """Let Ray heed `LOOPBACK_SWITCH` where it was imported before that was set."""
    constants = ray._private.ray_constants
    constants.ENABLE_RAY_CLUSTER = constants.env_bool(LOOPBACK_SWITCH, False)


def options_for_folder(ray: Any, folder: Path) -> dict[str, Any]:
    """Options of `ray.init` that keep all files of a Ray in one folder."""
    # Without this job, Ray puts the working folder first on the workers' import path, where a
    # user's `queue.py` would be taken for the library.
    return {"_temp_dir": str(folder), "job_config": ray.job_config.JobConfig(_client_job=True)}


def dead_processes(ray: Any) -> tuple[str, ...]:
    """The vital processes, started by `ray.init` here, that have ended. Cheap: no call of Ray."""
    node = ray._private.worker._global_node
    names = [name for name, _ in node.dead_processes()] if node else []
    return tuple(name for name in names if name in _VITAL_PROCESSES)


def kill_processes_at_shutdown(ray: Any) -> None:
    """Let `ray.shutdown()` kill Ray's processes at once: they ignore SIGTERM for 1 s each."""
    if node := ray._private.worker._global_node:
        kill_all = node.kill_all_processes
        node.kill_all_processes = lambda **_: kill_all(check_alive=False, allow_graceful=False)


def draining_nodes(ray: Any) -> Collection[str]:
    """Ids of nodes that are about to be taken away."""
    draining: Collection[str] = ray._private.state.state.get_draining_nodes()
    return draining


def node_groups_of_autoscaler(ray: Any) -> list[Any]:
    """Kinds of nodes that a cluster may start: `name`, `resources` and `max_count` of each."""
    config = ray._private.state.state.get_cluster_config()
    return list(config.node_group_configs) if config else []


def limit_requests(job_client: Any, timeout_s: float) -> None:
    """Let a `JobSubmissionClient` give up a request, which by default waits without end."""
    request: Callable[..., Any] = job_client._do_request
    job_client._do_request = functools.partial(request, timeout=timeout_s)
