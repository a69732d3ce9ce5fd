"""Which rows are of one training run, which of them a fit can use, and what is said about it."""

from typing import Literal, get_args

import numpy as np
import pandas as pd

from analysis.errors import FitWarning, SettingsError, TableError
from analysis.tables.columns import RawTable
from analysis.tables.points import SAME_SIZE, BoolArray, FloatArray, rungs
from sweeper.errors import did_you_mean

RunsOption = Literal["auto", "rows", "curves"]
"""What rows without a run_id are: curves where they look like it, runs of their own, or curves."""

MIN_CURVE = 5
"""Token counts of a training curve."""
SAME_STEP = 0.05
"""Steps in tokens whose ratio differs from 1 by less are equal."""
LONGEST_GRID = 20
"""Token counts that nobody trains a size at separately: Farseer (arXiv 2506.10972) has 18."""
SAME_LOSS = 0.01
"""Two losses of one step that differ by less, relatively, are two evaluations of one model."""
N_NAMED = 5
"""Rows that a message names one by one."""


def check_runs_option(value: str) -> None:
    """Raises `SettingsError` for an unknown choice."""
    known = get_args(RunsOption)
    if value not in known:
        hint = did_you_mean(value, known)
        raise SettingsError(f"--runs {value}: expected one of {', '.join(known)}{hint}")


def check_runs(raw: RawTable, frame: pd.DataFrame) -> None:
    """Refuse a run of several sizes: its points would count as if they shared their noise."""
    params = frame.groupby(["family", "run_id"])["params"]
    odd = (np.log(frame["params"]) - np.log(params.transform("first"))).abs() > SAME_SIZE
    if not odd.any():
        return
    index = frame.index[odd][0]
    raise TableError(
        f"{raw.row(int(index))}: run_id {frame.loc[index, 'run_id']!r} has another size in an "
        "earlier row; a run trains one model, so name every run, or leave run_id out"
    )


def with_one_loss_per_step(
    raw: RawTable, frame: pd.DataFrame
) -> tuple[pd.DataFrame, list[FitWarning]]:
    """The table without the steps of which a run has two losses, as one that was resumed from an
    earlier checkpoint logs them; nothing in it says which loss is of the run that went on.
    """
    key = ["family", "run_id", "seed", "learning_rate", "batch_tokens", "tokens", "budget_flops"]
    loss = frame.groupby(key, dropna=False)["loss"]
    is_torn = loss.transform("max") > (1.0 + SAME_LOSS) * loss.transform("min")
    is_repeated = frame.duplicated(key, keep="last") & ~is_torn
    warnings = []
    for family, rows in frame.groupby("family"):
        torn = rows[is_torn[rows.index]]
        if len(torn) > len(rows) / 2:  # then ids are of something else than runs
            message = (
                f"most rows share run_id and tokens with one of another loss (run "
                f"{torn['run_id'].iloc[0]!r} at {torn['tokens'].iloc[0]:.6g}): does run_id name "
                "every run? Rows of one run_id are resampled together"
            )
            warnings.append(FitWarning("run_id_of_several_runs", message, str(family)))
            is_torn[rows.index] = is_repeated[rows.index] = False
        elif len(torn):
            steps = torn.groupby(["run_id", "tokens"], sort=False)
            told = [_losses_of_step(raw, own) for _, own in steps]
            message = (
                f"{len(told)} steps of a run have two losses and are left out: {listed(told)}; was "
                "the run resumed? Delete the rows that the resumed run replaced"
            )
            warnings.append(FitWarning("two_losses_of_one_step", message, str(family)))
        if n_repeated := int(is_repeated[rows.index].sum()):
            message = (
                f"{n_repeated} rows repeat a step of their run with about the same loss: the last "
                "one counts"
            )
            warnings.append(FitWarning("repeated_steps", message, str(family)))
    return frame[~is_torn & ~is_repeated], warnings


def _losses_of_step(raw: RawTable, step: pd.DataFrame) -> str:
    losses = zip(step["loss"], step.index, strict=True)
    rows = " and ".join(f"{loss:.6g} in row {raw.row_numbers[index]}" for loss, index in losses)
    return f"run {step['run_id'].iloc[0]!r} at {step['tokens'].iloc[0]:.6g} tokens has {rows}"


def with_curves(
    frame: pd.DataFrame, is_named: BoolArray, option: RunsOption
) -> tuple[pd.DataFrame, list[FitWarning]]:
    """Rows of training curves that carry no run_id, as runs; `is_named` marks rows that have one.

    A curve is what one (series, size, seed, rate, batch) has at equal steps in tokens, or at more
    token counts than anybody trains a size at. Tables of runs that were trained separately have
    few, in a ratio to the size or to each other (OLMo's ladder 5, arXiv 2403.08540 8, Farseer 18);
    logs have equal steps (Gemstones, arXiv 2502.06857). Rows of isoFLOP budgets are left alone.
    """
    if option == "rows":
        return frame.assign(run_id=[f"row {index}" for index in frame.index]), []
    free = frame[~is_named & (frame["budget_flops"].isna() | (option == "curves")).to_numpy()]
    groups = ["family", "params", "seed", "learning_rate", "batch_tokens"]
    run_id, warnings = frame["run_id"].copy(), []
    n_curves, n_rows, n_grids = 0, 0, 0
    for _, rows in free.groupby(groups, dropna=False):
        tokens, loss = rows["tokens"].to_numpy(), rows["loss"].to_numpy()
        if len(rows) < 2 or (option == "auto" and not _falls(tokens, loss)):
            continue
        if option == "curves" or _is_logged(tokens):
            n_curves, n_rows = n_curves + 1, n_rows + len(rows)
            run_id[rows.index] = f"curve {n_curves} of {rows['params'].iloc[0]:.4g} parameters"
        else:
            n_grids += 1
    if n_curves:
        message = (
            f"{n_rows} rows without run_id are taken for {n_curves} training curves, one run for "
            "each series, size, seed, rate and batch; add a column run_id, or say --runs rows if "
            "each row was trained by itself"
        )
        warnings.append(FitWarning("curves_assumed", message))
    if n_grids:
        message = (
            f"no run_id, and {MIN_CURVE} token counts or more at one size: each row is taken for a "
            "run of its own; add a column run_id, or say --runs curves if the rows of a size (and "
            "seed, rate, batch) are one run, evaluated along the way"
        )
        warnings.append(FitWarning("runs_assumed", message))
    return frame.assign(run_id=run_id), warnings


def _falls(tokens_P: FloatArray, loss_P: FloatArray) -> bool:
    """Whether there are enough token counts, and the loss falls from the least to the most."""
    first, last = int(np.argmin(tokens_P)), int(np.argmax(tokens_P))
    return len(np.unique(tokens_P)) >= MIN_CURVE and bool(loss_P[last] < loss_P[first])


def _is_logged(tokens_P: FloatArray) -> bool:
    """Whether half of the steps are equal, or there are very many."""
    steps = np.diff(np.unique(tokens_P))
    equal = np.abs(steps / np.median(steps) - 1.0) < SAME_STEP
    return len(steps) >= LONGEST_GRID or bool(np.mean(equal) >= 0.5)


def thinned(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[FitWarning]]:
    """The table with at most one row of a training curve at each level of tokens, its last.

    Rows of isoFLOP budgets all stay.
    """
    keep = pd.Series(True, index=frame.index)
    warnings = []
    for family, rows in frame[frame["budget_flops"].isna()].groupby("family"):
        level = rungs(rows["tokens"].to_numpy())
        last = rows["tokens"].groupby([rows["run_id"], level]).transform("max")
        keep[rows.index] = rows["tokens"] == last
        n_left = int(keep[rows.index].sum())
        if n_left < len(rows):
            message = (
                f"{len(rows)} rows of {rows['run_id'].nunique()} runs are thinned to {n_left}, one "
                f"of a run for every {SAME_SIZE:.0%} more tokens: closer ones tell nothing more"
            )
            warnings.append(FitWarning("curves_thinned", message, str(family)))
    return frame[keep], warnings


def listed(told: list[str]) -> str:
    """The first few of them, and how many more."""
    rest = f", and {len(told) - N_NAMED} more" if len(told) > N_NAMED else ""
    return ", ".join(told[:N_NAMED]) + rest
