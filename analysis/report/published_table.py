"""Published laws beside a fit: a fit that carries them, and their exponents as a table."""

import dataclasses
from typing import Any

from analysis.fitting.fit import FitResult
from analysis.notation import to_json
from analysis.report.tables import Table
from analysis.tables import published
from analysis.tables.published import FRONTIER, PublishedLaw


def with_published(result: FitResult, pattern: str) -> FitResult:
    """The fit with the published laws of some names beside it; raises `SettingsError`."""
    # Of each name the laws whose conventions are nearest to the fit's.
    laws = published.counted_alike(
        published.chosen_laws(pattern), result.params_convention, result.flops_convention
    )
    warnings = (*result.warnings, published.level_warning(laws))
    return dataclasses.replace(result, published=laws, warnings=warnings)


def exponents_of(laws: tuple[PublishedLaw, ...]) -> Table:
    """One row a name."""
    rows = []
    for name in dict.fromkeys(law.name for law in laws):
        mine = {law.quantity: law for law in laws if law.name == name}
        some = next(iter(mine.values()))
        exponents = [_exponent(mine.get(quantity)) for quantity in FRONTIER]
        counts = mine["params"].params if "params" in mine else "—"
        rows.append((name, *exponents, counts, some.flops, some.source))
    columns = ("published", "L*", "N*", "D*", "N counts", "C counts", "source")
    return Table(columns, tuple(rows), len(columns))


def published_json(laws: tuple[PublishedLaw, ...]) -> list[dict[str, Any]]:
    """The laws with everything that is known of them; what is not is null."""
    names = (
        "name", "quantity", "coefficient", "exponent", "exponent_ci", "level", "params", "flops",
        "loss_of", "source", "place", "note",
    )  # fmt: skip
    return [to_json(law, *names) for law in laws]


def _exponent(law: PublishedLaw | None) -> str:
    if law is None:
        return "—"
    digits = 4 if law.quantity == "loss" else 3
    value = f"{law.exponent:.{digits}f}"
    if law.exponent_ci is not None:
        low, high = law.exponent_ci
        value += f" [{low:.{digits}f}, {high:.{digits}f}] {law.level:.0%}"
    return value.replace("-", "−")
