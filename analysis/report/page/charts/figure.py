"""Charts that stand together on the page, and what is said of them."""

from dataclasses import dataclass

from analysis.report.page.charts.vega import Json
from analysis.report.tables import Table


@dataclass(frozen=True)
class Panel:
    """One chart."""

    title: str
    spec: Json
    series: int | None = None
    """The only series that it is of."""
    note: str = ""
    """How many of its budgets are bracketed, in the view that is shown."""


@dataclass(frozen=True)
class Figure:
    """Charts that stand side by side, what they show, and their numbers as tables."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    tables: tuple[tuple[str, Table], ...] = ()
    has_key: bool = False
    """Whether several series are told apart by colour and shape."""
