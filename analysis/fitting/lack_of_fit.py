"""Whether one surface describes all isoFLOP curves: it against `pair`, which contains it.

Where it does not, the surface bends away from the data, and the numbers read off it far from the
data inherit that.

Suffixes: P points.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc, ndtri

from analysis.errors import FitWarning
from analysis.isoflop.curves import PairCurves
from analysis.isoflop.isoflop import usable_budgets
from analysis.surface.solver import SurfaceProblem, log_residuals, minimise
from analysis.tables.points import Points

Z_LIMIT = 3.09
"""Normal deviate of p = 0.001: in a table of ten series hardly one is remarked by chance."""


@dataclass(frozen=True)
class LackOfFit:
    """The F test of nested least squares on relative residuals."""

    f: float
    """Fall of the squared error per coefficient freed, over the variance about `pair`."""
    dof: tuple[int, int]
    z: float
    """Normal deviate of f."""
    noise_ratio: float
    """Scatter about the surface over scatter about `pair`, each per degree of freedom."""

    def warnings(self, family: str) -> tuple[FitWarning, ...]:
        """A remark where the surface misses structure."""
        if self.z < Z_LIMIT:
            return ()
        message = (
            f"separate valleys fit better than one surface (F = {self.f:.1f} on {self.dof[0]} and "
            f"{self.dof[1]}; scatter {self.noise_ratio:.2f}×): it misses structure"
        )
        return (FitWarning("surface_lacks_fit", message, family),)


def lack_of_fit(points: Points) -> LackOfFit | None:
    """Test one series; None where budgets or points are too few, or points share their luck."""
    if points.has_shared_runs:
        return None
    grid, _ = usable_budgets(points)
    if grid is None or grid.n_budgets < 3:
        return None
    loss_P = grid.points.loss_P
    dof_pair = len(loss_P) - 3 * grid.n_budgets - 2  # to judge the noise by
    if dof_pair < 5 or np.ptp(np.log(loss_P)) < 1e-6:
        return None
    pair_error = float(np.sum((1.0 - PairCurves.of(grid, loss_P[None]).fitted_P / loss_P) ** 2))
    u_P, v_P, y_P = np.log(grid.points.params_P), np.log(grid.points.tokens_P), np.log(loss_P)
    problem = SurfaceProblem(
        u_P - u_P.mean(), v_P - v_P.mean(), (y_P - y_P.mean())[None], np.ones((1, len(y_P)))
    )
    residual_P = log_residuals(problem, minimise(problem, np.inf).theta_R5[0])
    surface_error = float(np.sum(residual_P**2))
    # `pair` has a level and two arms per budget and two exponents, the surface 5 coefficients.
    freed = 3 * grid.n_budgets + 2 - 5
    variance = max(pair_error / dof_pair, 1e-20)  # noise-free: the rest is rounding
    f = max(surface_error - pair_error, 0.0) / freed / variance
    surface_variance = surface_error / (len(loss_P) - 5)
    ratio = float(np.sqrt(surface_variance / variance))
    deviate = float(-ndtri(fdtrc(freed, dof_pair, f)))  # of the same tail probability
    return LackOfFit(f, (freed, dof_pair), deviate, ratio)
