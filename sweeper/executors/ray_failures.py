"""What Ray says of a process that is gone, as a kind of failure."""

from sweeper.executors.base import Failure
from sweeper.store.assignment import FailureKind

_MEMORY_SIGNS = ("OutOfMemory", "memory pressure", "low on memory", "running low on memory")
_NODE_SIGNS = ("node has died", "node was terminated", "node died", "node is dead", "its node")


def failure_of_process(error: Exception, *, has_lost_node: bool = False) -> Failure:
    """The failure that an error of Ray's about a process is.

    `has_lost_node`: whether a node of the attempt is gone, as far as the caller knows.
    """
    text = str(error)
    lines = [line.strip() for line in text.strip().splitlines()] or [""]
    message = next((line for line in lines[1:] if " " in line and ": " not in line), lines[0])
    kind: FailureKind = "crashed"
    # By name, because Ray must not be imported before its environment is set.
    if type(error).__name__ == "OutOfMemoryError" or _has_sign(text, _MEMORY_SIGNS):
        kind = "host_oom"
    elif getattr(error, "preempted", False) or _has_sign(text, _NODE_SIGNS) or has_lost_node:
        kind = "preempted"
    return Failure(kind, type(error).__name__, message, text)


def _has_sign(text: str, signs: tuple[str, ...]) -> bool:
    return any(sign in text for sign in signs)
