"""How narrow an answer a plan can be expected to give, before any of it has run."""

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.tables.tidy import TidyTable
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.schema import Sweep
    from sweeper.trials.plan import Observation

LOSS_EXPONENT = -0.06  # of the optimal loss, between those of arXiv 2602.15014 and 2512.10858
CURVATURE = 0.03  # of a log loss over the log tokens along a budget, as in the tables of both
RUN_SCATTER = 0.007  # relative; the luck of a run of a small byte-level model
N_BOOTSTRAP = 50  # of each draw; the width itself is not resampled
N_DRAWS = 6


def expected_width(sweep: "Sweep", planned: "PlannedSweep") -> float | None:
    """Upper over lower end of the interval that a sweep asks for, to be expected from its plan.

    The planned runs are given losses of published shape, with a scatter that is assumed. None where
    nothing is asked, or the plan would not yield an interval.
    """
    ask = sweep.ask
    if ask is None:
        return None
    from analysis.answers.propose import Request, propose
    from analysis.errors import FitError
    from analysis.fitting.fit import FitSettings, fit_table

    log_ratios = []
    for draw in range(N_DRAWS):
        try:
            result = fit_table(_planted(planned, draw), FitSettings(n_bootstrap=N_BOOTSTRAP))
            request = Request(ask.labels, ask.interval, ask.at, n_runs=1)
            ratio = propose(result, request).ratio_now
        except FitError:  # a plan of too little
            ratio = None
        log_ratios.append(math.inf if ratio is None else math.log(ratio))
    median = statistics.median(log_ratios)
    return math.exp(median) if math.isfinite(median) else None


def _budget(cell: "Observation") -> float:
    return cell.budget_flops or cell.flops


def _planted(planned: "PlannedSweep", draw: int) -> "TidyTable":
    """What a plan would observe: log losses in a parabola about the middle of each budget."""
    import numpy as np
    import pandas as pd

    from analysis.tables.columns import RawTable
    from analysis.tables.tidy import Reading, rows_to_fit, tidy_counted

    log_tokens: dict[float, list[float]] = {}
    for each in planned.trials:
        for cell in each.cells:
            log_tokens.setdefault(_budget(cell), []).append(math.log(cell.tokens))
    luck = np.random.default_rng(draw)
    rows = []
    for each in planned.trials:
        of_run = RUN_SCATTER * luck.standard_normal()
        for cell in each.cells:
            off = math.log(cell.tokens) - float(np.mean(log_tokens[_budget(cell)]))
            log_loss = LOSS_EXPONENT * math.log(cell.flops) + 0.5 * CURVATURE * off**2
            rows.append(
                {
                    "family": each.series,
                    "params": float(each.params.trunk),
                    "tokens": float(cell.tokens),
                    "flops": cell.flops,
                    "budget_flops": _budget(cell),
                    "loss": 10.0 * math.exp(log_loss + of_run),
                    "seed": each.trial.seed,
                    "run_id": each.trajectory_id,
                }
            )
    raw = RawTable(pd.DataFrame(rows), planned.plan.name, tuple(range(1, len(rows) + 1)))
    return rows_to_fit(raw, tidy_counted(raw), Reading())
