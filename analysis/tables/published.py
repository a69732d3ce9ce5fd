"""Published laws to show with fitted ones: those of both studies and of the literature they plot.

`published_laws.csv` holds one law a row, with its source, its conventions, and a note where we
computed what the source only draws.
"""

import csv
import fnmatch
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

from analysis.errors import FitWarning, SettingsError
from sweeper.errors import did_you_mean

Quantity = Literal["loss", "params", "tokens", "batch_tokens", "learning_rate"]
Against = Literal["flops", "tokens", "batch_tokens"]

FRONTIER: tuple[Quantity, ...] = ("loss", "params", "tokens")
"""What is optimal at a budget."""
RECIPE = "gidd"
"""The name whose batch and learning-rate laws are pooled over all noise types; `auto` in a sweep
file means the same two laws (`sweeper/planning/recipe.py`, which a test holds to these rows)."""
GROUPS = {
    "main": "sahoo-ar,sahoo-mdlm,sahoo-duo,gidd-masked,gidd-uniform,chinchilla,nie-mdm",
    "all": "*",
}
"""Names that stand for several: what a figure has room for, and everything."""


@dataclass(frozen=True)
class PublishedLaw:
    """y(x) = offset + coefficient · x^exponent, as published."""

    name: str
    quantity: Quantity
    against: Against
    """What x is: training FLOPs, training tokens or tokens per batch."""
    offset: float
    coefficient: float | None
    """None where only the exponent is published."""
    exponent: float
    exponent_ci: tuple[float, float] | None
    level: float | None
    """Coverage that the interval claims."""
    x_range: tuple[float, float] | None
    """What the law was fitted over, where it is stated."""
    params: str
    """Convention for params, in our words where it is one of ours."""
    flops: str
    """Convention for FLOPs."""
    loss_of: str
    """Corpus and tokenizer, which are the unit of a loss."""
    source: str
    place: str
    note: str

    def __call__(self, x: float) -> float | None:
        """Value at x, or None where only the exponent is published."""
        if self.coefficient is None:
            return None
        return self.offset + self.coefficient * math.exp(self.exponent * math.log(x))

    def covers(self, x: float) -> bool:
        """Whether the law was fitted there; not where its range is unknown."""
        return self.x_range is not None and self.x_range[0] <= x <= self.x_range[1]


@cache
def published_laws() -> tuple[PublishedLaw, ...]:
    """All laws, in the order of the file."""
    file = Path(__file__).parent / "published_laws.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        return tuple(_law(row) for row in csv.DictReader(lines))


def published_names() -> tuple[str, ...]:
    """Names with a law of a frontier."""
    return tuple(dict.fromkeys(law.name for law in published_laws() if _is_frontier(law)))


def chosen_laws(pattern: str) -> tuple[PublishedLaw, ...]:
    """Frontier laws of the names in a comma-separated list; `gidd-*` and `GROUPS` are understood.

    Raises `SettingsError` for a name that fits nothing.
    """
    known = published_names()
    chosen: set[str] = set()
    for name in (part.strip() for part in GROUPS.get(pattern, pattern).split(",")):
        found = fnmatch.filter(known, name)
        if not found:
            hint = did_you_mean(name, known)
            expected = ", ".join((*known, *GROUPS))
            raise SettingsError(f"--published {name}: expected some of {expected}{hint}")
        chosen |= set(found)
    return tuple(law for law in published_laws() if law.name in chosen and _is_frontier(law))


def recipe_law(quantity: Literal["batch_tokens", "learning_rate"]) -> PublishedLaw:
    """The pooled law for batch size against tokens, or learning rate against batch size."""
    return next(law for law in published_laws() if law.name == RECIPE and law.quantity == quantity)


def counted_alike(
    laws: Iterable[PublishedLaw], params_convention: str, flops_convention: str
) -> tuple[PublishedLaw, ...]:
    """One law for each name and quantity: that whose conventions are nearest to ours."""
    best: dict[tuple[str, Quantity], tuple[int, PublishedLaw]] = {}
    for law in laws:
        alike = 2 * (law.params == params_convention) + (law.flops == flops_convention)
        key = (law.name, law.quantity)
        if key not in best or alike > best[key][0]:
            best[key] = (alike, law)
    return tuple(law for _, law in best.values())


def level_warning(laws: Iterable[PublishedLaw]) -> FitWarning:
    """What may be compared and what may not."""
    units = sorted({law.loss_of for law in laws if law.loss_of})
    named = f" ({'; '.join(units)})" if units else ""
    message = (
        f"published losses are of other corpora and tokenizers{named}: compare exponents, "
        "not levels"
    )
    return FitWarning("published_levels_differ", message)


def _is_frontier(law: PublishedLaw) -> bool:
    return law.quantity in FRONTIER and law.against == "flops"


def _law(row: dict[str, str]) -> PublishedLaw:
    return PublishedLaw(
        name=row["name"],
        quantity=cast(Quantity, row["quantity"]),
        against=cast(Against, row["against"]),
        offset=float(row["offset"] or 0),
        coefficient=float(row["coefficient"]) if row["coefficient"] else None,
        exponent=float(row["exponent"]),
        exponent_ci=_ends(row["exponent_low"], row["exponent_high"]),
        level=float(row["level"]) if row["level"] else None,
        x_range=_ends(row["x_low"], row["x_high"]),
        **{name: row[name] for name in ("params", "flops", "loss_of", "source", "place", "note")},
    )


def _ends(low: str, high: str) -> tuple[float, float] | None:
    return (float(low), float(high)) if low else None
