"""Our own store as a tidy table: series, runs, conventions, diverged trials."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted_observations import observations, stored

from analysis.errors import SettingsError, TableError
from analysis.fitting.fit import FitSettings, fit_table
from analysis.tables.load import load
from sweeper.trials.flops import FLOPS_CONVENTIONS
from sweeper.trials.ladder import PARAMS_CONVENTIONS


@pytest.mark.parametrize("parts", [1, 3])
def test_a_results_folder_is_read_as_its_series(tmp_path: Path, parts: int) -> None:
    folder = stored(tmp_path, pd.concat([observations("masked"), observations("ar")]), parts=parts)
    table = load(folder)
    assert sorted(table.frame["family"].unique()) == ["ar", "masked"]
    assert table.frame["run_id"].nunique() == 14
    assert (table.params_convention, table.flops_convention) == ("trunk", "full")
    assert table.frame["loss_stderr"].eq(0.004).all()
    assert table.warnings == ()


def test_every_convention_is_computed_from_the_ingredients(tmp_path: Path) -> None:
    folder = stored(tmp_path, observations())
    row = observations().iloc[0]
    params = {name: load(folder, params=name).frame["params"][0] for name in PARAMS_CONVENTIONS}
    assert params["trunk"] == row["params_trunk"]
    assert params["trunk+head"] == row["params_trunk"] + row["params_head"]
    assert params["total"] > params["trunk+head"]
    flops = {name: load(folder, flops=name).frame["flops"][0] for name in FLOPS_CONVENTIONS}
    assert flops["full"] == row["flops"]
    assert flops["6N"] == 6 * row["params_trunk"] * row["tokens"]
    attention = row["flops_per_token_attention"] * row["tokens"]
    assert flops["6N+attention"] == flops["6N"] + attention
    assert flops["no-attention"] == pytest.approx(flops["full"] - attention)


def test_an_unknown_convention_is_refused_with_a_hint(tmp_path: Path) -> None:
    folder = stored(tmp_path, observations())
    with pytest.raises(SettingsError, match=r"did you mean 'trunk\+head'"):
        load(folder, params="trunk-head")
    with pytest.raises(SettingsError, match="expected one of full"):
        load(folder, flops="12N")


def test_diverged_trials_are_named_and_in_no_fit(tmp_path: Path) -> None:
    frame = observations()
    bad = frame["trial_id"] == frame["trial_id"].iloc[-1]
    frame.loc[bad, "status"] = "diverged"
    frame.loc[bad, "bound_nats_per_token"] = 9.9
    table = load(stored(tmp_path, frame))
    assert len(table.frame) == len(frame) - bad.sum()
    assert [warning.code for warning in table.warnings] == ["diverged_left_out"]


def test_a_trajectory_extended_by_a_second_trial_counts_once(tmp_path: Path) -> None:
    frame = observations()
    again = frame[frame["budget_flops"] < 1e11].assign(trial_id="shorter")
    table = load(stored(tmp_path, pd.concat([frame, again])))
    assert len(table.frame) == len(frame)


def test_a_folder_without_a_finished_trial_says_so(tmp_path: Path) -> None:
    folder = stored(tmp_path, observations().assign(status="diverged"))
    with pytest.raises(TableError, match="no observation of a finished trial"):
        load(folder)


@pytest.mark.parametrize("flops", FLOPS_CONVENTIONS)
def test_a_sweep_of_ours_is_fitted_under_every_convention(tmp_path: Path, flops: str) -> None:
    both = pd.concat([observations("masked"), observations("uniform", handicap=1.6)])
    result = fit_table(load(stored(tmp_path, both), flops=flops), FitSettings(n_bootstrap=50))
    assert result.flops_convention == flops
    for label in ("masked", "uniform"):
        isoflop = result.family(label).isoflop
        assert isoflop is not None
        assert len(isoflop.bracketed) >= 2
        assert result.family(label).surface is not None


def test_batch_and_rate_come_from_the_trials_beside_the_observations(tmp_path: Path) -> None:
    frame = observations()
    folder = stored(tmp_path, frame)
    trials = pd.DataFrame({"trial_id": frame["trial_id"].unique()})
    trials = trials.assign(batch_tokens=4096, learning_rate=np.linspace(0.1, 0.7, len(trials)))
    (folder / "trials").mkdir()
    pq.write_table(pa.Table.from_pandas(trials), folder / "trials" / "part-0.parquet")
    found = load(folder).frame
    assert (found["batch_tokens"] == 4096).all()
    assert found.groupby("params")["learning_rate"].nunique().eq(1).all()
    assert found["learning_rate"].nunique() == len(trials)
