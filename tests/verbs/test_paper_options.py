"""What `plot`, `fit` and `compare` offer to those who write a paper, by their options."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_sweep import SIZES, small_sweep

from analysis.errors import SettingsError
from sweeper.cli import cli


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    small_sweep(folder, ("ar", "masked"), sizes=SIZES[:6])
    return folder / "small.csv"


def called(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, words), "--bootstrap", "20"])


def test_fit_and_compare_print_tables_for_a_paper(table: Path) -> None:
    fitted = called("fit", table, "--format", "latex")
    assert fitted.exit_code == 0, fitted.output
    assert fitted.stdout.count(r"\toprule") == 3
    assert "Source: small.csv, data " in fitted.stdout
    compared = called(
        "compare", table, "--baseline", "ar", "--against", "masked", "--format", "latex"
    )
    assert r"\caption{Compute of masked over ar" in compared.stdout


def test_json_has_two_names_and_only_one_format_is_printed(table: Path) -> None:
    assert called("fit", table, "--json").stdout == called("fit", table, "--format", "json").stdout
    refused = called("fit", table, "--json", "--format", "latex")
    assert refused.exit_code == 2
    assert "--json and --format latex: choose one" in refused.output


def test_plot_draws_in_a_width_and_a_style_and_says_what_it_leaves_out(
    table: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.mplstyle").write_text("font.size: 8\ntext.usetex: True\n")
    words = ("plot", table, "--what", "isoflop", "--width", "column")
    drawn = called(*words, "--style", tmp_path / "own.mplstyle", "-o", tmp_path / "a.pdf")
    assert drawn.exit_code == 0, drawn.output
    assert "labels are no LaTeX: text.usetex" in drawn.stderr
    assert b"/MediaBox [ 0 0 234 " in (tmp_path / "a.pdf").read_bytes()


def test_a_bad_width_or_style_writes_nothing(table: Path, tmp_path: Path) -> None:
    for words in (["--width", "colum"], ["--style", str(tmp_path / "none.mplstyle")]):
        refused = called("plot", table, *words, "-o", tmp_path / "a.pdf")
        assert isinstance(refused.exception, SettingsError)
    assert not list(tmp_path.iterdir())


def test_a_folder_gets_every_format(table: Path, tmp_path: Path) -> None:
    called("plot", table, "--what", "exponents", "-o", tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"exponents.pdf", "exponents.png", "exponents.svg"}
