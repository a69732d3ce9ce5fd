"""Hold-out in compute: the form that was planted predicts best, and its intervals are honest."""

import numpy as np
import pandas as pd
import pytest
from planted_tables import Surface, isoflop_rows, table

from analysis.errors import FitWarning
from analysis.fitting.fit import FitSettings, fit_table
from analysis.fitting.holdout import (
    FormName,
    HoldOut,
    HoldOutPrediction,
    HoldOutTarget,
    held_out_scores,
)
from analysis.stats.bootstrap import Resampler
from analysis.surface.tied import TiedSurface, fit_tied_surface
from analysis.tables.points import Points, points_by_family

SETTINGS = FitSettings(n_bootstrap=100)
WIDE = np.geomspace(1e15, 1e18, 8)
STRAIGHT = Surface(E=1e-9, A=50.0, B=50.0, alpha=0.15, beta=0.15)
"""Its L*(C) is a pure power law."""


def held_out(surface: Surface, noise: float = 0.0, seed: int = 0) -> HoldOut:
    rows = isoflop_rows(surface=surface, budgets=WIDE, noise=noise, seed=seed)
    holdout = fit_table(table(rows), SETTINGS).family("a").holdout
    assert holdout is not None
    return holdout


def test_a_bent_law_is_predicted_by_the_forms_that_can_bend() -> None:
    holdout = held_out(Surface(), noise=0.001)
    scores = holdout.scores
    assert holdout.unit == "budgets"
    assert holdout.best in {"offset", "surface", "tied"}
    assert scores["surface"].mean_abs_error < 0.002
    assert scores["power"].mean_abs_error > 3 * scores["surface"].mean_abs_error


def test_a_pure_law_is_predicted_by_the_pure_form() -> None:
    scores = held_out(STRAIGHT, noise=0.001).scores
    assert scores["power"].mean_abs_error < 0.002
    assert scores["power"].mean_abs_error <= scores["offset"].mean_abs_error + 1e-4


def test_windows_expand_and_never_see_what_they_predict() -> None:
    holdout = held_out(Surface())
    n_train = [prediction.n_train for prediction in holdout.predictions]
    assert n_train == sorted(n_train)
    for prediction in holdout.predictions:
        assert prediction.target.flops > WIDE[prediction.n_train - 1] * 1.001


def test_all_forms_are_scored_on_the_same_targets() -> None:
    scores = held_out(Surface(), noise=0.002).scores
    assert set(scores) == {"power", "offset", "surface", "tied"}
    assert len({score.n for score in scores.values()}) == 1


@pytest.mark.slow
def test_intervals_of_the_true_form_cover_what_they_predict() -> None:
    scores = [held_out(STRAIGHT, noise=0.002, seed=seed).scores["power"] for seed in range(12)]
    n = sum(score.n for score in scores)
    covered = sum(score.n * score.coverage for score in scores) / n
    # Targets of one table share their windows: about 40 independent ones, sd .035.
    assert covered > 0.95 - 3 * 0.035


def test_without_budgets_the_costly_runs_are_predicted_from_the_cheap() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"family": "a", "params": np.exp(rng.uniform(13, 18, 24))})
    frame["tokens"] = frame["params"] * np.exp(rng.uniform(2, 5, 24))
    frame["flops"] = 6 * frame["params"] * frame["tokens"]
    loss = Surface().loss(frame["params"].to_numpy(), frame["tokens"].to_numpy())
    frame["loss"] = loss * np.exp(0.001 * rng.standard_normal(24))
    holdout = fit_table(table(frame), SETTINGS).family("a").holdout
    assert holdout is not None
    assert holdout.unit == "points"
    assert set(holdout.scores) == {"surface", "tied"}
    assert holdout.scores["surface"].mean_abs_error < 0.01


def test_three_budgets_cannot_be_held_out() -> None:
    frame = isoflop_rows(budgets=np.geomspace(1e15, 1e16, 3), n_sizes=4)
    frame["loss"] = Surface().loss(frame["params"].to_numpy(), frame["tokens"].to_numpy())
    result = fit_table(table(frame.head(7)), SETTINGS)
    assert result.family("a").holdout is None
    assert "no_holdout" in {warning.code for warning in result.warnings}


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_windows_of_three_budgets_end_at_whole_budgets(noise: float) -> None:
    # A window within the second budget has one size at two token counts: its fits miss by tens.
    budgets = np.geomspace(1e18, 1e20, 3)
    rows = isoflop_rows(surface=BENT, budgets=budgets, n_sizes=5, noise=noise)
    holdout = fit_table(table(rows), SETTINGS).family("a").holdout
    assert holdout is not None
    assert {made.n_train for made in holdout.predictions} == {10}
    assert {made.target.flops for made in holdout.predictions} == {budgets[-1]}
    assert len(holdout.scores) > 1
    assert max(score.mean_abs_error for score in holdout.scores.values()) < 0.02
    assert holdout.best is not None


BENT = Surface(E=1.8, A=400.0, B=1200.0, alpha=0.34, beta=0.34)


def prediction(form: FormName, loss: float, width: float, target: int) -> HoldOutPrediction:
    observed = HoldOutTarget(10.0**target, 1e8, 1e9, 3.0, 0.0)
    return HoldOutPrediction(form, 3, observed, loss, (loss - width / 2, loss + width / 2))


def test_a_loss_below_zero_or_an_interval_wider_than_the_losses_fails() -> None:
    assert not prediction("tied", 3.0, 0.4, 20).has_failed(losses=0.5)
    assert prediction("tied", 3.0, 0.6, 20).has_failed(losses=0.5)
    assert prediction("tied", -0.1, 0.1, 20).has_failed(losses=0.5)


def test_the_form_that_is_left_alone_is_not_the_best() -> None:
    lone = [prediction("tied", 3.3, 0.1, target) for target in range(20, 24)]
    scores = held_out_scores(lone)
    assert HoldOut("points", tuple(lone), scores).best is None


@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_four_budgets_show_every_form_and_name_none_the_best(noise: float) -> None:
    """There is one target, the last budget's: too few to choose by, and the same for all forms."""
    rows = isoflop_rows(budgets=np.geomspace(1e15, 1e18, 4), noise=noise)
    holdout = fit_table(table(rows), SETTINGS).family("a").holdout
    assert holdout is not None
    assert set(holdout.scores) == {"power", "surface", "tied"}
    assert holdout.best is None


def test_forms_are_scored_on_the_targets_that_they_share() -> None:
    # The second form was refused where the first misses most.
    easy = [prediction("tied", 3.01, 0.1, target) for target in (20, 21, 22)]
    hard = [prediction("tied", 4.0, 0.1, target) for target in (23, 24)]
    other = [prediction("surface", 3.02, 0.1, target) for target in (20, 21, 22)]
    scores = held_out_scores([*easy, *hard, *other])
    assert {score.n for score in scores.values()} == {3}
    assert HoldOut("points", tuple(easy), scores).best == "tied"


def one_series(frame: object) -> Points:
    return points_by_family(table(frame).frame)["a"]  # type: ignore[arg-type]


def test_a_planted_surface_of_one_exponent_is_recovered() -> None:
    planted = Surface(alpha=0.3, beta=0.3)
    points = one_series(isoflop_rows(surface=planted))
    fit = fit_tied_surface(points, Resampler.create([points], 50, 0))
    assert isinstance(fit, TiedSurface)
    assert fit.alpha == pytest.approx(0.3, abs=1e-9)
    assert pytest.approx(planted.E, abs=1e-8) == fit.E
    assert pytest.approx(planted.A, rel=1e-7) == fit.A
    assert pytest.approx(planted.B, rel=1e-7) == fit.B


def test_draws_of_the_surface_of_one_exponent_hold_the_planted_loss() -> None:
    planted = Surface(alpha=0.3, beta=0.3)
    points = one_series(isoflop_rows(surface=planted, noise=0.003, seed=2))
    fit = fit_tied_surface(points, Resampler.create([points], 200, 0))
    assert isinstance(fit, TiedSurface)
    low, high = np.percentile(fit.draws_at(1e8, 1e10), [2.5, 97.5])
    assert low < planted.loss(np.array(1e8), np.array(1e10)) < high


def test_four_points_are_too_few_for_a_surface_of_one_exponent() -> None:
    points = one_series(isoflop_rows()).take(np.arange(4))
    assert isinstance(fit_tied_surface(points, Resampler.create([points], 20, 0)), FitWarning)
