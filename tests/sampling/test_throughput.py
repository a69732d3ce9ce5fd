"""Speed, on a clock that only generation moves."""

from dataclasses import dataclass, field

import pytest
import torch

from sweeper.errors import ConfigError
from sweeper.sampling.throughput import TimingPlan, best_batch, timing

TOKENS = 10


@dataclass
class Machine:
    """Takes a fixed time for each batch and a time for each sequence beyond what runs at once."""

    at_once: int = 8
    fits: int = 10**9
    first_s: float = 0.0
    now_s: float = 0.0
    tokens: int = 0
    sizes: list[int] = field(default_factory=list)

    def generate(self, n: int) -> int:
        if n > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        is_first = n not in self.sizes
        self.sizes.append(n)
        self.now_s += max(1.0, n / self.at_once) + self.first_s * is_first
        self.tokens += n * TOKENS
        return n * TOKENS

    def clock(self) -> float:
        return self.now_s


def test_the_batch_grows_until_throughput_stops_rising() -> None:
    machine = Machine(at_once=8)
    found = best_batch(machine.generate, TimingPlan(), machine.clock)
    assert found.batch_sequences == 8
    assert found.tokens_per_s == pytest.approx(8 * TOKENS)
    assert max(machine.sizes) == 32  # two doublings without gain


def test_memory_ends_the_growth() -> None:
    machine = Machine(at_once=100, fits=20)
    assert best_batch(machine.generate, TimingPlan(), machine.clock).batch_sequences == 16
    with pytest.raises(ConfigError, match="not even one sequence"):
        best_batch(Machine(fits=0).generate, TimingPlan(), machine.clock)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def broken(_n: int) -> int:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        best_batch(broken, TimingPlan())


def test_what_the_first_run_sets_up_is_not_counted() -> None:
    machine = Machine(first_s=1000.0)
    found = best_batch(machine.generate, TimingPlan(max_batch_s=10), machine.clock)
    assert found.tokens_per_s == pytest.approx(8 * TOKENS)
    assert found.spread == 0


def test_throughput_times_time_is_the_tokens_made() -> None:
    machine = Machine(at_once=4)
    found = timing(machine.generate, 4, TimingPlan(n_repeats=3, min_time_s=5.0), machine.clock)
    before, start_s = machine.tokens, machine.now_s
    for _ in range(7):
        machine.generate(4)
    made = machine.tokens - before
    assert found.tokens_per_s * (machine.now_s - start_s) == pytest.approx(made, rel=0.02)


def test_the_spread_is_that_of_repetitions() -> None:
    times = iter([1.0, 1.0, 1.0, 1.2, 0.9])

    class Uneven(Machine):
        def generate(self, n: int) -> int:
            self.now_s += next(times)
            return n * TOKENS

    machine = Uneven()
    found = timing(machine.generate, 1, TimingPlan(n_repeats=3, min_time_s=0.1), machine.clock)
    assert found.time_s == pytest.approx(1.0)
    assert found.spread == pytest.approx(0.3)
