"""What a plan is expected to answer before it has run."""

import math
from pathlib import Path

import pytest

from sweeper.planning.planner import plan_sweep
from sweeper.sweepfile.schema import load_sweep
from sweeper.verbs.driving.expected import MAX_RUNS, expected

SWEEP = """\
name: asked
corpus: {source: "synthetic:iid?tokens=40000", seq_len: 16}
series: {ar: {family: ar}, masked: {family: masked}}
design: {isoflop: {budgets: [1e10, 2e10, 4e10], sizes: [2.6K, 5K, 10K, 19K, 39K, 80K]}}
ask: {interval: multiplier, baseline: ar, against: masked, at: 2e10}
train: {batch_tokens: 256}
evaluation: {sequences: 64}
"""


def width(folder: Path, *overrides: str, text: str = SWEEP) -> float | None:
    file = folder / "sweep.yaml"
    file.write_text(text)
    loaded = load_sweep(file, overrides)
    found = expected(loaded.sweep, plan_sweep(loaded, bfloat16_from_width=math.inf))
    return None if found is None else found.ratio


def test_seeds_narrow_what_is_expected(tmp_path: Path) -> None:
    one = width(tmp_path)
    four = width(tmp_path, "train.seeds=[0,1,2,3]")
    assert one is not None
    assert four is not None
    # Half of the scatter, within the luck of a few draws.
    assert math.log(four) < 0.75 * math.log(one)


def test_of_a_large_plan_the_first_seeds_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    n_sizes, n_series = 6, 2
    n_seeds = MAX_RUNS // (n_sizes * n_series)
    large = load_sweep(file, [f"train.seeds={list(range(3 * n_seeds))}"])
    found = expected(large.sweep, plan_sweep(large, bfloat16_from_width=math.inf))
    assert found is not None
    assert found.n_counted == MAX_RUNS
    assert found.ratio == width(tmp_path, f"train.seeds={list(range(n_seeds))}")


def test_runs_that_differ_in_length_are_no_seeds_of_each_other(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    budgets = [f"{n}e10" for n in (1, 2, 3, 4, 5, 6, 7)]
    many = load_sweep(file, ["train.schedule=cosine", f"design.isoflop.budgets={budgets}"])
    plan = plan_sweep(many, bfloat16_from_width=math.inf)
    assert len(plan.trials) > MAX_RUNS
    found = expected(many.sweep, plan)
    assert found is not None
    assert found.n_counted == len(plan.trials)


@pytest.mark.parametrize("interval", ["params", "tokens", "loss"])
def test_any_interval_of_one_series_may_be_asked(tmp_path: Path, interval: str) -> None:
    old = "ask: {interval: multiplier, baseline: ar, against: masked, at: 2e10}"
    ask = f"ask: {{interval: {interval}, series: masked}}"
    found = width(tmp_path, text=SWEEP.replace(old, ask))
    assert found is not None
    assert found > 1.0


def test_nothing_is_expected_of_too_little_or_without_a_question(tmp_path: Path) -> None:
    assert width(tmp_path, "design.isoflop.sizes=[5K,10K]") is None
    assert (
        width(
            tmp_path,
            text="".join(SWEEP.splitlines(keepends=True)[:4])
            + "train: {batch_tokens: 256}\nevaluation: {sequences: 64}\n",
        )
        is None
    )
