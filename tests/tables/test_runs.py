"""Which rows are of one run: curves without run_id, dense curves, steps with two losses; levels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_tables import SHARED_DATA, Surface, isoflop_rows, table

from analysis.errors import SettingsError
from analysis.fitting.fit import FitSettings, fit_table
from analysis.tables.columns import RawTable
from analysis.tables.load import load
from analysis.tables.points import n_levels, points_by_family, rungs
from analysis.tables.tidy import Reading, TidyTable, tidy

FEW = FitSettings(n_bootstrap=200)


def curves(
    tokens: np.ndarray, n_sizes: int = 4, luck: float = 0.004, noise: float = 0.001
) -> pd.DataFrame:
    """One run a size, logged at the given tokens; its points share its luck."""
    rng = np.random.default_rng(0)
    rows = []
    for params in 2e8 * 2.0 ** np.arange(n_sizes):
        own = luck * rng.normal()
        for count in tokens:
            factor = np.exp(own + noise * rng.normal())
            loss = float(LAW.loss(params, count)) * factor
            rows.append(("m", f"r{params:.0f}", params, count, 6 * params * count, loss))
    columns = ["family", "run_id", "params", "tokens", "flops", "loss"]
    return pd.DataFrame(rows, columns=columns)


def read(frame: pd.DataFrame, **options: str) -> TidyTable:
    raw = RawTable(frame.reset_index(drop=True), "planted", tuple(range(2, len(frame) + 2)))
    return tidy(raw, Reading(**options))  # type: ignore[arg-type]


def codes(checked: TidyTable) -> list[str]:
    return [warning.code for warning in checked.warnings]


LAW = Surface(E=1.8, A=400.0, B=1200.0, alpha=0.34, beta=0.34)
LOGGED = np.arange(2e9, 82e9, 2e9)


def test_levels_are_bounded() -> None:
    assert n_levels(np.geomspace(1e7, 2e8, 201)) >= 95
    assert rungs(np.array([1.0, 1.015, 1.03])).tolist() == [0, 0, 1]
    assert rungs(np.array([2.0, 1.0, 2.001])).tolist() == [1, 0, 1]


def test_a_curve_without_run_id_is_one_run() -> None:
    named, unnamed = read(curves(LOGGED)), read(curves(LOGGED).drop(columns="run_id"))
    assert "curves_assumed" in codes(unnamed)
    assert unnamed.frame["run_id"].nunique() == named.frame["run_id"].nunique() == 4
    with_ids, without = (points_by_family(each.frame)["m"] for each in (named, unnamed))
    np.testing.assert_array_equal(without.run_P, with_ids.run_P)
    np.testing.assert_array_equal(without.slot_P, with_ids.slot_P)


def test_rows_are_what_the_user_says_they_are() -> None:
    frame = curves(LOGGED).drop(columns="run_id")
    rows = read(frame, runs="rows")
    assert rows.frame["run_id"].nunique() == len(frame)
    assert "curves_assumed" not in codes(rows)
    grid = curves(np.geomspace(1e9, 1e11, 6)).drop(columns="run_id")
    assert read(grid).frame["run_id"].nunique() == len(grid)
    assert "runs_assumed" in codes(read(grid))
    assert read(grid, runs="curves").frame["run_id"].nunique() == 4
    with pytest.raises(SettingsError, match=r"--runs curve: .*did you mean 'curves'"):
        read(grid, runs="curve")


def test_isoflop_rows_are_runs_of_their_own() -> None:
    assert codes(table(isoflop_rows())) == []
    inferred = read(isoflop_rows().drop(columns="budget_flops"))
    assert codes(inferred) == ["budgets_inferred"]
    assert not inferred.frame["run_id"].duplicated().any()


@pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason=f"the reference tables are absent: no folder {SHARED_DATA}"
)
@pytest.mark.parametrize(
    "name",
    ["chinchilla", "llama3", "marin", "porian", "sahoo_isoflop_points", "xlstm_ctx16384"],
)
def test_published_isoflop_tables_are_left_alone(name: str) -> None:
    checked = load(SHARED_DATA / f"{name}.csv")
    assert not checked.frame["run_id"].duplicated().any()
    assert not {"curves_assumed", "runs_assumed", "stray_losses_left_out"} & {*codes(checked)}


def test_dense_curves_are_thinned_and_fitted() -> None:
    dense = curves(np.arange(5e9, 25e9, 9e7), n_sizes=6)
    checked = read(dense)
    assert "curves_thinned" in codes(checked)
    assert len(checked.frame) < len(dense) / 3
    assert checked.frame["tokens"].max() == dense["tokens"].max()
    surface = fit_table(checked, FEW).family("m").surface
    assert surface is not None
    assert surface.ci["beta"][0] < LAW.beta < surface.ci["beta"][1]


def test_a_curve_of_few_rows_is_not_thinned() -> None:
    assert len(read(curves(LOGGED)).frame) == 4 * len(LOGGED)


def test_two_losses_of_one_step_are_named_and_left_out() -> None:
    whole = curves(np.arange(1e10, 9e10, 1e10), luck=0.0, noise=0.0)
    again = whole[(whole["params"] == 2e8) & (whole["tokens"] >= 5e10)]
    resumed = pd.concat([whole, again.assign(loss=again["loss"] + 0.3)])
    checked = read(resumed)
    said = next(each for each in checked.warnings if each.code == "two_losses_of_one_step")
    assert "4 steps" in said.message
    for words in ("'r200000000'", "5e+10 tokens", "in row 6 and", "in row 34", "resumed"):
        assert words in said.message
    assert len(checked.frame) == len(whole) - 4
    surface = fit_table(checked, FEW).family("m").surface
    assert surface is not None
    assert surface.alpha == pytest.approx(LAW.alpha, rel=1e-3)


def test_a_step_evaluated_twice_counts_once() -> None:
    whole = curves(LOGGED)
    again = whole.iloc[[3]].assign(loss=whole["loss"].iloc[3] * 1.001)
    checked = read(pd.concat([whole, again]))
    assert "repeated_steps" in codes(checked)
    assert len(checked.frame) == len(whole)


def test_ids_that_name_several_runs_are_remarked() -> None:
    whole = curves(LOGGED)
    checked = read(pd.concat([whole, whole.assign(loss=whole["loss"] * 1.05)]))
    assert "run_id_of_several_runs" in codes(checked)
    assert len(checked.frame) == 2 * len(whole)


def test_a_file_of_curves_is_read_alike(tmp_path: Path) -> None:
    curves(LOGGED).drop(columns="run_id").to_csv(tmp_path / "log.csv", index=False)
    assert load(tmp_path / "log.csv").frame["run_id"].nunique() == 4
