"""Losses that no law of size and tokens explains: runs that diverged, and slips of a digit.

One of them among fifteen takes the surface from all the others. Weights that bear a run twice as
far off as noise would have it, as robust fits have, are no answer to a loss three times too high.

Suffixes: P rows, G pairs of exponents.
"""

import numpy as np
import pandas as pd

from analysis.errors import FitWarning
from analysis.tables.columns import RawTable
from analysis.tables.points import BoolArray, FloatArray
from analysis.tables.runs import listed

LEAST_AWAY = 0.1
LEAST_SIGMAS = 20.0
"""How far off, in log loss and in robust standard deviations of the others, a stray loss is. Of 21
public series no row that the authors left unmarked is both, by at most 14 deviations where it is
off by more than .1 (Muennighoff et al., Gadre et al., Porian et al.); of the five that are marked
in Hoffmann et al.'s, two are, by .20 and .27, 34 and 44 deviations."""
MIN_ROWS = 10
"""Twice the coefficients of the surface: the others must say what a row should be."""
MOST_SHARE, MOST_OF_FEW = 0.1, 2
"""Of the rows; where more are off the surface, it is the surface that is wrong."""
N_ITERATIONS = 12
MOST_ROWS = 2000
"""That the surface is fitted to."""
_EXPONENTS = np.geomspace(0.08, 1.2, 12)


def without_stray_losses(
    raw: RawTable, frame: pd.DataFrame
) -> tuple[pd.DataFrame, list[FitWarning]]:
    """The table without them, each named."""
    warnings = []
    for family, rows in frame.groupby("family"):
        away_P = away_from_surface(rows)
        is_stray_P = _is_stray(away_P)
        if not is_stray_P.any():
            continue
        stray = rows[is_stray_P].assign(expected=rows["loss"] * np.exp(-away_P))
        names = ("params", "tokens", "loss", "expected")
        places = zip(stray.index, *(stray[name] for name in names), strict=True)
        told = [
            f"row {raw.row_numbers[index]} ({params:.4g} parameters, {tokens:.4g} tokens) has "
            f"{loss:.4g} where the others say about {expected:.2g}"
            for index, params, tokens, loss, expected in places
        ]
        message = (
            f"{len(told)} {'loss is' if len(told) == 1 else 'losses are'} left out, of a diverged "
            f"run or mistyped: {listed(told)}; mark such rows 1 in a column outlier, or every row "
            "0 to keep them all"
        )
        warnings.append(FitWarning("stray_losses_left_out", message, str(family)))
        frame = frame.drop(index=stray.index)
    return frame, warnings


def _is_stray(away_P: FloatArray) -> BoolArray:
    size_P = np.abs(away_P)
    # Of least absolute deviations as many as there are coefficients are zero.
    noise = 1.4826 * float(np.median(np.sort(size_P)[5:])) if len(size_P) >= MIN_ROWS else np.inf
    is_stray_P: BoolArray = size_P > max(LEAST_AWAY, LEAST_SIGMAS * noise)
    is_few = is_stray_P.sum() <= max(MOST_OF_FEW, MOST_SHARE * len(size_P))
    return is_stray_P if is_few else np.zeros_like(is_stray_P)


def away_from_surface(rows: pd.DataFrame) -> FloatArray:
    """Log of each loss over a surface E + A/N^alpha + B/D^beta of least absolute deviations."""
    # Exponents from a coarse grid suffice to tell a factor: the solver of the laws, which is exact,
    # would be led astray by the very rows that are looked for.
    every_loss_P = rows["loss"].to_numpy()
    every_u_P, every_v_P = (np.log(rows[name].to_numpy()) for name in ("params", "tokens"))
    # So many rows, chosen by chance, tell it as well as all.
    chosen_P = np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST_ROWS])
    loss_P, u_P, v_P = every_loss_P[chosen_P], every_u_P[chosen_P], every_v_P[chosen_P]
    alpha_G, beta_G = (each.ravel() for each in np.meshgrid(_EXPONENTS, _EXPONENTS))
    parts = [
        np.ones((len(alpha_G), len(loss_P))),
        np.exp(-alpha_G[:, None] * (u_P - u_P.mean())),
        np.exp(-beta_G[:, None] * (v_P - v_P.mean())),
    ]
    # Relative residuals, but not to a loss that is itself off by a factor.
    typical = float(np.median(loss_P))
    scale_P = np.clip(loss_P, 0.5 * typical, 2.0 * typical)
    columns_GP3, target_P1 = np.stack(parts, axis=2) / scale_P[:, None], (loss_P / scale_P)[:, None]
    # Iteratively reweighted least squares (Schlossmacher 1973).
    weight_GP = np.ones(columns_GP3.shape[:2])
    for _ in range(N_ITERATIONS):
        weighted_G3P = np.swapaxes(columns_GP3 * weight_GP[..., None], 1, 2)
        normal_G33 = weighted_G3P @ columns_GP3
        # A ridge where a table has a single size or number of tokens.
        ridge_G33 = 1e-10 * np.trace(normal_G33, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        coefficient_G31 = np.linalg.solve(normal_G33 + ridge_G33, weighted_G3P @ target_P1)
        residual_GP = (target_P1 - columns_GP3 @ coefficient_G31)[..., 0]
        weight_GP = 1.0 / np.maximum(np.abs(residual_GP), 1e-4)
    error_G = np.abs(residual_GP).sum(axis=1)
    # A loss that rises with size or tokens explains a single row at the end of a table.
    falls_G = (coefficient_G31[:, 1:, 0] >= 0).all(axis=1)
    best = int(np.argmin(np.where(falls_G, error_G, np.inf) if falls_G.any() else error_G))
    level, size, data = coefficient_G31[best, :, 0]
    size_arm_P = size * np.exp(-alpha_G[best] * (every_u_P - u_P.mean()))
    data_arm_P = data * np.exp(-beta_G[best] * (every_v_P - v_P.mean()))
    fitted_P = np.maximum(level + size_arm_P + data_arm_P, 1e-3 * typical)
    away_P: FloatArray = np.log(every_loss_P / fitted_P)
    return away_P
