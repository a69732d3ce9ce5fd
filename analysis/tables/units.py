"""Whether the numbers of a table are in the units they should be in, judged by what tokens cost.

Units that are mixed within a table are refused; what looks odd throughout is a warning.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.errors import FitWarning, TableError
from analysis.tables.points import FloatArray

ODD_COST_RATIO = (0.03, 300.0)
"""Range of the cost ratio of honest tables."""
UNIFORM_GUESS = float(np.log(1e6))
"""Nats per token of a uniform guess over a vocabulary that is larger than any in use."""


def check_units(frame: pd.DataFrame, place: Callable[[int], str]) -> None:
    """Refuse a table in which some rows are in other units than the rest of their family, or one
    family in other units than the others; `place` says where a row is.
    """
    ratio = np.log(_cost_ratio(frame))
    typical = ratio.groupby(frame["family"]).transform("median")
    # Unit mix-ups are factors of 10³ or 10⁶; attention and head multiply small models' FLOPs by
    # some 10 at most.
    odd = (ratio - typical).abs() > np.log(100.0)
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
    """The table without the budgets of which some run spent a multiple of what the others did."""
    log_flops = np.log(frame["flops"])
    budgets = [frame["family"], frame["budget_flops"]]
    typical = log_flops.groupby(budgets).transform("median")
    odd = (log_flops - typical).abs() > np.log(10.0)  # in an honest one they differ by rounding
    warnings = []
    for (family, budget), rows in frame[odd].groupby(["family", "budget_flops"]):
        message = (
            f"{len(rows)} runs of budget {budget:.3g} spent {rows['flops'].iloc[0]:.3g} FLOPs or "
            "the like, over ten times more or less than the others: it gets no isoFLOP curve"
        )
        warnings.append(FitWarning("uneven_budget_left_out", message, str(family), float(budget)))
    is_left_out = odd.groupby(budgets).transform("max").fillna(False).astype(bool)
    # Their runs keep their place in the surface: only what `budget_flops` says of them is doubtful.
    return frame.assign(budget_flops=frame["budget_flops"].mask(is_left_out)), warnings


def unit_warnings(frame: pd.DataFrame) -> list[FitWarning]:
    """Remarks on every series whose units look odd."""
    warnings = []
    for family, rows in frame.groupby("family"):
        remarks = {}
        ratio = float(_cost_ratio(rows).median())
        if not ODD_COST_RATIO[0] < ratio < ODD_COST_RATIO[1]:
            remarks["suspicious_units"] = (
                f"flops / (6·params·tokens) is {ratio:.3g}, expected about 1: are params and "
                "tokens counts, and flops FLOPs?"
            )
        # The deviation from the cost at neighbouring sizes that no architecture explains.
        away_P = np.abs(_away_from_neighbours(rows))
        if n_uneven := int(np.sum(away_P > np.log(3.0))):
            remarks["uneven_cost"] = (
                f"flops / (6·params·tokens) of {n_uneven} rows is off by up to "
                f"{np.exp(away_P.max()):.3g}× from that of rows of like size: are params, tokens "
                "and flops of one run each?"
            )
        away = (rows["flops"] / rows["budget_flops"]).median()
        if away < 1 / 3 or away > 3:  # twice is a matter of convention
            remarks["budgets_differ_from_flops"] = (
                f"flops are {away:.3g}× budget_flops: laws are fitted to flops, budgets only group"
            )
        if not rows["loss"].max() <= UNIFORM_GUESS:
            remarks["suspicious_loss"] = (
                f"losses up to {rows['loss'].max():.3g}, and a uniform guess over 10^6 tokens has "
                f"{UNIFORM_GUESS:.3g} nats per token: are they perplexities? Write their logarithm"
            )
        warnings += [FitWarning(code, message, str(family)) for code, message in remarks.items()]
    return warnings


def _mixed(where: str, message: str) -> TableError:
    return TableError(
        f"{where}: flops / (6·params·tokens) {message}: mixed units? write params and tokens as "
        "counts, flops as FLOPs"
    )


def _cost_ratio(frame: pd.DataFrame) -> pd.Series:
    """About 1, more where attention and head weigh, and smooth in the size within a series."""
    return frame["flops"] / (6.0 * frame["params"] * frame["tokens"])


def _away_from_neighbours(rows: pd.DataFrame) -> FloatArray:
    """Log of the cost ratio of each row over its median in the nine rows around it in size."""
    order = np.argsort(rows["params"].to_numpy(), kind="stable")
    ratio_P = np.log(_cost_ratio(rows).to_numpy())[order]
    width = min(9, len(ratio_P))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(ratio_P, width), axis=1)
    # At the ends, the median of the outermost rows.
    first_P = np.clip(np.arange(len(ratio_P)) - width // 2, 0, len(medians) - 1)
    result: FloatArray = ratio_P - medians[first_P]
    return result
