"""The ranks of one attempt, through Ray Train.

Train starts the ranks together, joins them by `torch.distributed` (gloo on CPUs, NCCL on GPUs),
makes a GPU of its own current in each, and ends all of them when one fails. Nothing else of it is
used: attempts are the driver's to repeat, checkpoints are the worker's, and its folder is thrown
away.

On embedded Ray the ranks meet by a file and talk over the loopback interface, so that no port is
open to others. In a cluster they meet at a port of the first rank, as Train has it.
"""

import contextlib
import dataclasses
import datetime
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend

from sweeper.executors.base import Failure
from sweeper.executors.ray_failures import failure_of_process
from sweeper.store.assignment import Assignment, Outcome, RunTrial

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

_stop = threading.Event()
"""Whether this rank was asked to stop; a process is never more than one rank of one attempt."""


class RankFailed(Exception):
    """What a rank ends with when its trial fails."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


@dataclass(frozen=True)
class Place:
    """What ranks find where they run."""

    folder: str
    """Of Train; nothing in it is needed afterwards."""
    environment: dict[str, str]
    """Set in each rank before it imports torch."""


def run_ranks(
    run_trial: RunTrial, assignment: Assignment, gang: Any, place: Place
) -> Outcome | Failure:
    """Run an attempt by all its ranks, which ask the actor `gang` whether to stop."""
    os.environ.update(_TRAIN_ENVIRONMENT)
    on_loopback = ray.util.get_node_ip_address() == _LOOPBACK
    meeting_point = f"{place.folder}/meeting-point" if on_loopback else ""
    environment = place.environment | (_ON_LOOPBACK if on_loopback else {})
    trainer = TorchTrainer(
        _run_rank,
        train_loop_config={"run_trial": run_trial, "assignment": assignment, "gang": gang},
        torch_config=_Joined(meeting_point=meeting_point),
        scaling_config=scaling(assignment),
        run_config=RunConfig(
            storage_path=place.folder,
            failure_config=FailureConfig(
                max_failures=0, max_preemption_failures=0, controller_failure_limit=0
            ),
            worker_runtime_env={"env_vars": environment},
        ),
    )
    try:
        outcome: Outcome = trainer.fit().return_value
    except Exception as error:  # noqa: BLE001 (recorded with the attempt; the sweep goes on)
        return failure_of(error)
    return outcome


def scaling(assignment: Assignment) -> ScalingConfig:
    """The ranks of an attempt, as close to each other as they fit."""
    resources = assignment.planned.resources
    has_gpus = assignment.attempt.device == "cuda"
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
    cause = getattr(error, "controller_failure", error)
    name = type(cause).__name__
    if name == "PreemptionError":
        return Failure("preempted", name, str(cause))
    if name.startswith("WorkerGroupStartup"):  # a node has left before all ranks were there
        return Failure("crashed", name, str(cause))
    return _failure_of_rank(cause)


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
    with _asking(config["gang"]):
        try:
            outcome: Outcome = run_trial(assignment, stop=_stop.is_set)
        except Exception as error:  # noqa: BLE001 (raised again in other words)
            failure = Failure.of(error)
            if failure.kind == "error" and _has_lost_another(failure):
                failure = dataclasses.replace(failure, kind="crashed")
            # Here it still has its traceback, and not every exception can be sent.
            raise RankFailed(failure) from None
    return outcome


@contextlib.contextmanager
def _asking(gang: Any) -> Iterator[None]:
    """Within it the first rank asks from time to time whether to stop; it tells the others."""
    if ray.train.get_context().get_world_rank() != 0:
        yield
        return
    ray.get(gang.hold.remote(ray.util.get_current_placement_group()))
    has_ended = threading.Event()

    def ask() -> None:
        while not _stop.is_set() and not has_ended.wait(ASK_EVERY_S):
            with contextlib.suppress(ray.exceptions.RayError):
                if ray.get(gang.is_stopping.remote()):
                    _stop.set()

    threading.Thread(target=ask, daemon=True).start()
    try:
        yield
    finally:
        has_ended.set()


@dataclass
class _Joined(TorchConfig):  # type: ignore[misc]
    """How ranks find each other."""

    meeting_point: str = ""
    """File of the machine that all are on; empty: by the address of the first."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: _Joined) -> None:
        worker_group.execute(_heed_sigterm)
        if not backend_config.meeting_point:
            super().on_start(worker_group, backend_config)
            return
        has_gpus = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        how = (
            "nccl" if has_gpus else "gloo",
            Path(backend_config.meeting_point).as_uri(),
            datetime.timedelta(seconds=backend_config.timeout_s),
            len(worker_group),
        )
        ranks = range(len(worker_group))
        ray.get([worker_group.execute_single_async(rank, _join, *how, rank) for rank in ranks])


def _join(backend: str, url: str, timeout: datetime.timedelta, n_ranks: int, rank: int) -> None:
    dist.init_process_group(
        backend, init_method=url, timeout=timeout, world_size=n_ranks, rank=rank
    )


def _heed_sigterm() -> None:
    """Take SIGTERM as a request to stop. Runs in the main thread, unlike the training."""
    signal.signal(signal.SIGTERM, _on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    _stop.set()
