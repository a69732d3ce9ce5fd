"""Figures for a paper: their width, their type, their fonts, and whose style they have."""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from planted_rows import control, diffusion
from small_sweep import SIZES, small_sweep

from analysis.answers.compare import compare
from analysis.errors import SettingsError
from analysis.figures.palette import PALETTE
from analysis.figures.render import FIGURES, figure_bytes
from analysis.figures.style import HOUSE, HOUSE_FILE, Look, read_style, series_colors
from analysis.fitting.fit import FitSettings, fit_table
from analysis.pareto.answer import Asked, answer
from analysis.pareto.samples import load_samples
from analysis.report.published_table import with_published
from analysis.sensitivity.sensitivity import sensitivities
from analysis.sensitivity.study import Study

COLUMN = Look.of("column")
LONG = "a label of 22 letters."


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three series, one with a label as long as figures show, beside published laws."""
    folder = tmp_path_factory.mktemp("sweep")
    table = small_sweep(folder, ("ar", LONG, "masked"), sizes=SIZES[:6])
    fit = with_published(fit_table(table, FitSettings(n_bootstrap=20)), "gidd-masked,sahoo-ar")
    comparisons = [compare(fit, "ar", LONG), compare(fit, "masked", LONG)]
    tried = sensitivities(table, fit, comparisons[:1])
    rows = [*diffusion("masked", 2.0), *diffusion(LONG, 1.0), control("repeated", 3.0)]
    pd.DataFrame(rows).to_csv(folder / "samples.csv", index=False)
    samples = answer(load_samples(folder / "samples.csv"), Asked(n_resamples=20))
    return Study(table, fit, comparisons, tried, samples=samples)


def drawn_texts(figure: Figure) -> Iterator[tuple[Text, Bbox]]:
    """Every text that is seen, with its box in pixels, a tenth of its height smaller all around."""
    figure.draw_without_rendering()
    ticks: dict[Text, tuple[int, Sequence[float]]] = {}
    for axes in figure.axes:
        inside = axes.get_window_extent()
        for x, labels in enumerate((axes.get_yticklabels(), axes.get_xticklabels())):
            ends = inside.intervalx if x else inside.intervaly
            ticks |= dict.fromkeys(labels, (x, ends))
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if not (text.get_visible() and text.get_text().strip()):
            continue
        box = text.get_window_extent()
        if text in ticks:  # what lies beyond the ends of its axis is not drawn
            x, (low, high) = ticks[text]
            middle = 0.5 * sum(box.intervalx if x else box.intervaly)
            if not low - 1 <= middle <= high + 1:
                continue
        yield text, box.padded(-0.1 * float(text.get_fontsize()) * figure.dpi / 72)


@pytest.mark.parametrize("name", FIGURES)
def test_in_a_column_all_texts_are_large_enough_inside_and_apart(name: str, study: Study) -> None:
    figure = FIGURES[name](study, COLUMN)
    texts = list(drawn_texts(figure))
    assert figure.get_figwidth() == 3.25
    assert figure.get_figheight() <= 9.5
    assert len(texts) > 10
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in texts:
        assert float(text.get_fontsize()) >= 6.0, text
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    overlapping = [
        (a.get_text(), b.get_text())
        for (a, box), (b, other) in combinations(texts, 2)
        if box.overlaps(other)
    ]
    assert not overlapping


@pytest.mark.parametrize("name", ["frontier", "isoflop"])
def test_a_page_holds_panels_side_by_side(name: str, study: Study) -> None:
    figure = FIGURES[name](study, Look.of("page"))
    lefts = {round(axes.get_position().x0, 1) for axes in figure.axes}
    assert figure.get_figwidth() == 6.75
    assert len(lefts) > 1


def test_fonts_of_a_pdf_are_embedded_and_its_page_is_as_wide_as_asked(study: Study) -> None:
    figure = FIGURES["isoflop"](study, COLUMN)
    pdf = figure_bytes(figure, ".pdf", "x", COLUMN)
    assert b"/FontFile2" in pdf  # TrueType, which is type 42
    assert b"/Type3" not in pdf
    found = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
    assert found is not None
    assert float(found[1]) == 72 * 3.25


def test_text_of_an_svg_is_paths_unless_a_style_wants_text(study: Study, tmp_path: Path) -> None:
    (tmp_path / "own.mplstyle").write_text("svg.fonttype: none\n")
    own = Look.of("column", tmp_path / "own.mplstyle")
    has_text = [
        b"<text" in figure_bytes(FIGURES["isoflop"](study, look), ".svg", "x", look)
        for look in (COLUMN, own)
    ]
    assert has_text == [False, True]


def test_the_house_style_has_the_colours_of_the_palette() -> None:
    settings, left_out = read_style(HOUSE_FILE)
    assert not left_out
    with HOUSE.settings():
        assert [color.lstrip("#") for color in series_colors()] == [c[1:] for c in PALETTE]
    assert settings["pdf.fonttype"] == 42


def test_a_style_decides_colours_type_and_ticks(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "own.mplstyle"
    file.write_text(
        "# mine\nfont.size: 8  # larger\nfont.family: serif\nfont.serif: DejaVu Serif\n"
        "axes.prop_cycle: cycler('color', ['112233', '445566'])\naxes.facecolor: ffeedd\n"
        'axes.edgecolor: "#0000ff"\ntext.usetex: True\nfigure.figsize: 3, 3\n'
    )
    look = Look.of("column", file)
    assert look.left_out == ("text.usetex", "figure.figsize")
    figure = FIGURES["isoflop"](study, look)
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == LONG
    assert axes.yaxis.label.get_fontsize() == 8
    assert axes.yaxis.label.get_fontfamily() == ["serif", "DejaVu Sans"]
    assert axes.spines["left"].get_edgecolor() == (0.0, 0.0, 1.0, 1.0)
    colors = {str(line.get_color()).lstrip("#") for line in axes.lines}
    assert "112233" in colors
    assert figure.get_figwidth() == 3.25


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("axes.gird: True", r"own.mplstyle:2: matplotlib has no setting 'axes.gird'.*'axes.grid'"),
        ("axes.grid: perhaps", r"own.mplstyle:2: Key axes.grid: .*perhaps"),
        ("just words", "own.mplstyle:2: expected `name: value`, found 'just words'"),
        ("font.family: No Such Font", "no font 'No Such Font' on this machine"),
        ("axes.prop_cycle: cycler('color', open('x'))", "own.mplstyle:2: Key axes.prop_cycle"),
    ],
)
def test_a_bad_style_is_refused_with_its_line(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.mplstyle"
    file.write_text(f"# a comment\n{line}\n")
    with pytest.raises(SettingsError, match=message):
        Look.of("column", file)


def test_a_style_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none.mplstyle: cannot be read: No such file"):
        Look.of(5, tmp_path / "none.mplstyle")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\x00")
    with pytest.raises(SettingsError, match="it is not text in UTF-8"):
        Look.of(5, tmp_path / "image.png")


@pytest.mark.parametrize("width", ["colum", "0", "nan", "2.9", "31", "-3", "3,25"])
def test_a_width_that_no_figure_can_have_is_refused(width: str) -> None:
    with pytest.raises(SettingsError, match=rf"--width {width}: expected column \(3.25 in\), page"):
        Look.of(width)
    assert Look.of("3.5").width_inches == 3.5
