"""The page in a real browser: it loads fast, asks nobody, and its charts answer."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import Watched, chromium
from planted_growth import observations, sizes_of_one_budget, with_ingredients
from planted_tables import table as planted_table

from analysis.answers.compare import compare
from analysis.fitting.fit import FitSettings, fit_table
from analysis.report.html import write_report
from analysis.report.page.training import LossCurve, Training
from analysis.report.provenance import Provenance
from analysis.report.published_table import with_published
from analysis.sensitivity.recounted import recounts
from analysis.sensitivity.sensitivity import sensitivities
from analysis.sensitivity.study import Study
from analysis.tables.load import load
from analysis.tables.tidy import TidyTable

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
POINTS = "#chart-valleys-0 g.points_marks > path"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the quick sweep's table, with loss curves as its store would have them."""
    table = load(ROOT / "docs/runs/quick.csv")
    fit = with_published(fit_table(table, FitSettings(n_bootstrap=50)), "main")
    comparisons = [compare(fit, "masked", "uniform")]
    tried = sensitivities(table, fit, comparisons)
    tokens = np.linspace(1e5, 3e6, 50)
    curve = LossCurve(tokens, 2.0 + 200.0 / np.sqrt(tokens))
    training = Training(
        curves=dict.fromkeys(table.frame["run_id"].unique(), curve),
        bits_per_nat=dict.fromkeys(fit.families, 1.4427),
    )
    study = Study(table, fit, comparisons, tried)
    out = tmp_path_factory.mktemp("page") / "quick.html"
    return write_report("quick", study, Provenance("quick"), out, (), training)


@dataclass(frozen=True)
class Recounted:
    """A page of a table with the ingredients of other conventions."""

    table: TidyTable
    page: Path


@pytest.fixture(scope="module")
def recounted(tmp_path_factory: pytest.TempPathFactory) -> Recounted:
    rows = with_ingredients(observations(n_budgets=4))
    counted = planted_table(rows[rows["family"].isin(["ar", "masked"])])
    fit = fit_table(counted, FitSettings(n_bootstrap=20))
    comparisons = [compare(fit, "ar", "masked")]
    study = Study(counted, fit, comparisons, (), recounts(counted, fit, comparisons))
    out = tmp_path_factory.mktemp("recounted") / "page.html"
    return Recounted(counted, write_report("recounted", study, Provenance("recounted"), out))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser: "Browser", report: Path) -> Watched:
    return Watched(browser, report, viewport={"width": 1400, "height": 900})


def tick_labels(page: "Page", chart: str) -> list[str]:
    return page.locator(f"{chart} .role-axis-label text").all_text_contents()


def test_the_page_of_a_real_sweep_is_drawn_in_two_seconds_and_says_and_asks_nothing(
    browser: "Browser", report: Path
) -> None:
    watched = Watched(browser, report, viewport={"width": 1400, "height": 900})
    # Of the thread that draws: others may be at work on this machine.
    assert watched.cpu_s() < 2.0
    assert watched.messages == []
    assert watched.requests == [report.as_uri()]
    assert report.stat().st_size < 4e6
    n_charts = watched.page.locator(".chart:not(#curve-chart)").count()
    assert watched.page.locator(".chart svg").count() == n_charts > 10


def test_a_series_is_hidden_and_shown_by_its_button(opened: Watched) -> None:
    page = opened.page
    button = page.get_by_role("button", name="uniform")
    marks = "#chart-frontiers-0 g.best_marks > path"
    before = page.locator(marks).count()
    button.click()
    opened.settle()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator(marks).count() == before // 2
    assert not page.locator("#chart-valleys-1").is_visible()
    button.click()
    opened.settle()
    assert page.locator(marks).count() == before
    assert page.locator("#chart-valleys-1").is_visible()
    assert opened.messages == []


def test_the_unit_of_losses_changes_values_and_titles(opened: Watched) -> None:
    page = opened.page
    told = page.locator("#tip")
    losses = {}
    for unit in ("nats", "bits", "perplexity"):
        page.select_option("select[name=unit]", unit)
        opened.settle()
        page.locator("#chart-valleys-0").focus()
        page.keyboard.press("Home")
        text = told.text_content() or ""
        losses[unit] = float(text.rpartition("loss")[0].partition("loss")[2].split(" ")[0])
        titles = page.locator("#chart-valleys-0 .role-axis-title text").all_text_contents()
        assert any({"nats": "nats per", "bits": "bits per"}.get(unit, unit) in t for t in titles)
    assert losses["bits"] == pytest.approx(losses["nats"] * 1.4427, rel=1e-3)
    assert losses["perplexity"] == pytest.approx(np.exp(losses["nats"]), rel=2e-3)
    assert opened.messages == []


def test_every_convention_counts_what_is_told_of_a_mark_and_names_its_axes(
    browser: "Browser", recounted: Recounted
) -> None:
    watched = Watched(browser, recounted.page, viewport={"width": 1400, "height": 900})
    page, table = watched.page, recounted.table
    counted_params = {"as given": table.frame["params"].to_numpy(), **table.counts.params}
    counted_flops = {"as given": table.frame["flops"].to_numpy(), **table.counts.flops}
    choices = {
        name: page.locator(f"select[name={name}] option").all_text_contents()
        for name in ("params", "flops")
    }
    assert choices["params"] == ["as given", "trunk+head"]
    assert choices["flops"] == ["as given", "6N+attention", "6N+attention+head"]
    told: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for params, flops in [*itertools.product(*choices.values()), ("as given", "as given")]:
        page.select_option("select[name=params]", label=params)
        page.select_option("select[name=flops]", label=flops)
        watched.settle()
        page.locator("#chart-valleys-0").focus()
        page.keyboard.press("Home")
        text = page.locator("#tip").text_content() or ""
        found = re.search(r"size([\d.]+)M.*FLOPs([\d.e+]+)loss", text)
        assert found is not None
        assert float(found[1]) * 1e6 == pytest.approx(counted_params[params][0], rel=0.01)
        assert float(found[2]) == pytest.approx(counted_flops[flops][0], rel=0.01)
        titles = [
            page.locator(f"#chart-{chart}-0 .role-axis-title text").all_text_contents()[0]
            for chart in ("valleys", "trajectories")
        ]
        assert (params == "as given") == (titles[0] == "parameters")
        assert (flops == "as given") == (titles[1] == "FLOPs")
        told.setdefault((params, flops), (text, titles))
        assert told[params, flops] == (text, titles)  # the first again, at the end
    assert len(set(told)) == 6
    assert watched.messages == []


def test_a_chart_without_marks_says_why_in_its_place_and_in_its_table(
    browser: "Browser", tmp_path: Path
) -> None:
    counted = planted_table(sizes_of_one_budget())
    fit = fit_table(counted, FitSettings(n_bootstrap=10))
    pairs = [compare(fit, "ar", "masked")]
    study = Study(counted, fit, pairs, (), recounts(counted, fit, pairs))
    written = write_report("planted", study, Provenance("planted"), tmp_path / "page.html")
    watched = Watched(browser, written, viewport={"width": 1400, "height": 900})
    page = watched.page
    charts = page.locator("#frontiers .chart, #multipliers .chart")
    page.select_option("select[name=flops]", label="6N+attention")
    watched.settle()
    for told in charts.all_text_contents():
        assert told.startswith("Nothing to draw: ar has 0 of 2 budgets bracketed")
    for figure in ("frontiers", "multiplier"):
        note = page.locator(f"[data-counts={figure}]").text_content() or ""
        assert "By parameters as given, FLOPs 6N+attention: ar has 0 of 2" in note
    page.select_option("select[name=flops]", label="as given")
    watched.settle()
    assert charts.locator("p").count() == 0
    assert charts.locator("svg").count() == charts.count() == 5
    assert page.locator("[data-counts=frontiers]").is_hidden()
    assert watched.messages == []


def test_axes_turn_linear_and_logarithmic(opened: Watched) -> None:
    page = opened.page
    drawn = tick_labels(page, "#chart-frontiers-1")
    page.select_option("select[name=axes]", "linear")
    opened.settle()
    linear = tick_labels(page, "#chart-frontiers-1")
    assert linear != drawn
    page.select_option("select[name=axes]", "log")
    opened.settle()
    assert tick_labels(page, "#chart-frontiers-1") == drawn
    assert opened.messages == []


def test_published_laws_are_drawn_when_asked_for(opened: Watched) -> None:
    page = opened.page
    lines = "#chart-frontiers-1 g.published_marks path[d]"
    assert page.locator(lines).count() == 0
    page.get_by_label("Published laws").check()
    opened.settle()
    assert page.locator(lines).count() > 2
    assert opened.messages == []


def test_pointing_tells_the_trial_and_a_click_opens_its_loss_curve(opened: Watched) -> None:
    page = opened.page
    point = page.locator(POINTS).last  # drawn last, so that no other covers it
    point.scroll_into_view_if_needed()
    point.hover()
    told = page.locator("#tip").text_content() or ""
    assert "masked" in told
    assert "run" in told
    assert "loss" in told
    point.click()
    assert page.locator("dialog#curve").is_visible()
    assert page.locator("#curve-chart g.training_marks path").count() == 1
    assert "masked, run" in (page.locator("#curve-title").text_content() or "")
    page.keyboard.press("Escape")
    assert not page.locator("dialog#curve").is_visible()
    assert opened.messages == []


def test_everything_can_be_done_from_the_keyboard(opened: Watched) -> None:
    page = opened.page
    page.locator("#chart-valleys-0").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    said = page.locator("#said").text_content() or ""
    assert "masked" in said
    assert "; 2 of " in said
    page.keyboard.press("Enter")
    assert page.locator("dialog#curve").is_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="uniform").focus()
    page.keyboard.press("Space")
    opened.settle()
    assert page.get_by_role("button", name="uniform").get_attribute("aria-pressed") == "false"
    assert opened.messages == []


def test_files_are_unpacked_whole(opened: Watched) -> None:
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="points.csv").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert len(rows) == len((ROOT / "docs/runs/quick.csv").read_text().splitlines())
    assert rows[0].startswith("family,params,tokens")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: "Browser", report: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    watched = Watched(browser, report, color_scheme=scheme, viewport={"width": 1000, "height": 800})
    for details in watched.page.locator("details").all():
        details.evaluate("element => { element.open = true; }")
    found = axe.Axe().run(watched.page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in serious] == []


def test_a_phone_has_charts_laid_out_anew_and_no_sideways_scrolling(
    browser: "Browser", report: Path
) -> None:
    watched = Watched(browser, report, viewport={"width": 390, "height": 800})
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [each.bounding_box() for each in watched.page.locator(".chart svg").all()]
    assert all(box is not None and 300 <= box["width"] <= 390 for box in boxes)
    # One below the other, at the size in which they were drawn.
    sizes = watched.page.locator(".role-axis-label text").first.evaluate("e => e.getBBox().height")
    assert sizes >= 10
    assert watched.messages == []
