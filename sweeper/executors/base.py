"""The interface between the driver and whatever runs trials."""

import hashlib
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sweeper.executors.placement import Demand, Node, Placement
from sweeper.store.assignment import Assignment, FailureKind, Outcome
from sweeper.store.files import is_disk_full

_GPU_MEMORY_SIGNS = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_HOST_MEMORY_SIGNS = ("OutOfMemory", "memory pressure", "low on memory", "running low on memory")
_NODE_SIGNS = (
    "node has died", "node has crashed", "node was terminated", "node died", "node is dead",
    "its node",
)  # fmt: skip
_FRAMES = 5
"""Innermost frames that tell one error from another."""


@dataclass(frozen=True)
class Failure:
    """An attempt that ended without an outcome."""

    kind: FailureKind
    error_class: str
    message: str
    """One line."""
    traceback: str = ""
    fingerprint: str = ""
    """Equal for errors that were raised in the same place; empty where nothing was raised."""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """The failure that an exception in a worker is."""
        lines = str(error).strip().splitlines() or [""]
        text = "".join(traceback.format_exception(error))
        return cls(_kind(error), type(error).__name__, lines[0], text, _fingerprint(error))


@dataclass(frozen=True)
class Finished:
    """An attempt that has ended."""

    assignment: Assignment
    result: Outcome | Failure


class Executor(ABC):
    """Runs attempts where it is told to. A context manager: entering starts it."""

    name: str
    """As recorded with each attempt."""
    max_running: int | None = None
    """Attempts that may run at the same time, whatever the nodes offer; None: no bound."""
    max_ranks: int | None = None
    """Ranks that one attempt may have; None: no bound."""
    failure: str = ""
    """What keeps it from running anything any more, for people; empty while it can."""

    @abstractmethod
    def nodes(self) -> tuple[Node, ...]:
        """Nodes that take trials now. Cheap; they may come and go."""

    def potential_nodes(self) -> tuple[Node, ...]:
        """Nodes that would be started if trials asked for them."""
        return ()

    def announce(self, waiting: Sequence[Demand]) -> None:  # noqa: B027 (most have nobody to tell)
        """Say what waits, for whoever starts nodes."""

    @abstractmethod
    def start(self, assignment: Assignment, demand: Demand, placement: Placement) -> None:
        """Begin an attempt on nodes with room for it."""

    @abstractmethod
    def poll(self, timeout_s: float) -> list[Finished]:
        """Attempts that have ended since the last call; waits up to `timeout_s` for the first."""

    @abstractmethod
    def stop(self) -> None:
        """Ask every running attempt to write a checkpoint and end as interrupted."""

    @abstractmethod
    def kill(self, trial_id: str) -> str:
        """End an attempt at once; it is not reported by `poll`. Returns what it was doing."""

    @abstractmethod
    def __enter__(self) -> Self:
        """Start workers."""

    @abstractmethod
    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End workers at once, whatever they do."""


def failure_of_process(error: Exception, *, has_lost_node: bool = False) -> Failure:
    """The failure that Ray reports of a process that is gone.

    `has_lost_node`: whether a node of the attempt is gone, as far as the caller knows.
    """
    text = str(error)
    lines = [line.strip() for line in text.strip().splitlines()] or [""]
    message = next((line for line in lines[1:] if " " in line and ": " not in line), lines[0])
    kind: FailureKind = "crashed"
    # By name, because Ray must not be imported before its environment is set.
    if type(error).__name__ == "OutOfMemoryError" or any(s in text for s in _HOST_MEMORY_SIGNS):
        kind = "host_oom"
    elif getattr(error, "preempted", False) or has_lost_node or any(s in text for s in _NODE_SIGNS):
        kind = "preempted"
    return Failure(kind, type(error).__name__, message, text)


def _kind(error: BaseException) -> FailureKind:
    # By name: torch is not imported here, and its class has had two homes.
    if type(error).__name__ == "OutOfMemoryError" and type(error).__module__.startswith("torch"):
        return "gpu_oom"
    if any(sign in str(error) for sign in _GPU_MEMORY_SIGNS):
        return "gpu_oom"
    if isinstance(error, MemoryError):
        return "host_oom"
    return "disk_full" if is_disk_full(error) else "error"


def _fingerprint(error: BaseException) -> str:
    """Of class and place, not of the message, which may hold numbers."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = [f"{Path(frame.filename).name}:{frame.name}:{frame.lineno}" for frame in frames]
    return hashlib.sha256("\n".join([type(error).__name__, *places]).encode()).hexdigest()[:8]
