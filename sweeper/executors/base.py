"""The interface between the driver and whatever runs trials."""

import traceback
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from sweeper.assignment import Assignment, Device, Outcome


@dataclass(frozen=True)
class Failure:
    """An attempt that ended without an outcome."""

    kind: Literal["raised", "died"]
    """The worker raised an exception, or its process was lost."""
    error_class: str
    message: str
    """One line."""
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """The failure that an exception in a worker is."""
        lines = str(error).strip().splitlines() or [""]
        return cls(
            "raised", type(error).__name__, lines[0], "".join(traceback.format_exception(error))
        )


@dataclass(frozen=True)
class Finished:
    """An attempt that has ended."""

    assignment: Assignment
    result: Outcome | Failure


class Executor(ABC):
    """Runs attempts, as many at a time as it has slots. A context manager: entering starts it."""

    name: str
    """As recorded with each attempt."""
    n_slots: int = 0
    """Attempts that can run at the same time; known once entered."""
    device: Device = "cpu"
    """What the slots compute on; known once entered."""

    @abstractmethod
    def start(self, assignment: Assignment) -> None:
        """Begin an attempt. At most `n_slots` may be unfinished."""

    @abstractmethod
    def poll(self, timeout_s: float) -> list[Finished]:
        """Attempts that have ended since the last call; waits up to `timeout_s` for the first."""

    @abstractmethod
    def stop(self) -> None:
        """Ask every running attempt to write a checkpoint and end as interrupted."""

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
