"""Figures of a fit: `plots.frontier`, `plots.isoflop`, `plots.multiplier`, `plots.trajectories`,
`plots.exponents`, `plots.sensitivity`.

Each takes results and returns a `matplotlib.figure.Figure`. They draw: whatever has to be fitted,
resampled or judged has been. Where the fit has no part to draw they raise `NothingToDraw` with the
reason. `figures` renders and saves.
"""

from collections.abc import Callable, Sequence

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

__all__ = [
    "FIGURES",
    "NothingToDraw",
    "exponents",
    "frontier",
    "isoflop",
    "multiplier",
    "sensitivity",
    "trajectories",
]

FigureMaker = Callable[[FitResult, Sequence[Comparison]], Figure]

FIGURES: dict[str, FigureMaker] = {
    "frontier": lambda fit, _: frontier(fit),
    "isoflop": lambda fit, _: isoflop(fit),
    "multiplier": lambda fit, comparisons: multiplier(comparisons, fit),
    "trajectories": lambda fit, _: trajectories(fit),
    "exponents": lambda fit, _: exponents(fit),
    "sensitivity": lambda fit, comparisons: sensitivity(comparisons, fit),
}
"""All figures by name, in the order in which they answer questions."""
