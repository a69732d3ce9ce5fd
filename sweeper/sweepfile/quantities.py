"""Numbers as people write them in sweep files, `1e15`, `20K`, `20%`, `12h`, and as they read them.

ValueError says what was expected; `messages.py` adds what was found and where.
"""

import math
import re

# Larger numbers are typing errors: all FLOPs ever spent on training are far fewer.
MAX_MAGNITUDE = 1e40

_SUFFIX_EXPONENT = {"": 0, "%": -2, "K": 3, "k": 3, "M": 6, "B": 9, "G": 9, "T": 12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<mantissa>(0|[1-9]\d*(_\d+)*)(\.\d*)?|\.\d+)"
    r"([eE](?P<exponent>[+-]?\d{1,4}))?(?P<suffix>[a-zA-Z%]?)",
    re.ASCII,
)

_DURATION = re.compile(r"((\d+(?:\.\d*)?|\.\d+)([smhd]))+", re.ASCII)

_UNIT_BYTES = {
    **{unit: 1000**i for i, unit in enumerate(("B", "kB", "MB", "GB", "TB"))},
    **{unit: 1024**i for i, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1)},
    "KB": 1000,
}

_BYTES = re.compile(rf"([\d_]+(?:\.\d*)?|\.\d+) ?({'|'.join(_UNIT_BYTES)})", re.ASCII)

# Spellings that are nearly numbers, and why they are not.
_LOOKS_LIKE = (
    (re.compile(r"[+-]?[\d_]+(:[0-5]?\d)+(\.\d*)?"), "YAML reads a colon as base 60"),
    (re.compile(r"[+-]?0\d.*"), "YAML reads a leading 0 as octal, so write it without"),
    (re.compile(r"[+-]?0[xXbBoO].*"), "only decimal numbers are read"),
    (re.compile(r"[+-]?\.?(inf|nan|infinity)", re.IGNORECASE), "it must be finite"),
    (
        re.compile(r"(y|n|yes|no|on|off|true|false)", re.IGNORECASE),
        "YAML reads it as true or false",
    ),
    (re.compile(r"[+-]?\d+(,\d+)+(\.\d*)?"), "write it without commas"),
    (re.compile(r"[+-]?[\d.]+m"), "write M for millions; m stands for minutes in durations"),
    (re.compile(r"[+\d.]+[hsd]"), "that is a duration"),
    (re.compile(r"[+-]?[\d.]+[bgt]"), "write the suffix in upper case"),
    (re.compile(r"[+-]?[\d.]+ +[a-zA-Z%]+"), "write it without the space"),
)


def parse_number(value: object) -> float:
    """A finite number; text may carry an exponent and one suffix of K, M, B (or G), T and %."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _checked(value)
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match["suffix"] not in _SUFFIX_EXPONENT:
        raise ValueError(f"expected a number such as 1e15, 3e-4, 20K, 1.5B or 20%{_why(value)}")
    exponent = int(match["exponent"] or 0) + _SUFFIX_EXPONENT[match["suffix"]]
    # One decimal literal, so that 2.3M is exactly 2,300,000 and not the product of two roundings.
    return _checked(float(f"{match['sign']}{match['mantissa'].replace('_', '')}e{exponent}"))


def parse_count(value: object) -> int:
    """A whole number, in any spelling that `parse_number` reads except a percentage."""
    if isinstance(value, str) and value.endswith("%"):
        raise ValueError("expected a whole number, not a percentage")
    number = parse_number(value)
    if number != int(number):
        raise ValueError("expected a whole number")
    return value if isinstance(value, int) else int(number)


def parse_seconds(value: object) -> float:
    """Seconds from a duration such as `90s`, `15m`, `12h`, `1h30m` or `2d`."""
    text = value.strip() if isinstance(value, str) else ""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"expected a duration with its unit, such as 90s, 15m, 12h{_why(value)}")
    parts = re.findall(r"([\d.]+)([smhd])", text)
    return _checked(sum(float(count) * _SECONDS[unit] for count, unit in parts))


def parse_bytes(value: object) -> int:
    """Bytes from an amount with its unit, such as `500MB`, `80GB` or `24GiB`."""
    match = _BYTES.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected bytes with a unit, such as 500MB or 24GiB{_why(value)}")
    factor: int = _UNIT_BYTES[match[2]]
    return round(parse_number(match[1]) * factor)


def _checked(number: float) -> float:
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError("expected a finite number")
    if abs(number) > MAX_MAGNITUDE:
        raise ValueError(f"expected a number of magnitude at most {MAX_MAGNITUDE:g}")
    return float(number)


def _why(value: object) -> str:
    if isinstance(value, bool):
        return "; YAML reads it as true or false"
    if not isinstance(value, str):
        return ""
    reasons = [why for pattern, why in _LOOKS_LIKE if pattern.fullmatch(value.strip())]
    return f"; {reasons[0]}" if reasons else ""


def duration(seconds: float) -> str:
    """A time for people: `31 s`, `4 min 10 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: float) -> str:
    """A size for people: `812`, `25K`, `1.5M`, `3.2B`, `1.1T`."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= 0.9995 * unit:
            scaled = number / unit
            return f"{scaled:.1f}{name}" if scaled < 9.95 else f"{scaled:.0f}{name}"
    return f"{number:.0f}"


def three_digits(number: float) -> str:
    """Any number for people, as sweep files may have it: `0.21`, `3.84e11`."""
    return f"{number:.3g}".replace("e+0", "e").replace("e+", "e")
