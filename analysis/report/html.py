"""The report: one HTML file that answers the question first and then shows everything behind it.

It holds its charts, scripts, style and data; it loads nothing. Same input, same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.answers.forecast import Outcome
from analysis.figures.palette import DARK_PALETTE, PALETTE
from analysis.report import tables
from analysis.report.forecasts import forecasts_table
from analysis.report.page import bundle
from analysis.report.page.answers import Answer, answer
from analysis.report.page.charts import forests
from analysis.report.page.charts.figure import Figure
from analysis.report.page.charts.frontier import frontiers
from analysis.report.page.charts.isoflop import valleys
from analysis.report.page.charts.multiplier import multipliers
from analysis.report.page.charts.trajectories import loss_curve, trajectories
from analysis.report.page.charts.vega import series_sign
from analysis.report.page.downloads import downloads, that_fit
from analysis.report.page.frames import Shown
from analysis.report.page.runs import n_thinned, runs_json, runs_table
from analysis.report.page.training import Training
from analysis.report.page.views import views_json
from analysis.report.provenance import Provenance
from analysis.report.published_table import exponents_of
from analysis.report.samples import SamplesSection
from analysis.report.sensitivity_text import variations_table, verdicts_table
from analysis.report.tables import Table
from analysis.sensitivity.study import Study, fingerprint
from sweeper.store.files import write_output

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = {
    "curves": "Curves",
    "frontiers": "Frontiers",
    "multipliers": "Multipliers",
    "samples": "Samples",
    "sensitivity": "Sensitivity",
    "laws": "Laws",
    "losses": "Loss curves",
    "remarks": "Remarks",
    "provenance": "Provenance",
    "data": "Data",
}
FONT = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif'
CONFIG = {
    "background": None,
    "font": FONT,
    "view": {"stroke": None},
    "mark": {"aria": False},
    "axis": {
        "aria": False, "domainColor": "var(--muted)", "gridColor": "var(--grid)",
        "labelColor": "var(--ink)", "labelFontSize": 11, "labelOverlap": "greedy",
        "labelSeparation": 4, "tickCount": 5,
        "tickColor": "var(--muted)", "titleColor": "var(--ink)", "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "text": {"color": "var(--ink)", "font": FONT},
}  # fmt: skip
"""The look that all charts share, in colours that follow the theme."""


def write_report(
    source_name: str,
    study: Study,
    provenance: Provenance,
    out: Path,
    outcomes: Sequence[Outcome] = (),
    training: Training | None = None,
) -> Path:
    """Write the report, whole or not at all; raises `OutputError` for a path that cannot be."""
    page = render_report(source_name, study, provenance, outcomes, training)
    write_output(out, page.encode("utf-8", errors="replace"))
    return out


def render_report(
    source_name: str,
    study: Study,
    provenance: Provenance,
    outcomes: Sequence[Outcome] = (),
    training: Training | None = None,
) -> str:
    """The report as HTML, with what came of forecasts if there are any."""
    fit, training = study.fit, training or Training()
    shown = Shown.of(fit)
    answered = _answers(study)
    figures = _figures(study, n_thinned(fit, shown))
    files, left_out = that_fit(downloads(study, training))
    content = {
        "series": [_series_json(label, training) for label in fit.families],
        "views": views_json(study, shown, figures),
        "figures": [
            {"name": "answer", "panels": [one.chart for one in answered if one.chart is not None]},
            *({"name": f.name, "panels": [panel.spec for panel in f.panels]} for f in figures),
        ],
        "runs": runs_json(study.table, shown, training),
        "curve": loss_curve(),
        "config": CONFIG,
    }
    texts = bundle.scripts()
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=source_name,
            policy=bundle.policy(texts),
            style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
            light=PALETTE,
            dark=DARK_PALETTE,
            sections={k: v for k, v in SECTIONS.items() if k != "samples" or study.samples},
            answers=answered,
            single=tables.answers(fit),
            series=[
                {
                    "label": label,
                    "sign": series_sign(n),
                    "color": n % len(PALETTE),
                }
                for n, label in enumerate(fit.families)
            ],
            has_published=bool(fit.published),
            shows_published=study.shows_published,
            has_bits=set(fit.families) <= set(training.bits_per_nat),
            params=_conventions(study, "params_convention"),
            flops=_conventions(study, "flops_convention"),
            figures={figure.name: figure for figure in figures},
            exponents=tables.exponents_table(study.comparisons),
            laws=_law_tables(study),
            missing=tables.missing(fit),
            samples=SamplesSection.of(study.samples) if study.samples else None,
            forecasts=forecasts_table(outcomes),
            spend=training.spend,
            remarks=tables.remarks(_warnings(study)),
            excluded=Table(("trial", "series", "status", "reason"), provenance.excluded, n_text=4),
            provenance=_provenance(study, provenance),
            downloads=files,
            too_large=left_out,
            data=bundle.embedded_json(content),
            files=[bundle.embedded_json(each.to_json()) for each in files],
            scripts=[Markup(text) for text in texts],
        )
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _answers(study: Study) -> list[Answer]:
    """Of the asked pairs; those with a chart before those without: its place is its number."""
    question = study.question
    found = [
        answer(study.fit, each, study.sensitivity_of(each), question.flops if question else None)
        for each in study.comparisons
        if question is None or (each.baseline, each.against) in question.pairs
    ]
    return sorted(found, key=lambda each: each.chart is None)


def _series_json(label: str, training: Training) -> dict[str, Any]:
    return {"label": label, "bits": training.bits_per_nat.get(label)}


def _conventions(study: Study, name: str) -> list[str]:
    """The fit's own first."""
    fits = [study.fit, *(each.fit for each in study.recounts)]
    return list(dict.fromkeys(getattr(fit, name) for fit in fits))


def _figures(study: Study, remark: str) -> list[Figure]:
    fit = study.fit
    varied = [
        (
            f"{each.against} against {each.baseline}: every variation with its 95 % interval from "
            f"{each.n_draws} resamples; ! marks the other sign",
            variations_table(each),
        )
        for each in study.sensitivities
    ]
    verdicts = verdicts_table(study.sensitivities)
    if verdicts.rows:
        varied.insert(0, ("What becomes of each number", verdicts))
    left_out = tables.left_out_table(fit)
    optima = [("Vertex of every bracketed valley, with 95 % intervals", tables.optima_table(fit))]
    if left_out.rows:
        optima.append(("Budgets that are not bracketed and enter no law", left_out))
    laws = (("Power laws in training compute C (FLOPs)", tables.laws_table(fit)),)
    baselines = tuple(dict.fromkeys(each.baseline for each in study.comparisons if each.points))
    return [
        valleys(fit, tuple(optima), remark),
        frontiers(fit, laws),
        multipliers(fit, baselines, tables.multipliers_table(study.comparisons)),
        forests.sensitivity(study.sensitivities, varied),
        forests.exponents(fit, laws),
        trajectories(fit, runs_table(study.table), remark),
    ]


def _law_tables(study: Study) -> list[tuple[str, str, Table]]:
    """(caption, name, table), the first of which is shown open."""
    fit = study.fit
    return [
        (
            "Power laws in training compute C (FLOPs). Scatter is the standard deviation of the "
            "optima about the law beyond their own noise.",
            "laws",
            tables.laws_table(fit),
        ),
        (
            "Hold-out: each form fitted to what cost less, and how far it misses the loss of what "
            "cost more. Trust an extrapolation no further than this.",
            "holdout",
            tables.holdout_table(fit),
        ),
        (
            "Further laws: along envelopes of training curves, in tokens, and of the best batch "
            "and learning rate",
            "further",
            tables.further_table(fit),
        ),
        (
            "Surfaces: L(N, D) = E + A / N^α + B / D^β, with 95 % intervals",
            "surfaces",
            tables.surfaces_table(fit),
        ),
        (
            "Exponents published elsewhere, with the intervals they claim. Losses are of other "
            "corpora and tokenizers: compare exponents, not levels.",
            "published",
            exponents_of(fit.published),
        ),
    ]


def _warnings(study: Study) -> list[Any]:
    return [
        *study.fit.warnings,
        *(warning for each in study.comparisons for warning in each.warnings),
    ]


def _provenance(study: Study, provenance: Provenance) -> tuple[tuple[str, str], ...]:
    table, fit, settings = study.table, study.fit, study.fit.settings
    return (
        ("source", provenance.source),
        ("rows", f"{len(table.frame)} observations of {table.frame['run_id'].nunique()} runs"),
        ("fingerprint of the rows", f"sha256:{fingerprint(table)}"),
        ("parameters count", fit.params_convention),
        ("FLOPs count", fit.flops_convention),
        ("valleys drawn by", settings.isoflop),
        ("Huber delta of surfaces", str(settings.huber_delta)),
        ("bootstrap resamples", f"{settings.n_bootstrap}, seed {settings.seed}"),
        *provenance.facts,
    )
