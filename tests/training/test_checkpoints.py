"""When checkpoints are due."""

import pytest

from sweeper.training.checkpoints import CheckpointTimer


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize(
    ("every_s", "save_takes_s", "interval_s"),
    [(None, 0.1, 30.0), (None, 2.0, 100.0), (5.0, 2.0, 5.0), (0.0, 0.1, 0.0)],
)
def test_checkpoints_are_due_after_the_interval_or_less_often_where_saving_is_slow(
    every_s: float | None, save_takes_s: float, interval_s: float
) -> None:
    clock = Clock()
    pace = CheckpointTimer(every_s, clock)
    clock.pass_s(30.0 if every_s is None else every_s)
    assert pace.is_due()
    pace.time(lambda: clock.pass_s(save_takes_s))
    assert pace.interval_s == pytest.approx(interval_s)
    for _ in range(3):
        clock.pass_s(0.33 * interval_s)
        assert pace.is_due() == (interval_s == 0)
    clock.pass_s(0.011 * interval_s)
    assert pace.is_due()


def test_saving_takes_no_more_than_its_share_of_the_time() -> None:
    clock = Clock()
    pace, saved_s = CheckpointTimer(None, clock), 0.0
    while clock() < 10_000:
        clock.pass_s(0.5)
        if pace.is_due():
            pace.time(lambda: clock.pass_s(4.0))
            saved_s += 4.0
    assert 0.015 < saved_s / clock() <= 0.02
