"""Training planted with a law of the best rate and batch, and a driver that tunes by it.

`python planted_rates.py FOLDER [N]` tunes the sweep there, killing itself in the N-th trial.
"""

import dataclasses
import hashlib
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import planted

from sweeper.executors.inline import InlineExecutor
from sweeper.executors.stop import StopSignal
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.lease import held
from sweeper.planning.planner import PlannedSweep, plan_revision, plan_sweep
from sweeper.store.assignment import Assignment, Outcome, RunTrial, StopRequested
from sweeper.store.layout import store_at
from sweeper.store.results import publish
from sweeper.store.submission import submit
from sweeper.sweepfile.document import read_document
from sweeper.sweepfile.named_laws import without_laws
from sweeper.sweepfile.schema import LoadedSweep, validated
from sweeper.trials.tuned_laws import Curvature, LawKey, SizeTokensLaw, TunedLaw
from sweeper.tuning.further import Cell, FittedLaw
from sweeper.tuning.tuning_sweep import FitLaw, Tried, Tuning, open_revision, tuning_of

KEY = LawKey(
    "masked", (("objective", "nelbo"),), "gidd", "adamw", "constant", (0.9, 0.99), 0.0, 0.0
)
# Best at 10,000 parameters and a million tokens: rate 0.03, batch 512 tokens.
LAW = TunedLaw(
    key=KEY,
    learning_rate=SizeTokensLaw(
        math.log(0.03) + 0.3 * math.log(1e4) - 0.1 * math.log(1e6), -0.3, 0.1
    ),
    batch_tokens=SizeTokensLaw(math.log(512) - 0.5 * math.log(1e6), 0.0, 0.5),
    curvature=Curvature(rate=0.02, batch=0.015, cross=-0.004),
    params_range=(1e3, 1e5),
    tokens_range=(1e5, 1e7),
)
LUCK = 0.0005  # standard deviation of a run's log loss

SWEEP = """\
name: tiny
corpus: {{source: "synthetic:iid?vocab=16&tokens=40000", seq_len: 16}}
series:
  masked: {{family: masked}}
design: {{grid: {{sizes: [2.6K, 10K, 40K], tokens: [1M, 4M]}}}}
train: {{learning_rate: {rate}, batch_tokens: {batch}}}
evaluation: {{sequences: 64}}
tune: {{{tune}}}
"""


def write_sweep(folder: Path, rate: str = "auto", batch: str = "auto", tune: str = "") -> Path:
    path = folder / "tiny.yaml"
    path.write_text(SWEEP.format(rate=rate, batch=batch, tune=tune))
    return path


def run_by_law(assignment: Assignment, *, stop: StopRequested) -> Outcome:
    """Take no time; the bound follows LAW, and a little luck of the trial's own."""
    trial, params = assignment.trial, assignment.planned.params.trunk
    result = planted.planted_result(assignment)
    digest = hashlib.sha256(trial.trial_id.encode()).digest()
    luck = LUCK * (sum(digest[:12]) / 12 - 127.5) / (73.9 / math.sqrt(12))
    rows = []
    for row in result.observations:
        rate, batch = trial.optimizer.learning_rate, trial.tokens_per_step
        excess = LAW.excess(params, row.tokens, rate, batch)
        level = 1.0 + 40 / params**0.4 + 60 / row.tokens**0.35
        bound = level * math.exp(excess + luck)
        rows.append(dataclasses.replace(row, bound_nats_per_token=bound))
    publish(assignment, dataclasses.replace(result, observations=tuple(rows)))
    return "published"


def know_the_law(label: str, key: LawKey, tried: Sequence[Tried]) -> FittedLaw:
    """A fit that knows what is planted; a cell is bracketed where points lie on all four sides."""
    places: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for each in tried:
        # Whole steps move tokens a little.
        places.setdefault((each.params, round(5 * math.log(each.tokens))), []).append(
            (
                math.log(each.point.learning_rate)
                - LAW.learning_rate.log(each.params, each.tokens),
                math.log(each.point.batch_tokens) - LAW.batch_tokens.log(each.params, each.tokens),
            )
        )
    cells = [
        Cell(
            params,
            math.exp(log_tokens / 5),
            all(min(s) < 0 < max(s) for s in zip(*of, strict=True)),
        )
        for (params, log_tokens), of in places.items()
    ]
    return FittedLaw(dataclasses.replace(LAW, key=key), tuple(cells))


def tuning_in(folder: Path, fit: FitLaw = know_the_law) -> Tuning:
    document = without_laws(read_document(folder / "tiny.yaml"))
    loaded = validated(document)
    base = plan_sweep(loaded, bfloat16_from_width=math.inf)

    def plan(revision: LoadedSweep) -> PlannedSweep:
        return plan_revision(revision, base.corpus, bfloat16_from_width=math.inf)

    return tuning_of(loaded, base, store_at(folder, "tiny-tune"), plan, fit)


def tune(tuning: Tuning, run_trial: RunTrial = run_by_law) -> int:
    """Train all rounds; how many."""
    n_rounds = 0
    while (revision := open_revision(tuning)) is not None:
        plan, stop = revision.planned.plan, StopSignal()
        with held(tuning.store):
            submit(tuning.store, plan, revision.loaded.document.as_submitted())
            run = SweepRun(
                store=tuning.store,
                plan=plan,
                executor=InlineExecutor(run_trial, stop.is_requested),
                stop=stop,
                on_event=lambda _event: None,
            )
            assert run_sweep(run).n_left == 0
        n_rounds += 1
    return n_rounds


def main(folder: str, n_trials: str = "0") -> None:
    left = int(n_trials)

    def run_or_die(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_by_law(assignment, stop=stop)

    tune(tuning_in(Path(folder)), run_or_die)


if __name__ == "__main__":
    main(*sys.argv[1:])
