"""Registered forecasts: written once, sealed, and told apart from what was known."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from planted_tables import Surface, isoflop_rows, table

from analysis.answers.forecast import (
    Forecast,
    check,
    read_forecast,
    register,
    row_digests,
    table_digest,
)
from analysis.answers.predict import predict
from analysis.errors import SettingsError, SourceError
from analysis.fitting.fit import FitSettings, fit_table
from analysis.report.forecasts import forecast_text, forecasts_table
from sweeper.errors import OutputError

PLANTED = Surface()
BUDGET = 3e17
SETTINGS = FitSettings(huber_delta=math.inf, n_bootstrap=50)


def forecast_of(rows: pd.DataFrame, budget: float = BUDGET) -> Forecast:
    tidy = table(rows)
    result = fit_table(tidy, SETTINGS)
    return Forecast.of(
        tidy,
        result,
        predict(result, "a", budget),
        source="small",
        sweeper_version="0.1",
        registered_at="2026-11-29T10:00:00+00:00",
    )


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return isoflop_rows(noise=0.002)


@pytest.fixture(scope="module")
def forecast(rows: pd.DataFrame) -> Forecast:
    return forecast_of(rows)


def run_at(forecast: Forecast, *, size: float = 1.0, times: float = 1.0) -> pd.DataFrame:
    """One run of the budget near the size that was forecast, at a multiple of its true loss."""
    params = size * PLANTED.best_params(BUDGET)
    tokens = BUDGET / 6 / params
    loss = times * float(PLANTED.loss(pd.Series([params]).to_numpy(), BUDGET / 6 / params)[0])  # type: ignore[arg-type]
    return pd.DataFrame(
        [{"family": "a", "params": params, "tokens": tokens, "flops": BUDGET, "loss": loss}]
    )


def outcome_of(forecast: Forecast, *frames: pd.DataFrame) -> str:
    return check(forecast, "f.json", table(pd.concat(frames, ignore_index=True))).verdict


def test_a_forecast_is_read_as_it_was_registered(forecast: Forecast, tmp_path: Path) -> None:
    register(forecast, tmp_path / "f.json")
    assert read_forecast(tmp_path / "f.json") == forecast
    assert forecast.extrapolation_decades > 0
    assert forecast.settings["huber_delta"] == "inf"


def test_a_registered_forecast_is_never_replaced(forecast: Forecast, tmp_path: Path) -> None:
    register(forecast, tmp_path / "f.json")
    before = (tmp_path / "f.json").read_bytes()
    with pytest.raises(OutputError, match=r"the forecast of a at 3e\+17 FLOPs of 2026-11-29T10"):
        register(forecast, tmp_path / "f.json")
    assert (tmp_path / "f.json").read_bytes() == before
    (tmp_path / "other").write_text("notes")
    with pytest.raises(OutputError, match="no forecast that is intact"):
        register(forecast, tmp_path / "other")
    with pytest.raises(OutputError, match="cannot be written"):
        register(forecast, tmp_path / "other" / "f.json")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"flops": 3e+17', '"flops": 2e+17', "changed after it was registered"),
        ("10:00:00", "09:00:00", "changed after it was registered"),
        ("sweeper-forecast/1", "sweeper-forecast/9", "this sweeper reads 'sweeper-forecast/1'"),
        ('"seal"', '"sealed"', "no forecast"),
        ("{", "", "no forecast"),
    ],
)
def test_an_edited_forecast_is_refused(
    forecast: Forecast, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    path = tmp_path / "f.json"
    register(forecast, path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SourceError, match=reason):
        read_forecast(path)


def test_formatting_is_no_edit(forecast: Forecast, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    register(forecast, path)
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(fields.items()))))
    assert read_forecast(path) == forecast


def test_hit_and_miss_are_told_by_the_interval(rows: pd.DataFrame, forecast: Forecast) -> None:
    assert outcome_of(forecast, rows) == "not_observed"
    assert outcome_of(forecast, rows, run_at(forecast)) == "hit"
    assert outcome_of(forecast, rows, run_at(forecast, times=1.2)) == "miss"
    # Of another size it says nothing.
    assert outcome_of(forecast, rows, run_at(forecast, size=2.0)) == "not_observed"
    assert outcome_of(forecast, rows, run_at(forecast, size=1.05)) == "hit"


def test_a_run_of_another_series_is_no_evidence(rows: pd.DataFrame, forecast: Forecast) -> None:
    assert outcome_of(forecast, rows, run_at(forecast).assign(family="b")) == "not_observed"


def test_what_the_table_held_is_no_hit(rows: pd.DataFrame) -> None:
    first = forecast_of(rows)
    with_run = pd.concat([rows, run_at(first).assign(budget_flops=BUDGET)], ignore_index=True)
    later = forecast_of(with_run)
    assert outcome_of(later, with_run) == "known"
    # A replicate that was run afterwards counts.
    assert outcome_of(later, with_run, run_at(first, times=1.0001)) == "hit"


def test_a_tables_digest_is_that_of_its_rows_in_any_order(rows: pd.DataFrame) -> None:
    digest = table_digest(row_digests(table(rows)))
    assert digest == table_digest(row_digests(table(rows.iloc[::-1].reset_index(drop=True))))
    changed = rows.assign(loss=rows["loss"] * (1 + 1e-9))
    assert digest != table_digest(row_digests(table(changed)))


def test_nothing_predicted_is_nothing_to_register() -> None:
    one_budget = isoflop_rows()
    one_budget = one_budget[one_budget["budget_flops"] == one_budget["budget_flops"].min()]
    with pytest.raises(SettingsError, match="nothing to register for a: "):
        forecast_of(one_budget.iloc[:3])


def test_text_and_table_say_what_was_promised_and_what_came(
    rows: pd.DataFrame, forecast: Forecast
) -> None:
    found = check(forecast, "f.json", table(pd.concat([rows, run_at(forecast)])))
    text = forecast_text(found)
    assert "f.json: a at 3e+17 FLOPs, registered 2026-11-29T10:00:00+00:00 from small" in text
    assert "\n  hit: " in text
    (row,) = forecasts_table([found]).rows
    assert row[4] == "hit"
    nothing = check(forecast, "f.json", table(rows))
    assert "not yet observed: no run within 10%" in forecast_text(nothing)
    assert forecasts_table([nothing]).rows[0][4] == "not yet observed"
    assert json.loads(json.dumps(found.to_json()))["verdict"] == "hit"
