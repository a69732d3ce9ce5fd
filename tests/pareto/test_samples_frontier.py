"""Fronts of quality against speed from planted samples, whose true ratio is known."""

import numpy as np
import pandas as pd
import pytest
from planted_rows import control, diffusion, row

from analysis.errors import SettingsError, TableError
from analysis.pareto.answer import Asked, MetricAnswer, ParetoAnswer, answer
from analysis.pareto.samples import samples_of

TIMES_FASTER = 3.0
AT_A_COMMON_ENTROPY = Asked(entropy_nats=3.05)


def judged(rows: list[dict[str, object]], asked: Asked = AT_A_COMMON_ENTROPY) -> ParetoAnswer:
    return answer(samples_of(pd.DataFrame(rows), "planted"), asked)


def divergence_of(found: ParetoAnswer) -> MetricAnswer:
    return next(each for each in found.metrics if each.metric.name == "judge_divergence")


def test_a_series_that_needs_a_third_of_the_steps_is_three_times_faster_at_equal_quality() -> None:
    rows = diffusion("masked", 1.0) + diffusion("uniform", TIMES_FASTER)
    (ratio,) = divergence_of(judged(rows)).speed_ratios
    assert (ratio.baseline, ratio.against) == ("masked", "uniform")
    assert ratio.ratio is not None
    assert ratio.ci is not None
    # Interpolating 1/n between powers of two is off by at most 6 % in speed.
    assert ratio.ratio == pytest.approx(TIMES_FASTER, rel=0.06)
    assert ratio.ci[0] < TIMES_FASTER < ratio.ci[1]
    assert ratio.probability_faster == 1.0


def test_intervals_of_a_speed_ratio_hold_the_truth_as_often_as_they_say() -> None:
    noise, held, n_tables = np.random.default_rng(0), 0, 60
    for number in range(n_tables):
        rows = diffusion("masked", 1.0) + diffusion("uniform", 1.0)
        for each in rows:
            each["judge_divergence_nats_per_token"] += 0.01 * noise.standard_normal()  # type: ignore[operator]
        asked = Asked(entropy_nats=3.05, n_resamples=200, seed=number)
        (ratio,) = divergence_of(judged(rows, asked)).speed_ratios
        assert ratio.ci is not None
        held += ratio.ci[0] <= 1.0 <= ratio.ci[1]
    assert held >= 0.85 * n_tables  # 95 % less three standard errors of 60 tables


def test_quality_is_compared_at_equal_entropy_not_at_equal_temperature() -> None:
    # At equal temperature the other looks better, at equal entropy it is not.
    warm = [
        each | {"series": "warm", "trial_id": "warm", "temperature": each["temperature"] + 0.1}  # type: ignore[operator]
        for each in diffusion("masked", 1.0)
    ]
    (ratio,) = divergence_of(judged(diffusion("masked", 1.0) + warm)).speed_ratios
    assert ratio.ratio == pytest.approx(1.0, rel=1e-9)


def test_a_sampler_that_never_has_the_common_entropy_is_left_out_and_named() -> None:
    rows = diffusion("masked", 1.0) + [
        each | {"unigram_entropy_nats": 1.0} for each in diffusion("uniform", 3.0)
    ]
    found = divergence_of(judged(rows))
    assert {each.series for each in found.points} == {"masked"}
    assert {each.series for each in found.not_compared} == {"uniform"}
    assert found.speed_ratios == ()
    codes = {(warning.code, warning.family) for warning in judged(rows).warnings}
    assert ("entropy_not_reached", "uniform") in codes


def test_which_series_wins_where_and_how_sure_that_is() -> None:
    # One is better and slow, the other worse and fast.
    slow = diffusion("masked", 3.0, speed=640.0)
    fast = diffusion("uniform", 1.0, speed=6400.0)
    winners = divergence_of(judged(slow + fast)).winners
    assert [winner.series for winner in winners] == ["masked", "uniform"] or [
        winner.series for winner in winners
    ] == ["uniform"]
    assert winners[-1].series == "uniform"
    assert winners[-1].speeds[1] == pytest.approx(6400.0, rel=0.1)
    assert winners[-1].probability > 0.9


def test_a_metric_that_prefers_a_control_says_so_and_makes_no_headline() -> None:
    rows = diffusion("masked", 1.0) + diffusion("uniform", 3.0) + [control("repeated", 5.0)]
    found = judged(rows)
    by_name = {each.metric.name: each for each in found.metrics}
    assert by_name["judge_divergence"].ranks_controls_last is True
    assert by_name["cross_entropy"].ranks_controls_last is False
    assert by_name["cross_entropy"].better_controls == ("repeated",)
    assert "repeated" in by_name["cross_entropy"].title
    assert found.headline is by_name["judge_divergence"]


def test_rows_of_different_protocols_are_refused_with_what_differs() -> None:
    rows = diffusion("masked", 1.0) + [
        each | {"judge": "gpt"} for each in diffusion("uniform", 1.0)
    ]
    with pytest.raises(TableError, match="judge is 'ar-3f9a' in 21 rows and 'gpt' in 21 rows"):
        samples_of(pd.DataFrame(rows), "planted")
    chosen = samples_of(pd.DataFrame(rows), "planted", {"judge": "gpt"})
    assert {each.series for each in chosen.settings} == {"uniform"}
    with pytest.raises(SettingsError, match="no such condition"):
        samples_of(pd.DataFrame(rows), "planted", {"colour": "red"})


def test_the_judge_has_no_numbers_of_itself_and_that_is_said() -> None:
    own = row("ar", judge="none", judge_revision="", judge_divergence_nats_per_token=None)
    found = judged([*diffusion("masked", 1.0), own | {"cross_entropy_nats_per_token": None}])
    assert divergence_of(found).without == ("ar",)
    assert any("a judge does not judge itself" in warning.message for warning in found.warnings)


def test_a_cell_that_is_no_number_is_an_error_with_its_place() -> None:
    rows = diffusion("masked", 1.0)
    rows[3]["tokens_per_s"] = "fast"
    with pytest.raises(TableError, match="row 4, column 'tokens_per_s': fast"):
        samples_of(pd.DataFrame(rows), "planted")


def test_speed_in_tokens_per_call_needs_no_clock() -> None:
    rows = diffusion("masked", 1.0) + diffusion("uniform", TIMES_FASTER)
    for each in rows:  # as if another program had slowed everything down, one series most
        each["network_evaluations"] = each["n_steps"]
        each["tokens_per_s"] = 1.0 if each["series"] == "uniform" else 50.0
    table = samples_of(pd.DataFrame(rows), "planted", None, "calls")
    (ratio,) = divergence_of(answer(table, AT_A_COMMON_ENTROPY)).speed_ratios
    assert ratio.ratio == pytest.approx(TIMES_FASTER, rel=0.06)
