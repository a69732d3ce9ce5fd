"""What a conclusion is, how it fares under every variation, and the sentence that says so.

A *conclusion* is the sign of a difference between two series, of log multiplier or of exponents, or
the value of one series' exponent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from analysis.notation import Interval, to_json
from analysis.sensitivity.variations import Variation, VariationKind
from analysis.stats.power_law import LawName

Quantity = Literal[LawName, "multiplier"]
Status = Literal["holds", "changes", "rests_on_one_size", "untested"]

MAX_NAMED = 4
"""Variations that a sentence names."""
SYMBOLS: dict[Quantity, str] = {"params": "N*", "tokens": "D*", "loss": "L*", "multiplier": "×"}
CONVENTIONS: tuple[VariationKind, ...] = ("params", "flops")
KIND_TITLES: dict[VariationKind, str] = {
    "params": "parameters count",
    "flops": "FLOPs count",
    "form": "functional form",
    "window": "fit window",
    "budget": "a budget left out",
    "size": "a size left out",
}


@dataclass(frozen=True)
class Row:
    """A conclusion's number under one variation."""

    variation: Variation
    value: float | None
    """None where the data do not support the variation."""
    ci: Interval | None
    reason: str
    is_changed: bool
    """Of the other sign, or outside the exponent's interval in the fit; False without a value."""
    is_shown: bool
    """Whether the interval leaves out no difference, or overlaps that of the fit nowhere."""

    def to_json(self) -> dict[str, Any]:
        """Finite numbers, or null with a reason."""
        return {
            "kind": self.variation.kind,
            "variation": self.variation.label,
            "value": self.value,
            "ci": to_json(self.ci),
            "changed": None if self.value is None else self.is_changed,
            "reason": self.reason or None,
        }


@dataclass(frozen=True)
class Conclusion:
    """A number of the fit, and the same number under every variation."""

    quantity: Quantity
    series: str | None
    """Whose exponent; None for a difference between the two series."""
    value: float | None
    ci: Interval | None
    is_shown: bool
    """Whether the interval in the fit leaves out no difference; True for one series' exponent."""
    rows: tuple[Row, ...]

    @property
    def tried(self) -> tuple[Row, ...]:
        """The rows with a number."""
        return tuple(row for row in self.rows if row.value is not None)

    @property
    def changed(self) -> tuple[Row, ...]:
        """The rows that contradict the fit."""
        return tuple(row for row in self.tried if row.is_changed)

    @property
    def status(self) -> Status:
        """The verdict in a word."""
        if self.value is None or not self.tried:
            return "untested"
        if not self.changed:
            return "holds"
        is_one_size = len(self.changed) == 1 and self.changed[0].variation.kind == "size"
        return "rests_on_one_size" if is_one_size else "changes"

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.status == "untested":
            why = self.rows[0].reason if self.rows else "nothing can be varied"
            if self.value is None:
                why = "the fit has no such number for both series"
            return f"not tested: {why}."
        what = "value" if self.series else "sign"
        doubt = "" if self.is_shown else "not shown by the fit itself, and "
        if self.status == "holds":
            found = f"its {what} holds under all {len(self.tried)} variations"
        else:
            but = "rests on one size: it " if self.status == "rests_on_one_size" else ""
            found = f"its {what} {but}changes {named(self.changed)}; {self._what_holds()}"
        untried = len(self.rows) - len(self.tried)
        left = f"; {untried} more could not be tried" if untried else ""
        return f"{doubt}{found}{self._strength()}{left}."

    def to_json(self) -> Any:
        """Finite numbers, or null with a reason."""
        return to_json(self, "quantity", "series", "value", "ci", "status", "verdict", "rows")

    def _what_holds(self) -> str:
        """How many variations agree, and whether all conventions are among them."""
        rest = f"it holds under the other {len(self.tried) - len(self.changed)}"
        of_conventions = [row for row in self.tried if row.variation.kind in CONVENTIONS]
        if of_conventions and not any(row.is_changed for row in of_conventions):
            return f"{rest}, every convention for parameters and FLOPs among them"
        return rest

    def _strength(self) -> str:
        """Which changes are more than their own noise."""
        shown = [row for row in self.changed if row.is_shown]
        if len(shown) == len(self.changed):
            return ""
        if not shown:
            return "; no change exceeds its own interval"
        return f"; beyond its own interval only {named(shown)}"


@dataclass(frozen=True)
class Sensitivity:
    """Every conclusion about two series."""

    baseline: str
    against: str
    comparisons: tuple[Conclusion, ...]
    """Differences of exponents, and the multiplier at the largest common budget."""
    exponents: tuple[Conclusion, ...]
    params_convention: str
    flops_convention: str
    n_draws: int
    """Resamples behind the intervals of the variations."""

    def of(self, quantity: Quantity) -> Conclusion:
        """The comparison of one quantity."""
        return next(each for each in self.comparisons if each.quantity == quantity)

    @property
    def variations(self) -> tuple[Variation, ...]:
        """All that were looked at, in order."""
        return tuple(row.variation for row in self.comparisons[0].rows)

    def to_json(self) -> dict[str, Any]:
        """The key `sensitivity` of `sweeper compare --json`."""
        return {
            "params": self.params_convention,
            "flops": self.flops_convention,
            "bootstrap_of_variations": self.n_draws,
            "conclusions": to_json((*self.comparisons, *self.exponents)),
        }


def named(rows: Sequence[Row]) -> str:
    """Variations in words: `under FLOPs 6N, without 25.2M parameters and under 2 more`."""
    phrases = [row.variation.phrase for row in rows[:MAX_NAMED]]
    if len(rows) > MAX_NAMED:
        phrases.append(f"under {len(rows) - MAX_NAMED} more")
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
