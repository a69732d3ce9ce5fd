"""Predictions: planted optima recovered, intervals that cover, no number without ground for it."""

import dataclasses
import json
import math

import numpy as np
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table, trajectory_rows

from analysis.answers.predict import Prediction, predict, to_json
from analysis.errors import SettingsError
from analysis.fitting.batch_laws import BatchLaws, SettingLaw
from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.report.text import prediction_text
from analysis.tables.published import recipe_law
from sweeper.planning import recipe

PLANTED = Surface()
POWER_LAW = Surface(E=0.0, A=60.0, B=400.0, alpha=0.2, beta=0.22)
"""Without a floor the frontier is a power law, which can be read arbitrarily far."""
SETTINGS = FitSettings(n_bootstrap=200)


def predicted(frame: object, flops: float, seed: int = 0) -> Prediction:
    settings = FitSettings(n_bootstrap=200, seed=seed)
    return predict(fit_table(table(frame), settings), "a", flops)  # type: ignore[arg-type]


def without_budgets(frame: object) -> object:
    """The same runs at unequal FLOPs, so that no budget can be inferred."""
    shift = np.exp(np.random.default_rng(1).uniform(-0.4, 0.4, len(frame)))  # type: ignore[arg-type]
    tokens = frame["tokens"] * shift  # type: ignore[index]
    params = frame["params"]  # type: ignore[index]
    loss = PLANTED.loss(params.to_numpy(), tokens.to_numpy())
    changed = frame.assign(tokens=tokens, flops=6 * params * tokens, loss=loss)  # type: ignore[attr-defined]
    return changed.drop(columns="budget_flops")


def codes(prediction: Prediction) -> set[str]:
    return {warning.code for warning in prediction.warnings}


def test_a_planted_optimum_inside_the_budgets_is_recovered() -> None:
    found = predicted(isoflop_rows(), 1e16)
    assert found.source == "isoflop"
    assert found.extrapolation_decades == 0
    assert found.params is not None
    assert found.tokens is not None
    assert found.loss is not None
    # The laws are exact on this surface up to the slight bend of D*(C) and to rounding.
    assert found.params.value == pytest.approx(PLANTED.best_params(1e16), rel=1e-3)
    assert found.tokens.value == pytest.approx(1e16 / 6 / PLANTED.best_params(1e16), rel=1e-3)
    # A cubic between budgets a factor 3 apart follows the frontier to 1e-4.
    assert found.loss.value == pytest.approx(PLANTED.best_loss(1e16), rel=1e-4)


def test_a_planted_power_law_is_recovered_three_decades_away() -> None:
    found = predicted(isoflop_rows(surface=POWER_LAW), 1e20)
    assert found.params is not None
    assert found.loss is not None
    assert found.extrapolation_decades == pytest.approx(3.0)
    assert found.params.value == pytest.approx(POWER_LAW.best_params(1e20), rel=1e-3)
    assert found.loss.value == pytest.approx(POWER_LAW.best_loss(1e20), rel=1e-3)
    assert "far_extrapolation" in codes(found)


@pytest.mark.slow
@pytest.mark.parametrize("flops", [2e16, 2e17])
def test_intervals_hold_the_next_run(flops: float) -> None:
    """Of 60 sweeps; 51 is the 0.1 % quantile of a binomial with 95 %."""
    noise, n_sweeps = 0.004, 60
    hits = {"params": 0, "tokens": 0, "loss": 0}
    for seed in range(n_sweeps):
        found = predicted(isoflop_rows(noise=noise, seed=seed), flops, seed)
        run = PLANTED.best_loss(flops) * math.exp(
            noise * np.random.default_rng([seed, 9]).standard_normal()
        )
        truth = {
            "params": PLANTED.best_params(flops),
            "tokens": flops / 6 / PLANTED.best_params(flops),
            "loss": run,
        }
        for name, value in truth.items():
            estimate = getattr(found, name)
            hits[name] += estimate.ci[0] <= value <= estimate.ci[1]
    assert min(hits.values()) >= 51, hits


def test_intervals_outside_the_data_span_both_forms_and_say_so() -> None:
    found = predicted(isoflop_rows(noise=0.002), 1e20)
    assert found.loss is not None
    assert found.loss.ci[0] < PLANTED.best_loss(1e20) < found.loss.ci[1]
    assert "forms_disagree" in codes(found)


def test_the_form_that_predicts_larger_budgets_better_gives_the_value() -> None:
    with_floor = predicted(isoflop_rows(noise=5e-4), 1e20)
    assert with_floor.source == "surface"
    assert "read_off_the_surface" in codes(with_floor)
    assert with_floor.loss is not None
    # Three decades away a power law would be 20 % low; E is known to a few percent.
    assert with_floor.loss.value == pytest.approx(PLANTED.best_loss(1e20), rel=0.05)


def test_an_interval_of_the_loss_is_wider_than_the_noise_of_one_run() -> None:
    noise = 0.004
    found = predicted(isoflop_rows(noise=noise, n_sizes=9), 1e16)
    assert found.loss is not None
    width = math.log(found.loss.ci[1] / found.loss.ci[0])
    # 2 · 1.96 sigma would be one run alone; sigma is known from 45 points to about 15 %.
    assert width > 2 * 1.96 * noise * 0.7


def test_without_budgets_the_surface_answers() -> None:
    found = predicted(without_budgets(isoflop_rows()), 1e16)
    assert found.source == "surface"
    assert "read_off_the_surface" in codes(found)
    assert found.params is not None
    assert found.tokens is not None
    assert found.loss is not None
    # Noise-free, so only the certified optimum's rounding remains.
    assert found.params.value == pytest.approx(PLANTED.best_params(1e16), rel=1e-4)
    assert found.tokens.value * found.params.value == pytest.approx(1e16 / 6, rel=1e-9)
    assert found.loss.value == pytest.approx(PLANTED.best_loss(1e16), rel=1e-6)


def test_too_little_data_gives_null_and_a_reason() -> None:
    found = predicted(isoflop_rows(budgets=BUDGETS[:1]), 1e16)
    answer = json.loads(json.dumps(to_json(found), allow_nan=False))
    for name in ("params", "tokens", "loss", "batch_tokens", "learning_rate", "source"):
        assert answer[name] is None
    assert "no_prediction" in {warning["code"] for warning in answer["warnings"]}
    assert answer["extrapolation_decades"] == pytest.approx(1.0)
    assert "no_prediction" in prediction_text(found)


def test_the_answer_has_the_documented_shape() -> None:
    answer = to_json(predicted(trajectory_rows(), 1e18))
    assert list(answer) == [
        "family", "flops", "source", "params", "tokens", "loss", "extrapolation_decades",
        "batch_tokens", "learning_rate", "warnings",
    ]  # fmt: skip
    for name in ("params", "tokens", "loss"):
        low, high = answer[name]["ci"]
        assert low < answer[name]["value"] < high
    assert answer["extrapolation_decades"] == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_answer() -> None:
    rows = isoflop_rows(noise=0.004)
    assert to_json(predicted(rows, 1e18)) == to_json(predicted(rows, 1e18))


@pytest.fixture(scope="module")
def fit() -> FitResult:
    return fit_table(table(isoflop_rows()), SETTINGS)


@pytest.mark.parametrize("flops", [0.0, -1e16, math.nan, math.inf])
def test_a_budget_that_cannot_be_spent_is_refused(fit: FitResult, flops: float) -> None:
    with pytest.raises(SettingsError, match="expected a budget"):
        predict(fit, "a", flops)


def test_an_unknown_series_is_refused(fit: FitResult) -> None:
    with pytest.raises(SettingsError, match="no series 'b'"):
        predict(fit, "b", 1e16)


@pytest.mark.parametrize("flops", [1.0, 1e40])
def test_the_ends_of_what_can_be_asked_are_finite_numbers(fit: FitResult, flops: float) -> None:
    json.dumps(to_json(predict(fit, "a", flops)), allow_nan=False)


def setting_law(coefficient: float, exponent: float, top: float = 1e12) -> SettingLaw:
    ends = exponent, exponent
    return SettingLaw(exponent, ends, None, None, coefficient, {}, (1.0, top), 9)


def test_training_settings_come_from_the_series_where_it_fitted_its_own(fit: FitResult) -> None:
    own = BatchLaws(setting_law(0.01, 0.8), setting_law(0.002, 0.35), None)
    changed = dataclasses.replace(fit.family("a"), batch_laws=own)
    found = predict(dataclasses.replace(fit, families={"a": changed}), "a", 1e16)
    assert found.batch_tokens is not None
    assert found.learning_rate is not None
    assert found.tokens is not None
    assert found.batch_tokens.value == pytest.approx(0.01 * found.tokens.value**0.8)
    assert found.learning_rate.value == pytest.approx(0.002 * found.batch_tokens.value**0.35)
    assert found.batch_tokens.source.startswith("law fitted to this series")
    assert not {"recipe_extrapolated", "no_recipe"} & codes(found)


def test_a_law_of_the_series_is_not_read_beyond_its_vertices(fit: FitResult) -> None:
    own = BatchLaws(setting_law(0.01, 0.8, top=1e6), None, setting_law(0.01, -0.1, top=1e6))
    changed = dataclasses.replace(fit.family("a"), batch_laws=own)
    found = predict(dataclasses.replace(fit, families={"a": changed}), "a", 1e16)
    assert found.batch_tokens is None
    assert found.learning_rate is None
    assert "no_recipe" in codes(found)


@pytest.mark.parametrize("flops", [1e16, 1e19, 1e24])
def test_the_table_of_others_gets_no_rate_of_our_parametrisation(
    fit: FitResult, flops: float
) -> None:
    found = predict(fit, "a", flops)
    assert found.tokens is not None
    assert found.batch_tokens is None
    assert found.learning_rate is None
    assert "no_recipe" in codes(found)
    assert "learning rate 0" not in prediction_text(found)


def test_our_own_rates_name_their_convention_and_end_with_their_laws(fit: FitResult) -> None:
    ours = dataclasses.replace(fit, params_convention="trunk")
    found = predict(ours, "a", 1e19)
    assert found.tokens is not None
    assert 1e9 < found.tokens.value < 1e11
    assert found.learning_rate is not None
    assert "CompleteP" in found.learning_rate.source
    beyond = predict(ours, "a", 1e24)
    assert beyond.batch_tokens is None
    assert beyond.learning_rate is None
    assert "recipe_extrapolated" in codes(beyond)


def test_training_settings_are_those_that_auto_means() -> None:
    """`sweeper/planning/recipe.py` and the table of published laws state the same two laws."""
    for tokens in (1e9, 1e11):
        batch = recipe_law("batch_tokens")(tokens)
        assert batch is not None
        # Both round: to whole sequences there, to six digits of the coefficient here.
        assert recipe.batch_sequences(tokens, 16) == pytest.approx(batch / 16, rel=1e-3)
        assert recipe.learning_rate(batch) == pytest.approx(
            recipe_law("learning_rate")(batch), rel=5e-3
        )
