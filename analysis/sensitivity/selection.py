"""Which series, and which pairs of them, are shown."""

import dataclasses
from dataclasses import dataclass

from analysis.answers.compare import Comparison, compare, compare_all
from analysis.errors import SettingsError
from analysis.fitting.fit import FitResult


@dataclass(frozen=True)
class Selection:
    """Labels as `plot` is given them; none of them: every series and every pair."""

    families: tuple[str, ...] = ()
    """The series that are drawn, besides the two below."""
    baseline: str | None = None
    """The only series that others are compared with."""
    against: tuple[str, ...] = ()
    """The only series that are compared with it."""

    def of(self, fit: FitResult) -> FitResult:
        """The same fit with the series to draw alone; raises `SettingsError` for unknown labels."""
        baseline = () if self.baseline is None else (self.baseline,)
        named = {*self.families, *baseline, *self.against}
        for label in (*self.families, *baseline, *self.against):
            fit.family(label)
        if not self.families and not self.against:  # a baseline by itself leaves out no series
            return fit
        shown = {label: family for label, family in fit.families.items() if label in named}
        return dataclasses.replace(fit, families=shown)

    def comparisons(self, fit: FitResult) -> tuple[Comparison, ...]:
        """The pairs to draw; raises `SettingsError` as `of` and `compare` do, and where there is
        nothing to compare with."""
        if self.baseline is None:
            if self.against:
                raise SettingsError(
                    f"--against {self.against[0]} needs --baseline: the series that it is compared "
                    "with"
                )
            return compare_all(self.of(fit))
        others = self.against or [each for each in self.of(fit).families if each != self.baseline]
        return tuple(compare(fit, self.baseline, other) for other in dict.fromkeys(others))
