"""A plan that breaks its limits is refused with the largest that does not, which is then taken."""

import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sweeper.data.corpus import Corpus
from sweeper.data.tokens import SplitTokens
from sweeper.planning.planner import PlannedSweep, make_plan
from sweeper.sweepfile.problems import InvalidSweep
from sweeper.sweepfile.schema import load_sweep

ISOFLOP = {"isoflop": {"budgets": ["1e11", "3e11", "1e12"], "sizes": ["5K", "10K", "40K"]}}


class _Sweep:
    """A sweep file that plans on a corpus of zeros."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.path = folder / "sweep.yaml"
        fields = {
            "name": "tiny",
            "corpus": {"source": "stdlib", "seq_len": 64},
            "series": {"ar": {"family": "ar"}, "masked": {"family": "masked"}},
            "design": ISOFLOP,
            "train": {"batch_tokens": 1024},
            **changes,
        }
        self.path.write_text(yaml.safe_dump(fields))

    def plan(self, *overrides: str) -> PlannedSweep:
        tokens = np.broadcast_to(np.uint8(0), 10**8)
        corpus = Corpus("stdlib", SplitTokens(tokens, tokens[:1000000], 256, 1.0), "f00d")
        loaded = load_sweep(self.path, overrides)
        return make_plan(loaded.sweep, corpus, bfloat16_from_width=math.inf)

    def refusal(self, key: str, limit: float) -> str:
        with pytest.raises(InvalidSweep) as caught:
            self.plan(f"limits.{key}={limit}")
        (problem,) = caught.value.problems
        assert problem.path == ("limits", key)
        return problem.expected

    def taken(self, key: str, limit: float) -> PlannedSweep:
        """The plan that a refusal tells to make, within the limit."""
        message = self.refusal(key, limit)
        sets = shlex.split(re.findall(r"FLOPs: (--set .*)", message)[0])[1::2]
        found = self.plan(*sets, f"limits.{key}={limit}")
        assert f"{found.totals.n_trials} trials, {found.totals.train_flops:.3g} FLOPs" in message
        return found


def test_a_plan_that_just_meets_its_limits_is_made(tmp_path: Path) -> None:
    sweep = _Sweep(tmp_path)
    flops = sweep.plan().totals.train_flops
    limits = (f"limits.flops={flops!r}", "limits.trials=6")
    assert sweep.plan(*limits).totals.train_flops == flops
    assert "the plan costs 6e+12 FLOPs: raise it, or " in sweep.refusal("flops", 0.99 * flops)
    assert sweep.refusal("trials", 5).startswith("the plan has 6: raise it, or ")


def test_an_isoflop_design_drops_its_largest_budgets_then_sizes(tmp_path: Path) -> None:
    sweep = _Sweep(tmp_path)
    taken = sweep.taken("flops", 5.9e12)
    assert {cell.budget_flops for each in taken.trials for cell in each.cells} == {1e11, 3e11}
    assert taken.totals.n_trials == 6
    taken = sweep.taken("flops", 3e11)
    assert {cell.budget_flops for each in taken.trials for cell in each.cells} == {1e11}
    assert taken.totals.n_trials == 2


def test_seeds_go_before_budgets_where_that_leaves_more(tmp_path: Path) -> None:
    train = {"batch_tokens": 1024, "seeds": [0, 1, 2]}
    sweep = _Sweep(tmp_path, train=train)
    assert {each.trial.seed for each in sweep.taken("flops", 1.3e13).trials} == {0, 1}
    assert sweep.taken("trials", 7).totals.n_trials == 6
    both = sweep.taken("flops", 2e12)
    assert both.totals.n_trials == 6
    assert {each.trial.seed for each in both.trials} == {0}


def test_fewer_trials_means_fewer_sizes_where_a_run_passes_all_budgets(tmp_path: Path) -> None:
    taken = _Sweep(tmp_path).taken("trials", 5)
    assert taken.totals.n_trials == 4
    assert {len(each.cells) for each in taken.trials} == {3}


def test_runs_that_end_with_their_budget_are_counted_one_by_one(tmp_path: Path) -> None:
    sweep = _Sweep(tmp_path, train={"batch_tokens": 1024, "schedule": "wsd"})
    assert sweep.plan().totals.n_trials == 18
    assert sweep.taken("trials", 17).totals.n_trials == 12
    # Six runs of each budget: up to 3e11 they cost 6 · 4e11, to a rounding of steps.
    assert sweep.taken("flops", 8e12).totals.train_flops == pytest.approx(2.4e12, rel=0.01)


def test_a_grid_drops_tokens(tmp_path: Path) -> None:
    grid = {"grid": {"sizes": ["5K"], "tokens": ["1M", "4M", "2M"]}}
    sweep = _Sweep(tmp_path, design=grid)
    whole = sweep.plan().totals.train_flops
    assert {each.cells[-1].tokens for each in sweep.taken("flops", 0.6 * whole).trials} == {1999872}


def test_a_zip_drops_its_dearest_pairs(tmp_path: Path) -> None:
    pairs = {"zip": {"sizes": ["40K", "5K", "10K"], "tokens": ["1M", "2M", "1M"]}}
    sweep = _Sweep(tmp_path, design=pairs)
    taken = sweep.taken("flops", 0.9 * sweep.plan().totals.train_flops)
    assert len({each.params.trunk for each in taken.trials}) == 2
    assert max(each.params.trunk for each in taken.trials) < 15_000


def test_of_a_list_the_dearest_entries_are_named(tmp_path: Path) -> None:
    entries = [
        {"size": "5K", "tokens": "1M"},
        {"size": "40K", "tokens": "8M"},
        {"sizes": ["10K", "5K"], "tokens": "2M"},
        {"size": "40K", "tokens": "1M"},
    ]
    sweep = _Sweep(tmp_path, design={"list": entries})
    whole = sweep.plan().totals.train_flops
    assert sweep.refusal("flops", 0.9 * whole).endswith("leave out design.list.1")
    assert sweep.refusal("trials", 5).endswith("leave out design.list.1, design.list.3")


def test_sizes_off_the_ladder_are_written_out(tmp_path: Path) -> None:
    sizes = [{"layers": 3, "width": 24, "heads": 2}, "40K"]
    design = {"isoflop": {"budgets": ["1e12"], "sizes": sizes}}
    sweep = _Sweep(tmp_path, design=design)
    (rung,) = {each.trial.rung for each in sweep.taken("trials", 2).trials}
    assert (rung.n_layers, rung.width, rung.n_heads) == (3, 24, 2)


def test_nothing_fits_a_limit_below_the_smallest_run(tmp_path: Path) -> None:
    assert "not even its smallest run fits" in _Sweep(tmp_path).refusal("flops", 1e9)


def test_the_message_stands_at_the_limit(tmp_path: Path) -> None:
    sweep = _Sweep(tmp_path, limits={"trials": 3})
    loaded = load_sweep(sweep.path)
    with pytest.raises(InvalidSweep) as caught:
        sweep.plan()
    text = loaded.document.describe(caught.value.problems)
    assert "limits.trials: found 3 — the plan has 6" in text


def test_a_run_that_is_lengthened_counts_once_where_its_checkpoint_is_kept(tmp_path: Path) -> None:
    added = [{"series": "masked", "size": "5K", "budgets": ["2e12"]}]
    design = {**ISOFLOP, "added": added}
    sweep = _Sweep(tmp_path, design=design, train={"batch_tokens": 1024, "warmup": 50})
    apart = sweep.plan()
    merged = sweep.plan("resources.keep_checkpoints=always")
    ids = [each.trial_id for each in apart.trials]
    assert [each.trial_id for each in merged.trials] == ids
    (short, long) = [
        each for each in merged.trials if each.series == "masked" and each.params.trunk < 7000
    ]
    assert short.trajectory_id == long.trajectory_id
    saved = apart.totals.train_flops - merged.totals.train_flops
    assert saved == pytest.approx(short.train_flops)
    limits = f"limits.flops={merged.totals.train_flops * 1.000001}"
    assert sweep.plan("resources.keep_checkpoints=always", limits).totals == merged.totals
    with pytest.raises(InvalidSweep):
        sweep.plan(limits)
    cosine = sweep.plan("resources.keep_checkpoints=always", "train.schedule=cosine")
    assert not any(each.keeps_checkpoint for each in cosine.trials)
