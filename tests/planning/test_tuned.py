"""Plans with tuned laws: which law, its numbers, how far it reaches, and when runs are split."""

import io
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeper.errors import ConfigError
from sweeper.planning.planner import PlannedSweep, plan_sweep, plan_to_json
from sweeper.planning.recipe import MIN_BATCH_SEQUENCES
from sweeper.sweepfile.law_file import Measurement, Provenance, write_laws
from sweeper.sweepfile.schema import load_sweep
from sweeper.trials.tuned_laws import Curvature, LawKey, SizeTokensLaw, TunedLaw
from sweeper.verbs.plan import plan_view

SWEEP = """\
name: tiny
corpus: {{source: "synthetic:iid?vocab=16&tokens=40000", seq_len: 16}}
series:
{series}
design:
  isoflop: {{budgets: [1e10, 4e10, 16e10], sizes: [5K, 10K]}}
train: {{{train}}}
evaluation: {{sequences: 64}}
"""
MASKED = "  masked: {family: masked}\n"
TUNED = "learning_rate: tuned, batch_tokens: tuned, laws: laws.yaml"


def law(family: str = "masked", options: Any = (("objective", "nelbo"),), **key: Any) -> TunedLaw:
    rest = {
        "backbone": "gidd",
        "optimizer": "adamw",
        "schedule": "constant",
        "betas": (0.9, 0.99),
        "weight_decay": 0.0,
        "ema_decay": 0.0,
    }
    return TunedLaw(
        key=LawKey(family, options, **{**rest, **key}),
        learning_rate=SizeTokensLaw(math.log(2.0), -0.2, -0.1),
        batch_tokens=SizeTokensLaw(math.log(0.02), 0.1, 0.7),
        curvature=Curvature(rate=0.02, batch=0.03, cross=-0.005),
        params_range=(5e3, 1e4),
        tokens_range=(1e5, 1e7),
    )


LAW = law()


def plan_of(
    folder: Path, *laws: TunedLaw, train: str = TUNED, series: str = MASKED
) -> PlannedSweep:
    measurement = Measurement("planted", ("0a1b2c3d4e5f",), "synthetic:iid", 16, 0.003)
    write_laws(
        folder / "laws.yaml",
        laws,
        Provenance("sweeper tune", (measurement,) * len(laws)),
    )
    (folder / "x.yaml").write_text(SWEEP.format(series=series.rstrip(), train=train))
    return plan_sweep(load_sweep(folder / "x.yaml"), bfloat16_from_width=math.inf)


def test_rate_and_batch_are_those_of_the_law_at_the_middle_of_the_run(tmp_path: Path) -> None:
    for planned in plan_of(tmp_path, LAW).trials:
        # Budgets a factor 4 apart: the middle one is the geometric middle.
        params, tokens = planned.params.trunk, 4e10 / planned.flops_per_token.total
        batch = planned.trial.tokens_per_step
        assert batch == 16 * round(LAW.best_batch(params, tokens) / 16)
        assert batch > 16 * MIN_BATCH_SEQUENCES
        rate = LAW.best_rate(params, tokens, batch)
        assert planned.trial.optimizer.learning_rate == float(f"{rate:.3g}")


def test_tokens_are_those_of_the_series_own_observations(tmp_path: Path) -> None:
    # Esolm reads its sequences twice: half the tokens for a budget, so a smaller batch.
    options = (("alpha_0", 1.0), ("batch_split", 0.5), ("objective", "nelbo"))
    series = MASKED + "  esolm: {family: esolm, alpha_0: 0.25}\n"
    slow = law("esolm", (("alpha_0", 0.25), *options[1:]))
    plan = plan_of(tmp_path, LAW, slow, series=series)
    batches = {(run.series, run.params): run.batch_tokens for run in plan.tuned}
    for run in plan.tuned:
        if run.series == "esolm":
            assert run.batch_tokens < batches["masked", run.params]


def test_one_of_both_may_be_tuned_alone(tmp_path: Path) -> None:
    rate_alone = plan_of(
        tmp_path, LAW, train="learning_rate: tuned, batch_tokens: 512, laws: laws.yaml"
    )
    for run, planned in zip(rate_alone.tuned, rate_alone.trials, strict=True):
        assert run.keys == ("learning_rate",)
        assert planned.trial.tokens_per_step == 512
        rate = LAW.best_rate(run.params, run.tokens, 512)
        assert planned.trial.optimizer.learning_rate == float(f"{rate:.3g}")
    both = plan_of(tmp_path, LAW)
    batch_alone = plan_of(
        tmp_path, LAW, train="learning_rate: 0.1, batch_tokens: tuned, laws: laws.yaml"
    )
    for run, other in zip(batch_alone.tuned, both.tuned, strict=True):
        assert (run.learning_rate, run.batch_tokens) == (0.1, other.batch_tokens)


def test_a_batch_has_at_least_the_recipes_sequences(tmp_path: Path) -> None:
    small = law()
    tiny = TunedLaw(**{**vars(small), "batch_tokens": SizeTokensLaw(0.0, 0.0, 0.0)})
    plan = plan_of(tmp_path, tiny)
    assert {planned.trial.optimizer.batch_sequences for planned in plan.trials} == {
        MIN_BATCH_SEQUENCES
    }


def test_expected_excess_is_that_of_the_law_at_both_ends(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, LAW)
    for run, planned in zip(plan.tuned, plan.trials, strict=True):
        rate, batch = planned.trial.optimizer.learning_rate, planned.trial.tokens_per_step
        ends = [
            LAW.excess(run.params, cell.tokens, rate, batch)
            for cell in (planned.cells[0], planned.cells[-1])
        ]
        assert [run.first_excess, run.last_excess] == pytest.approx(ends, rel=1e-4)
        # Batch is off by 4^0.7 at both ends, in opposite directions.
        assert run.bias == pytest.approx(0.5 * 0.03 * (0.7 * math.log(4)) ** 2, rel=0.4)


def test_runs_are_split_where_the_bias_would_be_larger_and_nowhere_else(tmp_path: Path) -> None:
    whole = plan_of(tmp_path, LAW)
    assert len(whole.trials) == 2
    for bound, n_runs in (("5%", 1), ("0.6%", 2), ("0.05%", 3)):
        plan = plan_of(tmp_path, LAW, train=f"{TUNED}, max_horizon_bias: {bound}")
        limit = float(bound[:-1]) / 100
        assert len(plan.trials) == 2 * n_runs
        assert all(run.bias <= limit for run in plan.tuned)
        for params, group in itertools.groupby(plan.trials, lambda p: p.params.trunk):
            budgets = [cell.budget_flops for planned in group for cell in planned.cells]
            assert budgets == [1e10, 4e10, 16e10], params
    # The longest run serves as many as it can, since those cost nothing more.
    two = plan_of(tmp_path, LAW, train=f"{TUNED}, max_horizon_bias: 0.6%")
    assert [len(planned.cells) for planned in two.trials] == [1, 2, 1, 2]


def test_the_same_ids_with_and_without_a_bound_that_splits_nothing(tmp_path: Path) -> None:
    ids = [p.trial_id for p in plan_of(tmp_path, LAW).trials]
    bounded = plan_of(tmp_path, LAW, train=f"{TUNED}, max_horizon_bias: 50%")
    assert [p.trial_id for p in bounded.trials] == ids


def test_the_law_with_the_same_betas_decay_and_averaging_comes_first_and_others_are_warned_of(
    tmp_path: Path,
) -> None:
    other = law(weight_decay=0.1, ema_decay=0.9)
    (warning,) = [w for w in plan_of(tmp_path, other).warnings if w.code == "foreign_law"]
    assert "weight_decay 0.1 (here 0.0), ema 0.9 (here 0.0)" in warning.message
    plan = plan_of(tmp_path, other, LAW)
    assert not [w for w in plan.warnings if w.code == "foreign_law"]


def test_far_laws_are_warned_of_once_a_series(tmp_path: Path) -> None:
    near = plan_of(tmp_path, LAW)
    assert not [w for w in near.warnings if w.code == "far_law"]
    far = TunedLaw(**{**vars(LAW), "tokens_range": (1e3, 1e4)})
    plan = plan_of(tmp_path, far)
    (warning,) = [w for w in plan.warnings if w.code == "far_law"]
    worst = max(run.extrapolation for run in plan.tuned)
    assert f"a factor {worst:.3g} outside" in warning.message


@pytest.mark.parametrize(
    ("laws", "train", "expected"),
    [
        ((law(schedule="wsd"),), TUNED, [":7:24", "'planted' is for schedule wsd"]),
        (
            (law(optimizer="laprop", backbone="dit"),),
            TUNED,
            ["for backbone dit, optimizer laprop"],
        ),
        ((LAW,), f"{TUNED}, optimizer: muon", ["optimizer muon", "is for optimizer adamw"]),
        (
            (law(options=(("objective", "cross_entropy"),)),),
            TUNED,
            ["options {objective: nelbo}", "is for options {objective: cross_entropy}"],
        ),
        ((), TUNED, ["laws.yaml:8:1", "expected a list"]),
        ((LAW,), "learning_rate: tuned", [":7:24", "expected a law file, too: `laws: FILE`"]),
        ((LAW,), "max_horizon_bias: 1%", [":7:27", "nothing of series 'masked' is tuned"]),
        ((LAW,), "learning_rate: tunde", ["or auto, or tuned"]),
        ((LAW,), "max_horizon_bias: 0", ["more than 0"]),
    ],
)
def test_what_cannot_be_tuned_is_refused_with_its_place(
    laws: tuple[TunedLaw, ...], train: str, expected: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(tmp_path, *laws, train=train)
    for words in expected:
        assert words in str(caught.value)


def test_plan_says_which_law_gave_which_number(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, LAW, train="learning_rate: tuned, batch_tokens: 512, laws: laws.yaml")
    shown = io.StringIO()
    console = Console(file=shown, width=160, soft_wrap=True)
    for part in plan_view(plan):
        console.print(part)
    text = shown.getvalue()
    assert "planted of laws.yaml" in text
    assert "512 (as given)" in text
    assert f"{plan.tuned[0].last_excess:.2%}" in text
    (first, _) = plan_to_json(plan)["tuned"]
    assert (first["law"], first["file"], first["keys"]) == (
        "planted",
        "laws.yaml",
        ("learning_rate",),
    )


def test_a_series_may_have_laws_of_its_own_and_list_entries_too(tmp_path: Path) -> None:
    series = "  auto: {family: ar}\n" + MASKED.replace("}", ", train: {" + TUNED + "}}")
    plan = plan_of(tmp_path, LAW, series=series, train="seeds: [0]")
    assert {run.series for run in plan.tuned} == {"masked"}
    assert len(plan.trials) == 4
    text = (tmp_path / "x.yaml").read_text()
    isoflop = "  isoflop: {budgets: [1e10, 4e10, 16e10], sizes: [5K, 10K]}"
    listed = f"  list: [{{size: 5K, tokens: 1M, train: {{{TUNED}}}}}, {{size: 5K, tokens: 1M}}]"
    path = tmp_path / "x.yaml"
    path.write_text(text.replace(isoflop, listed).replace("  auto: {family: ar}\n", ""))
    plan = plan_sweep(load_sweep(path), bfloat16_from_width=math.inf)
    assert len(plan.tuned) == 2  # of which the second takes the series' own


def test_a_run_added_to_a_design_trains_as_the_one_that_it_stands_beside(tmp_path: Path) -> None:
    for train in (TUNED, f"{TUNED}, max_horizon_bias: 0.6%"):
        whole = plan_of(tmp_path, LAW, train=train)
        text = (tmp_path / "x.yaml").read_text()
        added = "  added: [{series: masked, size: 10K, budgets: [16e10], seeds: [3]}]\ntrain:"
        path = tmp_path / "x.yaml"
        path.write_text(text.replace("train:", added, 1))
        plan = plan_sweep(load_sweep(path), bfloat16_from_width=math.inf)
        assert {p.trial_id for p in whole.trials} < {p.trial_id for p in plan.trials}
        (new,) = [p for p in plan.trials if p.trial.seed == 3]
        (old,) = [p for p in plan.trials if p.trial.optimizer == new.trial.optimizer][:1]
        assert old.cells[-1] == new.cells[-1]
