"""How narrow an answer a plan can be expected to give, before any of it has run."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.tables.tidy import TidyTable
    from sweeper.planning.planner import PlannedSweep
    from sweeper.sweepfile.choices.question import AskChoice
    from sweeper.sweepfile.schema import Sweep
    from sweeper.trials.plan import Observation, PlannedTrial

LOSS_EXPONENT = -0.06  # of the optimal loss, between those of arXiv 2602.15014 and 2512.10858
CURVATURE = 0.03  # of a log loss over the log tokens along a budget, as in the tables of both
RUN_SCATTER = 0.007  # relative; the luck of a run of a small byte-level model
N_BOOTSTRAP = 50  # of each draw; the width itself is not resampled
N_DRAWS = 6
MAX_RUNS = 60
"""Runs that are counted, beside the first seed of each: what more of them would answer is narrower
than anyone asks."""


@dataclass(frozen=True)
class Expected:
    """What to expect of a plan."""

    ratio: float | None
    """Upper over lower end of the interval that is asked for; None where there would be none."""
    n_counted: int
    """Runs that it is read off: all, or the first seeds of each; more make it narrower."""


def expected(sweep: "Sweep", planned: "PlannedSweep") -> Expected | None:
    """The interval that a sweep asks for, to be expected from its plan; None without a question.

    The planned runs are given losses of published shape, with a scatter that is assumed.
    """
    if sweep.ask is None:
        return None
    counted = _first_seeds(planned.trials)
    return Expected(_ratio(sweep.ask, counted), len(counted))


def asked_text(ask: "AskChoice", expectation: Expected, n_runs: int) -> str:
    """What is asked, and what a plan of so many runs can be expected to answer."""
    text = f"asked: {ask.interval} of {' and '.join(ask.labels)} within a factor {ask.within:g}; "
    if expectation.ratio is None:
        text += "of this plan no interval is to be expected"
    else:
        text += f"this plan is expected to give {expectation.ratio:.2f}"
    if expectation.n_counted < n_runs:
        text += f" by {expectation.n_counted} of its {n_runs:,} runs alone, the first seeds of each"
    return text + (f", and up to {ask.rounds} rounds follow" if ask.rounds else "")


def _ratio(ask: "AskChoice", trials: "Sequence[PlannedTrial]") -> float | None:
    from analysis.answers.propose import Request, propose
    from analysis.errors import FitError
    from analysis.fitting.fit import FitSettings, fit_curves

    log_ratios = []
    # Of many runs, the luck of a single draw moves little.
    for draw in range(max(1, min(N_DRAWS, N_DRAWS * MAX_RUNS // len(trials)))):
        try:
            result = fit_curves(_planted(trials, draw), FitSettings(n_bootstrap=N_BOOTSTRAP))
            request = Request(ask.labels, ask.interval, ask.at, n_runs=1)
            ratio = propose(result, request).ratio_now
        except FitError:  # a plan of too little
            ratio = None
        log_ratios.append(math.inf if ratio is None else math.log(ratio))
    median = statistics.median(log_ratios)
    return math.exp(median) if math.isfinite(median) else None


def _budget(cell: "Observation") -> float:
    return cell.budget_flops or cell.flops


def _first_seeds(trials: "Sequence[PlannedTrial]") -> "Sequence[PlannedTrial]":
    """The first seed of every run of a series, and further ones up to `MAX_RUNS` in all."""
    so_far: Counter[tuple[str, int, int]] = Counter()
    ranks = []
    for each in trials:
        run = each.series, each.params.trunk, each.trial.n_steps
        ranks.append(so_far[run])
        so_far[run] += 1
    order = sorted(range(len(trials)), key=ranks.__getitem__)
    return [trials[i] for i in sorted(order[: max(MAX_RUNS, len(so_far))])]


def _planted(trials: "Sequence[PlannedTrial]", draw: int) -> "TidyTable":
    """What a plan would observe: log losses in a parabola about the middle of each budget."""
    import numpy as np
    import pandas as pd

    from analysis.tables.columns import RawTable
    from analysis.tables.tidy import Reading, rows_to_fit, tidy_counted

    log_tokens: dict[float, list[float]] = {}
    for each in trials:
        for cell in each.cells:
            log_tokens.setdefault(_budget(cell), []).append(math.log(cell.tokens))
    middle = {budget: float(np.mean(places)) for budget, places in log_tokens.items()}
    luck = np.random.default_rng(draw)
    rows = []
    for each in trials:
        of_run = RUN_SCATTER * luck.standard_normal()
        for cell in each.cells:
            off = math.log(cell.tokens) - middle[_budget(cell)]
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
    raw = RawTable(pd.DataFrame(rows), "plan", tuple(range(1, len(rows) + 1)))
    return rows_to_fit(raw, tidy_counted(raw), Reading())
