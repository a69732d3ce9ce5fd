"""The report: one HTML file that answers the question first and then shows everything behind it.

It holds its figures, its style and its data; it loads and runs nothing. Same input, same bytes.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.answers import compare as comparing
from analysis.answers.compare import Comparison
from analysis.figures import gallery
from analysis.figures.gallery import NothingToDraw
from analysis.figures.render import fingerprint, inline_svg
from analysis.figures.style import DARK_PALETTE, PALETTE
from analysis.fitting import fit as fitting
from analysis.fitting.fit import FitResult
from analysis.report import tables
from analysis.report.provenance import ExcludedTrial, Provenance
from analysis.report.published_table import COLUMNS, exponent_rows
from analysis.report.sensitivity_text import variations_table, verdicts_table
from analysis.tables.tidy import TidyTable
from sweeper.store.files import write_output

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class _Picture:
    """A figure, or the reason why there is none."""

    svg: Markup | None
    reason: str


def write_report(
    source_name: str,
    table: TidyTable,
    fit: FitResult,
    comparisons: Sequence[Comparison],
    provenance: Provenance,
    out: Path,
) -> Path:
    """Write the report, whole or not at all; raises `OutputError` for a path that cannot be."""
    page = render_report(source_name, table, fit, comparisons, provenance)
    write_output(out, page.encode("utf-8", errors="replace"))
    return out


def render_report(
    source_name: str,
    table: TidyTable,
    fit: FitResult,
    comparisons: Sequence[Comparison],
    provenance: Provenance,
) -> str:
    """The report as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    warnings = [*fit.warnings, *(warning for one in comparisons for warning in one.warnings)]
    data = _json(fit, comparisons)
    return environment.get_template("report.html").render(
        title=source_name,
        light=PALETTE,
        dark=DARK_PALETTE,
        fit=fit,
        answers=tables.answers(fit),
        comparisons=comparisons,
        pictures=_pictures(fit, comparisons),
        optima=tables.optima_table(fit),
        left_out=tables.left_out_table(fit),
        laws=tables.laws_table(fit),
        published=tables.Table(COLUMNS, exponent_rows(fit.published), len(COLUMNS)),
        surfaces=tables.surfaces_table(fit),
        holdout=tables.holdout_table(fit),
        further=tables.further_table(fit),
        multipliers=tables.multipliers_table(comparisons),
        exponents=tables.exponents_table(comparisons),
        verdicts=verdicts_table(comparisons),
        variations=[variations_table(comparison) for comparison in comparisons],
        missing=_missing(fit),
        remarks=tables.remarks(warnings),
        excluded=_excluded(provenance.excluded),
        provenance=_provenance(table, fit, provenance),
        json=data,
        json_base64=base64.b64encode(data.encode()).decode(),
    )


def _pictures(fit: FitResult, comparisons: Sequence[Comparison]) -> dict[str, _Picture]:
    makers: dict[str, tuple[str, Callable[[], Figure]]] = {
        "frontier": ("Compute-optimal loss, size and tokens", lambda: gallery.frontier(fit)),
        "isoflop": ("Loss against size at every budget", lambda: gallery.isoflop(fit)),
        "multiplier": ("Compute multipliers", lambda: gallery.multiplier(comparisons, fit)),
        "trajectories": ("Loss against compute by size", lambda: gallery.trajectories(fit)),
        "exponents": ("Scaling exponents by series and method", lambda: gallery.exponents(fit)),
        "sensitivity": ("Comparisons otherwise", lambda: gallery.sensitivity(comparisons, fit)),
    }
    return {name: _picture(name, title, make) for name, (title, make) in makers.items()}


def _picture(name: str, title: str, make: Callable[[], Figure]) -> _Picture:
    try:
        return _Picture(Markup(inline_svg(make(), name, title)), "")
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


def _excluded(trials: Sequence[ExcludedTrial]) -> tables.Table:
    rows = tuple((t.trial_id, t.series, t.status, t.reason) for t in trials)
    return tables.Table(("trial", "series", "status", "reason"), rows, n_text=4)


def _provenance(
    table: TidyTable, fit: FitResult, provenance: Provenance
) -> tuple[tuple[str, str], ...]:
    settings = fit.settings
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


def _json(fit: FitResult, comparisons: Sequence[Comparison]) -> str:
    content = {
        "fit": fitting.to_json(fit),
        "comparisons": [comparing.to_json(comparison) for comparison in comparisons],
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
