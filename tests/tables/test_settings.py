"""Runs that differ in learning rate or batch alone: each size and number of tokens counts once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table

from analysis.fitting.fit import FitSettings, fit_table
from analysis.tables.columns import RawTable
from analysis.tables.load import load
from analysis.tables.tidy import Reading, TidyTable, tidy

FEW = FitSettings(n_bootstrap=20)
STEPS = np.array([0.17, 0.5, 1.3, 4.0])
"""Rates of a sweep over the best rate of its cell."""


def with_rates(best: pd.DataFrame, steps: np.ndarray = STEPS) -> pd.DataFrame:
    """Four rates at every cell of a table; losses are a parabola in log rate about its own."""
    rows = []
    for step in steps:
        rate = 0.002 * (best["params"] / 1e7) ** -0.2
        loss = best["loss"] * (1 + 0.02 * np.log(step) ** 2)
        rows.append(best.assign(learning_rate=rate * step, loss=loss))
    return pd.concat(rows, ignore_index=True)


def codes(checked: TidyTable) -> list[str]:
    return [warning.code for warning in checked.warnings]


def test_a_sweep_of_rates_gives_the_laws_of_its_best_settings() -> None:
    best = isoflop_rows()
    swept = table(with_rates(best))
    assert codes(swept) == ["best_settings"]
    assert "140 rows of 35 cells" in swept.warnings[0].message
    assert "35 by the vertex" in swept.warnings[0].message
    np.testing.assert_allclose(
        swept.frame.sort_values(["flops", "params"])["loss"],
        best.sort_values(["flops", "params"])["loss"],
        rtol=1e-9,
    )
    found, alone = (fit_table(each, FEW).family("a").isoflop for each in (swept, table(best)))
    assert found is not None
    assert alone is not None
    np.testing.assert_allclose(found.values("params"), alone.values("params"), rtol=1e-6)


def test_every_row_counts_for_who_asks_for_it() -> None:
    frame = with_rates(isoflop_rows())
    raw = RawTable(frame, "planted", tuple(range(1, len(frame) + 1)))
    every = tidy(raw, Reading(all_settings=True))
    assert len(every.frame) == len(frame)
    assert "best_settings" not in codes(every)


def test_a_cell_whose_best_rate_is_at_an_end_counts_by_its_best_run() -> None:
    swept = table(with_rates(isoflop_rows(), np.array([1.0, 2.0, 4.0])))
    assert "0 by the vertex" in swept.warnings[0].message
    np.testing.assert_allclose(swept.frame["loss"], isoflop_rows()["loss"], rtol=1e-12)


def test_rate_and_batch_have_one_vertex() -> None:
    best = isoflop_rows()
    rows = []
    for rate in (0.4, 0.8, 1.5, 3.0):
        for batch in (0.3, 0.7, 1.4, 2.5):
            x, y = np.log(rate), np.log(batch)
            loss = best["loss"] * (1 + 0.02 * x**2 + 0.01 * y**2 - 0.01 * x * y)
            rows.append(best.assign(learning_rate=1e-3 * rate, batch_tokens=1e5 * batch, loss=loss))
    swept = table(*rows)
    assert "35 by the vertex" in swept.warnings[0].message
    np.testing.assert_allclose(swept.frame["learning_rate"], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(swept.frame["batch_tokens"], 1e5, rtol=1e-6)
    assert len(swept.frame) == len(best)


def test_seeds_of_one_setting_are_replicates() -> None:
    frame = pd.concat(
        [isoflop_rows(noise=0.003, seed=s).assign(seed=s, learning_rate=1e-3) for s in (0, 1, 2)]
    )
    assert len(table(frame).frame) == 3 * len(isoflop_rows())
    assert codes(table(frame)) == []


def test_laws_of_the_best_rate_read_every_setting() -> None:
    swept = table(with_rates(isoflop_rows()))
    laws = fit_table(swept, FEW).family("a").batch_laws
    assert laws is not None
    assert len(swept.every_setting) == 4 * len(swept.frame)


@pytest.fixture
def curves() -> pd.DataFrame:
    """Five sizes at four rates each, evaluated along the way."""

    def rows() -> Iterator[tuple[str, str, float, float, float, float, float]]:
        for params in np.geomspace(1e7, 1e9, 5):
            for step in STEPS:
                for tokens in np.geomspace(1e9, 1e11, 6):
                    loss = float(Surface().loss(params, tokens)) * (1 + 0.02 * np.log(step) ** 2)
                    run = f"{params:.3g}-{step}"
                    yield "a", run, params, tokens, 6 * params * tokens, loss, 1e-3 * step

    columns = ["family", "run_id", "params", "tokens", "flops", "loss", "learning_rate"]
    return pd.DataFrame(list(rows()), columns=columns)


def test_cells_that_choose_among_the_same_runs_are_resampled_together(curves: pd.DataFrame) -> None:
    swept = table(curves)
    assert len(swept.frame) == 30
    assert swept.frame["run_id"].nunique() == 5


def test_the_best_setting_survives_a_file(tmp_path: Path) -> None:
    with_rates(isoflop_rows()).to_csv(tmp_path / "sweep.csv", index=False)
    assert len(load(tmp_path / "sweep.csv").frame) == 7 * len(BUDGETS)
