"""What `design: auto` with rounds spends on an asked width, and what a fixed grid does.

Whole sweeps as `sweeper run` makes them, but for the training: losses follow planted laws with the
exponents of the second study, whose optimum lies off the prior of `auto` by a factor, and the luck
of runs. The fixed grid knows where the optimum lies: five sizes about it, three budgets about the
asked one, seed after seed.
"""

import contextlib
import hashlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import planted
import yaml
from bench_lines import Line
from click.testing import CliRunner
from scipy.stats import norm

from analysis.answers.compare import multiplier_between
from analysis.fitting.fit import FitSettings, fit_table
from analysis.tables.load import load
from sweeper.planning.auto_design import prior_tokens
from sweeper.trials.ladder import nearest_rung, trunk_params
from sweeper.trials.trial import Trial
from sweeper.verbs import worker_entry
from sweeper.verbs.driving import rounds
from sweeper.verbs.run import run

AT, WITHIN, TOTAL = 5e11, 1.5, 2e13
ALPHA, BETA = 0.38, 0.37
"""Of size and tokens: about equal, as the second study has them (0.46 of C goes to tokens)."""
LEVEL, REDUCIBLE = (
    2.0,
    0.35,
)  # nats per token at the optimum of AT, as models of so little compute have them
MULTIPLIER = 1.5
SCATTER = {"masked": 0.003, "uniform": 0.012}
"""Relative, of one run at one budget; half of the variance is the run's."""
N_RESAMPLES = 200
N_SEEDS = 4
BATCH_TOKENS = 1024
MISSES = (1 / 3, 1.0, 3.0)
MAX_GRID_SEEDS = 6

SWEEP = f"""\
name: auto
corpus: {{source: "synthetic:iid?tokens=20000000", seq_len: 64}}
series: {{masked: {{family: masked}}, uniform: {{family: uniform, objective: unweighted}}}}
design: {{auto: {{total_flops: {TOTAL:g}}}}}
ask: {{interval: multiplier, baseline: masked, against: uniform, at: {AT:g}, within: {WITHIN}}}
train: {{batch_tokens: {BATCH_TOKENS}, learning_rate: 1e-2}}
evaluation: {{sequences: 64}}
"""


@dataclass(frozen=True)
class Law:
    """L(N, D) whose optimal tokens at `AT` are those of the prior times a factor."""

    miss: float
    luck: int

    @property
    def best_tokens(self) -> float:
        """At `AT`."""
        return prior_tokens(AT) * self.miss

    @property
    def best_params(self) -> float:
        """At `AT`, about: 6 FLOPs per parameter and token."""
        return AT / 6 / self.best_tokens

    def bound(self, trial: Trial, params: int, step: int) -> float:
        """What a trial shows, as `planted_bound` does."""
        handicap = math.sqrt(MULTIPLIER) if trial.family == "uniform" else 1.0
        share = BETA / (ALPHA + BETA)
        size = share * REDUCIBLE * (self.best_params * handicap / params) ** ALPHA
        tokens = self.best_tokens * handicap / (step * trial.tokens_per_step)
        data = (1 - share) * REDUCIBLE * tokens**BETA
        run = self._normal(trial.trajectory_id)
        point = self._normal(f"{trial.trajectory_id} {step}")
        noise = SCATTER[trial.family] * math.sqrt(0.5) * (run + point)
        return float((LEVEL + size + data) * math.exp(noise))

    def _normal(self, name: str) -> float:
        digest = hashlib.sha256(f"{self.luck} {name}".encode()).digest()
        return float(norm.ppf((int.from_bytes(digest[:7]) + 0.5) / 2**56))


@dataclass(frozen=True)
class Spent:
    """By a whole sweep."""

    flops: float
    steps: int
    ratio: float
    """Upper over lower end."""
    holds: bool


def auto_sweep(law: Law) -> Spent:
    """`design: auto` with rounds."""
    with _planted(law), tempfile.TemporaryDirectory() as folder:
        return _ended(Path(folder), yaml.safe_load(SWEEP))


def grid_sweep(law: Law) -> Spent:
    """Seeds of a grid about the optimum, until the interval is as narrow."""
    best = law.best_params
    sizes = [trunk_params(nearest_rung(best * f)) for f in (0.25, 0.5, 1.0, 2.0, 4.0)]
    sweep = yaml.safe_load(SWEEP)
    del sweep["ask"]
    budgets = [AT / 1.5, AT, 1.5 * AT]
    sweep["design"] = {"isoflop": {"budgets": budgets, "sizes": list(dict.fromkeys(sizes))}}
    with _planted(law), tempfile.TemporaryDirectory() as folder:
        for n_seeds in range(1, MAX_GRID_SEEDS + 1):
            sweep["train"]["seeds"] = list(range(n_seeds))
            spent = _ended(Path(folder), sweep)
            if spent.ratio <= WITHIN:
                break
    return spent


@contextlib.contextmanager
def _planted(law: Law) -> Iterator[None]:
    with (
        patch.object(planted, "planted_bound", law.bound),
        patch.object(worker_entry, "run_trial", planted.run_planted),
        patch.object(rounds, "N_BOOTSTRAP", N_RESAMPLES),
    ):
        yield


def _ended(folder: Path, sweep: dict[str, object]) -> Spent:
    """A sweep that has run to its end."""
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep))
    arguments = [str(file), "--results", str(folder / "results"), "--executor", "inline"]
    ended = CliRunner().invoke(run, arguments, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    results = folder / "results" / "auto"
    runs = load(results).frame.groupby("run_id")  # one that was lengthened counts once
    fits = fit_table(load(results), FitSettings(n_bootstrap=N_RESAMPLES))
    point = multiplier_between(fits, "masked", "uniform", AT)
    ci = None if point is None else point.ci
    low, high = (0.0, math.inf) if ci is None else ci
    return Spent(
        flops=float(runs["flops"].max().sum()),
        steps=round(runs["tokens"].max().sum() / BATCH_TOKENS),
        ratio=high / low if low > 0 else math.inf,
        holds=low <= MULTIPLIER <= high,
    )


def auto_lines(n_seeds: int = N_SEEDS) -> Iterator[Line]:
    """FLOPs of auto over those of the grid, medians, for each miss of the prior."""
    for miss in MISSES:
        laws = [Law(miss, luck) for luck in range(n_seeds)]
        ours, theirs = [auto_sweep(law) for law in laws], [grid_sweep(law) for law in laws]
        flops, whole = (median(each.flops for each in way) for way in (ours, theirs))
        steps = [sum(each.steps for each in way) / n_seeds for way in (ours, theirs)]
        wide = [median(each.ratio for each in way) for way in (ours, theirs)]
        held = [sum(each.holds for each in way) for way in (ours, theirs)]
        remark = (
            f"{flops:.2g} and {whole:.2g} FLOPs, {steps[0]:.0f} and {steps[1]:.0f} steps; they end "
            f"a factor {wide[0]:.3g} and {wide[1]:.3g} wide of {WITHIN} asked; the interval holds "
            f"the truth in {held[0]} and {held[1]} of {n_seeds}"
        )
        what = f"design: auto, optimum off by {miss:.2g}: FLOPs over those of a fixed grid"
        yield Line(what, flops / whole, 1.0, "", remark)
