"""What tuned laws leave to lose, in simulated tuning sweeps: `python simulate_tuning.py [N]`.

A replicate is the tuning sweep that `sweeper tune` plans about a bad guess, further runs included,
with planted losses and fresh luck for every run; its law is then used at every size of the sweep.
"""

import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from planted_rates import KEY, LAW, tuning_in, write_sweep

from sweeper.planning.recipe import MIN_BATCH_SEQUENCES
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.tuned_laws import TunedLaw
from sweeper.tuning.further import further_runs
from sweeper.tuning.hexagon import Point, first_round
from sweeper.tuning.tuning_sweep import Tried, Tuning, revision_of
from sweeper.verbs.tuning.laws import fitted_law

GUESSES = (("0.06", "1024"), ("0.12", "256"))
"""Rates and batches of the sweep file; at 10,000 parameters and a million tokens .03 and 512 are
best."""
LUCKS = (0.002, 0.008)  # standard deviation of a run's log loss
TUNE = "sizes: [2.6K, 10K], tokens: [250K, 750K, 2250K]"
TOKENS = 2e6  # middle of the sweep's own runs
SEQ_LEN = 16


def replicate(tuning: Tuning, luck: float, rng: np.random.Generator) -> tuple[TunedLaw, int]:
    """The law of one tuning sweep, and the number of its runs."""
    entries = first_round(tuning.series, tuning.sizes, tuning.setting, tuning.radius)
    runs = revision_of(tuning, entries).planned.trials
    lucks = {one.trial_id: luck * rng.standard_normal() for one in runs}
    fitted = fitted_law("masked", KEY, tried(runs, lucks))
    laws = {"masked": fitted}
    further = further_runs(tuning.series, tuning.sizes, tuning.setting, tuning.radius, laws)
    if further:
        runs = revision_of(tuning, [*entries, *further]).planned.trials
        lucks |= {
            one.trial_id: luck * rng.standard_normal() for one in runs if one.trial_id not in lucks
        }
        fitted = fitted_law("masked", KEY, tried(runs, lucks))
    return fitted.law, len(runs)


def tried(runs: Sequence[PlannedTrial], lucks: dict[str, float]) -> list[Tried]:
    found = []
    for number, one in enumerate(runs):
        rate, batch = one.trial.optimizer.learning_rate, one.trial.tokens_per_step
        for cell in one.cells:
            params = one.params.trunk
            level = 1.0 + 40 / params**0.4 + 60 / cell.tokens**0.35
            excess = LAW.excess(params, cell.tokens, rate, batch)
            bound = level * math.exp(excess + lucks[one.trial_id])
            point, rung = Point(rate, batch), one.trial.rung
            found.append(
                Tried(one.trial_id, number, rung, params, cell.tokens, point, bound, stderr=1e-3)
            )
    return found


def main(n_replicates: int) -> None:
    for rate, batch in GUESSES:
        with tempfile.TemporaryDirectory() as folder:
            write_sweep(Path(folder), rate, batch, TUNE)
            tuning = tuning_in(Path(folder))
        sizes = sorted({one.params.trunk for one in tuning.base.trials})
        before = np.mean([LAW.excess(n, TOKENS, float(rate), int(batch)) for n in sizes])
        for luck in LUCKS:
            left, n_runs = [], []
            for seed in range(n_replicates):
                law, n = replicate(tuning, luck, np.random.default_rng(seed))
                n_runs.append(n)
                for params in sizes:
                    sequences = round(law.best_batch(params, TOKENS) / SEQ_LEN)
                    own_batch = SEQ_LEN * max(MIN_BATCH_SEQUENCES, sequences)
                    own_rate = law.best_rate(params, TOKENS, own_batch)
                    left.append(LAW.excess(params, TOKENS, own_rate, own_batch))
            sys.stdout.write(
                f"rate {rate}, batch {batch}, luck {luck:.1%}: lost {before:.2%} before, "
                f"{np.mean(left):.3%} on average and {np.max(left):.3%} at most after "
                f"{np.mean(n_runs):.1f} runs, {n_replicates} replicates\n"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
