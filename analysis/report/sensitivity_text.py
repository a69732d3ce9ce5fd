"""The sensitivity of a comparison in words and as tables, for terminal and report."""

from collections.abc import Callable, Sequence

from analysis import notation
from analysis.notation import with_interval
from analysis.report.tables import Table
from analysis.sensitivity.conclusions import (
    KIND_TITLES,
    SYMBOLS,
    Conclusion,
    Quantity,
    Row,
    Sensitivity,
)
from analysis.sensitivity.variations import Variation

CHANGED, UNSHOWN = "!", "~"
"""Marks of a number that contradicts the fit, and of a difference within its own noise."""


def sensitivity_text(sensitivity: Sensitivity) -> str:
    """The full table for a terminal: variations down, conclusions across."""
    lines = [
        f"Every variation of {sensitivity.against} against {sensitivity.baseline}: "
        "difference of exponents, multiplier",
        *_grid(sensitivity, sensitivity.comparisons),
        "",
        "Exponents of each series",
        *_grid(sensitivity, sensitivity.exponents),
        "",
        f"{CHANGED} contradicts the fit: the other sign, or outside the exponent's interval there",
        f"{UNSHOWN} same sign, but the interval includes no difference",
        f"intervals behind these marks: {sensitivity.n_draws} resamples per variation",
    ]
    return "\n".join(line.rstrip() for line in [*lines, *_reasons(sensitivity)])


def verdicts_table(sensitivities: Sequence[Sensitivity]) -> Table:
    """What becomes of every comparison's numbers, for the report."""
    rows = [
        (f"{s.against} vs {s.baseline}", _heading(c), _written(c.quantity, c.value), c.verdict)
        for s in sensitivities
        for c in s.comparisons
    ]
    return Table(("series", "number", "as fitted", "under every variation"), tuple(rows), n_text=4)


def variations_table(found: Sensitivity) -> Table:
    """Every variation of one comparison with its interval, for the report."""
    comparisons = found.comparisons
    fit = [with_interval(c.value, c.ci, _WRITERS[c.quantity]) for c in comparisons]
    rows = [("as fitted", "", *fit)]
    # A comparison has a row for every variation.
    for tried in zip(*(conclusion.rows for conclusion in comparisons), strict=True):
        variation = tried[0].variation
        cells = [_cell(c.quantity, row) for c, row in zip(comparisons, tried, strict=True)]
        rows.append((KIND_TITLES[variation.kind], variation.label, *cells))
    headings = tuple(_heading(conclusion) for conclusion in comparisons)
    return Table(("what is varied", "to", *headings), tuple(rows), n_text=2)


def _cell(quantity: Quantity, row: Row) -> str:
    if row.value is None:
        return row.reason
    mark = f" {CHANGED}" if row.is_changed else ""
    return with_interval(row.value, row.ci, _WRITERS[quantity]) + mark


def _heading(conclusion: Conclusion) -> str:
    if conclusion.quantity == "multiplier":
        return "compute multiplier"
    return f"difference of {SYMBOLS[conclusion.quantity]} exponents"


def _grid(sensitivity: Sensitivity, conclusions: Sequence[Conclusion]) -> list[str]:
    rows = [("as fitted", *(_written(each.quantity, each.value) for each in conclusions))]
    for variation in sensitivity.variations:
        cells = [_marked(each, variation) for each in conclusions]
        rows.append((_label(variation), *cells))
    columns = [""]
    for each in conclusions:
        symbol = SYMBOLS[each.quantity]
        if each.series is not None:
            columns.append(f"{symbol} {each.series[: 13 - len(symbol)]}")
        else:
            columns.append("multiplier" if each.quantity == "multiplier" else f"{symbol} exponent")
    return Table(tuple(columns), tuple(rows)).lines(gap=" ", least=14)


def _marked(conclusion: Conclusion, variation: Variation) -> str:
    """A number and its mark; nothing where the variation does not change this series."""
    row = next((row for row in conclusion.rows if row.variation == variation), None)
    if row is None:
        return ""
    mark = " "
    if row.value is not None and row.is_changed:
        mark = CHANGED
    elif row.value is not None and conclusion.series is None and not row.is_shown:
        mark = UNSHOWN
    return _written(conclusion.quantity, row.value) + mark


def _label(variation: Variation) -> str:
    if variation.kind in ("params", "flops", "form"):
        return f"{KIND_TITLES[variation.kind]} {variation.label}"
    return variation.phrase


def _written(quantity: Quantity, value: float | None) -> str:
    return with_interval(value, None, _WRITERS[quantity])


_WRITERS: dict[Quantity, Callable[[float], str]] = {
    "params": "{:+.4f}".format,
    "tokens": "{:+.4f}".format,
    "loss": "{:+.4f}".format,
    "multiplier": notation.ratio,
}


def _reasons(sensitivity: Sensitivity) -> list[str]:
    """Why cells have no number: each reason once, with the variations it concerns."""
    concerned: dict[str, dict[str, None]] = {}
    for conclusion in (*sensitivity.comparisons, *sensitivity.exponents):
        for row in conclusion.rows:
            if row.value is None:
                concerned.setdefault(row.reason, {})[_label(row.variation)] = None
    return [
        f"— {reason} ({', '.join(list(labels)[:3])}{', …' if len(labels) > 3 else ''})"
        for reason, labels in concerned.items()
    ]
