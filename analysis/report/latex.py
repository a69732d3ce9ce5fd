"""Tables of fits and comparisons for a paper: LaTeX in the style of booktabs, in plain ASCII.

What a user typed is escaped, so that no label is a command; any LaTeX can read the rest.
"""

import re
import unicodedata
from collections.abc import Sequence

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
    '"': r"{\char34}",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
_SYMBOLS = {
    "−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$", "…": r"\dots{}", "–": "--",
    "—": "---", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\to$", "∝": r"$\propto$",
}  # fmt: skip
_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lamda",
    "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
}  # fmt: skip
_LIGATURE = re.compile("([-'`?!])(?=[-'`])")
"""Two dashes are a long one, two quotes another sign."""
_RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
# What our own cells are made of: 3×10¹¹, 10¹¹, 1.34×, N*, C^−0.067, −0.067.
_MATHEMATICS = re.compile(
    r"(?:(?P<mantissa>−?[\d.]+)×)?10(?P<power>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)"
    r"|(?P<factor>[\d.]+[KMBT]?)×"
    r"|(?P<optimum>\b[NDL])\*"
    r"|\bC\^(?P<exponent>−?[\d.]+)"
    r"|−(?P<negative>[\d.]+)"
)


def fit_tables(fit: FitResult, source: str) -> str:
    """Optima, laws and surfaces of a fit; of what the data do not support there is a remark.

    `source` is named in every caption, `fit.settings` and the conventions likewise.
    """
    shown = [
        (
            "optima",
            "Compute-optimal size, tokens and loss by training budget",
            _without(tables.optima_table(fit), "points"),
        ),
        (
            "laws",
            "Scaling laws of the compute-optimal frontier",
            _without(tables.laws_table(fit), "scatter"),
        ),
        (
            "surfaces",
            r"Loss surfaces $L(N, D) = E + A/N^\alpha + B/D^\beta$",
            _without(tables.surfaces_table(fit), "points"),
        ),
    ]
    where = _method(fit, source)
    written = [_written(table, name, f"{title}. {where}") for name, title, table in shown]
    lacking = [
        f"% {escaped(label)}: no {part}: {escaped(why)}" for label, part, why in tables.missing(fit)
    ]
    return "\n".join([_HEAD, *(part for part in written if part), *lacking])


def comparison_tables(comparison: Comparison, fit: FitResult, source: str) -> str:
    """Multipliers and exponents of a comparison, and published exponents where the fit has some."""
    pair = f"{escaped(comparison.against)} over {escaped(comparison.baseline)}"
    where = _method(fit, source)
    shown = [
        ("multipliers", f"Compute of {pair} at equal compute-optimal loss",
         _without(tables.multipliers_table([comparison]), "series")),
        ("exponents", f"Exponents of {pair} and their difference by paired resamples",
         _without(tables.exponents_table([comparison]), "series")),
    ]  # fmt: skip
    written = [_written(table, name, f"{title}. {where}") for name, title, table in shown]
    if fit.published:
        title = "Published exponents, with the intervals and the sources that their authors give."
        written.append(_written(_published(fit), "published", title))
    return "\n".join([_HEAD, *(part for part in written if part)])


_HEAD = r"% \usepackage{booktabs}"


def _published(fit: FitResult) -> Table:
    """Exponents, and in one column what their authors count and where they say so."""
    table = exponents_of(fit.published)
    rows = [
        (*row, f"{source}; N counts {params}, C {flops}")
        for *row, params, flops, source in table.rows
    ]
    return Table((*table.columns[:-3], "source"), tuple(rows), len(table.columns))


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


def _written(table: Table, name: str, caption: str) -> str:
    """A `table` environment; values and their intervals are columns of their own, aligned apart."""
    if not table.rows:
        return ""
    heads, cells, shape = list[str](), list[list[str]](), ""
    columns = zip(table.columns, zip(*table.rows, strict=True), strict=True)
    for rank, (head, column) in enumerate(columns):
        if any(_INTERVAL.fullmatch(cell) for cell in column):
            parts = [_halves(cell) for cell in column]
            cells += [[value for value, _ in parts], [ends for _, ends in parts]]
            heads.append(rf"\multicolumn{{2}}{{c}}{{{_ours(head.removesuffix(' [95 %]'))}}}")
            shape += r"r@{\ }l"
        elif head == "series":  # which users type
            cells.append(_without_repeats(column))
            heads.append(head)
            shape += "l"
        else:
            heads.append(_ours(head))
            if max(map(len, column)) > _LONG:
                cells.append([rf"{{\raggedright {_ours(cell)}\par}}" for cell in column])
                shape += r"p{0.25\textwidth}"
            else:
                cells.append([_ours(cell) for cell in column])
                shape += "l" if rank < table.n_text else "r"
    rows = [" & ".join(row) + r" \\" for row in zip(*cells, strict=True)]
    widths = [min(_LONG, max(map(len, column))) for column in zip(*table.rows, strict=True)]
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{name}}}",
            r"\smallskip",
            r"\scriptsize" if sum(widths) > _MANY else r"\footnotesize",
            r"\setlength{\tabcolsep}{3pt}", rf"\begin{{tabular}}{{@{{}}{shape}@{{}}}}", r"\toprule",
            " & ".join(heads) + r" \\", r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
            r"\end{table}", "",
        ]
    )  # fmt: skip


_LONG, _MANY = 30, 68
"""Characters of a cell that is broken into lines, and of a row that needs the smaller type."""
_INTERVAL = re.compile(r"(.+?) (\[.*\](?: \d+%)?)")


def _halves(cell: str) -> tuple[str, str]:
    """A value and its interval as two cells."""
    found = _INTERVAL.fullmatch(cell)
    return (_ours(found[1]), _ours(found[2])) if found else (_ours(cell), "")


def _without_repeats(labels: Sequence[str]) -> list[str]:
    """A label stands once, at the first of its rows."""
    pairs = zip(labels, ["", *labels], strict=False)
    return ["" if label == above else escaped(label) for label, above in pairs]


def _ours(text: str) -> str:
    """A cell or head that we wrote: numbers and symbols become mathematics."""
    parts, end = list[str](), 0
    for found in _MATHEMATICS.finditer(text):
        parts += [*map(_character, text[end : found.start()]), f"${_formula(found)}$"]
        end = found.end()
    return "".join([*parts, *map(_character, text[end:])])


def _formula(found: re.Match[str]) -> str:
    part = {name: (value or "").replace("−", "-") for name, value in found.groupdict().items()}
    if part["power"]:
        mantissa = rf"{part['mantissa']}\times" if part["mantissa"] else ""
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
    apart = _LIGATURE.sub(r"\1{}", "".join(map(_character, " ".join(text.split()))))
    # In the first cell of a row these would be an argument of the \\ before it.
    return f"{{}}{apart}" if apart.startswith(("[", "*")) else apart


def _character(char: str) -> str:
    if char in _ESCAPED:
        return _ESCAPED[char]
    if char in _SYMBOLS:
        return _SYMBOLS[char]
    if char.isascii() and char.isprintable():
        return char
    letter, *marks = list(unicodedata.normalize("NFD", char))
    if letter.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{letter}}}"
    greek = unicodedata.name(char, "").removeprefix("GREEK SMALL LETTER ").lower()
    if greek in _GREEK:
        return rf"$\{greek.replace('lamda', 'lambda')}$"
    return f"U+{ord(char):04X}"
