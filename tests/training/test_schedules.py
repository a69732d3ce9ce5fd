"""Schedules against the formulas of the two studies, counted from 1 instead of 0."""

import dataclasses
import itertools
import math

import pytest

from sweeper.training.optimizer import constant, cosine, rate_factor, wsd
from sweeper.trials.trial import Optimizer

WARMUP, N_STEPS, COOLDOWN = 10, 200, 40
MIN_RATIO = 0.1


def test_warmup_is_linear_then_constant() -> None:
    assert [constant(step, WARMUP) for step in (0, 1, 5, 10, 11, 1000)] == [0, 0.1, 0.5, 1, 1, 1]


def test_cosine_equals_the_published_formula_at_every_step() -> None:
    peak, lowest = 2e-4, 2e-5
    for s in range(N_STEPS):  # the study counts from 0
        if s < WARMUP:
            published = peak * (s + 1) / WARMUP
        else:
            angle = math.pi * (s - WARMUP) / (N_STEPS - WARMUP)
            published = lowest + (peak - lowest) * 0.5 * (1 + math.cos(angle))
        ours = peak * cosine(s + 1, WARMUP, N_STEPS, MIN_RATIO)
        assert ours == pytest.approx(published, rel=1e-12)


def test_cosine_goes_from_its_peak_down_to_its_minimum() -> None:
    factors = [cosine(step, WARMUP, N_STEPS, MIN_RATIO) for step in range(WARMUP, N_STEPS + 2)]
    assert factors[0] == factors[1] == 1  # the last step of warmup and the first after it
    assert all(a > b for a, b in itertools.pairwise(factors[1:]))
    assert factors[-1] == pytest.approx(MIN_RATIO, abs=1e-15)  # the step after the last
    assert cosine(106, WARMUP, N_STEPS, MIN_RATIO) == pytest.approx((1 + MIN_RATIO) / 2, abs=0.01)


def test_wsd_is_zero_before_the_first_step_and_after_the_last_and_peaks_between() -> None:
    factors = [wsd(step, WARMUP, N_STEPS, COOLDOWN) for step in range(N_STEPS + 2)]
    assert factors[0] == factors[-1] == 0
    assert all(0 < factor <= 1 for factor in factors[1:-1])
    first_cooled = N_STEPS - COOLDOWN + 1
    assert set(factors[WARMUP : first_cooled + 1]) == {1.0}
    assert factors[first_cooled + 1] < 1


def test_wsd_falls_as_one_minus_the_root() -> None:
    for k in range(COOLDOWN + 1):
        factor = wsd(N_STEPS - COOLDOWN + 1 + k, WARMUP, N_STEPS, COOLDOWN)
        assert factor == 1 - math.sqrt(k / COOLDOWN)
    # A quarter of the way down half of the rate is left, which a straight line would not do.
    assert wsd(N_STEPS - COOLDOWN + 1 + COOLDOWN // 4, WARMUP, N_STEPS, COOLDOWN) == 0.5


def test_a_cooldown_may_begin_where_warmup_ends() -> None:
    factors = [wsd(step, 3, 7, 4) for step in range(1, 8)]
    assert factors == [1 / 3, 2 / 3, 1, 1, 0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.75)]


def test_a_trial_follows_the_schedule_it_names() -> None:
    flat = Optimizer(8, 0.1, 6e-3, warmup_steps=WARMUP)
    curved = dataclasses.replace(
        flat, schedule="cosine", schedule_steps=N_STEPS, min_learning_rate_ratio=MIN_RATIO
    )
    cooled = dataclasses.replace(
        flat, schedule="wsd", schedule_steps=N_STEPS, cooldown_steps=COOLDOWN
    )
    for step in (1, 10, 50, 190, 200):
        assert rate_factor(step, flat) == constant(step, WARMUP)
        assert rate_factor(step, curved) == cosine(step, WARMUP, N_STEPS, MIN_RATIO)
        assert rate_factor(step, cooled) == wsd(step, WARMUP, N_STEPS, COOLDOWN)
