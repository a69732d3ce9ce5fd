"""The report: one HTML file that answers the question first and then shows everything behind it.

It holds its figures, its style and its data; it loads and runs nothing. Same input, same bytes.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.answers import compare as comparing
from analysis.figures.gallery import FIGURES, NothingToDraw, Study
from analysis.figures.render import fingerprint, inline_svg
from analysis.figures.style import DARK_PALETTE, PALETTE
from analysis.fitting import fit as fitting
from analysis.fitting.fit import FitResult
from analysis.report import tables
from analysis.report.provenance import ExcludedTrial, Provenance
from analysis.report.published_table import exponents_of
from analysis.report.sensitivity_text import variations_table, verdicts_table
from sweeper.store.files import write_output

TEMPLATES = Path(__file__).parent / "templates"
TITLES = {
    "frontier": "Compute-optimal loss, size and tokens",
    "isoflop": "Loss against size at every budget",
    "multiplier": "Compute multipliers",
    "trajectories": "Loss against compute by size",
    "exponents": "Scaling exponents by series and method",
    "sensitivity": "Comparisons otherwise",
}
"""What each figure is called for a reader who cannot see it."""


@dataclass(frozen=True)
class _Picture:
    """A figure, or the reason why there is none."""

    svg: Markup | None
    reason: str


def write_report(source_name: str, study: Study, provenance: Provenance, out: Path) -> Path:
    """Write the report, whole or not at all; raises `OutputError` for a path that cannot be."""
    page = render_report(source_name, study, provenance)
    write_output(out, page.encode("utf-8", errors="replace"))
    return out


def render_report(source_name: str, study: Study, provenance: Provenance) -> str:
    """The report as HTML."""
    fit, comparisons = study.fit, study.comparisons
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    warnings = [*fit.warnings, *(warning for one in comparisons for warning in one.warnings)]
    data = _json(study)
    return environment.get_template("report.html").render(
        title=source_name,
        light=PALETTE,
        dark=DARK_PALETTE,
        fit=fit,
        answers=tables.answers(fit),
        comparisons=[(each, study.sensitivity_of(each)) for each in comparisons],
        pictures={name: _picture(name, title, study) for name, title in TITLES.items()},
        optima=tables.optima_table(fit),
        left_out=tables.left_out_table(fit),
        laws=tables.laws_table(fit),
        published=exponents_of(fit.published),
        surfaces=tables.surfaces_table(fit),
        holdout=tables.holdout_table(fit),
        further=tables.further_table(fit),
        multipliers=tables.multipliers_table(comparisons),
        exponents=tables.exponents_table(comparisons),
        verdicts=verdicts_table(study.sensitivities),
        variations=[(found, variations_table(found)) for found in study.sensitivities],
        missing=_missing(fit),
        remarks=tables.remarks(warnings),
        excluded=_excluded(provenance.excluded),
        provenance=_provenance(study, provenance),
        json=data,
        json_base64=base64.b64encode(data.encode()).decode(),
    )


def _picture(name: str, title: str, study: Study) -> _Picture:
    try:
        return _Picture(Markup(inline_svg(FIGURES[name](study), name, title)), "")
    except NothingToDraw as reason:
        return _Picture(None, str(reason))


def _missing(fit: FitResult) -> tuple[tuple[str, str, str], ...]:
    """(series, part, why) of every part of the fit that is null."""
    rows = []
    for label, family in fit.families.items():
        if family.isoflop is None or family.isoflop.loss_law is None:
            rows.append((label, "power laws", tables.why_no_laws(label, fit)))
        if family.surface is None:
            rows.append((label, "surface", tables.why_no_surface(label, fit)))
    return tuple(rows)


def _excluded(trials: tuple[ExcludedTrial, ...]) -> tables.Table:
    rows = tuple((t.trial_id, t.series, t.status, t.reason) for t in trials)
    return tables.Table(("trial", "series", "status", "reason"), rows, n_text=4)


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


def _json(study: Study) -> str:
    comparisons = [(each, study.sensitivity_of(each)) for each in study.comparisons]
    content = {
        "fit": fitting.to_json(study.fit),
        "comparisons": [
            comparing.to_json(each, tried.to_json() if tried else None)
            for each, tried in comparisons
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
