"""What columns are called: hints for those that are missing, names that a user gives, gaps."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from planted_tables import isoflop_rows, table

from analysis.errors import SettingsError, TableError
from analysis.tables.columns import RawTable, guesses, with_names
from analysis.tables.load import load
from analysis.tables.tidy import Reading
from sweeper.cli import cli

MISSING = ["family", "params", "tokens", "flops", "loss"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            "number value params_n_params params_tokens user_attrs_flops state",
            {
                "params": "params_n_params",
                "tokens": "params_tokens",
                "flops": "user_attrs_flops",
                "loss": "value",
            },
        ),
        ("N D C val_loss", {"params": "N", "tokens": "D", "flops": "C", "loss": "val_loss"}),
        ("train_loss step val_loss", {"loss": "val_loss"}),
        ("train_loss step", {"loss": "train_loss"}),
        ("flops_per_token batch_size_tokens tokens_seen", {"tokens": "tokens_seen"}),
        ("parms tokns", {"params": "parms", "tokens": "tokns"}),
        ("weights comment", {}),
    ],
)
def test_a_missing_column_is_guessed_once(columns: str, expected: dict[str, str]) -> None:
    found = {name: theirs for name, (theirs, _) in guesses(MISSING, columns.split()).items()}
    assert found == expected


@pytest.mark.parametrize(
    ("column", "name", "factor"),
    [
        ("mparams", "params", 1e6),
        ("gflops", "flops", 1e9),
        ("PFLOPs", "flops", 1e15),
        ("tokens_b", "tokens", 1e9),
        ("params (M)", "params", 1e6),
        ("n_params_in_millions", "params", 1e6),
        ("n_params", "params", 1.0),
        ("total FLOPs", "flops", 1.0),
    ],
)
def test_the_unit_in_a_name_is_read(column: str, name: str, factor: float) -> None:
    assert guesses([name], [column]) == {name: (column, factor)}


def test_a_hint_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("family,mparams,D,flops,val/nll\na,1,5e7,3e14,3.1\n")
    with pytest.raises(TableError) as caught:
        load(tmp_path / "runs.csv")
    message = str(caught.value)
    assert "'params' (is it 'mparams'? multiply it by 1e6 and rename it)" in message
    assert "--column tokens=D --column loss=val/nll" in message


def named(tmp_path: Path, header: str) -> Path:
    frame = isoflop_rows()[["family", "params", "tokens", "flops", "loss"]]
    text = frame.to_csv(index=False).replace("family,params,tokens,flops,loss", header)
    (tmp_path / "runs.csv").write_text(text)
    return tmp_path / "runs.csv"


def test_columns_are_read_under_the_names_a_user_gives(tmp_path: Path) -> None:
    path = named(tmp_path, "family,params,D,C,val/nll")
    columns = {"tokens": "D", "flops": "C", "loss": "val/nll", "budget_flops": "C"}
    pd.testing.assert_frame_equal(
        load(path, reading=Reading(columns)).frame[["params", "tokens", "flops", "loss"]],
        table(isoflop_rows()).frame[["params", "tokens", "flops", "loss"]],
    )


def test_a_column_that_is_replaced_is_set_aside(tmp_path: Path) -> None:
    path = named(tmp_path, "family,params,tokens,loss,flops")
    swapped = load(path, reading=Reading({"flops": "loss", "loss": "flops"})).frame
    assert swapped["loss"].tolist() == pytest.approx(isoflop_rows()["loss"].tolist())


def test_messages_name_a_column_as_the_file_does() -> None:
    frame = isoflop_rows().rename(columns={"loss": "val/nll"}).astype({"val/nll": object})
    frame.loc[3, "val/nll"] = "high"
    raw = RawTable(frame, "runs.csv", tuple(range(2, len(frame) + 2)))
    assert with_names(raw, {"loss": "val/nll"}).where(3, "loss") == (
        "runs.csv, row 5, column 'val/nll'"
    )


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"los": "D"}, ["--column los=D", "expected one of family", "did you mean 'loss'"]),
        ({"tokens": "d_"}, ["has no column 'd_'", "it has family, params, D"]),
    ],
)
def test_names_that_do_not_exist_are_refused(
    tmp_path: Path, columns: dict[str, str], said: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(named(tmp_path, "family,params,D,flops,loss"), reading=Reading(columns))
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize("verb", ["fit", "compare", "predict", "propose", "plot", "report"])
def test_every_verb_that_reads_a_source_takes_these_options(verb: str) -> None:
    shown = CliRunner().invoke(cli, [verb, "--help"]).output
    for option in ("--column NAME=THEIRS", "--runs", "--all-settings"):
        assert option in shown


def test_a_column_option_is_checked(tmp_path: Path) -> None:
    path = str(named(tmp_path, "family,params,D,flops,loss"))

    def said(*options: str) -> str:
        return str(CliRunner().invoke(cli, ["fit", path, *options]).output)

    assert "expected NAME=THEIRS" in said("--column", "tokens")
    assert "tokens is given twice" in said("--column", "tokens=D", "--column", "tokens=E")
    assert "outlier" in CliRunner().invoke(cli, ["fit", "--help"]).output


def with_cells(tmp_path: Path, **columns: Any) -> Path:
    isoflop_rows().assign(**columns).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path / "runs.csv"


@pytest.mark.parametrize("word", ["NA", "null", "None", "N/A", "nan", "NaN", "<NA>", " "])
def test_words_for_nothing_are_empty_cells(tmp_path: Path, word: str) -> None:
    frame = load(with_cells(tmp_path, seed=word, run_id=word, outlier=word)).frame
    assert frame["seed"].isna().all()
    assert not frame["run_id"].duplicated().any()
    assert len(frame) == len(isoflop_rows())
    with pytest.raises(TableError, match="row 2, column 'tokens': found"):
        load(with_cells(tmp_path, tokens=word))


def test_a_series_may_be_called_none(tmp_path: Path) -> None:
    assert set(load(with_cells(tmp_path, family="none")).frame["family"]) == {"none"}


@pytest.mark.parametrize("loss", ["", "nan", "inf", "diverged"])
def test_a_row_marked_outlier_is_left_out_before_it_is_checked(tmp_path: Path, loss: str) -> None:
    frame = isoflop_rows().astype({"loss": object}).assign(outlier=0)
    frame.loc[2, ["loss", "outlier"]] = loss, 1
    frame.to_csv(tmp_path / "runs.csv", index=False)
    assert len(load(tmp_path / "runs.csv").frame) == len(frame) - 1
