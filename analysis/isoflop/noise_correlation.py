"""How far the noise of two series moves together where both trained a run in the same design slot.

Runs of one seed may share data order and evaluation noise, which cancel in differences between
series; their intervals should say so as far as the data show it.

Suffixes: P points, F series, G slots in common.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from analysis.isoflop.curves import IsoFlopMethod, PairCurves, parabola_minima
from analysis.isoflop.isoflop import MIN_PAIR_DOF, usable_budgets
from analysis.stats.bootstrap import Noise
from analysis.tables.points import FloatArray, IntArray, Points

_Residuals = tuple[IntArray, FloatArray, int]
"""Slots of the design, residuals summed over the points of each, and degrees of freedom."""


def noise_correlation(series: Sequence[Points], method: IsoFlopMethod) -> FloatArray:
    """Lower bounds of the correlations between the noise of all series, 0 or more, shape (F, F)."""
    # About curves of the method of the fit: what parabolas miss of both series alike cancels too.
    residuals = [_residuals(points, method) for points in series] if len(series) > 1 else []
    correlation_FF = np.eye(len(series))
    for (i, ours), (j, theirs) in itertools.combinations(enumerate(residuals), 2):
        if ours is not None and theirs is not None:
            correlation_FF[i, j] = correlation_FF[j, i] = _lower_bound(ours, theirs)
    return correlation_FF


def _residuals(points: Points, method: IsoFlopMethod) -> _Residuals | None:
    grid, _ = usable_budgets(points)
    if grid is None:
        return None
    loss_P = grid.points.loss_P
    has_pair = method == "pair" and len(loss_P) - 3 * grid.n_budgets - 2 >= MIN_PAIR_DOF
    curves = (PairCurves.of if has_pair else parabola_minima)(grid, loss_P[None])
    relative_P = 1.0 - curves.fitted_P / loss_P
    slot_G, index_P = np.unique(grid.points.slot_P, return_inverse=True)
    dof = Noise(relative_P, curves.basis_Pc, grid.points.run_P).dof
    residual_G = np.bincount(index_P, relative_P).astype(np.float64)
    return slot_G, residual_G, dof


def _lower_bound(ours: _Residuals, theirs: _Residuals) -> float:
    """Correlation of the residuals in common slots less its standard error."""
    (our_slot_G, our_residual_G, our_dof), (slot_G, residual_G, dof) = ours, theirs
    _, i_G, j_G = np.intersect1d(our_slot_G, slot_G, return_indices=True)
    x_G, y_G = our_residual_G[i_G], residual_G[j_G]
    scale = math.sqrt(float(np.sum(x_G**2) * np.sum(y_G**2)))
    if scale == 0.0:
        return 0.0
    r = float(x_G @ y_G) / scale
    # By chance alone the estimate is above 0 half of the time.
    error = (1.0 - r**2) / math.sqrt(min(our_dof, dof))
    return min(1.0, max(0.0, r - error))
