"""The whole fit of a table: the agreed JSON, settings, one form of law, text summary."""

import json

import numpy as np
import pandas as pd
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table, trajectory_rows

from analysis import notation
from analysis.answers.compare import compare
from analysis.errors import SettingsError
from analysis.fitting.fit import FitSettings, fit_table, to_json
from analysis.report.text import comparison_text, summary

SETTINGS = FitSettings(n_bootstrap=50)


def test_json_has_exactly_the_agreed_shape() -> None:
    answer = to_json(fit_table(table(isoflop_rows("a", noise=0.002)), SETTINGS))
    assert set(answer) == {"families", "settings", "warnings"}
    family = answer["families"]["a"]
    others = {"envelope", "token_frontier", "holdout"}
    assert set(family) == {"n_runs", "isoflop", "surface"} | others
    isoflop = family["isoflop"]
    assert {"optima", "params_law", "tokens_law", "loss_law"} <= set(isoflop)
    wanted = {"budget_flops", "params", "tokens", "loss", "n_points", "bracketed"}
    assert wanted <= set(isoflop["optima"][0])
    assert set(isoflop["params_law"]) == {"coefficient", "exponent", "exponent_ci"}
    assert set(isoflop["loss_law"]) == {"coefficient", "exponent", "exponent_ci", "offset"}
    surface = family["surface"]
    assert set(surface) == {"E", "A", "B", "alpha", "beta", "ci", "profile_ci"}
    assert set(surface["ci"]) == {"E", "A", "B", "alpha", "beta"}
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(("every", "factor"), [(9, 3.0), (16, 0.01), (11, 100.0)])
def test_noise_beyond_the_losses_themselves_leaves_finite_numbers(
    every: int, factor: float
) -> None:
    frame = isoflop_rows("a", noise=0.005)
    frame.loc[::every, "loss"] *= factor
    result = fit_table(table(frame), SETTINGS)
    json.dumps(to_json(result), allow_nan=False)
    assert "nan" not in summary(result)


def crippled(**columns: object) -> pd.DataFrame:
    return isoflop_rows("a", noise=0.001).assign(**columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (crippled(loss=3.0), "constant_loss"),
        (crippled(budget_flops=1e16, flops=1e16, tokens=1e16 / 6e6), "single_budget"),
        (isoflop_rows("a").head(4), "too_few_points"),
        (isoflop_rows("a").groupby("budget_flops").head(2), "too_few_bracketed_budgets"),
        (isoflop_rows("a", budgets=BUDGETS[:1]), "single_budget"),
        (crippled(loss=np.linspace(5, 4, 35)), "unbracketed_budget"),
        (crippled(loss=np.linspace(4, 5, 35) ** 3), "unbracketed_budget"),
    ],
)
def test_what_cannot_be_fitted_is_null_with_a_named_warning(frame: pd.DataFrame, code: str) -> None:
    result = fit_table(table(frame), SETTINGS)
    answer = json.loads(json.dumps(to_json(result), allow_nan=False))
    assert code in {warning["code"] for warning in answer["warnings"]}
    assert all(warning["message"] for warning in answer["warnings"])


@pytest.mark.slow
def test_random_small_tables_never_crash_nor_yield_a_number_that_is_none() -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 20))
        params = rng.choice(np.geomspace(1e5, 1e8, 5), n)
        tokens = rng.choice(np.geomspace(1e7, 1e10, 5), n)
        frame = pd.DataFrame(
            {"family": "a", "params": params, "tokens": tokens, "flops": 6 * params * tokens}
        ).assign(loss=rng.uniform(1, 6, n), budget_flops=rng.choice([1e15, 1e16], n))
        json.dumps(to_json(fit_table(table(frame), SETTINGS)), allow_nan=False)


def test_int64_overflow_bait_is_fitted_in_floating_point() -> None:
    frame = isoflop_rows("a", budgets=BUDGETS * 1e6)
    whole = frame.assign(
        params=frame["params"].round().astype("int64"),
        tokens=frame["tokens"].round().astype("int64"),
        flops=[int(flops) for flops in frame["flops"]],
    )
    assert (frame["params"] * frame["tokens"]).max() > 9.2e18
    result = fit_table(table(whole), SETTINGS)
    law = result.family("a").isoflop
    assert law is not None
    assert law.params_law is not None
    assert law.params_law.exponent == pytest.approx(Surface().params_exponent, abs=1e-4)


def test_offsets_are_shown_for_every_series_or_for_none() -> None:
    budgets = np.geomspace(1e15, 1e19, 8)
    bent = isoflop_rows("a", noise=2e-4, budgets=budgets)
    straight = isoflop_rows("b", Surface(E=1e-9), noise=2e-4, budgets=budgets)
    alone = fit_table(table(bent), SETTINGS).family("a").isoflop
    assert alone is not None
    assert alone.loss_law is not None
    assert alone.loss_law.offset == pytest.approx(Surface().E, rel=0.1)
    both = fit_table(table(bent, straight), SETTINGS)
    for label in ("a", "b"):
        isoflop = both.family(label).isoflop
        assert isoflop is not None
        assert isoflop.loss_law is not None
        assert isoflop.loss_law.offset is None
    assert "offset_in_some_series" in [warning.code for warning in both.warnings]


def test_adding_a_series_does_not_move_the_estimates_of_another() -> None:
    alone = fit_table(table(trajectory_rows("a")), SETTINGS).family("a")
    beside = fit_table(table(trajectory_rows("a"), isoflop_rows("b")), SETTINGS).family("a")
    assert alone.isoflop is not None
    assert beside.isoflop is not None
    for one, other in zip(alone.isoflop.optima, beside.isoflop.optima, strict=True):
        assert (one.params, one.loss, one.reason) == (other.params, other.loss, other.reason)


@pytest.mark.parametrize(
    "bad",
    [
        {"huber_delta": 0.0},
        {"huber_delta": float("nan")},
        {"isoflop": "pairs"},
        {"n_bootstrap": 0},
        {"seed": -1},
    ],
)
def test_bad_settings_are_refused_with_what_was_expected(bad: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        FitSettings(**bad)  # type: ignore[arg-type]


def test_the_summary_shows_every_series_with_intervals_and_every_warning() -> None:
    frame = isoflop_rows("masked", noise=0.002)
    text = summary(fit_table(table(frame, isoflop_rows("uniform").head(9)), SETTINGS))
    assert "masked: 35 points of 35 runs" in text
    assert "N*(C) = " in text
    assert "not bracketed" in text
    assert "warning: uniform:" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.startswith("masked: At ")  # the answer first, remarks last
    assert text.split("\n\n")[-1].startswith("warning: ")


def test_the_text_of_a_comparison_has_its_verdict_points_and_exponents() -> None:
    parts = isoflop_rows("a", noise=0.001), isoflop_rows("b", noise=0.001, handicap=3.0)
    comparison = compare(fit_table(table(*parts), SETTINGS), "a", "b")
    text = comparison_text(comparison)
    assert " ".join(text.split()).startswith(comparison.verdict)
    assert text.count("×") >= len(comparison.points)
    assert "extrapolated" in text
    assert "exponent of N*" in text


def test_short_counts() -> None:
    assert [notation.count(x) for x in (12, 1.5e3, 1.77e8, 5.99e9, 2e12)] == [
        "12",
        "1.5K",
        "177M",
        "5.99B",
        "2T",
    ]


def test_constant_losses_give_nulls_and_a_named_warning() -> None:
    result = fit_table(table(isoflop_rows().assign(loss=2.0)))
    assert "constant_loss" in {warning.code for warning in result.warnings}
    assert all(fit.surface is None for fit in result.families.values())
