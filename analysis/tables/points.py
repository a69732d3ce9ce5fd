"""The observations of one series as arrays, and which of them share their noise.

Suffixes: P points of a series, K budgets.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SAME_SIZE = 0.02
"""Runs of two series whose parameters differ by less than this fraction are the same rung."""


@dataclass(frozen=True)
class Points:
    """One series: P observed points, grouped in isoFLOP budgets where the source has them."""

    family: str
    params_P: FloatArray
    tokens_P: FloatArray
    flops_P: FloatArray
    loss_P: FloatArray
    """Nats per token."""
    stderr_P: FloatArray
    """Standard error of the loss; 0 where the source does not state it."""
    budget_P: FloatArray
    """Nominal budget in FLOPs; NaN where the table has no isoFLOP structure."""
    run_P: IntArray
    """Number of the training run a point lies on."""
    slot_P: IntArray
    """Number of the run's place in the design (rung, seed, budget); shared across series, so that
    runs which trained and were evaluated alike draw the same bootstrap multiplier."""
    batch_tokens_P: FloatArray
    """Tokens per optimiser step; NaN where the source does not state it."""
    learning_rate_P: FloatArray
    """NaN where the source does not state it."""
    seed_P: FloatArray
    """NaN where the source does not state it."""

    @property
    def n_runs(self) -> int:
        """Training runs behind the points."""
        return len(np.unique(self.run_P))

    @property
    def budgets_K(self) -> FloatArray:
        """Distinct nominal budgets, ascending; empty without isoFLOP structure."""
        return np.unique(self.budget_P[np.isfinite(self.budget_P)])

    @property
    def has_shared_runs(self) -> bool:
        """Whether some run contributes more than one point."""
        return self.n_runs < len(self.run_P)

    def take(self, chosen: BoolArray | IntArray) -> "Points":
        """The chosen points."""
        arrays = {name: value[chosen] for name, value in vars(self).items() if name != "family"}
        return Points(family=self.family, **arrays)


def levels(log_values: FloatArray, width: float) -> IntArray:
    """Number of each value's level, ascending; a level reaches from its least value to `width`
    above it, in logs. NaN are on a level of their own, the last.
    """
    # Bounded: neighbours that only chain would put 200 sizes over a factor 20 on a single level.
    distinct, index = np.unique(log_values, return_inverse=True)
    if np.all(np.diff(distinct) > width):  # each value is a level, as sizes of a ladder are
        return index.astype(np.int64)
    level = np.zeros(len(distinct), dtype=np.int64)
    first = 0
    while first < len(distinct):
        end = max(first + 1, int(np.searchsorted(distinct, distinct[first] + width, side="right")))
        level[end:] += 1
        first = end
    return level[index]


def rungs(values: FloatArray) -> IntArray:
    """Number of each value's level, ascending: values of a level are within `SAME_SIZE`, in log."""
    return levels(np.log(values), SAME_SIZE)


def n_levels(values: FloatArray) -> int:
    """How many levels the values lie on; two runs of one rung differ by rounding."""
    return 1 + int(rungs(values).max(initial=-1))


def points_by_family(frame: pd.DataFrame) -> dict[str, Points]:
    """Split a validated tidy table into its series, in the order of their labels."""
    run = frame.groupby(["family", "run_id"], sort=False).ngroup().to_numpy().astype(np.int64)
    slot = _design_slots(frame, run)
    names = ("params", "tokens", "flops", "loss", "batch_tokens", "learning_rate", "seed")
    result = {}
    for family in sorted(frame["family"].unique()):
        mine = (frame["family"] == family).to_numpy()
        own = frame[mine]
        result[family] = Points(
            family=family,
            **{f"{name}_P": own[name].to_numpy(dtype=np.float64) for name in names},
            stderr_P=np.nan_to_num(own["loss_stderr"].to_numpy(dtype=np.float64)),
            budget_P=own["budget_flops"].to_numpy(dtype=np.float64),
            run_P=run[mine],
            slot_P=slot[mine],
        )
    return result


def _design_slots(frame: pd.DataFrame, run: IntArray) -> IntArray:
    """Slot of each row: equal for runs of different series with the same rung, seed and budgets."""
    runs = frame.assign(run=run).groupby("run", sort=True)
    table = runs.agg(
        family=("family", "first"),
        params=("params", "median"),
        seed=("seed", "first"),
        budget=("budget_flops", "first"),
        n_budgets=("budget_flops", "nunique"),
    )
    table["rung"] = rungs(table["params"].to_numpy())
    # A run observed at one budget only is told apart from the same rung's runs at other budgets.
    table["budget"] = table["budget"].where(table["n_budgets"] == 1, 0.0).fillna(0.0)
    place = ["rung", "seed", "budget"]
    table["copy"] = table.groupby(["family", *place], dropna=False).cumcount()
    slots = table.groupby([*place, "copy"], dropna=False, sort=True).ngroup()
    return slots.to_numpy()[np.searchsorted(table.index.to_numpy(), run)].astype(np.int64)


def records(points: Points) -> tuple[FloatArray, FloatArray]:
    """FLOPs and loss of the points that are lower than all points of no more compute."""
    order = np.lexsort((points.loss_P, points.flops_P))
    flops, loss = points.flops_P[order], points.loss_P[order]
    is_record = loss < np.minimum.accumulate(np.concatenate([[np.inf], loss[:-1]]))
    return flops[is_record], loss[is_record]
