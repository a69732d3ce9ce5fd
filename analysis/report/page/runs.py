"""The runs that a page shows: who they are, and their loss curves."""

from typing import Any

import numpy as np
import pandas as pd

from analysis import notation
from analysis.fitting.fit import FitResult
from analysis.report.page.frames import Shown
from analysis.report.page.training import LossCurve, Training
from analysis.report.tables import Table
from analysis.tables.tidy import TidyTable

MAX_STEPS = 60_000
"""Logged steps on a page, of all runs together."""
STEPS_PER_RUN = (20, 200)
"""The least that makes a curve, and as many as a chart can show."""
MAX_ROWS = 200
"""Of the table of runs on the page; its CSV holds all."""
FACTS = {"seed": "seed", "learning_rate": "rate", "batch_tokens": "tokens a batch"}


def runs_json(table: TidyTable, shown: Shown, training: Training) -> dict[str, Any]:
    """Names, facts and loss curves of the runs, by their numbers on the page."""
    first = _first_rows(table)
    # Numbers of runs in the fit are those of the groups of the table, in its order.
    chosen = first.iloc[[*shown.runs]]
    names = [str(name) for name in chosen["run_id"]]
    facts = {
        word: [None if pd.isna(value) else _number(value) for value in chosen[column]]
        for column, word in FACTS.items()
        if chosen[column].notna().any()
    }
    known = {n: training.curves[name] for n, name in enumerate(names) if name in training.curves}
    least, most = STEPS_PER_RUN
    n_steps = min(most, max(least, MAX_STEPS // max(1, len(known))))
    kept = dict(list(known.items())[: MAX_STEPS // least])
    curves = {str(number): _thinned(curve, n_steps) for number, curve in kept.items()}
    return {"id": names, "facts": facts, "curves": curves}


def _first_rows(table: TidyTable) -> pd.DataFrame:
    return table.frame.drop_duplicates(["family", "run_id"], keep="first")


def _number(value: float) -> str:
    return f"{value:.6g}"


def _thinned(curve: LossCurve, n_steps: int) -> dict[str, list[float]]:
    chosen = np.unique(np.linspace(0, len(curve.tokens) - 1, n_steps).round().astype(int))
    return {
        "tokens": [float(f"{value:.5g}") for value in curve.tokens[chosen].tolist()],
        "loss": [float(f"{value:.5g}") for value in curve.loss[chosen].tolist()],
    }


def n_thinned(fit: FitResult, shown: Shown) -> str:
    """What the page leaves out, as a sentence; nothing where it shows all."""
    total = sum(len(family.points.loss_P) for family in fit.families.values())
    kept = sum(len(chosen) for chosen in shown.points.values())
    if kept == total:
        return ""
    return f" Of {total} points the charts show {kept}, evenly chosen; points.csv holds all."


def runs_table(table: TidyTable) -> Table:
    """Each run where it ends."""
    last = table.frame.sort_values("flops", kind="stable").drop_duplicates(
        ["family", "run_id"], keep="last"
    )
    last = last.sort_values(["family", "params", "flops"], kind="stable")
    rows = [
        (
            family,
            str(run),
            notation.count(params),
            notation.count(tokens),
            notation.flops(flops),
            notation.loss(loss),
        )
        for family, run, params, tokens, flops, loss in zip(
            *(
                last[name][:MAX_ROWS]
                for name in ("family", "run_id", "params", "tokens", "flops", "loss")
            ),
            strict=True,
        )
    ]
    if len(last) > MAX_ROWS:
        rows.append((f"… {len(last) - MAX_ROWS} more in points.csv", "", "", "", "", ""))
    columns = ("series", "run", "size", "tokens", "FLOPs", f"loss ({notation.LOSS_UNIT})")
    return Table(columns, tuple(rows), n_text=2)
