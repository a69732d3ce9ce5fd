"""Sources: what is read, what is refused with its place, what is remarked. Never a traceback."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_tables import BUDGETS, isoflop_rows
from planted_tables import table as planted_table

from analysis.errors import FitError, SettingsError, SourceError, TableError
from analysis.fitting.fit import FitSettings, fit_table, to_json
from analysis.tables.load import load
from analysis.tables.tidy import TidyTable, inferred_budgets

HEADER = "family,params,tokens,flops,loss\n"
GOOD = "a,1000000,50000000,3e14,3.1\n"
SEVERAL = "".join(f"a,1000000,50000000,3e14,3.{digit}\n" for digit in range(4))


def written(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def codes(table: TidyTable) -> list[str]:
    return [warning.code for warning in table.warnings]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["runs.csv", "empty file"]),
        ("   \n\n", ["empty file"]),
        ("hello world\nno table here\n", ["CSV header"]),
        (HEADER, ["no rows"]),
        ("family,params,tokens,flops\na,1,1,1\n", ["missing column 'loss'"]),
        ("family,param,tokens,flops,loss\na,1,1,1,1\n", ["'params'", "'param'? rename it"]),
        ("family,family,params,tokens,flops,loss\na,a,1,1,1,1\n", ["'family' occurs twice"]),
        (HEADER + GOOD + "a,12M,5e7,3e14,3.1\n", ["row 3", "'params'", "'12M'", "without units"]),
        (HEADER + '"a","1,000,000",5e7,3e14,3.1\n', ["row 2", "thousands separators"]),
        (HEADER + GOOD + "a,1e6,5e7,3e14,nan\n", ["row 3", "'loss'", "nan", "diverged"]),
        (HEADER + GOOD + "a,1e6,5e7,inf,3.1\n", ["row 3", "'flops'", "inf"]),
        (HEADER + "a,1e999,5e7,3e14,3.1\n", ["row 2", "'params'", "1e999"]),
        (HEADER + GOOD + "a,0,5e7,3e14,3.1\n", ["row 3", "'params'", "found 0", "positive"]),
        (HEADER + "a,1e6,-5e7,3e14,3.1\n", ["row 2", "'tokens'", "-5e7", "positive"]),
        (HEADER + "a,1e6,,3e14,3.1\n", ["row 2", "'tokens'", "empty cell", "fill it in"]),
        (HEADER + ",1e6,5e7,3e14,3.1\n", ["row 2", "'family'", "label"]),
        (HEADER + "a,1e6,5e7,3e14\n", ["row 2", "4 cells", "expected 5"]),
        (HEADER + GOOD + "a,1e6,5e7,3e14,3.1,extra\n", ["row 3", "6 cells"]),
        ("x" + HEADER.replace(",", "|") + "a|1|1|1|1\n", ["CSV header"]),
        (HEADER + SEVERAL + "a,1.0,50000000,3e14,3.1\n", ["row 6", "mixed units"]),
        (HEADER.strip() + ",outlier\n" + GOOD.strip() + ",maybe\n", ["row 2", "'maybe'", "0 or 1"]),
        (HEADER.strip() + ",outlier\n" + GOOD.strip() + ",1\n", ["every row is marked"]),
        (HEADER.strip() + ",budget_flops\n" + GOOD.strip() + ",-1\n", ["'budget_flops'", "-1"]),
        (HEADER.strip() + ",loss_stderr\n" + GOOD.strip() + ",-0.1\n", ["'loss_stderr'", "≥ 0"]),
        ('family,params\n"unclosed,1\n', ["runs.csv"]),
        (HEADER.upper() + GOOD, ["missing column 'family' (is it 'FAMILY'? rename it)"]),
        (HEADER + GOOD + "a,1e6,5e7,3e14,3.1e300\n", ["row 3", "'loss'", "check the exponent"]),
        (HEADER + GOOD + "\x1b[31mred,1e6,5e7,3e14,3.1\n", ["row 3", "control characters"]),
        (
            HEADER.strip() + ",run_id\na,1e6,5e7,3e14,3.1,r\na,2e6,5e7,6e14,3.0,r\n",
            ["row 3", "run_id 'r'", "another size"],
        ),
        (
            HEADER + SEVERAL + SEVERAL.replace("a,1000000", "b,1"),
            ["row 6", "'b'", "mixed units"],
        ),
    ],
)
def test_a_dirty_table_is_refused_with_place_and_reason(
    tmp_path: Path, text: str, said: list[str]
) -> None:
    with pytest.raises(FitError) as caught:
        load(written(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    for words in said:
        assert words in message


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        load(tmp_path / "absent.csv")
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(SourceError, match="not text"):
        load(tmp_path / "noise.csv")
    (tmp_path / "nulls.csv").write_bytes(b"family,params\n\0\0\0\n")
    with pytest.raises(SourceError, match="binary"):
        load(tmp_path / "nulls.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(SourceError, match="Parquet"):
        load(tmp_path / "bad.parquet")


def test_a_folder_without_tables_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither a results folder"):
        load(tmp_path)
    written(tmp_path, HEADER + GOOD)
    with pytest.raises(SourceError, match=r"did you mean .*runs\.csv"):
        load(tmp_path)


def test_a_sweep_without_a_finished_trial_says_so(tmp_path: Path) -> None:
    written(tmp_path, "name: x\n", "sweep.yaml")
    with pytest.raises(SourceError, match="no trial has finished yet"):
        load(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "folder", "tsv"])
def test_every_kind_of_source_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    frame = isoflop_rows("a")
    path = tmp_path / f"runs.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        path = tmp_path / "parts"
        path.mkdir()
        frame[:20].to_parquet(path / "0.parquet")
        frame[20:].to_parquet(path / "1.parquet")
    loaded = load(path).frame
    for column in ("params", "tokens", "flops", "loss", "budget_flops"):
        np.testing.assert_allclose(loaded[column], frame[column], rtol=1e-12)


def test_extra_columns_are_ignored_and_blank_lines_passed_over(tmp_path: Path) -> None:
    text = "family , params,tokens,flops,loss,note\n\na,1e6,5e7,3e14,3.1,x\n\n"
    assert len(load(written(tmp_path, text)).frame) == 1


def test_outliers_duplicates_and_gaps_are_named(tmp_path: Path) -> None:
    frame = isoflop_rows("a").assign(outlier=0, loss_stderr=0.01)
    frame.loc[2, "outlier"] = 1
    frame.loc[5, "loss_stderr"] = np.nan
    frame.loc[6, "budget_flops"] = np.nan
    frame = pd.concat([frame, frame.iloc[[0]]])
    frame.to_csv(tmp_path / "runs.csv", index=False)
    table = load(tmp_path / "runs.csv")
    assert len(table.frame) == 34
    assert set(codes(table)) == {
        "outliers_left_out",
        "duplicate_rows",
        "incomplete_loss_stderr",
        "rows_without_budget",
    }


def test_units_that_look_wrong_everywhere_are_remarked() -> None:
    frame = isoflop_rows("a")
    assert "suspicious_units" in codes(planted_table(frame.assign(params=frame["params"] / 1e6)))
    assert "suspicious_loss" in codes(planted_table(frame.assign(loss=np.exp(frame["loss"]) * 10)))


def test_rows_off_by_ten_and_budgets_that_are_not_flops_are_remarked() -> None:
    frame = isoflop_rows("a")
    few = frame.copy()
    few.loc[4:8, "params"] *= 10
    assert "uneven_cost" in codes(planted_table(few))
    other = frame.assign(budget_flops=1e3 * frame["budget_flops"])
    assert codes(planted_table(other)) == ["budgets_differ_from_flops"]
    assert codes(planted_table(frame)) == []


def test_a_budget_with_a_run_that_spent_a_multiple_gets_no_curve() -> None:
    frame = isoflop_rows("a")
    frame.loc[4, "budget_flops"] = BUDGETS[-1]
    checked = planted_table(frame)
    assert codes(checked) == ["uneven_budget_left_out"]
    assert list(checked.frame["budget_flops"].dropna().unique()) == list(BUDGETS[:-1])
    assert len(checked.frame) == len(frame)


def test_truth_values_are_no_losses(tmp_path: Path) -> None:
    isoflop_rows("a").assign(loss=True).to_parquet(tmp_path / "runs.parquet")
    with pytest.raises(TableError, match="found True, expected a positive number"):
        load(tmp_path / "runs.parquet")


def test_a_column_that_pandas_wrote_as_its_index_is_read(tmp_path: Path) -> None:
    isoflop_rows("a").set_index("family").to_parquet(tmp_path / "runs.parquet")
    assert set(load(tmp_path / "runs.parquet").frame["family"]) == {"a"}


def test_budgets_that_differ_by_rounding_are_one() -> None:
    frame = isoflop_rows("a")
    rounded = frame["budget_flops"].astype(np.float32).astype(np.float64)
    frame["budget_flops"] = rounded.where(frame.index % 2 == 0, frame["budget_flops"])
    assert planted_table(frame).frame["budget_flops"].nunique() == len(BUDGETS)


def test_budgets_are_inferred_from_gaps_in_flops_or_not_at_all() -> None:
    rng = np.random.default_rng(0)
    flops = np.repeat(BUDGETS, 6) * np.exp(0.02 * rng.standard_normal(30))
    inferred = inferred_budgets(flops)
    assert inferred is not None
    np.testing.assert_allclose(inferred, np.repeat(BUDGETS, 6), rtol=0.05)
    assert inferred_budgets(np.geomspace(1e15, 1e17, 300)) is None
    assert inferred_budgets(np.geomspace(1e15, 1e17, 8)) is None


def test_a_table_without_budgets_still_gets_its_surface(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = isoflop_rows("a", noise=0.001).drop(columns="budget_flops")
    spread = np.exp(rng.uniform(-0.5, 0.5, len(frame)))
    frame["tokens"] *= spread
    frame["flops"] *= spread
    frame["loss"] = 1.2 + 60 * frame["params"] ** -0.34 + 400 * frame["tokens"] ** -0.37
    frame.to_csv(tmp_path / "runs.csv", index=False)
    result = fit_table(load(tmp_path / "runs.csv"), FitSettings(n_bootstrap=50))
    answer = to_json(result)
    assert answer["families"]["a"]["isoflop"] is None
    assert answer["families"]["a"]["surface"] is not None
    assert "no_budgets" in {warning["code"] for warning in answer["warnings"]}
    json.dumps(answer, allow_nan=False)


def test_a_convention_needs_ingredients(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no ingredients"):
        load(written(tmp_path, HEADER + GOOD), flops="6N")
    with pytest.raises(SettingsError, match="no ingredients"):
        load(written(tmp_path, HEADER + GOOD), params="total")


def test_integers_beyond_int64_are_numbers(tmp_path: Path) -> None:
    text = HEADER + "a,1000000000000,100000000000000000000,600000000000000000000000000000000,2.1\n"
    assert load(written(tmp_path, text)).frame["flops"][0] == 6e32


def test_errors_are_of_one_tree() -> None:
    assert issubclass(SourceError, FitError)
    assert issubclass(TableError, FitError)
    assert issubclass(SettingsError, FitError)
