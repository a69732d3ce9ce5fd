"""The report: answers first, everything escaped, nothing from outside, same bytes."""

import base64
import dataclasses
import gzip
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_sweep import SIZES, small_sweep

from analysis.answers.compare import compare
from analysis.answers.forecast import Forecast, check
from analysis.answers.predict import predict
from analysis.errors import FitWarning
from analysis.fitting.fit import FitResult, FitSettings, fit_table, to_json
from analysis.report import html, tables
from analysis.report.html import render_report, write_report
from analysis.report.provenance import Provenance
from analysis.report.published_table import with_published
from analysis.sensitivity.study import Study
from analysis.tables.tidy import TidyTable
from sweeper.errors import OutputError
from sweeper.store.files import write_output

SETTINGS = FitSettings(n_bootstrap=20)
EVIL = '<script>alert("1")</script>'


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TidyTable:
    return small_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def fit(table: TidyTable) -> FitResult:
    return fit_table(table, SETTINGS)


@pytest.fixture(scope="module")
def page(table: TidyTable, fit: FitResult) -> str:
    comparisons = [compare(fit, "masked", "masked-ce"), compare(fit, "masked", "uniform")]
    excluded = (("3f9a12c0be41", "uniform", "diverged", "loss rose at step 410"),)
    provenance = Provenance("results/quick", (("torch", "2.11"),), excluded)
    return render_report("quick", Study(table, fit, comparisons), provenance)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[TidyTable, FitResult]:
    table = small_sweep(tmp_path_factory.mktemp("one"), ("masked",), sizes=SIZES[:5])
    return table, fit_table(table, FitSettings(n_bootstrap=10))


class Elements(HTMLParser):
    """Tags, attributes and visible text of a page, and whether tags close in order."""

    VOID = ("meta", "br", "hr", "img", "input", "link")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    elements.close()
    assert elements.open == []
    return elements


def test_forecasts_are_shown_escaped_and_leave_the_rest_as_it_was(
    table: TidyTable, fit: FitResult
) -> None:
    study, provenance = Study(table, fit), Provenance("small")
    prediction = predict(fit, "masked", 2e12)
    forecast = Forecast.of(
        table, fit, prediction, source=EVIL, sweeper_version="0.1", registered_at="2026-11-29"
    )
    with_forecast = render_report("quick", study, provenance, [check(forecast, "f.json", table)])
    without = render_report("quick", study, provenance)
    start = with_forecast.index('\n<section id="forecasts">')
    section = with_forecast[start : with_forecast.index("</section>\n", start) + 11]
    assert with_forecast.replace(section, "", 1) == without
    text = parsed(with_forecast).text
    assert "not yet observed" in text
    assert EVIL in text
    assert EVIL not in with_forecast


def test_a_sentence_comes_before_any_chart_and_no_more(page: str) -> None:
    head = page[page.index("<article") : page.index('<div class="chart"')]
    text = parsed(f"{head}</article>").text
    assert "masked-ce" in text
    assert len(text.split()) < 40


def test_every_section_and_chart_is_there_once(page: str) -> None:
    elements = parsed(page)
    ids = [attributes.get("id") for tag, attributes in elements.tags if tag == "section"]
    wanted = ["answer", *(name for name in html.SECTIONS if name != "samples")]
    assert [i for i in ids if i] == wanted
    slots = {
        name
        for tag, attributes in elements.tags
        if (name := attributes.get("id") or "").startswith("chart-")
    }
    content = data_of(page)
    panels = {
        f"chart-{figure['name']}-{number}"
        for figure in content["figures"]
        for number in range(len(figure["panels"]))
    }
    assert slots == panels
    assert len(panels) > 10


def data_of(page: str, name: str = "page-data") -> Any:
    found = re.search(f'<script type="application/json" id="{name}">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def file_of(page: str, name: str) -> bytes:
    numbers = range(page.count('id="file-'))
    packed = next(f for n in numbers if (f := data_of(page, f"file-{n}"))["file"] == name)
    return gzip.decompress(base64.b64decode(packed["gzip"]))


def test_nothing_is_loaded_and_only_known_scripts_run(page: str) -> None:
    elements = parsed(page)
    assert {"link", "iframe", "object", "img", "base"}.isdisjoint(tag for tag, _ in elements.tags)
    for _, attributes in elements.tags:
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    policy = next(
        attributes["content"] or ""
        for tag, attributes in elements.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.findall("'sha256-([^']*)'", policy) == digests


def test_every_reference_inside_the_page_has_its_target(page: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', page.partition("<script>")[0])
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)


def test_the_packed_files_are_whole(page: str, table: TidyTable, fit: FitResult) -> None:
    content = json.loads(file_of(page, "fit.json"))
    assert content["fit"] == json.loads(json.dumps(to_json(fit)))
    assert [one["against"] for one in content["comparisons"]] == ["masked-ce", "uniform"]
    points = pd.read_csv(io.BytesIO(file_of(page, "points.csv")))
    assert points["loss"].tolist() == table.frame["loss"].tolist()


def test_missing_parts_are_explained_instead_of_drawn(page: str) -> None:
    text = parsed(page).text
    assert "1 of 5 budgets bracketed, a law needs two: laws are null" in text
    assert "the minimum is at the small end: add smaller sizes" in text


def test_excluded_trials_and_provenance_are_told(page: str) -> None:
    text = parsed(page).text
    for told in ("3f9a12c0be41", "loss rose at step 410", "results/quick", "sha256:", "2.11"):
        assert told in text


def test_a_table_without_budgets_gives_a_report_without_frontier(
    single: tuple[TidyTable, FitResult],
) -> None:
    table, fit = single
    family = dataclasses.replace(fit.families["masked"], isoflop=None, surface=None)
    reason = FitWarning("no_budgets", "flops do not gather in budgets: no isoFLOP curves")
    bare = dataclasses.replace(fit, families={"masked": family}, warnings=(reason,))
    text = parsed(render_report("bare", Study(table, bare), Provenance("bare.csv"))).text
    assert "No compute-optimal point: flops do not gather in budgets" in text
    assert "Loss against size at every budget: nothing to draw." in text


@pytest.mark.slow
def test_whatever_users_typed_is_escaped(tmp_path: Path) -> None:
    table = small_sweep(tmp_path, (EVIL, "b--><b>"), sizes=SIZES[:5])
    fit = fit_table(table, FitSettings(n_bootstrap=10))
    trial = ("id", EVIL, EVIL, EVIL)
    provenance = Provenance(EVIL, ((EVIL, EVIL),), (trial,))
    page = render_report(EVIL, Study(table, fit, [compare(fit, EVIL, "b--><b>")]), provenance)
    shown = page.partition("<script>")[0]
    assert EVIL not in shown
    assert shown.count("<script") == shown.count('<script type="application/json"')
    assert "--><b>" not in shown
    assert EVIL in parsed(page.partition("<script")[0] + "</body></html>").text
    assert data_of(page)["series"][0]["label"] == EVIL


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_on_disk(
    tmp_path: Path, single: tuple[TidyTable, FitResult]
) -> None:
    table, fit = single
    for name in ("a.html", "new/folder/b.html"):
        write_report("s", Study(table, fit), Provenance("s.csv"), tmp_path / name)
    content = (tmp_path / "a.html").read_bytes()
    assert content == (tmp_path / "new/folder/b.html").read_bytes()
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["b.html"]


def test_a_path_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError, match="is a folder"):
        write_output(tmp_path, b"x")
    for bad in (tmp_path / "file" / "report.html", tmp_path / ("n" * 300)):
        with pytest.raises(OutputError, match="cannot be written"):
            write_output(bad, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_output(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_table_of_laws_has_three_rows_per_series_with_laws(fit: FitResult) -> None:
    table = tables.laws_table(fit)
    assert [row[0] for row in table.rows] == ["ar"] * 3 + ["masked"] * 3 + ["masked-ce"] * 3
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert all("[" in row[2] and "[" in row[3] for row in table.rows)


def test_the_holdout_stands_beside_the_laws_of_every_series(fit: FitResult, page: str) -> None:
    table = tables.holdout_table(fit)
    told = {row[0] for row in table.rows}
    assert told == {label for label, one in fit.families.items() if one.holdout}
    assert told
    assert all(row[2].endswith("%") and row[4].endswith("%") for row in table.rows)
    assert "Hold-out: each form fitted to what cost less" in parsed(page).text


def test_further_laws_have_a_row_each(fit: FitResult) -> None:
    table = tables.further_table(fit)
    assert {row[1] for row in table.rows} >= {"L* over D* of the optima"}
    assert all(len(row) == len(table.columns) and "[" in row[2] for row in table.rows)


def test_an_unbracketed_largest_budget_is_told_in_the_answer(fit: FitResult) -> None:
    family = fit.families["masked"]
    assert family.isoflop is not None
    *rest, last = family.isoflop.optima
    open_last = dataclasses.replace(last, bracketed=False, reason="minimum_at_largest")
    isoflop = dataclasses.replace(family.isoflop, optima=(*rest, open_last))
    changed = dataclasses.replace(family, isoflop=isoflop)
    only = dataclasses.replace(fit, families={"masked": changed})
    (answer,) = tables.answers(only).values()
    assert answer.startswith("At 5.6×10¹¹ FLOPs")
    assert "Its largest budget, 10¹² FLOPs, is not bracketed: the minimum is at the large end" in (
        answer
    )


def test_published_exponents_stand_beside_ours_when_asked_for(
    table: TidyTable, fit: FitResult, page: str
) -> None:
    beside = with_published(fit, "gidd-masked,chinchilla")
    shown = render_report("quick", Study(table, beside), Provenance("results/quick", (), ()))
    assert "Exponents published elsewhere" not in page
    assert "Exponents published elsewhere" in shown
    assert data_of(shown)["views"][0]["frames"]["published"]["name"]
    assert "arXiv 2203.15556" in shown
    assert "compare exponents, not levels" in shown


def test_remarks_are_grouped_by_kind_and_said_once() -> None:
    warnings = [
        FitWarning("single_budget", "no law", "a"),
        FitWarning("single_budget", "no law", "b"),
        FitWarning("single_budget", "no law", "a"),
        FitWarning("no_budgets", "none"),
    ]
    assert list(tables.remarks(warnings).items()) == [
        ("Single budget", ["a: no law", "b: no law"]),
        ("No budgets", ["none"]),
    ]


def test_the_template_ships_with_the_package() -> None:
    assert (html.TEMPLATES / "report.html").is_file()
