"""The tables of a page as CSV, each whole, packed into it."""

import base64
import csv
import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from analysis.answers import compare as comparing
from analysis.fitting import fit as fitting
from analysis.report.page.training import Training
from analysis.sensitivity.study import Study

MAX_PACKED = 5_000_000
"""Characters of all packed files: with them a page stays below 8 MB."""
PRECISION = "%.10g"
"""Of a measured number: more than any was measured in."""


@dataclass(frozen=True)
class Download:
    """One file that the page's reader can save."""

    file: str
    what: str
    content: bytes

    @cached_property
    def packed(self) -> str:
        """The same text for the same content."""
        return base64.b64encode(gzip.compress(self.content, 6, mtime=0)).decode("ascii")

    def to_json(self) -> dict[str, str]:
        """As the page's script unpacks it."""
        kind = "application/json" if self.file.endswith(".json") else "text/csv"
        return {"file": self.file, "type": kind, "gzip": self.packed}


def that_fit(found: Sequence[Download]) -> tuple[list[Download], list[Download]]:
    """Those for which the page has room, the first ones first, and those left out."""
    kept, left, room = [], [], MAX_PACKED
    for each in found:
        if len(each.packed) <= room:
            kept.append(each)
            room -= len(each.packed)
        else:
            left.append(each)
    return kept, left


def downloads(study: Study, training: Training) -> list[Download]:
    """Points, optima, laws, comparisons, loss curves, and the fit as JSON."""
    found = [Download("fit.json", "the fit and its comparisons", _fit_json(study))]
    for name, what, columns, rows in (
        ("optima.csv", "budgets and their optima", _OPTIMA, _optima(study)),
        ("laws.csv", "laws", _LAWS, _laws(study)),
        ("multipliers.csv", "compute multipliers", _MULTIPLIERS, _multipliers(study)),
        ("sensitivity.csv", "comparisons under every variation", _VARIED, _varied(study)),
    ):
        if rows:
            found.append(Download(name, f"{len(rows)} {what}", _csv(columns, rows)))
    points = study.table.frame.dropna(axis="columns", how="all")
    text = points.to_csv(index=False, float_format=PRECISION, lineterminator="\n")
    what = f"{len(points)} measured points"
    found.append(Download("points.csv", what, text.encode("utf-8", "replace")))
    if not training.losses.empty:
        text = training.losses.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        what = f"{len(training.losses)} logged steps of all trials"
        found.append(Download("losses.csv", what, text.encode("utf-8", "replace")))
    return found


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return stream.getvalue().encode("utf-8", "replace")


def _cell(cell: Any) -> Any:
    return PRECISION % cell if isinstance(cell, float) else cell


_OPTIMA = (
    "family", "budget_flops", "flops", "bracketed", "reason", "n_points", "params", "params_low",
    "params_high", "tokens", "tokens_low", "tokens_high", "loss", "loss_low", "loss_high",
)  # fmt: skip


def _optima(study: Study) -> list[tuple[Any, ...]]:
    return [
        (
            label,
            each.budget_flops,
            each.flops,
            int(each.bracketed),
            each.reason,
            each.n_points,
            each.params,
            *(each.params_ci or ("", "")),
            each.tokens,
            *(each.tokens_ci or ("", "")),
            each.loss,
            *(each.loss_ci or ("", "")),
        )
        for label, family in study.fit.families.items()
        for each in family.optima
    ]


_LAWS = (
    "family", "quantity", "offset", "coefficient", "exponent", "exponent_low", "exponent_high",
    "scatter", "n_budgets",
)  # fmt: skip


def _laws(study: Study) -> list[tuple[Any, ...]]:
    named = [
        (label, quantity, getattr(family.isoflop, f"{quantity}_law", None))
        for label, family in study.fit.families.items()
        for quantity in ("loss", "params", "tokens")
    ]
    return [
        (
            label,
            quantity,
            law.offset,
            law.coefficient,
            law.exponent,
            *law.exponent_ci,
            law.scatter,
            law.n_budgets,
        )
        for label, quantity, law in named
        if law is not None
    ]


_MULTIPLIERS = (
    "baseline", "against", "flops", "loss", "multiplier", "low", "high", "extrapolated", "form",
)  # fmt: skip


def _multipliers(study: Study) -> list[tuple[Any, ...]]:
    return [
        (
            each.baseline,
            each.against,
            point.flops,
            point.loss,
            point.multiplier,
            *(point.ci or ("", "")),
            int(point.extrapolated),
            point.form,
        )
        for each in study.comparisons
        for point in each.points
    ]


_VARIED = (
    "baseline", "against", "quantity", "series", "kind", "variation", "value", "low", "high",
    "contradicts", "reason",
)  # fmt: skip


def _varied(study: Study) -> list[tuple[Any, ...]]:
    return [
        (
            tried.baseline,
            tried.against,
            conclusion.quantity,
            conclusion.series,
            row.variation.kind,
            row.variation.label,
            row.value,
            *(row.ci or ("", "")),
            int(row.is_changed),
            row.reason,
        )
        for tried in study.sensitivities
        for conclusion in (*tried.comparisons, *tried.exponents)
        for row in conclusion.rows
    ]


def _fit_json(study: Study) -> bytes:
    compared = [
        comparing.to_json(each, tried.to_json() if (tried := study.sensitivity_of(each)) else None)
        for each in study.comparisons
    ]
    content = {"fit": fitting.to_json(study.fit), "comparisons": compared}
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "replace")
