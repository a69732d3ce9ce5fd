"""Tables of fits and comparisons for a paper: LaTeX in the style of booktabs, in plain ASCII.

What a user typed is escaped, so that no label is a command; any LaTeX can read the rest.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from analysis import notation
from analysis.answers.compare import Comparison
from analysis.fitting.fit import FitResult
from analysis.report import tables
from analysis.report.published_table import exponents_of
from analysis.report.tables import Table

_ESCAPED = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    # The first would be arguments of a \\ before them; pairs of the others become quotes and dashes.
    "[": "{[}", "]": "{]}", "*": "{*}", "`": "{`}", "'": "{'}", '"': "{''}", "-": "{-}",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
_SYMBOLS = {
    "−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$", "…": r"\dots{}", "–": "--",
    "—": "---", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\to$",
    **{
        letter: rf"$\{name}$"
        for letter, name in zip(
            "αβγδεζηθλμνξπρστφχψω",
            ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"],
            strict=True,
        )
    },
}  # fmt: skip
_RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
# What our own cells are made of: 3×10¹¹, 10¹¹, 1.34×, N*, C^−0.067, −0.067.
_MATHEMATICS = re.compile(
    r"(?:(?P<mantissa>−?[\d.]+)×)?10(?P<power>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)"
    r"|(?P<factor>[\d.]+[KMBT]?)×"
    r"|(?P<optimum>\b[NDL])\*"
    r"|\bC\^(?P<exponent>−?[\d.]+)"
    r"|−(?P<negative>[\d.]+)"
)


@dataclass(frozen=True)
class Provenance:
    """Where the numbers of a table come from, for its caption."""

    source: str
    """As the user names it."""
    fingerprint: str
    version: str


def fit_tables(fit: FitResult, provenance: Provenance) -> str:
    """Optima, laws and surfaces of a fit; of what the data do not support there is a remark."""
    shown = [
        ("optima", "Compute-optimal size, tokens and loss by training budget", _optima(fit)),
        ("laws", "Scaling laws of the compute-optimal frontier", tables.laws_table(fit)),
        ("surfaces", r"Loss surfaces $L(N, D) = E + A/N^\alpha + B/D^\beta$", _surfaces(fit)),
    ]
    where = _method(fit, provenance)
    written = [_written(table, name, f"{title}. {where}") for name, title, table in shown]
    lacking = [
        f"% {escaped(label)}: no {part}: {escaped(why)}" for label, part, why in tables.missing(fit)
    ]
    return "\n".join([_HEAD, *(part for part in written if part), *lacking])


def comparison_tables(comparison: Comparison, fit: FitResult, provenance: Provenance) -> str:
    """Multipliers and exponents of a comparison, and published exponents where the fit has some."""
    pair = f"{escaped(comparison.against)} over {escaped(comparison.baseline)}"
    where = _method(fit, provenance)
    shown = [
        ("multipliers", f"Compute of {pair} at equal compute-optimal loss",
         tables.multipliers_table([comparison])),
        ("exponents", f"Exponents of {pair} and their difference by paired resamples",
         tables.exponents_table([comparison])),
    ]  # fmt: skip
    written = [_written(table, name, f"{title}. {where}") for name, title, table in shown]
    if fit.published:
        title = "Published exponents, with what their authors count and the intervals they claim."
        written.append(_written(exponents_of(fit.published), "published", title))
    return "\n".join([_HEAD, *(part for part in written if part)])


_HEAD = r"% \usepackage{booktabs}"


def _optima(fit: FitResult) -> Table:
    """Without the number of points, for which a page has no room."""
    table = tables.optima_table(fit)
    return Table(table.columns[:-1], tuple(row[:-1] for row in table.rows))


def _surfaces(fit: FitResult) -> Table:
    table = tables.surfaces_table(fit)
    return Table(table.columns[:-1], tuple(row[:-1] for row in table.rows))


def _method(fit: FitResult, provenance: Provenance) -> str:
    """What a reader needs to know of the numbers, and where they are from."""
    settings = fit.settings
    return (
        f"Brackets: 95\\,\\% intervals of {settings.n_bootstrap} resamples of whole runs. "
        f"$N$ counts {escaped(notation.params_unit(fit.params_convention))}, $C$ "
        f"{escaped(notation.flops_unit(fit.flops_convention))}, $L$ nats per token. "
        f"Source: {escaped(provenance.source)}, data {escaped(provenance.fingerprint)}, "
        f"sweeper {escaped(provenance.version)}."
    )


def _written(table: Table, name: str, caption: str) -> str:
    """A `table` environment; values and their intervals are columns of their own, aligned apart."""
    if not table.rows:
        return ""
    columns = list(zip(table.columns, zip(*table.rows, strict=True), strict=True))
    heads, cells, shape = list[str](), list[list[str]](), ""
    for rank, (head, column) in enumerate(columns):
        if any(_INTERVAL.fullmatch(cell) for cell in column):
            parts = [_halves(cell) for cell in column]
            cells += [[value for value, _ in parts], [ends for _, ends in parts]]
            heads.append(rf"\multicolumn{{2}}{{c}}{{{_ours(head.removesuffix(' [95 %]'))}}}")
            shape += r"r@{\ }l"
            continue
        # The first column holds labels, which users type.
        write = escaped if rank == 0 else _ours
        cells.append(_without_repeats(column) if rank == 0 else [write(cell) for cell in column])
        heads.append(_ours(head))
        shape += "l" if rank < table.n_text else "r"
    rows = [" & ".join(row) + r" \\" for row in zip(*cells, strict=True)]
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{name}}}",
            r"\footnotesize", r"\setlength{\tabcolsep}{4pt}",
            rf"\begin{{tabular}}{{@{{}}{shape}@{{}}}}", r"\toprule",
            " & ".join(heads) + r" \\", r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
            r"\end{table}", "",
        ]
    )  # fmt: skip


_INTERVAL = re.compile(r"(.+?) (\[.*\](?: \d+%)?)")


def _halves(cell: str) -> tuple[str, str]:
    """A value and its interval as two cells."""
    found = _INTERVAL.fullmatch(cell)
    return (_ours(found[1]), _ours(found[2])) if found else (_ours(cell), "")


def _without_repeats(labels: Sequence[str]) -> list[str]:
    """A label stands once, at the first of its rows."""
    before = [None, *labels]
    return [
        "" if label == last else escaped(label) for label, last in zip(labels, before, strict=False)
    ]


def _ours(text: str) -> str:
    """A cell or head that we wrote: numbers and symbols become mathematics."""
    parts, end = list[str](), 0
    for found in _MATHEMATICS.finditer(text):
        parts += [escaped(text[end : found.start()]), f"${_formula(found)}$"]
        end = found.end()
    return "".join([*parts, escaped(text[end:])])


def _formula(found: re.Match[str]) -> str:
    part = {name: (value or "").replace("−", "-") for name, value in found.groupdict().items()}
    if part["power"]:
        mantissa = rf"{part['mantissa']}\times " if part["mantissa"] else ""
        return f"{mantissa}10^{{{part['power'].translate(_RAISED)}}}"
    if part["factor"]:
        return rf"{part['factor']}\times"
    if part["optimum"]:
        return f"{part['optimum']}^*"
    return f"C^{{{part['exponent']}}}" if part["exponent"] else f"-{part['negative']}"


def escaped(text: str) -> str:
    """Any text as LaTeX that prints it and does nothing else.

    Letters with accents are composed of commands; what a plain LaTeX has no letter for is named by
    its code point.
    """
    return "".join(map(_character, " ".join(text.split())))


def _character(char: str) -> str:
    if char in _ESCAPED:
        return _ESCAPED[char]
    if char in _SYMBOLS:
        return _SYMBOLS[char]
    if char.isascii() and char.isprintable():
        return char
    letter, *marks = unicodedata.normalize("NFD", char)
    if letter.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{letter}}}"
    return f"U+{ord(char):04X}"
