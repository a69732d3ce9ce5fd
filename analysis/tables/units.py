"""Whether the numbers of a table are in the units they should be in, judged by what tokens cost.

Units that are mixed within a table are refused; what looks odd throughout is a warning.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.errors import FitWarning, TableError
from analysis.tables.points import FloatArray

MIXED_UNITS_FACTOR = 100.0
"""Deviation of the cost ratio from its family's median that unit mix-ups exceed (10³, 10⁶) and
honest tables do not: attention and head multiply small models' FLOPs by some 10 at most."""
ODD_COST_RATIO = (0.03, 300.0)
"""Range of the cost ratio of honest tables."""
UNEVEN_COST_FACTOR = 3.0
"""Deviation of the cost ratio from that of neighbouring sizes that no architecture explains."""
N_NEIGHBOURS = 9
"""Rows next in size that say what a token costs there."""
BUDGET_FACTOR = 3.0
"""Between a nominal budget and the FLOPs spent: twice is a matter of convention."""
UNEVEN_BUDGET_FACTOR = 10.0
"""Between the FLOPs of runs of one budget; those of an honest one differ by rounding."""
LARGEST_LOSS = 30.0
"""Nats per token: a uniform guess over the largest vocabularies is below 14."""


def check_units(frame: pd.DataFrame, place: Callable[[int], str]) -> None:
    """Refuse a table in which some rows are in other units than the rest of their family, or one
    family in other units than the others; `place` says where a row is.
    """
    ratio = np.log(_cost_ratio(frame))
    typical = ratio.groupby(frame["family"]).transform("median")
    odd = (ratio - typical).abs() > np.log(MIXED_UNITS_FACTOR)
    if odd.any():
        index = frame.index[odd][0]
        message = (
            f"is {np.exp(ratio[index]):.3g}, for most of {frame.loc[index, 'family']!r} it is "
            f"{np.exp(typical[index]):.3g}"
        )
        raise _mixed(place(int(index)), message)
    low, high = np.log(ODD_COST_RATIO)
    is_honest = typical.between(low, high)
    if is_honest.any() and not is_honest.all():
        bad, good = frame.index[~is_honest][0], frame.index[is_honest][0]
        message = (
            f"is about {np.exp(typical[bad]):.3g} for {frame.loc[bad, 'family']!r} and "
            f"{np.exp(typical[good]):.3g} for {frame.loc[good, 'family']!r}"
        )
        raise _mixed(place(int(bad)), message)


def without_uneven_budgets(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[FitWarning]]:
    """The table without the budgets of which some run spent a multiple of what the others did.

    Their runs keep their place in the surface: only what `budget_flops` says of them is doubtful.
    """
    log_flops = np.log(frame["flops"])
    budgets = [frame["family"], frame["budget_flops"]]
    typical = log_flops.groupby(budgets).transform("median")
    odd = (log_flops - typical).abs() > np.log(UNEVEN_BUDGET_FACTOR)
    warnings = []
    for (family, budget), rows in frame[odd].groupby(["family", "budget_flops"]):
        message = (
            f"{len(rows)} runs of budget {budget:.3g} spent {rows['flops'].iloc[0]:.3g} FLOPs or "
            "the like, over ten times more or less than the others: it gets no isoFLOP curve"
        )
        warnings.append(FitWarning("uneven_budget_left_out", message, str(family), float(budget)))
    is_left_out = odd.groupby(budgets).transform("max").fillna(False).astype(bool)
    return frame.assign(budget_flops=frame["budget_flops"].mask(is_left_out)), warnings


def unit_warnings(frame: pd.DataFrame) -> list[FitWarning]:
    """Remarks on every series whose units look odd."""
    warnings = []
    for family, rows in frame.groupby("family"):
        for code, message in (*_odd_ratio(rows), *_uneven(rows), *_budgets(rows), *_losses(rows)):
            warnings.append(FitWarning(code, message, str(family)))
    return warnings


def _mixed(where: str, message: str) -> TableError:
    return TableError(
        f"{where}: flops / (6·params·tokens) {message}: mixed units? write params and tokens as "
        "counts, flops as FLOPs"
    )


def _cost_ratio(frame: pd.DataFrame) -> pd.Series:
    """About 1, more where attention and head weigh, and smooth in the size within a series."""
    return frame["flops"] / (6.0 * frame["params"] * frame["tokens"])


Remarks = list[tuple[str, str]]


def _odd_ratio(rows: pd.DataFrame) -> Remarks:
    ratio = float(_cost_ratio(rows).median())
    if ODD_COST_RATIO[0] < ratio < ODD_COST_RATIO[1]:
        return []
    message = (
        f"flops / (6·params·tokens) is {ratio:.3g}, expected about 1: are params and "
        "tokens counts, and flops FLOPs?"
    )
    return [("suspicious_units", message)]


def _uneven(rows: pd.DataFrame) -> Remarks:
    """Rows whose tokens cost several times what they cost at neighbouring sizes."""
    ratio_P = np.log(_cost_ratio(rows).to_numpy())
    order = np.argsort(rows["params"].to_numpy(), kind="stable")
    away_P = ratio_P[order] - _running_median(ratio_P[order])
    n_uneven = int(np.sum(np.abs(away_P) > np.log(UNEVEN_COST_FACTOR)))
    if not n_uneven:
        return []
    message = (
        f"flops / (6·params·tokens) of {n_uneven} rows is off by up to "
        f"{np.exp(np.abs(away_P).max()):.3g}× from that of rows of like size: are params, tokens "
        "and flops of one run each?"
    )
    return [("uneven_cost", message)]


def _running_median(values: FloatArray) -> FloatArray:
    """Median of the `N_NEIGHBOURS` values around each; at the ends, of the outermost ones."""
    width = min(N_NEIGHBOURS, len(values))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)
    first = np.clip(np.arange(len(values)) - width // 2, 0, len(medians) - 1)
    result: FloatArray = medians[first]
    return result


def _budgets(rows: pd.DataFrame) -> Remarks:
    away = (rows["flops"] / rows["budget_flops"]).median()
    if np.isnan(away) or 1 / BUDGET_FACTOR <= away <= BUDGET_FACTOR:
        return []
    message = f"flops are {away:.3g}× budget_flops: laws are fitted to flops, budgets only group"
    return [("budgets_differ_from_flops", message)]


def _losses(rows: pd.DataFrame) -> Remarks:
    if rows["loss"].max() <= LARGEST_LOSS:
        return []
    message = f"losses up to {rows['loss'].max():.3g}: expected nats per token, not perplexity"
    return [("suspicious_loss", message)]
