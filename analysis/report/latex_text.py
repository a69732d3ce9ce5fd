"""Text as LaTeX in plain ASCII: what users typed is escaped, our own numbers become mathematics."""

import re
import unicodedata

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
    r"|(?P<factor>[\d.]+)(?P<suffix>[KMBT]?)×"
    r"|(?P<optimum>\b[NDL])\*"
    r"|\bC\^(?P<exponent>−?[\d.]+)"
    r"|−(?P<negative>[\d.]+)"
    r"|\A(?P<coefficient>[A-Z])\Z"
)


def mathematics(text: str) -> str:
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
        suffix = rf"\mathrm{{{part['suffix']}}}" if part["suffix"] else ""
        return rf"{part['factor']}{suffix}\times"
    if part["optimum"]:
        return f"{part['optimum']}^*"
    if part["coefficient"]:
        return part["coefficient"]
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
