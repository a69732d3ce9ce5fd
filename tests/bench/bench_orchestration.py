"""What orchestration costs, beside Ray Tune in the same run: `make bench-orchestration`.

Trials are no-ops: `planted.run_planted` publishes a whole result (4 observations, 40 loss rows)
that it did not train for. Parts run one after another in processes of their own.

Of 200 no-op trials the time is that of the driver with its results on disk: Ray is up before and
goes down after, for both sides alike, and both have a slot per core. Tune gets its best setting
(actors used again, no loggers) and its default (a process per trial, its own files).

A transition is a trial that starts or ends. The driver's time is all that passes outside its
executor, flushes to the disk and refreshes of the tables included, over twice the trials.
"""

import argparse
import importlib.metadata
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import planted
from bench_lines import Line, median_seconds, say, say_machine

from sweeper.data.corpus import Corpus
from sweeper.executors.base import Finished
from sweeper.executors.inline import InlineExecutor
from sweeper.executors.machine import available_cores
from sweeper.executors.ray_executor import RayExecutor
from sweeper.orchestration.events import Event, TrialStarted
from sweeper.store.layout import Store, store_at
from sweeper.store.submission import read_plan, submit
from sweeper.store.tables import refresh_tables
from sweeper.sweepfile.schema import Sweep
from sweeper.trials.plan import Plan

N_NOOP = 200
N_MANY = 10_000
N_FEW = 1000
N_FRESH_TUNE = 30
"""Trials of Tune with a process each, scaled up: all 200 take over three minutes."""

SWEEP = """
name: {name}
corpus: {{source: "synthetic:markov?vocab=256&order=1&tokens=100000", seq_len: 64}}
series:
  ar:        {{family: ar}}
  masked:    {{family: masked}}
  masked-ce: {{family: masked, objective: cross_entropy}}
  uniform:   {{family: uniform}}
design:
  grid: {{sizes: [1.7K, 2.6K, 6.5K, 19K, 39K], tokens: [25600, 51200, 76800, 102400]}}
train: {{batch_tokens: 512, warmup: 10, precision: float32, seeds: {seeds}}}
evaluation: {{sequences: 64}}
"""
N_PER_SEED = 20
"""Trials of SWEEP for each seed: of 200 steps, observed at 4 of them."""


class TimedInline(InlineExecutor):
    """Runs planted trials, and knows how long that took."""

    def __init__(self) -> None:
        super().__init__(planted.run_planted, lambda: False)
        self.busy_s = self.busy_cpu_s = 0.0

    def poll(self, timeout_s: float) -> list[Finished]:
        started, started_cpu = time.perf_counter(), time.process_time()
        try:
            return super().poll(timeout_s)
        finally:
            self.busy_s += time.perf_counter() - started
            self.busy_cpu_s += time.process_time() - started_cpu


class TimedRay(RayExecutor):
    """Knows how long Ray took to come up and to go down."""

    away_s = 0.0

    def __enter__(self) -> Self:
        started = time.perf_counter()
        super().__enter__()
        self.away_s += time.perf_counter() - started
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        started = time.perf_counter()
        super().__exit__(error_type, error, trace)
        self.away_s += time.perf_counter() - started


def drive(store: Store, plan: Plan, executor: Any, on_event: Callable[[Event], None]) -> None:
    """One run of the driver."""
    from sweeper.executors.stop import StopSignal
    from sweeper.orchestration.driver import SweepRun, run_sweep
    from sweeper.orchestration.lease import held

    with held(store) as lease:
        outcome = run_sweep(
            SweepRun(
                store=store,
                plan=plan,
                executor=executor,
                stop=StopSignal(),
                on_event=on_event,
                stop_request=lease.stop_request,
            )
        )
    assert outcome.n_left == outcome.n_failed == 0


def results(folder: Path, name: object) -> Path:
    """A results folder: sweeps of one and the same would take over each other's results."""
    path = folder / str(name)
    path.mkdir(exist_ok=True)
    return path


def sweep_file(folder: Path, n_trials: int) -> Path:
    """A sweep file of so many trials."""
    path = results(folder, n_trials) / "many.yaml"
    seeds = list(range(n_trials // N_PER_SEED))
    path.write_text(SWEEP.format(name=path.stem, seeds=seeds), encoding="utf-8")
    return path


def planned(folder: Path, n_trials: int) -> Plan:
    """Its plan as a store keeps it, every identity computed."""
    from sweeper.data.corpus import load_corpus
    from sweeper.sweepfile.schema import load_sweep

    sweep = load_sweep(sweep_file(folder, n_trials), ()).sweep
    return _plan(sweep, load_corpus(sweep.corpus.source, None, sweep.corpus.reading))


def _plan(sweep: Sweep, corpus: Corpus) -> Plan:
    from sweeper.planning.planner import make_plan

    return make_plan(sweep, corpus, bfloat16_from_width=math.inf).plan


def command_seconds(*words: object) -> float:
    """Median time of the whole command, its start included."""
    program = Path(sys.executable).parent / "sweeper"
    return median_seconds(
        lambda: subprocess.run([program, *map(str, words)], check=True, capture_output=True), 3
    )


def planning(folder: Path) -> list[Line]:
    """From the sweep file and a corpus at hand to the plan that a store keeps."""
    from sweeper.data.corpus import load_corpus
    from sweeper.sweepfile.schema import load_sweep

    path = sweep_file(folder, N_MANY)
    choice = load_sweep(path, ()).sweep.corpus
    corpus = load_corpus(choice.source, None, choice.reading)
    seconds = median_seconds(lambda: _plan(load_sweep(path, ()).sweep, corpus), 3)
    whole = command_seconds("plan", path)
    return [
        Line(f"planning {N_MANY:,} trials, identities included", seconds, 2.0),
        Line("sweeper plan of these, with start-up, corpus, cost and table", whole, 3.0),
    ]


def driving(folder: Path) -> list[Line]:
    """A whole sweep of no-ops through the real driver; leaves its store for other parts."""
    lines = []
    for n_trials in (N_FEW, N_MANY):
        plan = planned(folder, n_trials)
        store = store_at(results(folder, n_trials), plan.name)
        submit(store, plan, sweep_file(folder, n_trials).read_text(encoding="utf-8"))
        executor = TimedInline()
        started, started_cpu = time.perf_counter(), time.process_time()
        drive(store, plan, executor, lambda _: None)
        driver_s = time.perf_counter() - started - executor.busy_s
        driver_cpu_s = time.process_time() - started_cpu - executor.busy_cpu_s
        what = f"driver's time per transition, sweep of {n_trials:,} trials"
        lines += [
            Line(what, 1e3 * driver_s / (2 * n_trials), 2.0, "ms"),
            Line(f"{what}: CPU", 1e3 * driver_cpu_s / (2 * n_trials), 2.0, "ms"),
        ]
    return lines


def resuming(folder: Path) -> list[Line]:
    """A finished sweep of many trials, and the same with one record deleted."""
    path = sweep_file(folder, N_MANY)
    words = ("run", path, "--results", path.parent, "--executor", "inline")
    whole = command_seconds(*words)
    store = Store(path.with_suffix(""))
    (store.folder / "records.json").unlink()
    started = time.perf_counter()
    program = Path(sys.executable).parent / "sweeper"
    subprocess.run([program, *map(str, words)], check=True, capture_output=True)
    without_index = time.perf_counter() - started
    return [
        Line(f"sweeper run of {N_MANY:,} published trials, start-up included", whole, 5.0),
        Line("the same without index, hence tables built anew", without_index, None),
        Line(f"{N_MANY:,} published, one deleted: until it starts", _until_start(store), 5.0),
        Line(f"refreshing tables of {N_MANY:,} trials, 100 of them new", _refresh(store), None),
    ]


def _until_start(store: Store) -> float:
    """From reading the plan until the one trial whose record was deleted starts."""
    times = []
    for _ in range(3):
        store.record(read_plan(store).trials[0].trial_id).unlink()
        started_at: list[float] = []

        def note(event: Event, started_at: list[float] = started_at) -> None:
            if isinstance(event, TrialStarted):
                started_at.append(time.perf_counter())

        began = time.perf_counter()
        drive(store, read_plan(store), TimedInline(), note)
        times.append(started_at[0] - began)
    return statistics.median(times)


def _refresh(store: Store) -> float:
    """With 100 records that the last refresh has not seen."""
    plan = read_plan(store)
    records = [store.record(each.trial_id) for each in plan.trials[:100]]
    contents = [path.read_bytes() for path in records]
    times = []
    for _ in range(3):
        for path in records:
            path.unlink()
        refresh_tables(store, plan)
        for path, data in zip(records, contents, strict=True):
            path.write_bytes(data)
        started = time.perf_counter()
        refresh_tables(store, plan)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def watching(folder: Path) -> list[Line]:
    """Commands that look at finished sweeps."""
    few, many = (sweep_file(folder, n).with_suffix("") for n in (N_FEW, N_MANY))
    return [
        Line(f"sweeper status, {N_FEW:,} trials", command_seconds("status", few), 0.5),
        Line(f"sweeper status, {N_MANY:,} trials", command_seconds("status", many), None),
        Line(f"sweeper verify, {N_FEW:,} trials", command_seconds("verify", few), None),
    ]


def _noop_seconds(folder: Path, n_trials: int, *, reuse_workers: bool) -> float:
    """No-op trials through the real driver and Ray, while Ray is up."""
    plan = Plan(
        f"noop-{n_trials}",
        tuple(planted.planned_trial(seed=seed, steps=(50, 100)) for seed in range(n_trials)),
    )
    store = store_at(results(folder, "pooled" if reuse_workers else "fresh"), plan.name)
    submit(store, plan, f"name: {plan.name}\n")
    executor = TimedRay(planted.run_planted, reuse_workers=reuse_workers)
    started = time.perf_counter()
    drive(store, plan, executor, lambda _: None)
    return time.perf_counter() - started - executor.away_s


def pooled(folder: Path) -> list[Line]:
    """Workers used again, as they are on the CPU."""
    seconds = _noop_seconds(folder, N_NOOP, reuse_workers=True)
    return [Line(f"{N_NOOP} no-op trials, pooled workers, results on disk", seconds, 3.0)]


def fresh(folder: Path) -> list[Line]:
    """A process per trial, as after a GPU was used."""
    seconds = _noop_seconds(folder, N_NOOP, reuse_workers=False)
    return [Line(f"{N_NOOP} no-op trials, a fresh process each, results on disk", seconds, 85.0)]


def tune_pooled(folder: Path) -> list[Line]:
    """Ray Tune at its best."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    seconds = _tune_seconds(folder / "tune-pooled", N_NOOP, reuse_actors=True)
    what = f"Ray Tune: {N_NOOP} no-op trials, actors used again, no loggers"
    return [Line(what, seconds, None, remark="keeps no results")]


def tune_fresh(folder: Path) -> list[Line]:
    """Ray Tune as it comes."""
    n_trials = int(os.environ.get("BENCH_TUNE_FRESH", N_FRESH_TUNE))
    seconds = _tune_seconds(folder / "tune-fresh", n_trials, reuse_actors=False)
    remark = "" if n_trials == N_NOOP else f"{seconds:.1f} s for {n_trials}, scaled"
    what = f"Ray Tune: {N_NOOP} no-op trials, a fresh process each, its defaults"
    return [Line(what, seconds * N_NOOP / n_trials, None, remark=remark)]


def _tune_seconds(folder: Path, n_trials: int, *, reuse_actors: bool) -> float:
    import ray
    from ray import tune

    logging.disable(logging.WARNING)  # without loggers it warns of every trial that wrote nothing

    def no_op(config: dict[str, Any]) -> None:
        tune.report({"loss": float(config["seed"])})

    ray.init(num_cpus=available_cores(), include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        no_op,
        param_space={"seed": tune.grid_search(list(range(n_trials)))},
        tune_config=tune.TuneConfig(reuse_actors=reuse_actors),
        run_config=tune.RunConfig(storage_path=str(folder), name="noop", verbose=0),
    )
    started = time.perf_counter()
    results = tuner.fit()
    seconds = time.perf_counter() - started
    assert len(results) == n_trials
    ray.shutdown()
    return seconds


PARTS: dict[str, Callable[[Path], list[Line]]] = {
    part.__name__: part
    for part in (planning, driving, resuming, watching, pooled, tune_pooled, fresh, tune_fresh)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--part", choices=PARTS, help="one part, in this process")
    parser.add_argument("--folder", type=Path, help="where its files go, and stay")
    parser.add_argument(
        "--tune-fresh", type=int, default=N_FRESH_TUNE, help="trials of Tune with a process each"
    )
    chosen = parser.parse_args()
    os.environ["BENCH_TUNE_FRESH"] = str(chosen.tune_fresh)
    if chosen.part is not None:
        lines = PARTS[chosen.part](chosen.folder.resolve())
        say("\n".join(map(str, lines)))
        sys.exit(any(line.is_missed for line in lines))
    names = ("ray", "torch", "pyarrow")
    say_machine(*(f"{name} {importlib.metadata.version(name)}" for name in names))
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--folder", folder, "--tune-fresh"]
        words.append(str(chosen.tune_fresh))
        codes = [subprocess.run([*words, "--part", name]).returncode for name in PARTS]
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
