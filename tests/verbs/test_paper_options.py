"""What `plot`, `fit` and `compare` offer to those who write a paper, by their options."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_sweep import SIZES, small_sweep

from analysis.errors import SettingsError
from analysis.figures.palette import PALETTE
from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.sensitivity.selection import Selection
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


@pytest.fixture(scope="module")
def fit_of_three(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    table = small_sweep(tmp_path_factory.mktemp("three"), ("ar", "masked", "masked-ce"))
    return fit_table(table, FitSettings(n_bootstrap=10))


def pairs(selection: Selection, fit: FitResult) -> set[tuple[str, str]]:
    return {(each.baseline, each.against) for each in selection.comparisons(fit)}


def test_series_and_pairs_are_chosen_as_compare_names_them(fit_of_three: FitResult) -> None:
    fit = fit_of_three
    assert Selection().of(fit) == fit
    assert len(pairs(Selection(), fit)) == 3
    two = Selection(("masked", "ar"))
    assert [*two.of(fit).families] == ["ar", "masked"]
    assert pairs(two, fit) == {("ar", "masked")}
    pair = Selection((), "masked", ("ar",))
    assert [*pair.of(fit).families] == ["ar", "masked"]
    assert pairs(pair, fit) == {("masked", "ar")}
    against_one = Selection((), "masked")
    assert against_one.of(fit) == fit
    assert pairs(against_one, fit) == {("masked", "ar"), ("masked", "masked-ce")}
    assert pairs(Selection(("ar",), "masked"), fit) == {("masked", "ar")}


@pytest.mark.parametrize(
    ("selection", "refusal"),
    [
        (Selection(("maskd",)), "no series 'maskd'; the table has ar, masked, masked-ce; did you"),
        (Selection((), "ra"), "no series 'ra'; the table has ar, masked, masked-ce"),
        (Selection((), "ar", ("uniform",)), "no series 'uniform'; the table has ar, masked, mask"),
        (Selection((), None, ("ar",)), "--against ar needs --baseline"),
        (Selection((), "ar", ("ar",)), "--baseline and --against are both 'ar'"),
    ],
)
def test_what_cannot_be_chosen_is_said_as_compare_says_it(
    fit_of_three: FitResult, selection: Selection, refusal: str
) -> None:
    with pytest.raises(SettingsError, match=refusal):
        selection.comparisons(fit_of_three)


def test_plot_shows_the_chosen_series_in_the_colours_they_have_among_all(tmp_path: Path) -> None:
    small_sweep(tmp_path, ("ar", "masked", "masked-ce"), sizes=SIZES[:6])
    words = ("plot", tmp_path / "small.csv", "--what", "trajectories", "-o", tmp_path / "a.svg")
    assert called(*words, "--family", "masked").exit_code == 0
    drawn = (tmp_path / "a.svg").read_text()
    own, other = PALETTE[1], PALETTE[0]
    assert own in drawn
    assert other not in drawn
    for option in (("--family", "maskd"), ("--against", "masked")):
        assert isinstance(called(*words, *option).exception, SettingsError)
    refused = called(
        "plot", tmp_path / "small.csv", "--what", "pareto", "--family", "ar", "-o", "x"
    )
    assert refused.exit_code == 2
    assert "choose no series" in refused.output


def test_a_bad_width_or_style_writes_nothing(table: Path, tmp_path: Path) -> None:
    for words in (["--width", "colum"], ["--style", str(tmp_path / "none.mplstyle")]):
        refused = called("plot", table, *words, "-o", tmp_path / "a.pdf")
        assert isinstance(refused.exception, SettingsError)
    assert not list(tmp_path.iterdir())


def test_a_folder_gets_every_format(table: Path, tmp_path: Path) -> None:
    called("plot", table, "--what", "exponents", "-o", tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"exponents.pdf", "exponents.png", "exponents.svg"}
