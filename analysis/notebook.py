"""Fits in notebooks and scripts: results that show themselves, figures as objects of matplotlib.

fit = read_fit("results/quick")             # a results folder or a table
fit                                         # the answer of every series, then tables
fit.compare("masked", "uniform")            # the verdict, then multipliers and exponents
fit.figure("frontier", width="column")      # a matplotlib.figure.Figure
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.answers.compare import Comparison, compare, compare_all
from analysis.figures.render import FIGURES, check_names, save_drawn
from analysis.figures.style import HOUSE_INCHES, Look
from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.pareto.answer import Asked, answer
from analysis.pareto.samples import load_samples_of
from analysis.report import tables
from analysis.report.published_table import with_published
from analysis.report.tables import Table
from analysis.report.text import comparison_text, summary
from analysis.sensitivity.sensitivity import sensitivities
from analysis.sensitivity.study import Study, fingerprint
from analysis.tables.load import load
from analysis.tables.tidy import Reading, TidyTable
from sweeper.store.storage import StoragePath, place


@dataclass(frozen=True)
class Shown:
    """What is shown of a result, the concise answer first."""

    sentences: Mapping[str, str]
    """By series; one without a name stands alone."""
    tables: Mapping[str, Table]
    """By title."""
    remarks: Mapping[str, list[str]]

    def html(self) -> str:
        """A fragment of HTML; whatever a user typed is text in it."""
        # Of these classes MathJax, which notebooks run, leaves text between dollars alone.
        parts = [Markup('<div class="tex2jax_ignore mathjax_ignore">')]
        for label, sentence in self.sentences.items():
            name = Markup("<b>{}</b>: ").format(label) if label else Markup("")
            parts.append(Markup("<p>{}{}</p>").format(name, sentence))
        parts += [_html_table(title, table) for title, table in self.tables.items() if table.rows]
        messages = [message for each in self.remarks.values() for message in each]
        if messages:
            items = Markup("").join(Markup("<li>{}</li>").format(each) for each in messages)
            head = Markup("<details><summary>{} remarks</summary>").format(len(messages))
            parts.append(head + Markup("<ul>{}</ul></details>").format(items))
        return str(Markup("\n").join([*parts, Markup("</div>")]))

    def markdown(self) -> str:
        """The same as Markdown with tables of pipes."""
        lines = [
            (f"**{_plain(label)}**: " if label else "") + _plain(sentence)
            for label, sentence in self.sentences.items()
        ]
        for title, table in self.tables.items():
            if table.rows:
                rule = ["---" if i < table.n_text else "---:" for i in range(len(table.columns))]
                grid = [[*map(_plain, row)] for row in (table.columns, *table.rows)]
                rows = [" | ".join(row) for row in (grid[0], rule, *grid[1:])]
                lines.append(f"{_plain(title)}\n\n" + "\n".join(f"| {row} |" for row in rows))
        lines += [f"- {_plain(message)}" for each in self.remarks.values() for message in each]
        return "\n\n".join(lines)


def _html_table(title: str, table: Table) -> Markup:
    def row(cells: tuple[str, ...], tag: str) -> Markup:
        aligned = [
            Markup('<{0} style="text-align: {1}">{2}</{0}>').format(
                tag, "left" if rank < table.n_text else "right", cell
            )
            for rank, cell in enumerate(cells)
        ]
        return Markup("<tr>{}</tr>").format(Markup("").join(aligned))

    body = Markup("").join(row(cells, "td") for cells in table.rows)
    return Markup("<table><caption>{}</caption>{}{}</table>").format(
        title, row(table.columns, "th"), body
    )


def _plain(text: str) -> str:
    """Text that Markdown prints as it is: in it any punctuation may follow a backslash."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


class ShowsItself(ABC):
    """A result that notebooks show as HTML or Markdown, and consoles as text."""

    @abstractmethod
    def shown(self) -> Shown:
        """What is shown of it."""

    def _repr_html_(self) -> str:
        return self.shown().html()

    def _repr_markdown_(self) -> str:
        return self.shown().markdown()


@dataclass(frozen=True, repr=False)
class Compared(ShowsItself):
    """A comparison of two series; `comparison` holds its numbers."""

    comparison: Comparison

    def __repr__(self) -> str:
        return comparison_text(self.comparison)

    def shown(self) -> Shown:
        """The verdict, the multiplier at every budget, differences of exponents."""
        each = [self.comparison]
        shown = {
            "Multipliers": tables.multipliers_table(each),
            "Exponents": tables.exponents_table(each),
        }
        return Shown({"": self.comparison.verdict}, shown, tables.remarks(self.comparison.warnings))


@dataclass(frozen=True, repr=False)
class Fit(ShowsItself):
    """A source and its fit; `table` and `result` hold the numbers."""

    source: StoragePath
    table: TidyTable
    result: FitResult

    def __repr__(self) -> str:
        return summary(self.result)

    def shown(self) -> Shown:
        """The answer of every series, optima and laws."""
        shown = {
            "Compute-optimal points": tables.optima_table(self.result),
            "Laws": tables.laws_table(self.result),
        }
        return Shown(tables.answers(self.result), shown, tables.remarks(self.result.warnings))

    def compare(self, baseline: str, against: str) -> Compared:
        """How much more compute `against` needs; raises `SettingsError` for an unknown series."""
        return Compared(compare(self.result, baseline, against))

    def figure(
        self, name: str, width: float | str = HOUSE_INCHES, style: str | Path | None = None
    ) -> Figure:
        """A figure of `sweeper plot` by its name, in inches or for a `"column"` or `"page"`.

        Raises `SettingsError` for an unknown name, a width or a style that cannot be used, and
        `NothingToDraw` where the source has no part for it.
        """
        check_names([name])
        look = Look.of(width, None if style is None else Path(style))
        comparisons = compare_all(self.result) if name in ("multiplier", "sensitivity") else ()
        is_varied, samples = name == "sensitivity", None
        tried = sensitivities(self.table, self.result, comparisons) if is_varied else ()
        if name == "pareto" and (measured := load_samples_of(self.source)) is not None:
            settings = self.result.settings
            samples = answer(measured, Asked(n_resamples=settings.n_bootstrap, seed=settings.seed))
        study = Study(self.table, self.result, comparisons, tried, samples=samples)
        return FIGURES[name](study, look)

    def save(self, figure: Figure, path: str | Path, style: str | Path | None = None) -> None:
        """Write a figure of this fit as PNG, SVG or PDF, as `sweeper plot` does.

        Raises `SettingsError` for another suffix, `OutputError` for a path that cannot be written.
        """
        look = Look.of(figure.get_figwidth(), None if style is None else Path(style))
        save_drawn({"figure": lambda _: figure}, fingerprint(self.table), Path(path), look=look)


def read_fit(
    source: str | StoragePath,
    settings: FitSettings | None = None,
    *,
    params: str | None = None,
    flops: str | None = None,
    columns: Mapping[str, str] | None = None,
    published: str | None = None,
) -> Fit:
    """Read a results folder or a table, and fit every series as `sweeper fit` does.

    `params` and `flops` name conventions, `columns` gives our names of columns with theirs,
    `published` names laws of others to show. Raises `FitError` with what cannot be read or used.
    """
    path = place(source)
    table = load(path, params, flops, Reading(columns or {}))
    result = fit_table(table, settings)
    return Fit(path, table, result if published is None else with_published(result, published))
