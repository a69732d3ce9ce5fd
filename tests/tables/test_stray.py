"""One bad row is named and kept out, and does not cost the surface."""

import numpy as np
import pandas as pd
import pytest
from planted_tables import SHARED_DATA, isoflop_rows, table

from analysis.errors import FitWarning
from analysis.fitting.fit import FitSettings, fit_table
from analysis.tables.load import load
from analysis.tables.tidy import TidyTable


def stray(checked: TidyTable) -> list[FitWarning]:
    return [each for each in checked.warnings if each.code == "stray_losses_left_out"]


def rows(noise: float = 0.002) -> pd.DataFrame:
    """Three budgets of five sizes."""
    budgets = np.geomspace(1e18, 1e20, 3)
    return isoflop_rows(noise=noise, budgets=budgets, n_sizes=5, half_width=4.0)


@pytest.mark.parametrize("position", range(15))
def test_a_diverged_run_is_named_and_left_out(position: int) -> None:
    frame = rows()
    frame.loc[position, "loss"] = 11.2
    checked = table(frame)
    (said,) = stray(checked)
    assert f"row {position + 1} (" in said.message
    assert "has 11.2 where" in said.message
    assert len(checked.frame) == 14


def test_the_surface_is_that_of_the_other_rows() -> None:
    frame = rows()
    frame.loc[7, "loss"] = 11.2
    few = FitSettings(n_bootstrap=100)
    found = fit_table(table(frame), few).family("a").surface
    alone = fit_table(table(frame.drop(index=7)), few).family("a").surface
    assert found is not None
    assert alone is not None
    assert found.ci["alpha"] == pytest.approx(alone.ci["alpha"])


def test_a_slip_of_a_digit_is_named_too() -> None:
    frame = rows()
    frame["loss"] *= np.where(frame.index == 4, 0.1, 1.0)
    assert len(stray(table(frame))) == 1


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.01, 0.03])
def test_honest_rows_are_all_kept(noise: float) -> None:
    for frame in (rows(noise), isoflop_rows(noise=noise)):
        assert len(table(frame).frame) == len(frame)


def test_rows_that_a_user_has_looked_at_are_kept() -> None:
    frame = rows().assign(outlier=0)
    frame.loc[7, "loss"] = 11.2
    checked = table(frame)
    assert len(checked.frame) == 15
    assert stray(checked) == []


@pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason=f"the reference tables are absent: no folder {SHARED_DATA}"
)
def test_of_hoffmann_et_al_s_rows_only_marked_ones_are_stray() -> None:
    marked = pd.read_csv(SHARED_DATA / "chinchilla.csv")
    left_out = {*marked.index} - {*table(marked.drop(columns="outlier")).frame.index}
    assert left_out
    assert left_out <= {*marked.index[marked["outlier"] == 1]}
    assert stray(load(SHARED_DATA / "chinchilla.csv")) == []
