"""One attempt at a trial of several ranks, through Ray Train.

Train starts the ranks together, joins them by `torch.distributed` (gloo on CPUs, NCCL on GPUs),
makes a GPU of its own current in each, and ends all of them when one fails. Nothing else of it is
used: attempts are the driver's to repeat, checkpoints are the worker's, and its folder is thrown
away.

On embedded Ray the ranks meet by a file and talk over the loopback interface, so that no port is
open to others. In a cluster they meet at a port of the first rank, as Train has it.
"""

import contextlib
import datetime
import faulthandler
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend

from sweeper.assignment import Assignment, Outcome, RunTrial
from sweeper.executors.base import Failure
from sweeper.executors.ray_failures import failure_of_process

ASK_EVERY_S = 1.0
"""How often the first rank asks whether to stop."""

_TRAIN_ENVIRONMENT = {
    # Ranks stay where the sweep was started, because corpora may be named by relative paths.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Longer than it takes until what ran before on the same cores and GPUs has left.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
}
_ON_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
_LOOPBACK = "127.0.0.1"

_SIGNS_OF_A_LOST_RANK = ("Connection closed", "Connection reset", "Broken pipe", "remote process")
"""Of what gloo and NCCL say in one rank when another is gone."""


class RankFailed(Exception):
    """What a rank ends with when its trial fails."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Gang:
    """The body of a Ray actor without CPUs, of three threads: it waits for its ranks, and answers
    meanwhile."""

    def __init__(self, environment: dict[str, str]) -> None:
        """`environment` is set in each rank before it imports torch."""
        self._environment = environment
        self._stop = threading.Event()
        self._result: Outcome | Failure | None = None
        os.environ.update(_TRAIN_ENVIRONMENT)

    def run(self, run_trial: RunTrial, assignment: Assignment) -> Outcome | Failure:
        """Run an attempt by all its ranks."""
        self._result = None
        gang = ray.get_runtime_context().current_actor
        with tempfile.TemporaryDirectory(prefix="sweeper-gang-") as folder:
            trainer = TorchTrainer(
                _run_rank,
                train_loop_config={"run_trial": run_trial, "assignment": assignment, "gang": gang},
                torch_config=_joined(Path(folder)),
                scaling_config=scaling(assignment),
                run_config=RunConfig(
                    storage_path=folder,
                    failure_config=FailureConfig(
                        max_failures=0, max_preemption_failures=0, controller_failure_limit=0
                    ),
                    worker_runtime_env={"env_vars": self._environment | _network()},
                ),
            )
            try:
                self._result = trainer.fit().return_value
            except Exception as error:  # noqa: BLE001 (recorded with the attempt; the sweep goes on)
                self._result = failure_of(error)
        return self._result

    def stop(self) -> None:
        """Ask the ranks to write a checkpoint and end."""
        self._stop.set()

    def is_stopping(self) -> bool:
        """What the first rank asks from time to time."""
        return self._stop.is_set()

    def result(self) -> Outcome | Failure | None:
        """What `run` returned last, for callers that could not be reached then."""
        return self._result

    def stacks(self) -> str:
        """What the threads of this process do; its ranks are other processes."""
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return file.read()


def scaling(assignment: Assignment) -> ScalingConfig:
    """The ranks of an attempt, as close to each other as they fit."""
    resources = assignment.resources
    has_gpus = assignment.device == "cuda"
    bundle = {"CPU": 1.0 if resources.cpus == "auto" else resources.cpus}
    if has_gpus:
        n_gpus = resources.n_ranks if resources.gpus == "auto" else resources.gpus
        bundle["GPU"] = n_gpus / resources.n_ranks
    return ScalingConfig(
        num_workers=resources.n_ranks,
        use_gpu=has_gpus,
        resources_per_worker=bundle,
        placement_strategy="PACK",
    )


def failure_of(error: Exception) -> Failure:
    """Why an attempt has failed, from what Train raises: of several ranks, the one that began."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        of_ranks = [_failure_of_rank(each) for each in failures.values()]
        return next((each for each in of_ranks if not _has_lost_another(each)), of_ranks[0])
    if type(error).__name__ == "PreemptionError":
        return Failure("preempted", "PreemptionError", str(error))
    return _failure_of_rank(getattr(error, "controller_failure", error))


def _failure_of_rank(error: Exception) -> Failure:
    if isinstance(error, RankFailed):
        return error.failure
    # Train asks its ranks how they are; the answer of one that is gone is an error of Ray's.
    cause = getattr(error, "health_check_failure", error)
    if isinstance(cause, ray.exceptions.RayError):
        return failure_of_process(cause)
    return Failure.of(cause)


def _has_lost_another(failure: Failure) -> bool:
    """Whether a rank failed because another had."""
    return any(sign in failure.traceback for sign in _SIGNS_OF_A_LOST_RANK)


def _run_rank(config: dict[str, Any]) -> Outcome:
    """Train as one of the ranks, in a process of its own."""
    run_trial, assignment = config["run_trial"], config["assignment"]
    with _stop_flag(config["gang"]) as stop:
        try:
            outcome: Outcome = run_trial(assignment, stop=stop.is_set)
        except Exception as error:  # noqa: BLE001 (raised again in other words)
            # Here it still has its traceback, and not every exception can be sent.
            raise RankFailed(Failure.of(error)) from None
    return outcome


@contextlib.contextmanager
def _stop_flag(gang: Any) -> Iterator[threading.Event]:
    """A flag that is raised when the gang is asked to stop; in the first rank, who tells others."""
    stop, has_ended = threading.Event(), threading.Event()

    def ask() -> None:
        while not stop.is_set() and not has_ended.wait(ASK_EVERY_S):
            with contextlib.suppress(ray.exceptions.RayError):
                if ray.get(gang.is_stopping.remote()):
                    stop.set()

    if ray.train.get_context().get_world_rank() == 0:
        threading.Thread(target=ask, daemon=True).start()
    try:
        yield stop
    finally:
        has_ended.set()


def _network() -> dict[str, str]:
    return _ON_LOOPBACK if ray.util.get_node_ip_address() == _LOOPBACK else {}


def _joined(folder: Path) -> TorchConfig:
    if ray.util.get_node_ip_address() == _LOOPBACK:
        return _JoinedByFile(path=str(folder / "meeting-point"))
    return TorchConfig()


@dataclass
class _JoinedByFile(TorchConfig):  # type: ignore[misc]
    """How ranks on one machine find each other without a port."""

    path: str = ""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _FileBackend


class _FileBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: _JoinedByFile) -> None:
        has_gpus = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        how = (
            "nccl" if has_gpus else "gloo",
            Path(backend_config.path).as_uri(),
            datetime.timedelta(seconds=backend_config.timeout_s),
            len(worker_group),
        )
        ranks = range(len(worker_group))
        ray.get([worker_group.execute_single_async(rank, _join, *how, rank) for rank in ranks])


def _join(backend: str, url: str, timeout: datetime.timedelta, n_ranks: int, rank: int) -> None:
    dist.init_process_group(
        backend, init_method=url, timeout=timeout, world_size=n_ranks, rank=rank
    )
