"""Sweeps that go on by themselves, on planted losses: what they add, where they stop, and that a
driver that is killed again and again ends with the same plan and the same results.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import planted
import pytest
import yaml
from click.testing import CliRunner, Result

from sweeper.store.assignment import Assignment, Outcome, StopRequested
from sweeper.trials.trial import Trial
from sweeper.verbs import worker_entry
from sweeper.verbs.driving import rounds
from sweeper.verbs.run import run

SWEEP = """\
name: rounds
corpus: {source: "synthetic:iid?tokens=40000", seq_len: 16}
series:
  masked: {family: masked}
  uniform: {family: uniform}
design:
  isoflop: {budgets: [1e10, 2e10, 4e10, 8e10], sizes: [1.7K, 2.6K, 5K], on_unbracketed: extend}
train: {batch_tokens: 256}
evaluation: {sequences: 64}
limits: {flops: 6e13}
"""
pytestmark = pytest.mark.slow  # each fits some ten times

ASK = "ask: {interval: multiplier, baseline: masked, against: uniform, at: 4e10, within: 1.3}\n"
ASKING = SWEEP.replace("train:", f"{ASK}train:")
SCATTER = 0.004


def unit_normal(text: str) -> float:
    """About standard normal, and a function of the text alone."""
    digest = hashlib.sha256(text.encode()).digest()
    return (sum(digest[:12]) - 12 * 127.5) / (12**0.5 * 73.9)


def scattered_bound(trial: Trial, params: int, step: int) -> float:
    """A planted law whose optimum at 4e10 FLOPs has some 20K parameters, and the luck of a run."""
    tokens = step * trial.tokens_per_step
    offset = 0.02 if trial.family == "uniform" else 0.0
    bound = 1.0 + offset + 60 / params**0.45 + 40 / tokens**0.3
    return float(bound * (1 + SCATTER * unit_normal(trial.trajectory_id)))


class Killed(BaseException):
    """What a killed driver leaves to its callers: nothing."""


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Path]:
    with planted_training():
        yield tmp_path / "results"


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The results of the sweep that asks, and how it ended."""
    results = tmp_path_factory.mktemp("answered") / "results"
    with planted_training():
        return results, sweep(results, ASKING)


@contextlib.contextmanager
def planted_training() -> Iterator[None]:
    """Trials follow the planted law, and fits take few resamples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted, "planted_bound", scattered_bound)
        patch.setattr(worker_entry, "run_trial", planted.run_planted)
        patch.setattr(rounds, "N_BOOTSTRAP", 100)
        yield


def sweep(results: Path, text: str, *options: str) -> Result:
    results.parent.mkdir(exist_ok=True)
    file = results.parent / "sweep.yaml"
    file.write_text(text)
    arguments = [str(file), "--results", str(results), "--executor", "inline", *options]
    return CliRunner().invoke(run, arguments)


def plan_of(results: Path) -> list[dict[str, object]]:
    trials = json.loads((results / "rounds" / "plan.json").read_text())["trials"]
    return list(trials)


def observations_of(results: Path) -> list[tuple[object, ...]]:
    import pyarrow.parquet as pq

    table = pq.read_table(results / "rounds" / "observations")
    names = ("trial_id", "series", "step", "budget_flops", "bound_nats_per_token")
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def fitted(results: Path) -> dict[str, bool]:
    """Whether all budgets of each series are bracketed."""
    from analysis.fitting.fit import FitSettings, fit_table
    from analysis.tables.load import load

    found = fit_table(load(results / "rounds"), FitSettings(n_bootstrap=100))
    return {
        label: fit.isoflop is not None and all(o.bracketed for o in fit.isoflop.optima)
        for label, fit in found.families.items()
    }


def test_a_sweep_of_badly_chosen_sizes_brackets_itself(results: Path) -> None:
    ended = sweep(results, SWEEP)
    assert ended.exit_code == 0, ended.output
    assert "round 1" in ended.output
    assert fitted(results) == {"masked": True, "uniform": True}
    last = yaml.safe_load((results / "rounds" / "sweep.yaml").read_text())
    assert {"series", "size", "budgets", "seeds", "round", "why"} <= set(last["design"]["added"][0])


def test_it_stays_within_its_limit(results: Path) -> None:
    first = sweep(results, SWEEP, "--set", "design.isoflop.on_unbracketed=warn")
    assert first.exit_code == 0, first.output
    cost = sum(each["cells"][-1]["flops"] for each in plan_of(results))  # type: ignore[index]
    ended = sweep(results, SWEEP, "--set", f"limits.flops={1.1 * cost}")
    assert "no further round" in ended.output
    total = sum(each["cells"][-1]["flops"] for each in plan_of(results))  # type: ignore[index]
    assert cost < total <= 1.1 * cost


def test_a_question_is_answered_as_narrowly_as_asked(answered: tuple[Path, Result]) -> None:
    results, ended = answered
    assert ended.exit_code == 0, ended.output
    assert "no further round, the question is answered; the interval of multiplier" in ended.output
    from analysis.answers.compare import multiplier_between
    from analysis.fitting.fit import fit_table
    from analysis.tables.load import load

    point = multiplier_between(fit_table(load(results / "rounds")), "masked", "uniform", 4e10)
    assert point is not None
    assert point.ci is not None
    assert point.ci[1] / point.ci[0] < 1.4
    revisions = sorted((results / "rounds" / "revisions").glob("*.yaml"))
    assert len(revisions) > 1
    assert "# round 1: " in revisions[1].read_text()


def dies_after(n_trials: int) -> Callable[..., Outcome]:
    """Trains so many trials, and is killed in the next one."""
    left = n_trials

    def run_trial(assignment: Assignment, *, stop: StopRequested) -> Outcome:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return planted.run_planted(assignment, stop=stop)

    return run_trial


def test_killed_in_every_round_it_ends_with_the_same_plan_and_results(
    answered: tuple[Path, Result], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = answered
    n_killed = 0
    while True:
        monkeypatch.setattr(worker_entry, "run_trial", dies_after(3))
        try:
            ended = sweep(results, ASKING)
        except Killed:
            n_killed += 1
            continue
        break
    assert ended.exit_code == 0, ended.output
    assert n_killed > 3
    assert plan_of(results) == plan_of(whole)
    assert observations_of(results) == observations_of(whole)


def test_open_budgets_are_proposed_where_that_is_asked(results: Path) -> None:
    ended = sweep(results, SWEEP, "--set", "design.isoflop.on_unbracketed=propose")
    assert ended.exit_code == 0, ended.output
    assert "not bracketed" in ended.output
    assert "round" not in ended.output.replace("rounds", "")
