"""Tables of fits and comparisons for a paper: LaTeX in the style of booktabs, in plain ASCII.

Each fits a column of 3.25 inches: labels are rows of their own, intervals stand below or beside
their values, and what the caption says stands in no column.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from analysis import notation
from analysis.answers.compare import Comparison
from analysis.fitting.fit import FitResult
from analysis.fitting.holdout import FormName
from analysis.report import tables
from analysis.report.latex_text import escaped, mathematics
from analysis.report.published_table import exponents_of
from analysis.report.tables import Table

_HEAD = r"% \usepackage{booktabs}"
_SAID = re.compile(r" (\(.*\)|\[95 %\]|of the baseline)$")
"""In a head, what the caption says."""
_INTERVAL = re.compile(r"(.+?) (\[.*\](?: \d+%)?)")
_LONG, _MANY = 40, 38
"""Characters of a label that is broken into lines, and of a row that needs the smaller type."""
_FORMS: dict[FormName, str] = {
    "power": "power law", "offset": "offset law", "surface": "surface", "tied": "surface, α = β",
}  # fmt: skip

Row = tuple[str, ...]
"""Cells as we write them, not yet as LaTeX."""


@dataclass(frozen=True)
class _Body:
    """A table as it is laid out: heads, and below the label of each group its rows."""

    heads: Row
    shape: str
    """Of the columns, in letters of `tabular`."""
    groups: tuple[tuple[str, tuple[Row, ...]], ...]


def fit_tables(fit: FitResult, source: str) -> str:
    """Optima, laws and surfaces of a fit; of what the data do not support there is a remark.

    `source` is named in every caption, `fit.settings` and the conventions likewise.
    """
    optima, surfaces = tables.optima_table(fit), tables.surfaces_table(fit)
    laws = _without(tables.laws_table(fit), "scatter")
    value = mathematics(_SAID.sub("", laws.columns[3]))  # at which compute
    surface = r"Loss surfaces $L(N, D) = E + A/N^\alpha + B/D^\beta$"
    shown = [
        ("optima", "Compute-optimal size, tokens and loss by training budget",
         _without(optima, "points"), _stacked),
        ("laws", f"Scaling laws of the compute-optimal frontier, and {value}", laws, _laws),
        ("surfaces", surface, _without(surfaces, "points"), _listed),
    ]  # fmt: skip
    where = _method(fit, source)
    written = [
        _written(lay_out(table), name, f"{title}. {where}")
        for name, title, table, lay_out in shown
        if table.rows
    ]
    lacking = [
        f"% {escaped(label)}: no {part}: {escaped(why)}" for label, part, why in tables.missing(fit)
    ]
    return "\n".join([_HEAD, *written, *lacking])


def comparison_tables(comparison: Comparison, fit: FitResult, source: str) -> str:
    """Multipliers and exponents of a comparison, and published exponents where the fit has some."""
    pair = f"{escaped(comparison.against)} over {escaped(comparison.baseline)}"
    where = _method(fit, source)
    exponents = _without(tables.exponents_table([comparison]), "differs from 0")
    shown = [
        ("multipliers", f"Compute of {pair} at equal compute-optimal loss",
         _multipliers(comparison)),
        ("exponents", f"Exponents of {pair} and their difference by paired resamples",
         _without(exponents, "series")),
    ]  # fmt: skip
    written = [
        _written(_plain(table), name, f"{title}. {where}")
        for name, title, table in shown
        if table.rows
    ]
    if fit.published:
        title = "Published exponents, with the intervals and the sources that their authors give."
        written.append(_written(_listed(_published(fit)), "published", title))
    return "\n".join([_HEAD, *written])


def _published(fit: FitResult) -> Table:
    """Exponents by name and, with it, what their authors count and where they say so."""
    table = exponents_of(fit.published)
    rows = [
        (f"{name}: {source}; N counts {params}, C {flops}", *exponents)
        for name, *exponents, params, flops, source in table.rows
    ]
    return Table(("published", *table.columns[1:-3]), tuple(rows))


def _multipliers(comparison: Comparison) -> Table:
    """The multiplier by budget, and by which form a loss is extrapolated that only one observed."""
    table = _without(tables.multipliers_table([comparison]), "series")
    forms = [_FORMS[point.form] if point.form else "—" for point in comparison.points]
    rows = [(*row[:-1], form) for row, form in zip(table.rows, forms, strict=True)]
    return Table((*table.columns[:-1], "extrapolated"), tuple(rows), table.n_text)


def _without(table: Table, name: str) -> Table:
    """A table without a column that its page has no room or no need for."""
    place = table.columns.index(name)
    n_text = table.n_text - (place < table.n_text)
    columns, *rows = [
        (*cells[:place], *cells[place + 1 :]) for cells in (table.columns, *table.rows)
    ]
    return Table(columns, tuple(rows), n_text)


def _method(fit: FitResult, source: str) -> str:
    """What a reader needs to know of the numbers, and where they are from."""
    settings = fit.settings
    return (
        f"Brackets: 95\\,\\% intervals of {settings.n_bootstrap} resamples of whole runs. "
        f"$N$ counts {escaped(notation.params_unit(fit.params_convention))}, $C$ "
        f"{escaped(notation.flops_unit(fit.flops_convention))}, $L$ nats per token. "
        f"Source: {escaped(source)}."
    )


def _stacked(table: Table) -> _Body:
    """Rows by series; intervals in a line below their values."""
    groups = []
    for label, rows in groupby(table.rows, key=lambda row: row[0]):
        lines = [line for row in rows for line in zip(*map(_halves, row[1:]), strict=True)]
        groups.append((label, tuple(lines)))
    shape = "l" * (table.n_text - 1) + "r" * (len(table.columns) - table.n_text)
    return _Body(_heads(table.columns[1:]), shape, tuple(groups))


def _listed(table: Table) -> _Body:
    """Below each label a line for each column: its name, the value and the interval."""
    names = _heads(table.columns[1:])
    groups = [
        (label, tuple((name, *_halves(cell)) for name, cell in zip(names, cells, strict=True)))
        for label, *cells in table.rows
    ]
    return _Body(("", "value", "interval"), "lrl", tuple(groups))


def _laws(table: Table) -> _Body:
    """Below each label the laws: one in a line, and in the next its numbers with intervals."""
    groups = []
    for label, rows in groupby(table.rows, key=lambda row: row[0]):
        lines: list[Row] = []
        for _, law, exponent, value, n_budgets in rows:
            lines += [(law,), (*_halves(exponent), *_halves(value), n_budgets)]
        groups.append((label, tuple(lines)))
    return _Body(("exponent", "interval", "value", "interval", "budgets"), "rlrlr", tuple(groups))


def _plain(table: Table) -> _Body:
    """Rows as they are."""
    n_numbers = len(table.columns) - table.n_text
    return _Body(_heads(table.columns), "l" * table.n_text + "r" * n_numbers, (("", table.rows),))


def _heads(names: Row) -> Row:
    """Without what captions say: what is counted, and whose intervals these are."""
    return tuple(_SAID.sub("", name) for name in names)


def _halves(cell: str) -> Row:
    """A value, and its interval or nothing."""
    found = _INTERVAL.fullmatch(cell)
    return (found[1], found[2]) if found else (cell, "")


def _written(body: _Body, name: str, caption: str) -> str:
    """A `table` environment."""
    rows = [body.heads, *(row for _, rows in body.groups for row in rows)]
    columns = zip(*(row for row in rows if len(row) == len(body.heads)), strict=True)
    n_characters = sum(max(map(len, column)) for column in columns)
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{name}}}",
            r"\smallskip",
            r"\scriptsize" if n_characters > _MANY else r"\footnotesize",
            r"\setlength{\tabcolsep}{2pt}", r"\renewcommand{\arraystretch}{1.1}",
            rf"\begin{{tabular}}{{@{{}}{body.shape}@{{}}}}",
            r"\toprule", _line(body.heads), r"\midrule", *_lines(body), r"\bottomrule",
            r"\end{tabular}", r"\end{table}", "",
        ]
    )  # fmt: skip


def _lines(body: _Body) -> Iterator[str]:
    n_columns = len(body.heads)
    for number, (label, rows) in enumerate(body.groups):
        if number:
            yield r"\addlinespace"
        if label:
            is_long = len(label) > _LONG
            look, shape = (r"\raggedright", r"p{\linewidth}") if is_long else ("", "l")
            yield _across(n_columns, rf"{look}\itshape {escaped(label)}", shape)
        for row in rows:
            is_whole = len(row) == n_columns
            yield _line(row) if is_whole else _across(n_columns, mathematics(row[0]), "l")


def _across(n_columns: int, text: str, shape: str) -> str:
    return rf"\multicolumn{{{n_columns}}}{{@{{}}{shape}@{{}}}}{{{text}}} \\"


def _line(row: Row) -> str:
    return " & ".join(map(mathematics, row)) + r" \\"
