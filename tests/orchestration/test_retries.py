"""What becomes of trials whose attempts failed."""

import errno

import pytest

from sweeper.executors.base import Failure
from sweeper.orchestration.retries import Streak, halved, judged, may_retry
from sweeper.store.assignment import Outcome
from sweeper.trials.resources import Resources, RetryPolicy

ERROR = Failure("error", "RuntimeError", "planted", fingerprint="a")
SAME_PLACE = Failure("error", "RuntimeError", "other words", fingerprint="a")
OTHER = Failure("error", "ValueError", "planted", fingerprint="b")
CRASHED = Failure("crashed", "ActorDiedError", "killed")
STALLED = Failure("stalled", "Stalled", "silent")
PREEMPTED = Failure("preempted", "ActorDiedError", "node gone")
HOST_OOM = Failure("host_oom", "OutOfMemoryError", "")
GPU_OOM = Failure("gpu_oom", "OutOfMemoryError", "")
DISK_FULL = Failure("disk_full", "OSError", "")
WHOLE = Resources(micro_batch_sequences=64)


@pytest.mark.parametrize(
    ("result", "while_stopping", "otherwise"),
    [
        ("published", "published", "published"),
        ("diverged", "diverged", "diverged"),
        ("interrupted", "interrupted", "preempted"),
        (CRASHED, "interrupted", "crashed"),
        (PREEMPTED, "interrupted", "preempted"),
        (ERROR, "error", "error"),
        (DISK_FULL, "disk_full", "disk_full"),
    ],
)
def test_an_end_means_something_else_while_the_driver_stops(
    result: Outcome | Failure, while_stopping: str, otherwise: str
) -> None:
    for is_stopping, expected in ((True, while_stopping), (False, otherwise)):
        meant = judged(result, has_record=True, is_stopping=is_stopping)
        assert (meant.kind if isinstance(meant, Failure) else meant) == expected


@pytest.mark.parametrize("result", ["published", "diverged"])
@pytest.mark.parametrize("is_stopping", [False, True])
def test_a_result_without_a_record_is_an_error(result: Outcome, is_stopping: bool) -> None:
    failure = judged(result, has_record=False, is_stopping=is_stopping)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.error_class) == ("error", "NotPublished")


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ((CRASHED,), True),
        ((CRASHED, CRASHED), True),
        ((CRASHED, CRASHED, CRASHED), False),
        ((CRASHED, STALLED, CRASHED), False),
        ((ERROR,), True),
        ((ERROR, ERROR), False),
        ((ERROR, SAME_PLACE), False),
        ((ERROR, OTHER), True),
        ((ERROR, CRASHED), True),
        ((ERROR, OTHER, CRASHED), False),
        ((ERROR, CRASHED, ERROR), False),
        ((PREEMPTED,) * 100, True),
        ((PREEMPTED,) * 101, False),
        ((PREEMPTED,) * 50 + (CRASHED, CRASHED), True),
        ((CRASHED, CRASHED) + (PREEMPTED,) * 50, True),
        ((HOST_OOM,), True),
        ((HOST_OOM, HOST_OOM), False),
        ((GPU_OOM,) * 20, True),
        ((DISK_FULL,) * 20, True),
    ],
)
def test_each_kind_of_failure_has_its_own_budget(
    failures: tuple[Failure, ...], expected: bool
) -> None:
    assert may_retry(failures, RetryPolicy(), WHOLE) is expected


def test_budgets_are_as_asked() -> None:
    never = RetryPolicy(failures=0, preemptions=0)
    assert not may_retry([CRASHED], never, WHOLE)
    assert not may_retry([PREEMPTED], never, WHOLE)


def test_micro_batch_is_halved_down_to_one_sequence_per_rank() -> None:
    sizes, resources = [], Resources(micro_batch_sequences=12, n_ranks=2)
    while may_retry([GPU_OOM], RetryPolicy(), resources):
        resources = halved(resources)
        sizes.append(resources.micro_batch_sequences)
    assert sizes == [6, 3, 2]


def test_a_packed_trial_that_ran_out_of_memory_gets_a_whole_gpu() -> None:
    assert halved(Resources(gpus=0.25, micro_batch_sequences=1)).gpus == 1
    assert halved(Resources(gpus="auto", micro_batch_sequences=8)).gpus == "auto"
    assert halved(Resources(gpus=0, micro_batch_sequences=8)).gpus == 0


class TestStreak:
    def test_counts_trials_and_not_attempts(self) -> None:
        streak = Streak()
        for trial_id in ("x", "x", "y"):
            streak = streak.after(trial_id, ERROR)
        assert streak.trial_ids == {"x", "y"}

    def test_ends_with_a_result_or_another_error(self) -> None:
        assert Streak().after("x", ERROR).after("y", None).trial_ids == frozenset()
        assert Streak().after("x", ERROR).after("y", OTHER).trial_ids == {"y"}

    def test_is_not_touched_by_what_says_nothing_about_the_code(self) -> None:
        streak = Streak().after("x", ERROR)
        for failure in (CRASHED, PREEMPTED, GPU_OOM, STALLED):
            assert streak.after("y", failure) == streak


class OutOfMemoryError(RuntimeError):
    __module__ = "torch"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), "error"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "gpu_oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."), "gpu_oom"),
        (MemoryError(), "host_oom"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (OSError(errno.EACCES, "Permission denied"), "error"),
    ],
)
def test_exceptions_are_told_apart(error: Exception, kind: str) -> None:
    assert Failure.of(error).kind == kind


def test_fingerprint_is_of_the_place_and_not_of_the_message() -> None:
    def failure_of(number: int, divisor: int = 1) -> Failure:
        try:
            if divisor == 0:
                raise RuntimeError("elsewhere")
            raise RuntimeError(f"at {number}")
        except RuntimeError as error:
            return Failure.of(error)

    one, two, elsewhere = failure_of(1), failure_of(2), failure_of(1, divisor=0)
    assert one.fingerprint == two.fingerprint != elsewhere.fingerprint
    assert one.message != two.message
