import math

import pytest

from sweeper.trials.tuned_laws import Curvature, LawKey, SizeTokensLaw, TunedLaw

KEY = LawKey(
    "masked", (("objective", "nelbo"),), "gidd", "adamw", "constant", (0.9, 0.99), 0.0, 0.0
)
LAW = TunedLaw(
    key=KEY,
    learning_rate=SizeTokensLaw(math.log(1.8), -0.7, 0.3),
    batch_tokens=SizeTokensLaw(math.log(0.6), 0.1, 0.55),
    curvature=Curvature(rate=0.02, batch=0.015, cross=-0.006),
    params_range=(1e4, 1e5),
    tokens_range=(1e6, 1e7),
)


def test_the_best_rate_at_any_batch_has_the_least_excess_there() -> None:
    for batch in (500.0, LAW.best_batch(3e4, 2e6), 1e5):
        best = LAW.best_rate(3e4, 2e6, batch)
        at_best = LAW.excess(3e4, 2e6, best, batch)
        assert at_best < min(LAW.excess(3e4, 2e6, best * f, batch) for f in (0.9, 1.1))


def test_there_is_no_excess_at_the_best_of_both_and_a_quadratic_one_beside() -> None:
    batch = LAW.best_batch(3e4, 2e6)
    rate = LAW.best_rate(3e4, 2e6, batch)
    assert LAW.excess(3e4, 2e6, rate, batch) == pytest.approx(0.0, abs=1e-15)
    assert LAW.excess(3e4, 2e6, 2 * rate, batch) == pytest.approx(0.01 * math.log(2) ** 2)
    both = LAW.excess(3e4, 2e6, 2 * rate, batch / 2)
    assert both == pytest.approx((0.01 + 0.0075 + 0.006) * math.log(2) ** 2)


def test_extrapolation_counts_the_farther_side() -> None:
    assert LAW.extrapolation(3e4, 2e6) == 1.0
    assert LAW.extrapolation(4e5, 2e6) == pytest.approx(4.0)
    assert LAW.extrapolation(4e5, 1e5) == pytest.approx(10.0)


def test_keys_differ_by_name() -> None:
    other = LawKey("masked", (), "gidd", "adamw", "wsd", (0.9, 0.99), 0.0, 0.0)
    assert KEY.differences(other) == ("family_options", "schedule")
    assert KEY.differences(KEY) == ()


def test_a_saddle_is_no_curvature() -> None:
    with pytest.raises(ValueError, match="one minimum"):
        Curvature(rate=0.01, batch=0.01, cross=0.02)
