"""Tuning sweeps: which runs, in which rounds, what a kill loses, and what is found in the end."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import planted_rates
import pytest
from planted_rates import LAW, tuning_in, write_sweep

from sweeper.errors import ConfigError
from sweeper.planning.runs import MIN_STEPS
from sweeper.trials.ladder import trunk_params
from sweeper.tuning.gains import checked_rates, gains
from sweeper.tuning.hexagon import COST_SHARE, MIN_SEQUENCES, SIZE_STEP
from sweeper.tuning.tuning_sweep import Revision, Tuning, all_tried, open_revision, rounds


def first_of(folder: Path, **sweep: str) -> tuple[Tuning, Revision]:
    write_sweep(folder, **sweep)
    tuning = tuning_in(folder)
    revision = open_revision(tuning)
    assert revision is not None
    return tuning, revision


def test_the_first_round_is_a_centre_and_a_hexagon_about_it_at_each_size(tmp_path: Path) -> None:
    tuning, revision = first_of(tmp_path, rate="0.05", batch="512")
    trials = [planned.trial for planned in revision.planned.trials]
    assert len(trials) == 7 * len(tuning.sizes)
    for size in tuning.sizes:
        own = [trial for trial in trials if trial.rung == size.rung]
        logs = [
            (
                math.log(trial.optimizer.learning_rate / 0.05),
                math.log(trial.tokens_per_step / 512),
            )
            for trial in own
        ]
        assert logs[0] == (0, 0)
        for x, y in logs[1:]:  # on a circle of radius 4×, to whole sequences
            assert math.hypot(x, y) == pytest.approx(math.log(4), rel=0.05)
        rates = sorted(x for x, _ in logs)
        assert rates[0] == pytest.approx(-math.log(4), rel=0.01)
        assert rates[-1] == pytest.approx(math.log(4), rel=0.01)
        assert len({y for _, y in logs}) == 3
        assert {trial.seed for trial in own} == {100}
        assert all(trial.observe_at_steps[0] >= MIN_STEPS for trial in own)


def test_cells_of_a_size_have_the_same_tokens_whatever_the_batch(tmp_path: Path) -> None:
    _, revision = first_of(tmp_path)
    by_rung = itertools.groupby(revision.planned.trials, lambda planned: planned.trial.rung)
    for _, own in by_rung:
        rows = [[cell.tokens for cell in planned.cells] for planned in own]
        for column in zip(*rows, strict=True):
            assert max(column) / min(column) < 1.02


def test_sizes_are_apart_and_cost_a_small_share_of_the_sweep_where_that_is_possible(
    tmp_path: Path,
) -> None:
    path = write_sweep(tmp_path)
    text = path.read_text()
    shares = {}
    for sizes in ("2.6K, 10K", "2.6K, 10K, 40K, 400K"):
        path.write_text(text.replace("2.6K, 10K, 40K", sizes))
        tuning = tuning_in(tmp_path)
        small, large = (trunk_params(size.rung) for size in tuning.sizes)
        assert large >= 0.85 * SIZE_STEP * small
        cost = next(rounds(tuning)).planned.totals.train_flops
        shares[sizes] = cost / tuning.base.totals.train_flops
    few, many = shares.values()
    assert few > 1  # the cheapest, as none costs so little
    assert 0.5 * COST_SHARE < many <= 1.01 * COST_SHARE


def test_the_sweep_file_may_name_sizes_tokens_seed_and_radius(tmp_path: Path) -> None:
    tune = "sizes: [5K], tokens: [300K, 100K], seed: 7, radius: 2"
    tuning, revision = first_of(tmp_path, tune=tune)
    assert [size.tokens for size in tuning.sizes] == [(100_000, 300_000)]
    trials = [planned.trial for planned in revision.planned.trials]
    assert len(trials) == 7
    assert {trial.seed for trial in trials} == {7}
    rates = [trial.optimizer.learning_rate for trial in trials]
    assert max(rates) / rates[0] == pytest.approx(2, rel=0.01)


def test_the_smallest_batch_tried_is_below_the_smallest_planned_and_none_coincide(
    tmp_path: Path,
) -> None:
    _, revision = first_of(tmp_path, batch="16")
    batches = [planned.trial.optimizer.batch_sequences for planned in revision.planned.trials]
    assert min(batches) == MIN_SEQUENCES
    assert len(set(batches)) == 3


def test_points_that_coincide_in_whole_sequences_are_tried_once(tmp_path: Path) -> None:
    tune = "sizes: [5K], tokens: [300K, 100K], radius: 1.05"
    _, revision = first_of(tmp_path, rate="0.1", batch="128", tune=tune)
    assert len(revision.planned.trials) == 5  # the six points have four rates at one batch


def test_a_warmup_meant_for_longer_runs_is_shortened(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(path.read_text().replace("train: {", "train: {warmup: 90, "))
    revision = open_revision(tuning_in(tmp_path))
    assert revision is not None
    for planned in revision.planned.trials:
        warmup, first = planned.trial.optimizer.warmup_steps, planned.cells[0].step
        assert warmup == pytest.approx(min(90, first / 10), abs=1)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("tune: {}", "tune: {tokens: [1K]}", "design: "),
        (
            "tune: {}",
            "tune: {sizes: [5K], tokens: [1K]}",
            "tune.tokens.0: found 1K — the 5,026-parameter model is observed after fewer",
        ),
        ("[2.6K, 10K, 40K]", "[2.6K, 4K]", "no two sizes a factor 4 apart"),
        ("tune: {}", "tune: {radius: 1}", "tune.radius: found 1 — expected more than 1"),
        ("tune: {}", "tune: {size: [5K]}", "did you mean 'sizes'?"),
    ],
)
def test_what_cannot_be_tuned_is_refused_with_its_place(
    old: str, new: str, expected: str, tmp_path: Path
) -> None:
    path = write_sweep(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError) as caught:
        tuning_in(tmp_path)
    assert f"{path}:" in str(caught.value)
    assert expected in str(caught.value)


def test_further_runs_go_where_the_best_is_and_only_where_it_is_not_bracketed(
    tmp_path: Path,
) -> None:
    write_sweep(tmp_path, rate="0.5", batch="512")  # some ten times too high
    tuning = tuning_in(tmp_path)
    assert planted_rates.tune(tuning) == 3
    first, further, checked = rounds(tuning)
    before = {planned.trial_id for planned in first.planned.trials}
    new = [one for one in further.planned.trials if one.trial_id not in before]
    assert 1 <= len(new) <= 4 * len(tuning.sizes)
    for size in tuning.sizes:
        assert sum(one.trial.rung == size.rung for one in new) <= 4
    lowest = min(one.trial.optimizer.learning_rate for one in first.planned.trials)
    assert sum(one.trial.optimizer.learning_rate < lowest for one in new) >= len(new) / 2
    assert before < {one.trial_id for one in checked.planned.trials}
    assert "# further runs where" in further.loaded.document.as_submitted()
    (tmp_path / "near").mkdir()
    write_sweep(tmp_path / "near", rate="0.03", batch="512")
    near = tuning_in(tmp_path / "near")
    planted_rates.tune(near)
    assert len(list(rounds(near))) == 2  # none but the checks


def test_three_rates_are_checked_at_the_largest_size_that_costs_no_more(tmp_path: Path) -> None:
    write_sweep(tmp_path, rate="0.03", batch="512")
    tuning = tuning_in(tmp_path)
    planted_rates.tune(tuning)
    first, last = rounds(tuning)
    found = checked_rates(tuning, last, "masked", LAW)
    assert [each.expected for each in found] == pytest.approx(
        [0.01 * math.log(2) ** 2, 0, 0.01 * math.log(2) ** 2], abs=1e-3
    )
    assert found[1].bound is not None
    for end in (found[0], found[2]):
        assert end.bound is not None
        assert end.bound > found[1].bound
    checks = last.planned.trials[len(first.planned.trials) :]
    assert len(checks) == 3
    assert sum(one.train_flops for one in checks) <= first.planned.totals.train_flops
    largest = max(trunk_params(size.rung) for size in tuning.sizes)
    assert checks[0].params.trunk > largest


def test_gains_are_those_of_the_planted_law(tmp_path: Path) -> None:
    write_sweep(tmp_path, rate="0.1", batch="1024")
    tuning = tuning_in(tmp_path)
    planted_rates.tune(tuning)
    *_, last = rounds(tuning)
    smallest, largest = gains(tuning, last, "masked", LAW)
    for gain in (smallest, largest):
        assert gain.expected == LAW.excess(gain.params, gain.tokens, 0.1, gain.batch_tokens)
        assert gain.tokens == pytest.approx(2e6, rel=0.01)
    (size, *_) = tuning.sizes
    tried = [each for each in all_tried(tuning, last)["masked"] if each.rung == size.rung]
    if smallest.params == tried[0].params:
        most = max(each.tokens for each in tried)
        excesses = [
            LAW.excess(each.params, each.tokens, *vars(each.point).values())
            for each in tried
            if each.tokens > 0.9 * most
        ]
        assert smallest.measured == pytest.approx(excesses[0] - min(excesses), abs=3e-3)


@pytest.mark.slow
def test_a_driver_killed_in_every_round_ends_with_the_same_runs_and_records(
    tmp_path: Path,
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_sweep(folder, rate="0.5", batch="512")
    planted_rates.tune(tuning_in(whole))
    n_kills = 0
    script = Path(planted_rates.__file__)
    for _ in range(20):
        done = subprocess.run(
            [sys.executable, str(script), str(killed), "6"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        if done.returncode == 0:
            break
        n_kills += 1
    assert done.returncode == 0
    assert n_kills >= 4
    files = [sorted(p.name for p in (f / "tiny-tune/published").iterdir()) for f in (whole, killed)]
    assert files[0] == files[1]
    texts = [(folder / "tiny-tune/sweep.yaml").read_text() for folder in (whole, killed)]
    assert texts[0].replace(str(whole), "") == texts[1].replace(str(killed), "")
    tried = [
        [(each.trial_id, each.tokens, each.bound) for each in all_tried(t, last)["masked"]]
        for t in (tuning_in(whole), tuning_in(killed))
        for *_, last in [rounds(t)]
    ]
    assert tried[0] == tried[1]
