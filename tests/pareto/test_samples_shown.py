"""What people see of samples: figure, terminal text, page and JSON."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from planted_rows import control, diffusion
from small_sweep import small_sweep

from analysis.errors import NothingToDraw
from analysis.figures.pareto import pareto
from analysis.fitting.fit import FitSettings, fit_table
from analysis.pareto.answer import Asked, ParetoAnswer, answer
from analysis.pareto.samples import samples_of
from analysis.report.html import render_report
from analysis.report.provenance import Provenance
from analysis.report.samples import pareto_text
from analysis.sensitivity.study import Study
from sweeper.cli import cli

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def found() -> ParetoAnswer:
    rows = [*diffusion("masked", 1.0), *diffusion("uniform", 3.0), control("repeated", 5.0)]
    return answer(samples_of(pd.DataFrame(rows), "planted"), Asked(n_resamples=100))


def test_the_figure_has_logarithmic_axes_and_the_entropy_beside_them(found: ParetoAnswer) -> None:
    figure = pareto(found)
    quality, entropy = figure.axes
    assert quality.get_xscale() == quality.get_yscale() == entropy.get_xscale() == "log"
    title = quality.get_ylabel().replace("\n", " ")
    assert "cross-entropy under the judge less own entropy" in title
    # `cross_entropy` prefers the control, and has no panel.
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["judge divergence", "entropy"]
    assert {text.get_text() for text in quality.texts} == {"masked", "uniform"}


def test_there_is_no_figure_without_samples_or_without_a_metric_to_trust() -> None:
    with pytest.raises(NothingToDraw, match="`sweeper pareto` measures them"):
        pareto(None)
    rows = [*diffusion("masked", 1.0), control("repeated", 0.0)]
    fooled = answer(samples_of(pd.DataFrame(rows), "planted"), Asked(n_resamples=10))
    assert fooled.headline is None
    with pytest.raises(NothingToDraw, match="no metric ranks the controls last"):
        pareto(fooled)
    assert "no metric ranks the controls last" in pareto_text(fooled)


def test_the_text_has_the_ratio_the_winners_and_what_is_not_to_be_trusted(
    found: ParetoAnswer,
) -> None:
    text = pareto_text(found)
    assert "uniform vs masked" in text
    assert "best series" in text
    assert "prefers repeated: do not trust" in text
    assert "repeated (control)" in text


def test_the_page_shows_samples_escaped_and_only_where_there_are_some(
    found: ParetoAnswer, tmp_path: Path
) -> None:
    table = small_sweep(tmp_path, ("masked", "uniform"))
    fit = fit_table(table, FitSettings(n_bootstrap=10))
    provenance = Provenance("results/quick", ())
    page = render_report("quick", Study(table, fit, samples=found), provenance)
    assert "Samples: quality against speed" in page
    assert "uniform against masked" in page
    assert "Samples: quality" not in render_report("quick", Study(table, fit), provenance)
    rows = diffusion(EVIL, 1.0)
    evil = answer(samples_of(pd.DataFrame(rows), EVIL), Asked(n_resamples=10))
    assert EVIL not in render_report("quick", Study(table, fit, samples=evil), provenance)


def test_a_table_of_samples_is_read_plotted_and_printed_as_json(tmp_path: Path) -> None:
    rows = [*diffusion("masked", 1.0), *diffusion("uniform", 3.0)]
    source = tmp_path / "samples.csv"
    pd.DataFrame(rows).to_csv(source, index=False)
    run = CliRunner().invoke(cli, ["pareto", str(source), "--bootstrap", "50", "--json"])
    assert run.exit_code == 0, run.output
    metric = json.loads(run.stdout)["metrics"]["judge_divergence"]
    assert metric["speed_ratios"][0]["against"] == "uniform"
    assert metric["ranks_controls_last"] is None
    out = tmp_path / "figure.png"
    run = CliRunner().invoke(
        cli, ["plot", str(source), "--what", "pareto", "-o", str(out), "--bootstrap", "50"]
    )
    assert run.exit_code == 0, run.output
    assert out.stat().st_size > 10_000
