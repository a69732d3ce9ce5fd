"""What a step needs, made while the step before it runs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """A pure function of the step that a thread of its own computes one step ahead."""

    def __init__(self, of_step: Callable[[int], T]) -> None:
        self._of_step = of_step
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, step: int) -> T:
        """Its value, and a start on that of the next step."""
        if self._next is not None and self._next[0] == step:
            value = self._next[1].result()
        else:  # the first step of an attempt
            value = self._of_step(step)
        self._next = step + 1, self._executor.submit(self._of_step, step + 1)
        return value
