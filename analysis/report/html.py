"""The report: one HTML file that answers the question first and then shows everything behind it.

It holds its figures, its style and its data; it loads and runs nothing. Same input, same bytes.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.answers import compare as comparing
from analysis.answers.forecast import Outcome
from analysis.errors import NothingToDraw
from analysis.figures.render import FIGURES, Study, fingerprint, inline_svg
from analysis.figures.style import DARK_PALETTE, PALETTE
from analysis.fitting import fit as fitting
from analysis.report import tables
from analysis.report.forecasts import forecasts_table
from analysis.report.provenance import Provenance
from analysis.report.published_table import exponents_of
from analysis.report.samples import SamplesSection
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


def write_report(
    source_name: str,
    study: Study,
    provenance: Provenance,
    out: Path,
    outcomes: Sequence[Outcome] = (),
) -> Path:
    """Write the report, whole or not at all; raises `OutputError` for a path that cannot be."""
    page = render_report(source_name, study, provenance, outcomes)
    write_output(out, page.encode("utf-8", errors="replace"))
    return out


def render_report(
    source_name: str, study: Study, provenance: Provenance, outcomes: Sequence[Outcome] = ()
) -> str:
    """The report as HTML, with what came of forecasts if there are any."""
    fit, comparisons = study.fit, study.comparisons
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    warnings = [*fit.warnings, *(warning for one in comparisons for warning in one.warnings)]
    tried = [(each, study.sensitivity_of(each)) for each in comparisons]
    compared = [comparing.to_json(each, s.to_json() if s else None) for each, s in tried]
    content = {"fit": fitting.to_json(fit), "comparisons": compared}
    if study.samples is not None:
        content["samples"] = study.samples.to_json()
    data = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    return environment.get_template("report.html").render(
        title=source_name,
        light=PALETTE,
        dark=DARK_PALETTE,
        answers=tables.answers(fit),
        comparisons=tried,
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
        samples=SamplesSection.of(study.samples) if study.samples else None,
        forecasts=forecasts_table(outcomes),
        missing=tables.missing(fit),
        remarks=tables.remarks(warnings),
        excluded=tables.Table(
            ("trial", "series", "status", "reason"), provenance.excluded, n_text=4
        ),
        provenance=_provenance(study, provenance),
        json=data,
        json_base64=base64.b64encode(data.encode()).decode(),
    )


def _picture(name: str, title: str, study: Study) -> tuple[Markup | None, str]:
    try:
        return Markup(inline_svg(FIGURES[name](study), name, title)), ""
    except NothingToDraw as reason:
        return None, str(reason)


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
