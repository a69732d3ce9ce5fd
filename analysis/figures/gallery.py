"""Figures of a fit: `plots.frontier`, `plots.isoflop`, `plots.multiplier`, `plots.trajectories`,
`plots.exponents`, `plots.sensitivity`.

Each takes results and returns a `matplotlib.figure.Figure`. They draw: whatever has to be fitted,
resampled or judged has been. Where the fit has no part to draw they raise `NothingToDraw` with the
reason. `figures` renders and saves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis.answers.compare import Comparison
from analysis.figures.annotations import NothingToDraw
from analysis.figures.exponents import exponents
from analysis.figures.frontier import frontier
from analysis.figures.isoflop import isoflop
from analysis.figures.multiplier import multiplier
from analysis.figures.sensitivity import sensitivity
from analysis.figures.trajectories import trajectories
from analysis.fitting.fit import FitResult
from analysis.sensitivity.conclusions import Sensitivity
from analysis.tables.tidy import TidyTable

__all__ = [
    "FIGURES",
    "NothingToDraw",
    "Study",
    "exponents",
    "frontier",
    "isoflop",
    "multiplier",
    "sensitivity",
    "trajectories",
]


@dataclass(frozen=True)
class Study:
    """Everything that figures and a report are made from."""

    table: TidyTable
    fit: FitResult
    comparisons: Sequence[Comparison] = ()
    sensitivities: Sequence[Sensitivity] = ()

    def sensitivity_of(self, comparison: Comparison) -> Sensitivity | None:
        """What was tried of one comparison, None where nothing could be."""
        pair = (comparison.baseline, comparison.against)
        return next((s for s in self.sensitivities if (s.baseline, s.against) == pair), None)


FIGURES: dict[str, Callable[[Study], Figure]] = {
    "frontier": lambda study: frontier(study.fit),
    "isoflop": lambda study: isoflop(study.fit),
    "multiplier": lambda study: multiplier(study.comparisons, study.fit),
    "trajectories": lambda study: trajectories(study.fit),
    "exponents": lambda study: exponents(study.fit),
    "sensitivity": lambda study: sensitivity(study.sensitivities, study.fit),
}
"""All figures by name, in the order in which they answer questions."""
