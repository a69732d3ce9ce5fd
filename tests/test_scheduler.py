import pytest
from planted import planned_sweep, planned_trial

from sweeper.executors.base import Failure
from sweeper.plan_file import StoredTrial
from sweeper.remaining import missing
from sweeper.scheduler import (
    Job,
    Limits,
    Spending,
    expected_time_left,
    longest_first,
    may_retry,
    next_job,
)

NOTHING = Spending(0.0, 0)
RAISED = Failure("raised", "RuntimeError", "planted", "")
OTHER = Failure("raised", "ValueError", "planted", "")
DIED = Failure("died", "ActorDiedError", "killed", "")


def _job(planned: StoredTrial, *failures: Failure, share_done: float = 0.0) -> Job:
    (remaining,) = missing([planned], [])
    return Job(remaining, share_done, failures)


def test_longest_trial_starts_first() -> None:
    jobs = [_job(planned_trial(width=32, steps=(n,))) for n in (10, 40, 20)]
    assert [job.remaining.trial.n_steps for job in longest_first(jobs)] == [40, 20, 10]


def test_small_model_starts_first_at_equal_flops() -> None:
    # Equal FLOPs are 80 times as many tokens at width 8, and each costs overhead.
    small, large = planned_trial(width=8, steps=(1222,)), planned_trial(width=128, steps=(15,))
    assert small.cells[-1].flops == pytest.approx(large.cells[-1].flops, rel=0.1)
    order = longest_first([_job(large), _job(small)])
    assert [job.remaining.trial.rung.width for job in order] == [8, 128]


def test_checkpoint_shortens_a_trial() -> None:
    nearly_done = _job(planned_trial(steps=(40,)), share_done=0.9)
    fresh = _job(planned_trial(steps=(20,)))
    assert longest_first([nearly_done, fresh])[0] is fresh


def test_order_does_not_depend_on_the_order_of_the_plan() -> None:
    jobs = [_job(planned) for planned in planned_sweep().trials]
    assert longest_first(jobs) == longest_first(reversed(jobs))


class TestLimits:
    def test_without_limits_the_first_is_next(self) -> None:
        jobs = [_job(planned_trial(steps=(n,))) for n in (40, 20)]
        assert next_job(jobs, NOTHING, Limits()) is jobs[0]

    def test_trial_that_would_pass_the_flops_limit_is_left_out(self) -> None:
        long, short = _job(planned_trial(steps=(40,))), _job(planned_trial(steps=(20,)))
        limits = Limits(flops=1.5 * short.remaining.train_flops)
        assert next_job([long, short], NOTHING, limits) is short
        assert next_job([long, short], NOTHING.plus(short.remaining), limits) is None

    def test_limit_that_is_just_met_is_not_passed(self) -> None:
        job = _job(planned_trial())
        assert next_job([job], NOTHING, Limits(flops=job.remaining.train_flops)) is job

    def test_number_of_trials_is_limited(self) -> None:
        job = _job(planned_trial())
        assert next_job([job], Spending(0.0, 2), Limits(n_trials=3)) is job
        assert next_job([job], Spending(0.0, 3), Limits(n_trials=3)) is None

    def test_retry_is_paid_for(self) -> None:
        job = _job(planned_trial(), DIED)
        assert next_job([job], Spending(0.0, 3), Limits(n_trials=3)) is job


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ((DIED,), True),
        ((DIED, DIED), True),
        ((DIED, DIED, DIED), False),
        ((RAISED,), True),
        ((RAISED, RAISED), False),
        ((RAISED, OTHER), True),
        ((RAISED, DIED), True),
        ((RAISED, OTHER, DIED), False),
        ((RAISED, DIED, RAISED), False),
    ],
)
def test_lost_processes_are_forgiven_and_repeated_exceptions_are_not(
    failures: tuple[Failure, ...], expected: bool
) -> None:
    assert may_retry(failures) is expected


def test_time_left_is_shared_by_the_slots_but_for_the_longest_trial() -> None:
    assert expected_time_left([10, 10], 20, 2, 0.5) == 10
    assert expected_time_left([30, 10], 0, 2, 0.5) == 15
    assert expected_time_left([], 0, 0, 0.5) == 0
