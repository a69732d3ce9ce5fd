"""One row for each size and number of tokens, where runs differ in learning rate or batch alone.

A law of compute-optimal training is about the best setting: the others of a sweep are no evidence
on what a size reaches. Laws of the best rate and batch read all of them.

Suffixes: P rows of a cell, A axes (log rate, log batch).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import FitWarning
from analysis.tables.points import SAME_SIZE, FloatArray, rungs

SETTINGS = ("learning_rate", "batch_tokens")
WINDOW = float(np.log(3.0))
"""Around the best setting, in log, within which losses are a parabola. On 2,700 public runs (Step
Law, arXiv 2503.04715) parabolas within a factor 3 miss the minimum of a denser grid by less than
the best run does; from a factor 4 on by as much or more."""
WIDEST_STEP = float(np.log(5.0))
"""To the next setting on either side; further ones say nothing of what lies between."""
MIN_POINTS_BY_AXES = {1: 3, 2: 8}
"""Settings that a parabola takes: exact along one axis, two more than coefficients along two."""


@dataclass(frozen=True)
class Vertex:
    """Lowest point of a parabola through the losses of a cell."""

    loss: float
    log_setting_A: FloatArray


def one_row_per_cell(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[FitWarning]]:
    """The rows that stand for their cell (series, size, tokens): its vertex, or its best runs.

    Cells of one setting keep their rows: its seeds are replicates.
    """
    parts, warnings = [], []
    for family, rows in frame.groupby("family", sort=True):
        axes = [name for name in SETTINGS if rows[name].notna().all()]
        cells = _cells(rows, axes) if axes else []
        if not cells:
            parts.append(rows)
            continue
        chosen = [_representatives(cell, axes) for cell in cells]
        if rows["run_id"].duplicated().any():
            # Cells of a size choose among the same runs, and share their luck.
            chosen = [
                (kept.assign(run_id=f"settings of {kept['params'].iloc[0]:.6g}"), is_vertex)
                for kept, is_vertex in chosen
            ]
        swept = pd.concat(cells)
        parts += [rows.drop(index=swept.index), *(kept for kept, _ in chosen)]
        n_vertices = sum(is_vertex for _, is_vertex in chosen)
        what = " and ".join(name.replace("_", " ") for name in axes)
        message = (
            f"{len(swept)} rows of {len(cells)} cells (size, tokens) that differ in {what} count "
            f"once a cell: {n_vertices} by the vertex of a parabola, {len(cells) - n_vertices} by "
            "the best run; --all-settings counts every row"
        )
        warnings.append(FitWarning("best_settings", message, str(family)))
    return pd.concat(parts).sort_index(kind="stable") if warnings else frame, warnings


def _cells(rows: pd.DataFrame, axes: list[str]) -> list[pd.DataFrame]:
    """The cells of a series whose runs differ in their settings, each with its rows."""
    names = ("params", "tokens", *axes)
    level = pd.DataFrame({name: rungs(rows[name].to_numpy()) for name in names}, index=rows.index)
    by_cell = level.groupby(["params", "tokens"], sort=True)
    return [
        rows.loc[own.index]
        for _, own in by_cell
        if len(own) > 1 and len(own[axes].drop_duplicates()) > 1
    ]


def _representatives(cell: pd.DataFrame, axes: list[str]) -> tuple[pd.DataFrame, bool]:
    """The rows of a cell to keep, and whether they are its vertex."""
    setting = cell.groupby([rungs(cell[name].to_numpy()) for name in axes])
    is_best_P = (setting.ngroup() == setting["loss"].mean().argmin()).to_numpy()
    best = cell[is_best_P]
    log_PA = np.log(cell[axes].to_numpy(dtype=np.float64))
    log_best_A = log_PA[is_best_P][0]
    # Along all axes, else along one with the others at their best.
    every = [*range(len(axes))]
    for along in [every, *([axis] for axis in every if len(every) > 1)]:
        others = [axis for axis in every if axis not in along]
        on_line_P = np.all(np.abs(log_PA - log_best_A)[:, others] <= SAME_SIZE, axis=1)
        losses_P = cell["loss"].to_numpy()[on_line_P]
        vertex = vertex_of(log_PA[on_line_P][:, along], losses_P, log_best_A[along])
        if vertex is not None:
            at = {
                axes[axis]: np.exp(x) for axis, x in zip(along, vertex.log_setting_A, strict=True)
            }
            return best.iloc[[0]].assign(loss=vertex.loss, **at), True
    return best, False


def vertex_of(log_PA: FloatArray, loss_P: FloatArray, log_best_A: FloatArray) -> Vertex | None:
    """The vertex of the parabola around the best setting, None unless it is identified inside."""
    n_axes = log_PA.shape[1]
    near_P = np.ones(len(loss_P), dtype=bool)
    for axis in range(n_axes):
        away_P = log_PA[:, axis] - log_best_A[axis]
        if not (away_P.min() < 0 < away_P.max()):  # the best setting is at an end of the sweep
            return None
        step = max(-away_P[away_P < 0].max(), away_P[away_P > 0].min())
        if step > WIDEST_STEP:
            return None
        near_P &= np.abs(away_P) <= max(WINDOW, step) + 1e-9
    x_PA, y_P = log_PA[near_P] - log_best_A, loss_P[near_P]
    if len(np.unique(x_PA, axis=0)) < MIN_POINTS_BY_AXES[n_axes]:
        return None
    pairs = [(i, j) for i in range(n_axes) for j in range(i, n_axes)]
    products = [x_PA[:, i] * x_PA[:, j] for i, j in pairs]
    columns = np.column_stack([np.ones(len(y_P)), x_PA, *products])
    if np.linalg.matrix_rank(columns) < columns.shape[1]:
        return None
    coefficient, *_ = np.linalg.lstsq(columns, y_P, rcond=None)
    slope_A = coefficient[1 : 1 + n_axes]
    hessian_AA = np.zeros((n_axes, n_axes))
    for (i, j), value in zip(pairs, coefficient[1 + n_axes :], strict=True):
        hessian_AA[i, j] += value
        hessian_AA[j, i] += value
    if np.linalg.eigvalsh(hessian_AA).min() <= 0:
        return None
    shift_A = -np.linalg.solve(hessian_AA, slope_A)
    loss = float(coefficient[0] + 0.5 * slope_A @ shift_A)
    inside = np.all((x_PA.min(axis=0) < shift_A) & (shift_A < x_PA.max(axis=0)))
    return Vertex(loss, log_best_A + shift_A) if inside and loss > 0 else None
