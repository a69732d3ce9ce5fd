"""How numbers, units and results are written in figures, tables, sentences and JSON."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

Interval = tuple[float, float]

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNITS = ("", "K", "M", "B", "T")
LOSS_UNIT = "nats per token"
NO_INTERVAL = "[no interval]"


def count(value: float) -> str:
    """A number of parameters or tokens in three digits: 950, 25K, 1.3M, 20B."""
    if value < 1:
        return f"{value:.3g}"
    rounded = float(f"{value:.3g}")
    thousands = min(int(math.log10(rounded)) // 3, len(_UNITS) - 1)
    return f"{rounded / 1000**thousands:.4g}{_UNITS[thousands]}"


def flops(value: float) -> str:
    """A budget in three digits: 10¹¹, 3×10¹¹, 1.14×10¹⁷."""
    mantissa, exponent = f"{value:.2e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    digits = f"{float(mantissa):.3g}"
    return power if digits == "1" else f"{digits}×{power}"


def loss(value: float) -> str:
    """A loss in nats per token: 2.281."""
    return f"{value:.3f}"


def exponent(value: float) -> str:
    """An exponent: 0.512, −0.067."""
    return f"{value:.3f}".replace("-", "−")


def ratio(value: float) -> str:
    """A ratio of compute: 1.84×."""
    return f"{value:.3g}×" if value < 1000 else f"{count(value)}×"


def significant(value: float) -> str:
    """Three digits of a number of any scale: 0.00524, 5140, 1.2×10⁻⁵."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{float(f'{value:.3g}'):.6g}".replace("-", "−")
    sign = "−" if value < 0 else ""
    return sign + flops(abs(value))


def interval(ends: Interval | None, write: Callable[[float], str]) -> str:
    """Both ends in brackets; says so where there are none."""
    return NO_INTERVAL if ends is None else f"[{write(ends[0])}, {write(ends[1])}]"


def with_interval(
    value: float | None, ends: Interval | None, write: Callable[[float], str], without: str = ""
) -> str:
    """`1.3M [1.1M, 1.6M]`; a dash for no value, `without` in place of a missing interval."""
    if value is None:
        return "—"
    return f"{write(value)} {without if ends is None else interval(ends, write)}".rstrip()


def to_json(value: Any, *names: str) -> Any:
    """A result as JSON: the named attributes of a dataclass, or all its fields, in order.

    What it holds is written likewise; an object with a `to_json` of its own is written by that.
    """
    if names or (is_dataclass(value) and not hasattr(value, "to_json")):
        names = names or tuple(each.name for each in fields(value))
        return {name: to_json(getattr(value, name)) for name in names}
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: to_json(each) for key, each in value.items()}
    return [to_json(each) for each in value] if isinstance(value, (tuple, list)) else value


def params_unit(convention: str) -> str:
    """What a count of parameters counts: `trunk parameters`."""
    return "parameters" if convention == "as given" else f"{_spaced(convention)} parameters"


def flops_unit(convention: str) -> str:
    """What a count of FLOPs counts, where the source says it: `FLOPs`, `FLOPs, 6N + attention`."""
    return "FLOPs" if convention in ("as given", "full") else f"FLOPs, {_spaced(convention)}"


def _spaced(convention: str) -> str:
    return convention.replace("+", " + ")
