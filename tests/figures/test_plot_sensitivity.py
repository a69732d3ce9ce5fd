"""The sensitivity figure and its place in the report."""

import dataclasses
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from small_sweep import small_sweep

from analysis.answers.compare import compare, compare_all
from analysis.errors import NothingToDraw
from analysis.figures.render import save_figures
from analysis.figures.sensitivity import MAX_PAIRS, sensitivity
from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.report.html import render_report
from analysis.report.provenance import Provenance
from analysis.sensitivity.conclusions import Sensitivity
from analysis.sensitivity.sensitivity import sensitivities
from analysis.sensitivity.study import Study
from analysis.tables.tidy import TidyTable

PAIR = ("ar", "masked")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TidyTable:
    return small_sweep(tmp_path_factory.mktemp("sweep"), ("ar", "masked", "masked-ce"))


@pytest.fixture(scope="module")
def fit(table: TidyTable) -> FitResult:
    return fit_table(table, FitSettings(n_bootstrap=20))


@pytest.fixture(scope="module")
def tried(table: TidyTable, fit: FitResult) -> Sensitivity:
    return sensitivities(table, fit, [compare(fit, *PAIR)])[0]


@pytest.fixture(scope="module")
def figure(fit: FitResult, tried: Sensitivity) -> Figure:
    return sensitivity([tried], fit)


def panel(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def test_every_variation_has_a_row_under_the_heading_of_its_kind(
    figure: Figure, tried: Sensitivity
) -> None:
    rows = [text.get_text() for text in panel(figure, "Δ N* exponent").get_yticklabels()]
    assert rows[0] == "as fitted"
    assert rows.index("functional form") < rows.index("parabola") < rows.index("fit window")
    n_kinds = len({variation.kind for variation in tried.variations})
    assert len(rows) == 1 + n_kinds + len(tried.variations)


def test_crosses_are_the_rows_that_contradict_the_fit(figure: Figure, tried: Sensitivity) -> None:
    for title, quantity in (("Δ N* exponent", "params"), ("compute multiplier", "multiplier")):
        found = tried.of(quantity)  # type: ignore[arg-type]
        crosses = [line for line in panel(figure, title).lines if line.get_marker() == "X"]
        assert len(crosses) == len(found.changed)


def test_what_is_not_supported_is_said_and_has_no_mark(figure: Figure, tried: Sensitivity) -> None:
    axes = panel(figure, "Δ L* exponent")
    found = tried.of("loss")
    missing = len(found.rows) - len(found.tried)
    assert missing >= 2  # the table has no ingredients to recount parameters and FLOPs from
    assert [text.get_text() for text in axes.texts] == ["not supported"] * missing
    marks = [line for line in axes.lines if line.get_marker() in ("o", "X")]
    assert len(marks) == 1 + len(found.tried)


def test_axes_hold_every_number_and_the_line_of_no_difference(
    figure: Figure, tried: Sensitivity
) -> None:
    low, high = panel(figure, "Δ D* exponent").get_xlim()
    found = tried.of("tokens")
    values = [row.value for row in found.tried if row.value is not None]
    assert low < min(0.0, *values)
    assert max(0.0, *values) < high


def test_one_pair_also_shows_the_exponents_of_each_series(figure: Figure) -> None:
    axes = panel(figure, "N* exponent")
    colors = {line.get_color() for line in axes.lines if line.get_marker() not in ("", "None")}
    assert len(colors) == 2


def test_several_pairs_are_stacked_up_to_what_a_figure_holds(
    table: TidyTable, fit: FitResult
) -> None:
    every = sensitivities(table, fit, compare_all(fit))
    titles = [axes.get_title(loc="left") for axes in sensitivity(every, fit).axes]
    assert titles.count("Δ N* exponent") == min(len(every), MAX_PAIRS) == 3
    assert "N* exponent" not in titles


def test_without_a_sensitivity_there_is_no_figure(fit: FitResult) -> None:
    with pytest.raises(NothingToDraw, match="no sensitivity"):
        sensitivity([], fit)


def test_a_pair_without_numbers_leaves_no_empty_panels(fit: FitResult, tried: Sensitivity) -> None:
    mute = [
        dataclasses.replace(
            each, rows=tuple(dataclasses.replace(row, value=None, ci=None) for row in each.rows)
        )
        for each in tried.comparisons
    ]
    silent = dataclasses.replace(tried, comparisons=tuple(mute))
    figure = sensitivity([silent], fit)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "Δ N* exponent" not in titles
    assert "N* exponent" in titles


def test_the_figure_is_saved_by_its_name(
    tmp_path: Path, table: TidyTable, fit: FitResult, tried: Sensitivity
) -> None:
    study = Study(table, fit, sensitivities=[tried])
    saved = save_figures(study, tmp_path / "s.png", ("sensitivity",))
    assert saved.paths == (tmp_path / "s.png",)


def test_the_report_shows_verdicts_figure_and_every_variation(
    table: TidyTable, fit: FitResult, tried: Sensitivity
) -> None:
    study = Study(table, fit, [compare(fit, *PAIR)], [tried])
    page = render_report("small", study, Provenance("small.csv", (), ()))
    section = page[page.index('<section id="sensitivity">') : page.index('<section id="laws">')]
    n_drawn = sum(any(row.value is not None for row in c.rows) for c in tried.comparisons)
    assert section.count('class="chart"') == n_drawn > 0
    for conclusion in tried.comparisons:
        assert conclusion.verdict in section
    for variation in tried.variations:
        assert variation.label in section
