"""What the end of an attempt means, and what becomes of a trial whose attempt failed. Pure.

`docs/running.md` has the table. Ray's own retries are off: what runs out of memory it retries
without end, at the queue's tail.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.executors.base import Failure
from sweeper.store.assignment import Outcome
from sweeper.trials.resources import Resources, RetryPolicy


def judged(result: Outcome | Failure, *, has_record: bool, is_stopping: bool) -> Outcome | Failure:
    """The result of an attempt, given what the store holds and whether the driver stops."""
    if result in ("published", "diverged"):
        if not has_record:
            return Failure("error", "NotPublished", f"worker reported {result}, no record")
    elif result == "interrupted":
        if not is_stopping:
            return Failure("preempted", "Interrupted", "its machine asked it to stop")
    elif is_stopping and isinstance(result, Failure) and result.kind in ("crashed", "preempted"):
        # A signal to the whole process group ends workers, too; their checkpoints remain.
        return "interrupted"
    return result


def may_retry(failures: Sequence[Failure], policy: RetryPolicy, resources: Resources) -> bool:
    """Whether to try again after these failures of one trial, the last one just now.

    `resources` are those of the attempt that failed, its micro-batch as a number.
    """
    counts, last = Counter(failure.kind for failure in failures), failures[-1]
    match last.kind:
        case "gpu_oom":  # with half the micro-batch, down to one sequence per rank
            return halved(resources) != resources
        case "host_oom":  # once more, alone on its node
            return counts["host_oom"] <= 1
        case "preempted":
            return counts["preempted"] <= policy.preemptions
        case "disk_full":  # the sweep stops, and can be resumed
            return True
        case "error" if any(_is_same(last, other) for other in failures[:-1]):
            # Twice the same says that it is the trial's own; a third time would teach nothing.
            return False
        case _:  # from its checkpoint
            return counts["error"] + counts["crashed"] + counts["stalled"] <= policy.failures


def halved(resources: Resources) -> Resources:
    """What a trial takes after its GPU ran out of memory: half the micro-batch, a whole GPU."""
    # Unchanged where nothing is left to give up.
    micro_batch = resources.micro_batch_sequences
    if micro_batch is not None and micro_batch > resources.n_ranks:
        micro_batch = max(resources.n_ranks, math.ceil(micro_batch / 2))
    gpus = 1.0 if resources.gpus != "auto" and 0 < resources.gpus < 1 else resources.gpus
    return dataclasses.replace(resources, micro_batch_sequences=micro_batch, gpus=gpus)


@dataclass(frozen=True)
class Streak:
    """Trials in a row that ended in the same error."""

    fingerprint: str = ""
    trial_ids: frozenset[str] = frozenset()

    def after(self, trial_id: str, failure: Failure | None) -> "Streak":
        """The streak once one more attempt has ended; `failure` is None for a result."""
        if failure is None:
            return Streak()
        # What says nothing about the code, such as a lost machine, neither ends nor lengthens it.
        if failure.kind != "error":
            return self
        if failure.fingerprint != self.fingerprint:
            return Streak(failure.fingerprint, frozenset({trial_id}))
        return Streak(self.fingerprint, self.trial_ids | {trial_id})


def _is_same(one: Failure, other: Failure) -> bool:
    # Without a traceback there is no fingerprint; then the message decides.
    return (
        one.kind == other.kind
        and one.error_class == other.error_class
        and one.fingerprint == other.fingerprint
        and (one.fingerprint != "" or one.message == other.message)
    )
