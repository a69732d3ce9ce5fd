"""Figures: what they show, how they label it, and what they refuse to draw."""

import dataclasses
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from small_sweep import BUDGETS, LAWS, SIZES, small_sweep

from analysis import notation
from analysis.answers.compare import Comparison, MultiplierPoint, compare, stretches
from analysis.errors import FitError, NothingToDraw, SettingsError
from analysis.figures.axes import log_ticks
from analysis.figures.exponents import exponents
from analysis.figures.frontier import frontier
from analysis.figures.isoflop import isoflop
from analysis.figures.labels import columns_of, spread, thinned
from analysis.figures.multiplier import multiplier
from analysis.figures.palette import DARK_PALETTE, PALETTE
from analysis.figures.render import figure_bytes, save_figures
from analysis.figures.style import HOUSE, MAX_LABEL, drawn_label, muted, series_styles
from analysis.figures.trajectories import trajectories
from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.report.published_table import with_published
from analysis.sensitivity.study import Study
from analysis.tables.points import FloatArray, records
from analysis.tables.tidy import TidyTable
from sweeper.errors import OutputError

SETTINGS = FitSettings(n_bootstrap=20)
DARK_PAGE = "#15181c"


@pytest.fixture(autouse=True)
def house() -> Iterator[None]:
    with HOUSE.settings():
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TidyTable:
    return small_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def fit(table: TidyTable) -> FitResult:
    """`uniform` has one bracketed budget of five and no laws; the others have everything."""
    return fit_table(table, SETTINGS)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit_table(small_sweep(tmp_path_factory.mktemp("one"), ("masked",)), SETTINGS)


@pytest.fixture(scope="module")
def valleys(fit: FitResult) -> Figure:
    return isoflop(fit)


@pytest.fixture(scope="module")
def frontiers(fit: FitResult) -> Figure:
    return frontier(fit)


def texts(figure: Figure) -> list[str]:
    """Every text of a figure, titles, labels and keys included."""
    return [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]  # type: ignore[attr-defined]


def panel(figure: Figure, title: str) -> Axes:
    """The axes with this title."""
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def test_isoflop_has_a_panel_per_series_and_counts_its_bracketed_budgets(valleys: Figure) -> None:
    figure = valleys
    assert [axes.get_title(loc="left") for axes in figure.axes] == sorted(LAWS)
    shown = [text.get_text() for text in panel(figure, "uniform").texts]
    assert "1 of 5 budgets bracketed" in shown
    assert "5 of 5 budgets bracketed" in [t.get_text() for t in panel(figure, "ar").texts]


def test_isoflop_flags_unbracketed_budgets_with_the_side_of_their_minimum(valleys: Figure) -> None:
    shown = [text.get_text() for text in panel(valleys, "uniform").texts]
    assert "← 3.2×10¹¹" in shown
    assert "? 10¹¹" in shown
    assert "10¹²" in shown


def test_isoflop_draws_unbracketed_points_hollow_and_bracketed_points_filled(
    valleys: Figure,
) -> None:
    axes = panel(valleys, "uniform")
    measured = [
        line for line in axes.lines if line.get_marker() == series_styles(LAWS)["uniform"].marker
    ]
    faces = [str(line.get_markerfacecolor()) for line in measured]
    assert faces.count("#ffffff") == 4
    assert len(set(faces)) == 2


def test_isoflop_panels_share_their_scale_of_loss(valleys: Figure) -> None:
    heights = [float(np.ptp(axes.get_ylim())) for axes in valleys.axes]
    assert heights == pytest.approx([heights[0]] * len(heights), rel=0.1)


def test_frontier_names_units_and_every_series(frontiers: Figure) -> None:
    shown = texts(frontiers)
    for text in ("L* (nats per token)", "N* (parameters)", "D* (tokens)", *LAWS):
        assert text in shown
    assert shown.count("training compute C (FLOPs)") == 2
    assert "lowest loss, budget not bracketed" in shown


def test_published_laws_are_grey_labelled_and_leave_every_series_its_label(
    fit: FitResult, frontiers: Figure
) -> None:
    figure = frontier(with_published(fit, "gidd-masked,sahoo-ar,nie-ar"))
    for before, axes in zip(frontiers.axes[:3], figure.axes[:3], strict=True):
        texts = {text.get_text(): text.get_color() for text in axes.texts}
        assert {text.get_text() for text in before.texts} <= set(texts)
        assert "nie-ar" not in texts  # without a coefficient there is no line
        grey = [line for line in axes.get_lines() if line.get_color() == muted()]
        assert bool(grey) == ("gidd-masked" in texts)
        low, high = axes.get_ylim()
        assert low <= before.get_ylim()[0]
        assert high >= before.get_ylim()[1]


def test_published_losses_far_from_ours_are_named_and_do_not_squeeze_the_panel(
    fit: FitResult, frontiers: Figure
) -> None:
    figure = frontier(with_published(fit, "gidd-masked"))
    assert figure.axes[0].get_ylim() == frontiers.axes[0].get_ylim()
    assert any("off this panel: gidd-masked" in t.get_text() for t in figure.axes[0].texts)


def test_frontier_shows_hollow_marks_only_where_budgets_are_not_bracketed(
    single: FitResult,
) -> None:
    assert "lowest loss, budget not bracketed" not in texts(frontier(single))


def test_laws_are_solid_inside_their_budgets_and_dashed_outside(single: FitResult) -> None:
    axes = panel(frontier(single), "Compute-optimal size")
    lines = [line for line in axes.lines if line.get_linewidth() in (1.6, 1.3)]
    solid = [line for line in lines if line.get_linestyle() == "-"]
    assert len(solid) == 1
    inside = np.asarray(solid[0].get_xdata(), dtype=float)
    low, high = float(inside.min()), float(inside.max())
    assert (low, high) == pytest.approx((BUDGETS[0], BUDGETS[-1]))
    dashed = [
        np.asarray(line.get_xdata(), dtype=float) for line in lines if line.get_linestyle() == "--"
    ]
    assert len(dashed) == 2
    assert all((x.max() <= low * 1.001) or (x.min() >= high * 0.999) for x in dashed)


def test_axis_limits_cover_every_optimum(fit: FitResult, frontiers: Figure) -> None:
    for title, name in (("Compute-optimal size", "params"), ("Compute-optimal tokens", "tokens")):
        low, high = panel(frontiers, title).get_ylim()
        for family in fit.families.values():
            assert family.isoflop is not None
            values = [getattr(optimum, name) for optimum in family.isoflop.bracketed]
            assert all(low < value < high for value in values)


def test_multiplier_has_a_panel_per_baseline_and_leaves_out_what_has_no_frontier(
    fit: FitResult,
) -> None:
    pairs = [("masked", "masked-ce"), ("masked", "uniform"), ("ar", "masked")]
    figure = multiplier([compare(fit, *pair) for pair in pairs], fit)
    shown = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(shown) == ["against masked", "against ar"]
    assert [text.get_text() for text in shown["against masked"].texts] == ["masked-ce"]
    assert shown["against ar"].get_xlabel() == "compute of the baseline (FLOPs)"


def test_multiplier_without_a_comparable_pair_says_so(fit: FitResult) -> None:
    with pytest.raises(NothingToDraw, match="multiplier"):
        multiplier([compare(fit, "masked", "uniform")], fit)


def point(flops: float, multiplier: float | None, extrapolated: bool) -> MultiplierPoint:
    return MultiplierPoint(flops, 2.0, multiplier, None, extrapolated, 0.0)


def test_extrapolated_stretches_reach_to_the_observed_ones() -> None:
    flags = [(1.0, True), (2.0, True), (3.0, False), (4.0, False), (5.0, True)]
    cut = stretches([point(flops, 1.5, flag) for flops, flag in flags])
    assert [[p.flops for p in piece.points] for piece in cut] == [[1, 2, 3], [3, 4], [4, 5]]
    assert [piece.is_extrapolated for piece in cut] == [True, False, True]


def test_a_stretch_ends_where_the_loss_is_not_reached() -> None:
    cut = stretches([point(1.0, 1.5, False), point(2.0, None, True), point(3.0, 2.0, True)])
    assert [[p.flops for p in piece.points] for piece in cut] == [[1.0], [3.0]]


def test_trajectories_label_every_size(single: FitResult) -> None:
    shown = texts(trajectories(single))
    assert {notation.count(size) for size in SIZES} <= set(shown)


def test_the_lower_envelope_falls_and_lies_below_every_point(fit: FitResult) -> None:
    points = fit.families["masked"].points
    flops, loss = records(points)
    assert all(a > b for a, b in pairwise(loss))
    for x, y in zip(points.flops_P, points.loss_P, strict=True):
        assert loss[flops <= x].min() <= y


def test_figures_of_a_table_without_budgets_are_refused_with_the_reason(
    tmp_path: Path, fit: FitResult
) -> None:
    bare = {
        label: dataclasses.replace(family, isoflop=None) for label, family in fit.families.items()
    }
    nothing = dataclasses.replace(fit, families=bare)
    for make in (isoflop, frontier):
        with pytest.raises(NothingToDraw, match="budget"):
            make(nothing)
    assert trajectories(nothing).axes


@pytest.mark.parametrize("labels", [("a",), pytest.param(tuple("abcdefg"), marks=pytest.mark.slow)])
def test_any_number_of_series_finds_its_panels(tmp_path: Path, labels: tuple[str, ...]) -> None:
    fit = fit_table(small_sweep(tmp_path, labels, sizes=SIZES[:5]), FitSettings(n_bootstrap=10))
    assert len(isoflop(fit).axes) == len(labels)


@pytest.mark.slow
def test_hostile_labels_are_drawn_as_text_and_cut_to_the_room(tmp_path: Path) -> None:
    labels = ("$\\frac{1}{", "<script>alert(1)</script> and more of it", "マスク\t拡散", "a_b^c%")
    fit = fit_table(small_sweep(tmp_path, labels, sizes=SIZES[:5]), FitSettings(n_bootstrap=10))
    figure = frontier(fit)
    assert figure_bytes(figure, ".svg", "x")
    shown = texts(figure)
    assert "$\\frac{1}{" in shown
    assert "??? ??" in shown
    assert max(len(style.label) for style in series_styles(labels).values()) == MAX_LABEL


def test_long_labels_keep_what_tells_them_apart() -> None:
    long = [f"masked-on-a-very-long-corpus-name-{end}" for end in ("train", "val")]
    assert len({drawn_label(label) for label in long}) == 2
    assert all(len(drawn_label(label)) == MAX_LABEL for label in long)


def test_drawn_labels_have_no_control_characters() -> None:
    assert drawn_label(" a\n b\x00c ") == "a b?c"


def test_styles_follow_the_sorted_labels_and_stay_distinct() -> None:
    labels = [f"series {index:02d}" for index in range(20)]
    styles = series_styles(reversed(labels))
    assert styles == series_styles(labels)
    assert styles["series 00"].color == PALETTE[0]
    assert len({(style.color, style.marker) for style in styles.values()}) == 20


CONES = {
    "all": np.eye(3),
    "no long": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                [-0.003882, -0.048116, 1.051998]],
    "no medium": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                  [-0.011820, 0.042940, 0.968881]],
    "no short": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                 [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
"""Linear RGB as seen with all cones or without one kind (Machado et al. 2009, severity 1)."""
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear_rgb(color: str) -> FloatArray:
    channel = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear: FloatArray = np.where(
        channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4
    )
    return linear


def cielab(rgb: FloatArray) -> FloatArray:
    ratio = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def luminance(color: str) -> float:
    """Relative luminance of the WCAG."""
    return float(TO_XYZ[1] @ linear_rgb(color))


@pytest.mark.parametrize("cones", CONES)
@pytest.mark.parametrize("palette", [PALETTE, DARK_PALETTE])
def test_series_colours_stay_apart_for_every_kind_of_eye(
    palette: tuple[str, ...], cones: str
) -> None:
    seen = [cielab(np.asarray(CONES[cones]) @ linear_rgb(color)) for color in palette]
    # 2.3 is just noticeable; 12 is told apart in thin lines.
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= 12


@pytest.mark.parametrize(("palette", "page"), [(PALETTE, "#ffffff"), (DARK_PALETTE, DARK_PAGE)])
def test_series_colours_stand_out_from_their_page(palette: tuple[str, ...], page: str) -> None:
    for color in palette:
        bright, dim = sorted([luminance(color), luminance(page)], reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 3.0, color


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1e11, 1e12),
        (2e3, 4e5),
        (1e17, 1e21),
        (0.05, 30.0),
        (9.1, 9.9),
        (1.0, 1e30),
        (2.1e11, 2.3e11),
    ],
)
def test_log_ticks_are_few_ascending_and_inside(low: float, high: float) -> None:
    ticks = log_ticks(low, high, 6)
    assert 1 <= len(ticks) <= 6
    assert all(a < b for a, b in pairwise(ticks))
    assert ticks[0] >= 0.999 * low
    assert ticks[-1] <= 1.001 * high


def test_labels_are_spread_by_no_more_than_is_needed() -> None:
    placed = spread(np.array([10.0, 11.0, 50.0]), 8.0, 0.0, 100.0)
    assert placed == pytest.approx([6.5, 14.5, 50.0])
    assert spread(np.array([95.0, 99.0]), 8.0, 0.0, 100.0) == pytest.approx([92.0, 100.0])


def test_labels_without_room_are_thinned_and_keep_both_ends() -> None:
    kept = thinned(np.linspace(0.0, 10.0, 30), 5.0, 20.0)
    assert len(kept) == 5
    assert {0, 29} <= set(kept.tolist())


def test_labels_far_apart_do_not_push_each_other() -> None:
    assert [part.tolist() for part in columns_of(np.array([0.0, 100.0, 5.0]), 30.0)] == [
        [0, 2],
        [1],
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (notation.count(2_000), "2K"),
        (notation.count(999_999), "1M"),
        (notation.count(1_310_000), "1.31M"),
        (notation.count(20e9), "20B"),
        (notation.count(950), "950"),
        (notation.count(3e17), "3e+05T"),
        (notation.flops(1e11), "10¹¹"),
        (notation.flops(3e11), "3×10¹¹"),
        (notation.flops(9.999e11), "10¹²"),
        (notation.flops(1.14e17), "1.14×10¹⁷"),
        (notation.exponent(-0.0671), "−0.067"),
        (notation.ratio(26.34), "26.3×"),
        (notation.interval((1.0, 2.0), notation.loss), "[1.000, 2.000]"),
        (notation.interval(None, notation.loss), "[no interval]"),
        (notation.significant(1.2e-5), "1.2×10⁻⁵"),
        (notation.params_unit("trunk+head"), "trunk + head parameters"),
    ],
)
def test_numbers_are_written_for_readers(text: str, written: str) -> None:
    assert text == written


def test_a_folder_gets_every_figure_that_can_be_drawn(
    tmp_path: Path, table: TidyTable, single: FitResult
) -> None:
    saved = save_figures(Study(table, single), tmp_path / "figures", suffixes=(".svg",))
    names = {path.name for path in saved.paths}
    assert names == {"exponents.svg", "frontier.svg", "isoflop.svg", "trajectories.svg"}
    assert [name for name, _ in saved.skipped] == ["multiplier", "sensitivity", "pareto"]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")]
)
def test_a_file_gets_the_figure_asked_for_and_the_same_bytes_twice(
    tmp_path: Path, table: TidyTable, single: FitResult, suffix: str, magic: bytes
) -> None:
    contents = []
    for name in ("a", "b"):
        saved = save_figures(Study(table, single), tmp_path / (name + suffix), names=("isoflop",))
        contents.append(saved.paths[0].read_bytes())
    assert contents[0].startswith(magic)
    assert contents[0] == contents[1]


def test_unknown_figures_suffixes_and_paths_are_refused(
    tmp_path: Path, table: TidyTable, single: FitResult
) -> None:
    with pytest.raises(SettingsError, match="did you mean 'frontier'"):
        save_figures(Study(table, single), tmp_path, names=("frontiers",))
    with pytest.raises(SettingsError, match=r"cannot draw \.bmp"):
        save_figures(Study(table, single), tmp_path / "a.bmp")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_figures(Study(table, single), tmp_path / "file" / "a.svg", names=("isoflop",))


@pytest.mark.slow
def test_figures_ignore_the_reader_s_own_matplotlib_settings(single: FitResult) -> None:
    import matplotlib  # only this test touches global settings

    before = figure_bytes(frontier(single), ".svg", "x")
    with matplotlib.rc_context({"font.size": 30.0, "lines.linewidth": 9.0, "axes.grid": False}):
        assert figure_bytes(frontier(single), ".svg", "x") == before


def nothing_to_compare() -> Comparison:
    exponents: dict[str, None] = {"params": None, "tokens": None, "loss": None}
    return Comparison("a", "b", (), (), exponents, "cannot be compared.", ())  # type: ignore[arg-type]


def test_an_empty_comparison_is_nothing_to_draw(fit: FitResult) -> None:
    with pytest.raises(NothingToDraw):
        multiplier([nothing_to_compare()], fit)


def test_exponents_have_a_row_for_every_series_and_method(fit: FitResult) -> None:
    figure = exponents(fit)
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    for label, family in fit.families.items():
        assert family.isoflop is not None
        has_law = family.isoflop.params_law is not None
        assert (f"{label}, isoFLOP" in rows) == has_law
        assert (f"{label}, surface" in rows) == (family.surface is not None)
        assert (f"{label}, envelope" in rows) == (family.envelope is not None)
    assert len(set(rows)) == len(rows)


def test_exponents_are_drawn_where_they_were_fitted(single: FitResult) -> None:
    figure = exponents(single)
    fit = single.family("masked").isoflop
    assert fit is not None
    assert fit.params_law is not None
    marks = [line for line in figure.axes[0].lines if line.get_marker() not in ("", "None", None)]
    drawn = {float(np.asarray(line.get_xdata())[0]) for line in marks}
    assert fit.params_law.exponent in drawn


def test_published_exponents_stand_below_ours(single: FitResult) -> None:
    axes = exponents(with_published(single, "chinchilla")).axes[0]
    rows = dict(zip([t.get_text() for t in axes.get_yticklabels()], axes.get_yticks(), strict=True))
    assert min(rows, key=lambda row: rows[row]) == "chinchilla, published"


def test_nothing_to_draw_without_any_exponent(table: TidyTable) -> None:
    frame = table.frame[table.frame["family"] == "ar"].head(4)
    with pytest.raises(FitError, match="no series has a scaling law"):
        exponents(fit_table(dataclasses.replace(table, frame=frame), SETTINGS))


def test_the_residual_panel_shows_what_smaller_budgets_predicted(single: FitResult) -> None:
    figure = frontier(single)
    assert "residual from smaller budgets alone" in texts(figure)
    holdout = single.family("masked").holdout
    assert holdout is not None
    hollow = [
        line
        for line in panel(figure, "Residual of the loss law").lines
        if line.get_markerfacecolor() == "#ffffff" and line.get_marker() not in ("", "None")
    ]
    assert len(hollow) == len({prediction.target for prediction in holdout.predictions})
