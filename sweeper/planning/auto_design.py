"""`design: auto`: sizes, budgets and seeds that fit a total cost, before there are any data.

What is published stands in for data: masked, uniform, interpolating and autoregressive models of
arXiv 2602.15014 and 2512.10858 are all compute-optimal at 3e10 · (C / 1e20)^0.46 training tokens,
give or take a third at 1e20 FLOPs and 0.06 in the exponent. Rounds (`ask`) mend what such a guess
gets wrong.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.planning.runs import Setting
from sweeper.planning.series import ResolvedSeries
from sweeper.sweepfile.choices.design import Design, IsoFlopDesign
from sweeper.sweepfile.problems import InvalidSweep, Problem
from sweeper.sweepfile.schema import Sweep
from sweeper.trials.ladder import Rung, ladder, trunk_params
from sweeper.trials.trial import ENDLESS_SCHEDULES

PRIOR_TOKENS, PRIOR_FLOPS, PRIOR_EXPONENT = 3e10, 1e20, 0.46
PRIOR_EXPONENT_SPREAD = 0.06
ARM = 4.0
"""Ratio of the optimal size to the smallest and largest ones of a budget, were the prior right."""
LARGEST_ARM = 12.0
N_BUDGETS = 4
BUDGET_STEP = 2.0
SIZE_STEP = 1.8
MAX_SEEDS = 8
MIN_BUDGET = 1e9  # below, not even the smallest rung takes enough steps


@dataclass(frozen=True)
class AutoPlan:
    """A design that `auto` stands for, and why it is that one."""

    design: Design
    n_seeds: int
    """Runs of every size; what they cost more is within the total."""
    top_budget: float
    best_size: int
    """Parameters that published laws expect to be optimal there."""

    def why_of(self, rung: Rung) -> str:
        """Why a size is in the design."""
        ratio = trunk_params(rung) / self.best_size
        return f"{ratio:.2g}× the size expected to be optimal at {self.top_budget:.2g} FLOPs"


def resolved_design(
    sweep: Sweep, series: Sequence[ResolvedSeries], setting: Setting
) -> AutoPlan | None:
    """What `design: auto` of a sweep stands for; None for any other design; raises InvalidSweep."""
    auto = sweep.design.auto
    if auto is None:
        return None
    share = auto.first_round if sweep.ask is not None else 1.0
    affordable = min(auto.flops * share, sweep.limits.flops)
    asked = sweep.ask.at if sweep.ask is not None else None
    grids = _Grids(series, setting, are_mended=sweep.ask is not None)
    largest = grids.largest_budget(affordable)
    if largest is None:
        least = grids.cost(grids.up_to(MIN_BUDGET)) / share
        expected = f"expected at least {least:.2g} FLOPs: less trains no size at any budget"
        raise InvalidSweep([Problem(("design", "auto"), expected)])
    # A budget asked about lies inside the budgets, if it can: what is over goes into seeds.
    top = largest if asked is None else min(largest, BUDGET_STEP * asked)
    isoflop = grids.up_to(top)
    n_seeds = int(min(MAX_SEEDS, affordable // max(grids.cost(isoflop), 1.0)))
    best = trunk_params(_best_rung(top, setting))
    return AutoPlan(sweep.design.model_copy(update={"isoflop": isoflop}), n_seeds, top, best)


def with_seeds(series: ResolvedSeries, n_seeds: int) -> ResolvedSeries:
    """A series with further seeds, the smallest that it does not have, up to a number of them."""
    own = series.train.seeds
    new = itertools.islice((seed for seed in itertools.count() if seed not in own), MAX_SEEDS)
    seeds = (*own, *new)[: max(len(own), n_seeds)]
    train = series.train.model_copy(update={"seeds": seeds})
    return dataclasses.replace(series, train=train)


def prior_tokens(flops: float) -> float:
    """Compute-optimal training tokens at a budget by published laws."""
    return float(PRIOR_TOKENS * (flops / PRIOR_FLOPS) ** PRIOR_EXPONENT)


def _best_rung(flops: float, setting: Setting) -> Rung:
    """The rung that spends a budget on the tokens of the prior."""
    per_token = flops / prior_tokens(flops)

    def distance(rung: Rung) -> float:
        return abs(math.log(setting.flops_per_token(rung).total / per_token))

    return min(ladder(), key=distance)


def _rung_near(size: float) -> Rung:
    """The rung nearest to a size, however far that is."""
    return min(ladder(), key=lambda rung: abs(math.log(trunk_params(rung) / size)))


def _tokens_per_param(budget: float, rung: Rung, setting: Setting) -> float:
    return budget / setting.flops_per_token(rung).total / trunk_params(rung)


@dataclass(frozen=True)
class _Grids:
    """The grids of sizes and budgets that `auto` chooses among."""

    series: Sequence[ResolvedSeries]
    setting: Setting
    are_mended: bool
    """Whether rounds follow, which bracket what the prior missed."""

    def up_to(self, top: float) -> IsoFlopDesign:
        """Budgets up to one, and the sizes about their optima."""
        budgets = tuple(float(f"{top / BUDGET_STEP**k:.2g}") for k in reversed(range(N_BUDGETS)))
        best = [trunk_params(_best_rung(budget, self.setting)) for budget in budgets]
        far = self._far(top)
        arm = ARM if self.are_mended else far
        smallest, largest = best[0] / arm, best[-1] * arm
        n_sizes = max(5, 1 + round(math.log(largest / smallest) / math.log(SIZE_STEP)))
        sizes = dict.fromkeys(map(_rung_near, np.geomspace(smallest, largest, n_sizes).tolist()))
        # Small models at a large budget cost it; large ones pass a small budget on their way.
        passes = all(one.train.schedule in ENDLESS_SCHEDULES for one in self.series)
        ratios = [
            _tokens_per_param(budget, _rung_near(size * factor), self.setting)
            for budget, size in zip(budgets, best, strict=True)
            for factor in (1 / arm, far if passes else arm)
        ]
        window = (float(f"{0.9 * min(ratios):.2g}"), float(f"{1.1 * max(ratios):.2g}"))
        return IsoFlopDesign.model_construct(
            budgets=budgets, sizes=(*sizes,), tokens_per_param=window
        )

    @staticmethod
    def _far(flops: float) -> float:
        """How far sizes may reach to each side: an arm, and how wrong the prior may be."""
        doubt = math.exp(PRIOR_EXPONENT_SPREAD * abs(math.log(flops / PRIOR_FLOPS)))
        return min(ARM * doubt, LARGEST_ARM)

    def largest_budget(self, affordable: float) -> float | None:
        """The largest budget of a grid that costs no more; None where none does."""
        low, high = math.log(MIN_BUDGET), math.log(max(affordable, MIN_BUDGET))
        if self.cost(self.up_to(MIN_BUDGET)) > affordable:
            return None
        while high - low > 0.02:
            middle = (low + high) / 2
            fits = self.cost(self.up_to(math.exp(middle))) <= affordable
            low, high = (middle, high) if fits else (low, middle)
        return float(f"{math.exp(low):.2g}")

    def cost(self, grid: IsoFlopDesign) -> float:
        """Training FLOPs, each run ended at its largest budget in the window."""
        total = 0.0
        for one, rung in itertools.product(self.series, grid.sizes):
            per_token = self.setting.flops_per_token(rung, one.needs.doubled_share).total
            low, high = grid.tokens_per_param
            params = trunk_params(rung)
            spent = [b for b in grid.budgets if low <= b / per_token / params <= high]
            total += max(spent, default=0.0) * len(one.train.seeds)
        return total
