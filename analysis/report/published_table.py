"""Published laws beside a fit: a fit that carries them, and their exponents as a table."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from analysis.fitting.fit import FitResult
from analysis.tables.published import (
    FRONTIER,
    PublishedLaw,
    Quantity,
    chosen_laws,
    counted_alike,
    level_warning,
)

Json = dict[str, Any]

COLUMNS = ("published", "L*", "N*", "D*", "N counts", "C counts", "source")
"""Exponents, and what they are exponents of."""


@dataclass(frozen=True)
class _Study:
    """The laws of one name that are counted most like ours."""

    name: str
    laws: dict[Quantity, PublishedLaw]


def with_published(result: FitResult, pattern: str) -> FitResult:
    """The fit with the published laws of some names beside it; raises `SettingsError`.

    Of each name the laws are kept whose conventions are nearest to the fit's.
    """
    laws = counted_alike(chosen_laws(pattern), result.params_convention, result.flops_convention)
    warnings = (*result.warnings, level_warning(laws))
    return dataclasses.replace(result, published=laws, warnings=warnings)


def exponent_rows(laws: tuple[PublishedLaw, ...]) -> tuple[tuple[str, ...], ...]:
    """One row a name, under `COLUMNS`."""
    return tuple(_row(study) for study in _studies(laws))


def published_text(laws: tuple[PublishedLaw, ...]) -> str:
    """The same as lines."""
    rows = [COLUMNS, *exponent_rows(laws)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS) - 1)]
    cells = [[*(f"{c:{w}}" for c, w in zip(row, widths, strict=False)), row[-1]] for row in rows]
    return "\n".join("  " + "  ".join(row).rstrip() for row in cells)


def published_json(laws: tuple[PublishedLaw, ...]) -> list[Json]:
    """The laws with everything that is known of them; what is not is null."""
    return [
        {
            "name": law.name,
            "quantity": law.quantity,
            "coefficient": law.coefficient,
            "exponent": law.exponent,
            "exponent_ci": None if law.exponent_ci is None else list(law.exponent_ci),
            "level": law.level,
            "params": law.params,
            "flops": law.flops,
            "loss_of": law.loss_of,
            "source": law.source,
            "place": law.place,
            "note": law.note,
        }
        for law in laws
    ]


def _studies(laws: tuple[PublishedLaw, ...]) -> list[_Study]:
    names = dict.fromkeys(law.name for law in laws)
    return [_Study(name, {x.quantity: x for x in laws if x.name == name}) for name in names]


def _row(study: _Study) -> tuple[str, ...]:
    laws = study.laws
    some = next(iter(laws.values()))
    exponents = [_exponent(laws.get(quantity)) for quantity in FRONTIER]
    counts = laws["params"].params if "params" in laws else "—"
    return (study.name, *exponents, counts, some.flops, some.source)


def _exponent(law: PublishedLaw | None) -> str:
    if law is None:
        return "—"
    digits = 4 if law.quantity == "loss" else 3
    value = f"{law.exponent:.{digits}f}"
    if law.exponent_ci is not None:
        low, high = law.exponent_ci
        value += f" [{low:.{digits}f}, {high:.{digits}f}] {law.level:.0%}"
    return value.replace("-", "−")
