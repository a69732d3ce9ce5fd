"""Charts as data: what they draw exists, what is left out is said, other conventions are shown."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted_growth import sizes_of_one_budget
from planted_tables import table as planted_table
from small_sweep import small_sweep

from analysis.answers.compare import Comparison, MultiplierPoint, compare
from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.isoflop.curves import IsoFlopMethod
from analysis.report.html import render_report
from analysis.report.page import bundle
from analysis.report.page.answers import answer
from analysis.report.page.downloads import MAX_PACKED, Download, that_fit
from analysis.report.page.frames import MAX_POINTS, Shown, frames
from analysis.report.page.runs import n_thinned, runs_json
from analysis.report.page.training import LossCurve, Training
from analysis.report.provenance import Provenance
from analysis.sensitivity.recounted import recounts
from analysis.sensitivity.study import Study, question_of
from analysis.tables.load import load
from analysis.tables.tidy import TidyTable

SETTINGS = FitSettings(n_bootstrap=20)
SERIES = ("ar", "masked", "masked-ce", "uniform")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TidyTable:
    """With two counts of sizes and of FLOPs."""
    folder = tmp_path_factory.mktemp("counted")
    small_sweep(folder, SERIES)
    raw = pd.read_csv(folder / "small.csv")
    raw["params_total"] = 3 * raw["params"] + 5000
    raw["flops_per_token_doubled"] = 2 * raw["flops"] / raw["tokens"]
    raw.to_csv(folder / "counted.csv", index=False)
    return load(folder / "counted.csv")


@pytest.fixture(scope="module")
def fit(table: TidyTable) -> FitResult:
    return fit_table(table, SETTINGS)


@pytest.fixture(scope="module")
def pair(fit: FitResult) -> Comparison:
    return compare(fit, "masked-ce", "masked")


@pytest.fixture(scope="module")
def content(table: TidyTable, fit: FitResult, pair: Comparison) -> dict[str, Any]:
    return content_of(Study(table, fit, [pair], (), recounts(table, fit, [pair])))


def content_of(study: Study) -> dict[str, Any]:
    page = render_report("counted", study, Provenance("counted.csv"))
    start = page.index('id="page-data">') + len('id="page-data">')
    return dict(json.loads(page[start : page.index("</script>", start)]))


def fields_of(encoding: Any) -> set[str]:
    if isinstance(encoding, dict):
        own = {encoding["field"]} if isinstance(encoding.get("field"), str) else set()
        return own.union(*map(fields_of, encoding.values()))
    return set().union(*map(fields_of, encoding)) if isinstance(encoding, list) else set()


def test_every_field_that_a_chart_draws_or_tells_is_in_its_rows(content: dict[str, Any]) -> None:
    frames_of = content["views"][0]["frames"]
    n_checked = 0
    for figure in content["figures"]:
        for spec in figure["panels"]:
            own = spec.get("data", {}).get("values")
            for layer in spec["layer"]:
                data = layer.get("data", {})
                rows = data.get("values", own)
                columns = set(rows[0]) if rows else set(frames_of[data["name"]])
                assert fields_of([layer["encoding"], layer.get("transform", [])]) <= columns
                tips = spec["usermeta"]["tips"].get(layer["name"], [])
                assert {name for tip in tips for name in (tip[1], *tip[3:])} <= columns
                n_checked += 1
    assert n_checked > 40


def test_what_is_not_finite_never_reaches_a_chart(fit: FitResult, pair: Comparison) -> None:
    found = frames(fit, [pair], Shown.of(fit))
    for frame in found.values():
        text = json.dumps(frame.to_json(), allow_nan=False)
        assert json.loads(text) == frame.to_json()


def test_too_many_points_are_thinned_evenly_and_it_is_said(fit: FitResult) -> None:
    family = fit.families["ar"]
    n_points = len(family.points.loss_P)
    many = family.points.take(np.tile(np.arange(n_points), 300))
    crowded = dataclasses.replace(
        fit, families=fit.families | {"ar": dataclasses.replace(family, points=many)}
    )
    shown = Shown.of(crowded)
    total = sum(len(each.points.loss_P) for each in crowded.families.values())
    kept = sum(map(len, shown.points.values()))
    assert 0.5 * MAX_POINTS < kept <= MAX_POINTS + len(crowded.families)
    assert set(many.params_P[shown.points["ar"]]) == set(many.params_P)
    assert f"Of {total} points the charts show {kept}" in n_thinned(crowded, shown)
    assert n_thinned(fit, Shown.of(fit)) == ""


def test_other_conventions_rename_sizes_and_refit_budgets(
    table: TidyTable, fit: FitResult, pair: Comparison
) -> None:
    found = {
        (each.fit.params_convention, each.fit.flops_convention): each
        for each in recounts(table, fit, [pair])
    }
    assert set(found) == {("total", "as given"), ("as given", "doubled"), ("total", "doubled")}
    own = fit.families["ar"].optima[2]
    renamed = found["total", "as given"].fit.families["ar"].optima[2]
    assert own.params is not None
    assert renamed.params is not None
    assert renamed.params == pytest.approx(3 * own.params + 5000, rel=0.02)  # cubic in logs
    assert renamed.loss == own.loss
    assert renamed.params_ci is not None
    assert renamed.params_ci[0] < renamed.params < renamed.params_ci[1]
    assert found["total", "as given"].comparisons == (pair,)
    doubled = found["as given", "doubled"]
    assert doubled.fit.families["ar"].optima[2].flops == pytest.approx(2 * own.flops, rel=1e-6)
    ours, theirs = pair.points[2], doubled.comparisons[0].points[2]
    assert not ours.extrapolated
    assert theirs.multiplier == pytest.approx(ours.multiplier, rel=0.01)


def test_a_view_holds_what_differs_from_the_first(content: dict[str, Any]) -> None:
    own, *others = content["views"]
    assert len(others) == 3
    total = next(v for v in others if (v["params"], v["flops"]) == ("total", "as given"))
    assert set(total["frames"]["points"]) == {"params"}
    assert "multipliers" not in total["frames"]
    assert own["titles"]["{params}"] == "parameters"
    assert total["titles"]["{params}"] == "total parameters"


@pytest.mark.parametrize("method", ["pair", "parabola"])
def test_a_chart_that_another_count_leaves_empty_says_why(method: IsoFlopMethod) -> None:
    counted = planted_table(sizes_of_one_budget())
    fit = fit_table(counted, FitSettings(n_bootstrap=10, isoflop=method))
    pairs = [compare(fit, "ar", "masked")]
    found = content_of(Study(counted, fit, pairs, (), recounts(counted, fit, pairs)))
    own, *others = found["views"]
    assert own["empty"] == own["lacking"] == {}
    assert own["bracketed"] == ["4 of 4 budgets bracketed"] * 2
    view = next(each for each in others if each["flops"] == "6N+attention")
    charts = {
        f"{figure['name']}-{number}"
        for figure in found["figures"]
        for number, _ in enumerate(figure["panels"])
        if figure["name"] in ("frontiers", "multiplier")
    }
    assert set(view["empty"]) == charts
    assert view["frames"]["laws"]["value"] == view["frames"]["multipliers"]["multiplier"] == []
    for why in (*view["empty"].values(), *view["lacking"].values()):
        assert "ar has 0 of 2 budgets bracketed, where a law needs 2: fewer than 4 distinct" in why
        assert "masked has no budgets: by this count no sizes spent equal FLOPs." in why
    assert view["bracketed"][1] == "no budgets by this count"


def test_a_multiplier_that_is_never_reached_says_so(
    table: TidyTable, fit: FitResult, pair: Comparison
) -> None:
    points = tuple(dataclasses.replace(each, multiplier=None, ci=None) for each in pair.points)
    never = dataclasses.replace(pair, points=points, curve=())
    [view] = content_of(Study(table, fit, [never]))["views"]
    why = "masked reaches the losses of masked-ce at no compute."
    assert view["lacking"]["multiplier"] == why
    assert view["empty"]["multiplier-0"] == f"Nothing to draw: {why}"
    assert "frontiers-0" not in view["empty"]  # which lack uniform alone
    assert view["lacking"]["frontiers"].startswith("uniform has ")


def point(multiplier: float | None, ci: tuple[float, float] | None) -> MultiplierPoint:
    return MultiplierPoint(3.2e11, 2.5, multiplier, ci, False, 0.0)


@pytest.mark.parametrize(
    ("multiplier", "ci", "said"),
    [
        (1.5, (1.2, 1.9), "masked-ce is better: masked needs 1.5× [1.2×, 1.9×] its compute."),
        (0.5, (0.4, 0.7), "masked is better: it needs 0.5× [0.4×, 0.7×] the compute of masked-ce."),
        (None, None, "masked-ce is better: masked reaches its loss at no compute."),
    ],
)
def test_an_answer_says_who_is_better_by_how_much_and_how_sure(
    fit: FitResult,
    pair: Comparison,
    multiplier: float | None,
    ci: tuple[float, float] | None,
    said: str,
) -> None:
    found = answer(fit, dataclasses.replace(pair, points=(point(multiplier, ci),)), None, None)
    assert found.sentence == f"At 3.2×10¹¹ FLOPs {said}"
    assert found.status == "shown"
    assert found.runs is None


def test_an_open_answer_names_the_runs_that_would_tell(fit: FitResult, pair: Comparison) -> None:
    found = answer(fit, dataclasses.replace(pair, points=(point(1.1, (0.9, 1.3)),)), None, None)
    assert found.sentence.startswith("Cannot tell yet at 3.2×10¹¹ FLOPs: masked needs 1.1×")
    assert found.status == "open"
    assert found.runs is not None
    assert "; th" in found.sentence
    assert found.sentence.endswith("FLOPs would.") or "runs" in found.sentence
    assert {row[0] for row in found.runs.rows} <= {"masked", "masked-ce"}
    assert found.fragment.startswith("design:\n  list:\n")


def test_a_pair_without_frontier_is_told_what_would_bracket_it(fit: FitResult) -> None:
    found = answer(fit, compare(fit, "ar", "uniform"), None, None)
    assert found.sentence.startswith("Cannot tell yet: uniform has no frontier")
    assert found.chart is None
    assert found.runs is not None


def test_the_question_is_the_asked_pair_or_all_against_the_best(fit: FitResult) -> None:
    asked = question_of(fit, ("masked", "ar"), 5e11)
    assert asked.pairs == (("masked", "ar"),)
    assert asked.compared[0] == ("masked", "ar")
    assert set(asked.compared[1:]) == {("masked", "masked-ce"), ("masked", "uniform")}
    assert asked.flops == 5e11
    unasked = question_of(fit, None, None)
    assert unasked.pairs == unasked.compared
    assert {baseline for baseline, _ in unasked.pairs} == {"ar"}
    assert {other for _, other in unasked.pairs} == {"masked", "masked-ce", "uniform"}
    assert question_of(fit, ("masked", "gone"), None).pairs == unasked.pairs


def test_files_that_would_burst_the_page_are_left_out_and_named() -> None:
    noise = np.random.default_rng(0).bytes(MAX_PACKED)
    small, large = Download("a.csv", "few", b"a\n1\n"), Download("b.csv", "many", noise)
    kept, left = that_fit([small, large, small])
    assert kept == [small, small]
    assert left == [large]


def test_loss_curves_of_a_thousand_trials_leave_room_on_the_page() -> None:
    tokens = np.geomspace(1e5, 1e9, 3000)
    curve = LossCurve(tokens, 1.5 + 300 / np.sqrt(tokens))
    names = [f"{number:012x}" for number in range(1000)]
    rows = pd.DataFrame({"family": "a", "run_id": names, "seed": 0.0})
    rows[["learning_rate", "batch_tokens"]] = np.nan
    shown = Shown({}, {number: number for number in range(1000)})
    training = Training(curves=dict.fromkeys(names, curve))
    text = json.dumps(runs_json(TidyTable(rows, ()), shown, training), separators=(",", ":"))
    assert len(text) < 1.5e6


def test_strings_in_data_end_no_script() -> None:
    evil = "</script><!--\u2028\u2029&"
    text = bundle.embedded_json({"label": evil})
    assert not any(character in text for character in "<>&\u2028\u2029")
    assert json.loads(text) == {"label": evil}


def test_the_page_of_a_source_is_the_same_bytes(
    tmp_path: Path, table: TidyTable, fit: FitResult, pair: Comparison
) -> None:
    study = Study(table, fit, [pair])
    pages = {render_report("s", study, Provenance("s.csv")) for _ in range(2)}
    assert len(pages) == 1
