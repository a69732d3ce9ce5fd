"""What is made ahead is what would have been made in its turn."""

import threading

import pytest

from sweeper.training.ahead import Ahead


def test_every_step_gets_its_own_value_whatever_was_made_ahead() -> None:
    square = Ahead(lambda step: step**2)
    # In order, then from a checkpoint, then a step again.
    assert [square(step) for step in (1, 2, 3, 10, 11, 11)] == [1, 4, 9, 100, 121, 121]


def test_the_next_value_is_made_while_this_one_is_used() -> None:
    made = {step: threading.Event() for step in range(1, 5)}

    def of_step(step: int) -> int:
        made[step].set()
        return threading.get_ident()

    thread_of = Ahead(of_step)
    assert thread_of(1) == threading.get_ident()
    assert made[2].wait(timeout=10)
    assert thread_of(2) != threading.get_ident()


def test_a_failure_is_raised_at_its_own_step() -> None:
    def of_step(step: int) -> int:
        if step == 3:
            raise ValueError("no such step")
        return step

    value = Ahead(of_step)
    assert [value(1), value(2)] == [1, 2]
    with pytest.raises(ValueError, match="no such step"):
        value(3)
