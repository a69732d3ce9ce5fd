"""Plans: which trials, which steps, what cost, and what stays the same trial."""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.data.corpus import Corpus
from sweeper.data.tokens import SplitTokens
from sweeper.families import encoded_options, family_of, load_family
from sweeper.families.base import Needs
from sweeper.planning import recipe
from sweeper.planning.design import TargetPoint
from sweeper.planning.planner import PlannedSweep, make_plan, plan_to_json, preview_sweep
from sweeper.planning.runs import MIN_STEPS, Setting, optimizer_for, plan_run
from sweeper.planning.series import ResolvedSeries
from sweeper.store.pending import pending_trials
from sweeper.store.results import Published
from sweeper.sweepfile.choices.training import Train
from sweeper.sweepfile.problems import InvalidSweep, KeyPath
from sweeper.sweepfile.schema import Sweep, load_sweep
from sweeper.trials.ladder import Rung, nearest_rung, trunk_params
from sweeper.trials.trial import Optimizer, canonical, from_canonical

RUNG = Rung(n_layers=2, width=16, n_heads=1)
SIZE = {"layers": 2, "width": 16, "heads": 1}
FLOPS_PER_TOKEN = 3 * (24 * 16**2 * 2 + 4 * 64 * 16 * 2 + 2 * 16 * 256)
"""Of RUNG at context 64 and 256 tokens: trunk, attention and head, forward and backward."""


def corpus(n_train: int = 10**8, n_validation: int = 10**6, fingerprint: str = "f00d") -> Corpus:
    """A corpus of zeros that takes no memory."""
    zero = np.uint8(0)
    train, validation = np.broadcast_to(zero, n_train), np.broadcast_to(zero, n_validation)
    tokens = SplitTokens(train, validation, vocab_size=256, bytes_per_token=1.0)
    return Corpus(source="stdlib", tokens=tokens, fingerprint=fingerprint)


def fields(**changes: Any) -> dict[str, Any]:
    """A working sweep as plain values."""
    return {
        "name": "tiny",
        "corpus": {"source": "stdlib", "seq_len": 64},
        "series": {"ar": {"family": "ar"}, "masked": {"family": "masked"}},
        "design": {"isoflop": {"budgets": ["1e11", "3e11", "1e12"], "sizes": ["5K", "10K", "40K"]}},
        "train": {"batch_tokens": 1024},
        **changes,
    }


def plan_of(**changes: Any) -> PlannedSweep:
    return make_plan(
        Sweep.model_validate(fields(**changes)), corpus(), bfloat16_from_width=math.inf
    )


def problems_of(**changes: Any) -> dict[KeyPath, str]:
    with pytest.raises(InvalidSweep) as caught:
        plan_of(**changes)
    return {problem.path: problem.expected for problem in caught.value.problems}


def isoflop(**keys: Any) -> dict[str, Any]:
    return {"isoflop": {"budgets": ["1e11", "1e12"], "sizes": [SIZE], **keys}}


def ids(plan: PlannedSweep) -> list[str]:
    return [planned.trial.trial_id for planned in plan.trials]


def test_steps_tokens_and_flops_of_a_budget_are_those_of_hand_arithmetic() -> None:
    assert FLOPS_PER_TOKEN == 86_016
    plan = plan_of(design=isoflop(), series={"ar": {"family": "ar"}})
    (planned,) = plan.trials
    # 1e11 / 86,016 / 1024 = 1135.33 and 1e12 / 86,016 / 1024 = 11,353.27 steps.
    assert [cell.step for cell in planned.cells] == [1135, 11_353]
    assert [cell.tokens for cell in planned.cells] == [1135 * 1024, 11_353 * 1024]
    assert [cell.flops for cell in planned.cells] == [
        1135 * 1024 * 86_016,
        11_353 * 1024 * 86_016,
    ]
    assert [cell.budget_flops for cell in planned.cells] == [1e11, 1e12]
    assert planned.trial.observe_at_steps == (1135, 11_353)
    assert planned.trial.rung == RUNG
    assert planned.trial.optimizer.batch_sequences == 16
    assert planned.trial.optimizer.warmup_steps == 114  # a tenth of 1135
    assert planned.params.total == trunk_params(RUNG) + 257 * 16 + 256 * 16
    assert planned.flops_per_token.total == 86_016
    totals = plan.totals
    assert (totals.n_trials, totals.n_cells, totals.tokens) == (1, 2, 11_353 * 1024)
    assert totals.train_flops == 11_353 * 1024 * 86_016
    assert totals.eval_flops == 2 * 1024 * 64 * 86_016 / 3
    assert totals.eval_share == totals.eval_flops / totals.train_flops


def test_rounding_to_steps_moves_a_cell_by_less_than_one_percent() -> None:
    plan = plan_of()
    for planned in plan.trials:
        for cell in planned.cells:
            assert cell.budget_flops is not None
            assert cell.flops == pytest.approx(cell.budget_flops, rel=0.5 / MIN_STEPS)


def test_cells_outside_the_window_are_skipped_with_a_reason_and_none_is_lost() -> None:
    design = {
        "isoflop": {
            "budgets": ["1e11", "3e11", "1e12"],
            "sizes": ["5K", "10K", "40K"],
            "tokens_per_param": [50, 900],
        }
    }
    plan = plan_of(design=design)
    assert plan.totals.n_cells + len(plan.skipped) == 2 * 3 * 3
    for planned in plan.trials:
        for cell in planned.cells:
            assert 50 <= cell.tokens / planned.params.trunk <= 900
    for skipped in plan.skipped:
        ratio = skipped.tokens / trunk_params(skipped.rung)
        side = "below the window's 50" if ratio < 50 else "above the window's 900"
        assert side in skipped.reason
        assert not 50 <= ratio <= 900


def test_a_size_without_any_cell_is_not_trained_and_its_owner_warned() -> None:
    plan = plan_of(
        design={
            "isoflop": {"budgets": ["1e11"], "sizes": ["5K", "40K"], "tokens_per_param": [1, 50]}
        }
    )
    assert {planned.trial.rung for planned in plan.trials} == {nearest_rung(40_000)}
    (warning,) = [w for w in plan.warnings if w.code == "idle_size"]
    assert "5,026-parameter model is not trained for ar, masked" in warning.message


def test_every_series_of_a_rung_has_the_same_batch_rate_warmup_and_steps() -> None:
    plan = plan_of(
        series={
            "ar": {"family": "ar"},
            "masked": {"family": "masked"},
            "uniform": {"family": "uniform"},
        },
        train={},
    )
    for rung in {planned.trial.rung for planned in plan.trials}:
        same = [planned.trial for planned in plan.trials if planned.trial.rung == rung]
        assert len(same) == 3
        assert len({(trial.optimizer, trial.observe_at_steps, trial.data) for trial in same}) == 1


def test_a_family_that_reads_longer_sequences_takes_fewer_steps_at_the_same_batch() -> None:
    needs = Needs(attention="bidirectional", extra_input_ids=1, doubled_share=1.0)
    targets = [TargetPoint(("budget",), 1e11, "flops"), TargetPoint(("budget",), 1e12, "flops")]
    setting = Setting(seq_len=64, vocab_size=256)
    optimizer = optimizer_for(Train(), RUNG, targets, setting)
    series = ResolvedSeries("long", "any", (), needs, Train())
    run = plan_run(series, RUNG, targets, optimizer, setting)
    # Trunk and head twice, attention four times.
    per_token = 3 * (2 * 24 * 16**2 * 2 + 4 * 4 * 64 * 16 * 2 + 2 * 2 * 16 * 256)
    assert run.flops_per_token.total == per_token
    assert run.cells[0].step == round(1e11 / per_token / optimizer.batch_sequences / 64)


def test_the_backbone_of_a_sweep_reaches_its_trials_counts_and_rates() -> None:
    plan = plan_of(design=isoflop(), series={"uniform": {"family": "uniform"}}, backbone="dit")
    (planned,) = plan.trials
    assert planned.trial.backbone == "dit"
    assert planned.trial.optimizer.learning_rate == recipe.DIT_LEARNING_RATE
    assert planned.params.conditioning == 49_408 + 129 * (6 * 16 * 2 + 2 * 16)
    assert planned.params.head == 256 * 16 + 256
    # Per sequence of 64 tokens: the level's 256 features to 128 channels, and what follows.
    conditioning = 2 * (2 * 256 * 128 + 3 * (128**2 + 128 * (6 * 16 * 2 + 2 * 16))) / 64
    assert planned.flops_per_token.total == FLOPS_PER_TOKEN + conditioning


def test_auto_follows_the_recipe_at_the_middle_of_the_run() -> None:
    plan = plan_of(design=isoflop(budgets=["1e13", "1e15"]), train={})
    middle = math.sqrt(1e13 * 1e15) / 86_016
    batch = recipe.batch_sequences(middle, 64)
    assert batch > recipe.MIN_BATCH_SEQUENCES
    for planned in plan.trials:
        optimizer = planned.trial.optimizer
        assert optimizer.batch_sequences == batch
        assert optimizer.learning_rate == recipe.learning_rate(batch * 64)
        assert optimizer.warmup_steps == recipe.warmup_steps(planned.cells[0].step)


def test_what_the_file_names_is_taken_as_it_is() -> None:
    train = {
        "batch_tokens": 2000,
        "learning_rate": "3e-4",
        "auxiliary_learning_rate": "2e-4",
        "warmup": 7,
        "betas": [0.8, 0.9],
        "weight_decay": 1,
        "clip_norm": 2,
    }
    plan = plan_of(design=isoflop(), train=train)
    assert plan.trials[0].trial.optimizer == Optimizer(
        batch_sequences=31,  # 31.25 sequences of 64
        learning_rate=3e-4,
        auxiliary_learning_rate=2e-4,
        warmup_steps=7,
        betas=(0.8, 0.9),
        weight_decay=1.0,
        clip_norm=2.0,
    )


def test_grid_zip_and_list_make_one_trajectory_per_size() -> None:
    grid = plan_of(design={"grid": {"sizes": ["5K", "10K"], "tokens": ["2M", "1M"]}})
    zipped = plan_of(
        design={"zip": {"sizes": ["5K", "5K", "10K", "10K"], "tokens": ["1M", "2M", "2M", "1M"]}}
    )
    listed = plan_of(
        design={
            "list": [
                {"size": size, "tokens": tokens}
                for size in ("5K", "10K")
                for tokens in ("1M", "2M")
            ]
        }
    )
    assert len(grid.trials) == 4
    assert ids(grid) == ids(zipped) == ids(listed)
    for planned in grid.trials:
        assert [cell.step for cell in planned.cells] == [977, 1953]
        assert [cell.budget_flops for cell in planned.cells] == [None, None]


def test_a_listed_trial_of_one_series_is_planned_for_that_series_only() -> None:
    plan = plan_of(
        design={
            "list": [
                {"size": "5K", "tokens": "1M"},
                {"size": "5K", "tokens": "9M", "series": "masked"},
            ]
        },
        train={},
    )
    assert [len(planned.cells) for planned in plan.trials] == [1, 2]
    # The whole design decides what is automatic, so the two series stay paired.
    assert len({planned.trial.optimizer for planned in plan.trials}) == 1


def test_each_seed_is_a_trial() -> None:
    plan = plan_of(train={"batch_tokens": 1024, "seeds": [3, 1]}, design=isoflop())
    assert [(p.series, p.trial.seed) for p in plan.trials] == [
        ("ar", 3),
        ("ar", 1),
        ("masked", 3),
        ("masked", 1),
    ]


def test_precision_is_what_is_faster_unless_named() -> None:
    def precisions(width: float, **train: Any) -> dict[str, set[int]]:
        sweep = Sweep.model_validate(fields(train=train))
        plan = make_plan(sweep, corpus(), bfloat16_from_width=width)
        found: dict[str, set[int]] = {}
        for planned in plan.trials:
            found.setdefault(planned.trial.precision, set()).add(planned.trial.rung.width)
        return found

    assert set(precisions(math.inf)) == {"float32"}
    assert set(precisions(0)) == {"bfloat16"}
    assert set(precisions(0, precision="float32")) == {"float32"}
    assert set(precisions(math.inf, precision="bfloat16")) == {"bfloat16"}
    widths = sorted(*precisions(math.inf).values())
    mixed = precisions(widths[1])
    assert mixed == {"float32": {widths[0]}, "bfloat16": set(widths[1:])}


def test_the_id_of_a_trial_is_what_it_always_was() -> None:
    # A change here disowns every result on disk: bump TRAINER_VERSION knowingly, or find out why.
    plan = plan_of(
        design=isoflop(),
        series={"ar": {"family": "ar"}},
        train={
            "batch_tokens": 1024,
            "learning_rate": 0.01,
            "auxiliary_learning_rate": 0.006,
            "warmup": 100,
        },
        evaluation={"sequences": 1024},
    )
    assert ids(plan) == ["393174cb8973"]


SAME: dict[str, dict[str, Any]] = {
    "name": {"name": "other"},
    "description": {"description": "words"},
    "labels": {"series": {"a": {"family": "ar"}, "b": {"family": "masked"}}},
    "source": {"corpus": {"source": "path:somewhere", "seq_len": 64}},
    "resources": {"resources": {"gpus": 1, "cpus": 2}},
    "limits": {"limits": {"flops": 1e15, "wall": "2h", "trials": 10}},
    "models that stay": {"keep": {"models": "all", "at_most": "2GB"}},
    "order of budgets": {
        "design": {"isoflop": {"budgets": [1e12, 1e11, 3e11], "sizes": ["5K", "10K", "40K"]}}
    },
    "spelling": {
        "design": {"isoflop": {"budgets": ["100G", "3e11", "1T"], "sizes": [5026, "10K", "40K"]}},
        "train": {"batch_tokens": "1.024K", "warmup": "auto", "seeds": ["0"]},
    },
    "window that keeps all": {
        "design": {
            "isoflop": {
                "budgets": [1e11, 3e11, 1e12],
                "sizes": ["5K", "10K", "40K"],
                "tokens_per_param": [0, 1e9],
            }
        }
    },
    "defaults written out": {
        "series": {
            "ar": {"family": "ar", "train": {"seeds": [0]}},
            "masked": {"family": "masked", "objective": "nelbo"},
        },
        "train": {"batch_tokens": 1024, "betas": [0.9, "99%"], "precision": "float32",
                  "clip_norm": 1, "schedule": "constant", "optimizer": "adamw",
                  "cooldown": "auto", "ema": 0},
        "evaluation": {"sequences": "1024", "seed": 0},
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_what_does_not_change_the_numbers_does_not_change_the_ids(changes: dict[str, Any]) -> None:
    assert sorted(ids(plan_of(**changes))) == sorted(ids(plan_of()))


OTHER: dict[str, dict[str, Any]] = {
    "seq_len": {"corpus": {"source": "stdlib", "seq_len": 128}},
    "family": {"series": {"ar": {"family": "uniform"}, "masked": {"family": "hybrid"}}},
    "option": {
        "series": {
            "ar": {"family": "hybrid", "shift": 1},
            "masked": {"family": "masked", "objective": "cross_entropy"},
        }
    },
    "sizes": {"design": {"isoflop": {"budgets": [1e11, 3e11, 1e12], "sizes": ["8K", "20K"]}}},
    "budgets": {
        "design": {"isoflop": {"budgets": [1e11, 3e11, 2e12], "sizes": ["5K", "10K", "40K"]}}
    },
    "batch": {"train": {"batch_tokens": 2048}},
    "rate": {"train": {"batch_tokens": 1024, "learning_rate": 0.01}},
    "warmup": {"train": {"batch_tokens": 1024, "warmup": 1}},
    "seed": {"train": {"batch_tokens": 1024, "seeds": [1]}},
    "betas": {"train": {"batch_tokens": 1024, "betas": [0.9, 0.95]}},
    "weight decay": {"train": {"batch_tokens": 1024, "weight_decay": 0.1}},
    "clipping": {"train": {"batch_tokens": 1024, "clip_norm": 2}},
    "no clipping": {"train": {"batch_tokens": 1024, "clip_norm": "none"}},
    "optimiser": {"train": {"batch_tokens": 1024, "optimizer": "laprop"}},
    "muon": {"train": {"batch_tokens": 1024, "optimizer": "muon"}},
    "schedule": {"train": {"batch_tokens": 1024, "schedule": "cosine"}},
    "averaging": {"train": {"batch_tokens": 1024, "ema": 0.999}},
    "precision": {"train": {"batch_tokens": 1024, "precision": "bfloat16"}},
    "evaluation size": {"evaluation": {"sequences": 512}},
    "evaluation seed": {"evaluation": {"seed": 1}},
}


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
def test_what_changes_the_numbers_changes_every_id(changes: dict[str, Any]) -> None:
    assert not set(ids(plan_of(**changes))) & set(ids(plan_of()))


def test_muon_is_refused_for_shards_which_it_could_not_train() -> None:
    train = {"batch_tokens": 1024, "optimizer": "muon"}
    problems = problems_of(train=train, resources={"gpus": 2, "shard": True})
    assert "spread over ranks in shards" in problems["train", "optimizer"]
    plan_of(train=train, resources={"gpus": 2})


def test_other_data_are_other_trials() -> None:
    sweep = Sweep.model_validate(fields())
    other = make_plan(sweep, corpus(fingerprint="beef"), bfloat16_from_width=math.inf)
    assert not set(ids(other)) & set(ids(plan_of()))


def test_all_ids_of_a_plan_differ() -> None:
    plan = plan_of(train={"batch_tokens": 1024, "seeds": [0, 1, 2]})
    assert len(set(ids(plan))) == len(plan.trials) == 18


def test_a_larger_budget_extends_the_same_trajectories() -> None:
    budgets = ["1e11", "3e11", "1e12"]
    longer = plan_of(
        design={"isoflop": {"budgets": [*budgets, "2e12"], "sizes": ["5K", "10K", "40K"]}}
    )
    before = [planned.trial.trajectory_id for planned in plan_of().trials]
    assert [planned.trial.trajectory_id for planned in longer.trials] == before
    assert not set(ids(longer)) & set(ids(plan_of()))


def test_another_size_or_series_leaves_the_other_trials_alone() -> None:
    design = {
        "isoflop": {"budgets": ["1e11", "3e11", "1e12"], "sizes": ["80K", "5K", "10K", "40K"]}
    }
    series = {"u": {"family": "uniform"}, "ar": {"family": "ar"}, "masked": {"family": "masked"}}
    assert set(ids(plan_of())) < set(ids(plan_of(design=design, series=series)))


@pytest.mark.parametrize("shift", [0, 0.0, -0.0, "-inf", "inf", "+inf", math.inf, -math.inf, 1.5])
def test_options_survive_json_infinities_included(shift: Any) -> None:
    plan = plan_of(series={"h": {"family": "hybrid", "shift": shift}}, design=isoflop())
    trial = plan.trials[0].trial
    text = json.dumps(canonical(trial), allow_nan=False)
    again = from_canonical(json.loads(text))
    assert again == trial
    assert again.trial_id == trial.trial_id
    assert family_of(again) == load_family("hybrid", vocab_size=256, shift=float(shift))
    json.dumps(plan_to_json(plan), allow_nan=False)


def test_equal_options_are_one_trial_however_they_are_written() -> None:
    def id_of(shift: Any) -> str:
        return ids(plan_of(series={"h": {"family": "hybrid", "shift": shift}}, design=isoflop()))[0]

    assert id_of(0) == id_of(0.0) == id_of(-0.0)
    assert id_of("inf") == id_of(math.inf) != id_of(-math.inf)


def test_all_options_of_a_family_are_in_its_trials_sorted() -> None:
    family = load_family("hybrid", vocab_size=256, shift=-2)
    names = [name for name, _ in encoded_options(family)]
    known = {field.name for field in dataclasses.fields(family)} - {"vocab_size"}
    assert names == sorted(known)
    assert dict(encoded_options(family))["shift"] == -2.0


def test_an_option_that_a_family_got_later_changes_no_trial_at_its_default() -> None:
    def options_of(**options: Any) -> dict[str, Any]:
        return dict(encoded_options(load_family("uniform", vocab_size=256, **options)))

    assert options_of() == options_of(objective="nelbo") == {}
    assert options_of(objective="unweighted") == {"objective": "unweighted"}


def test_few_sizes_of_a_budget_are_a_warning() -> None:
    sizes = ["5K", "8K", "10K", "20K", "40K"]
    enough = plan_of(design={"isoflop": {"budgets": [1e11, 1e12], "sizes": sizes}})
    assert enough.warnings == ()
    window = {"budgets": [1e11, 1e12], "sizes": sizes, "tokens_per_param": [1, 1500]}
    few = plan_of(design={"isoflop": window})
    assert [w.code for w in few.warnings] == ["few_sizes"]
    assert "budget 1e+12 keeps 4 sizes for ar, masked" in few.warnings[0].message


def test_data_read_more_than_four_times_are_a_warning() -> None:
    sweep = Sweep.model_validate(fields(design={"grid": {"sizes": ["5K"], "tokens": ["9M", "1M"]}}))
    assert make_plan(sweep, corpus(n_train=2_500_000), bfloat16_from_width=math.inf).warnings == ()
    (warning,) = make_plan(sweep, corpus(n_train=2_000_000), bfloat16_from_width=math.inf).warnings
    assert warning.code == "repeated_data"
    assert "the 5,026-parameter model 4.5 times" in warning.message


def test_too_few_steps_are_told_for_every_size_with_what_would_help() -> None:
    with pytest.raises(InvalidSweep) as caught:
        plan_of(design={"isoflop": {"budgets": ["2e8", "1e12"], "sizes": ["5K", "40K"]}})
    path = ("design", "isoflop", "budgets", 0)
    assert [problem.path for problem in caught.value.problems] == [path, path]
    first = caught.value.problems[0].expected
    assert "3 steps of 1,024 tokens for the 5,026-parameter model" in first
    assert "raise it to 3.65e+09" in first  # 50 steps × 1024 tokens × 71,232 FLOPs


def test_the_step_where_the_limit_lies_is_allowed() -> None:
    tokens = MIN_STEPS * 1024
    assert plan_of(design={"grid": {"sizes": ["5K"], "tokens": [tokens]}}).totals.n_cells == 2
    below = problems_of(design={"grid": {"sizes": ["5K"], "tokens": [tokens - 1024]}})
    assert f"{MIN_STEPS - 1} steps" in below["design", "grid", "tokens", 0]


def test_a_design_of_a_million_cells_is_refused_before_it_is_made() -> None:
    sizes = [{"layers": n, "width": 2, "heads": 1} for n in range(1, 1001)]
    tokens = [*range(10**6, 10**6 + 1000)]
    message = problems_of(design={"grid": {"sizes": sizes, "tokens": tokens}})["design",]
    assert message == "a design of 2,000,000 cells; expected at most 1,000,000"


def test_a_validation_set_that_is_too_small() -> None:
    message = problems_of(evaluation={"sequences": 20_000})["evaluation", "sequences"]
    assert "holds 15,625" in message  # 10^6 / 64


def test_the_same_trials_under_two_labels_are_refused_however_they_come_about() -> None:
    series = {"one": {"family": "masked"}, "two": {"family": "masked", "train": {"seeds": [1, 0]}}}
    assert list(problems_of(series=series)) == [("series", "two")]
    resolved = recipe.learning_rate(1024)
    series["two"] = {"family": "masked", "train": {"learning_rate": resolved}}
    assert list(problems_of(series=series)) == [("series", "two")]
    series["two"] = {"family": "masked", "train": {"learning_rate": 2 * resolved}}
    assert plan_of(series=series).totals.n_trials == 6


def test_a_series_with_its_own_batch_is_reported_where_it_is_written() -> None:
    series = {"ar": {"family": "ar"}, "m": {"family": "masked", "train": {"batch_tokens": 100}}}
    assert list(problems_of(series=series)) == [("series", "m", "train", "batch_tokens")]
    series["m"] = {"family": "masked", "train": {"warmup": 10**9}}
    assert list(problems_of(series=series)) == [("series", "m", "train", "warmup")]


def test_an_option_pair_that_only_fails_together_is_blamed_on_its_series() -> None:
    series = {"h": {"family": "hybrid", "shift": "x", "scale": -1}}
    assert list(problems_of(series=series)) == [
        ("series", "h", "shift"),
        ("series", "h", "scale"),
    ]


def test_json_of_a_plan_says_everything_and_has_no_nan() -> None:
    plan = plan_of()
    told = json.loads(json.dumps(plan_to_json(plan), allow_nan=False))
    assert [*told] == [
        "name",
        "corpus",
        "totals",
        "trials",
        "skipped",
        "tuned",
        "warnings",
    ]
    assert [row["trial_id"] for row in told["trials"]] == ids(plan)
    row = told["trials"][0]
    assert row["steps"] == row["cells"][-1]["step"]
    assert row["tokens"] == row["cells"][-1]["tokens"]
    assert row["size"] == {"n_layers": 2, "width": 14, "n_heads": 1}
    assert told["corpus"]["train_tokens"] == 10**8
    assert told["totals"]["eval_share"] == plan.totals.eval_share


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("sweeps/*.yaml")), ids=str)
def test_the_sweeps_that_come_along_can_be_planned(path: Path) -> None:
    loaded = load_sweep(path)
    if loaded.sweep.corpus.assume:  # it is planned without its corpus
        plan = preview_sweep(loaded, bfloat16_from_width=math.inf)
    else:
        plan = make_plan(loaded.sweep, corpus(n_train=3 * 10**7), bfloat16_from_width=math.inf)
    assert plan.trials


@pytest.mark.slow
def test_ten_thousand_trials_are_planned_in_seconds() -> None:
    sweep = Sweep.model_validate(
        fields(train={"batch_tokens": 1024, "seeds": [*range(1667)]}, evaluation={"sequences": 64})
    )
    plan_of()  # loads the families
    start = time.perf_counter()
    plan = make_plan(sweep, corpus(), bfloat16_from_width=math.inf)
    assert len(set(ids(plan))) == 10_002
    assert time.perf_counter() - start < 20  # 2 s on a quiet machine


def test_listed_runs_that_differ_in_training_are_runs_of_their_own() -> None:
    entries = [
        {"sizes": ["5K", SIZE], "steps": [100, 400], "train": {"batch_tokens": 512}},
        {"size": SIZE, "steps": 400, "train": {"learning_rate": 0.1}, "series": "ar"},
        {"size": SIZE, "steps": 800, "train": {"batch_tokens": 512}, "series": ["ar"]},
    ]
    plan = plan_of(design={"list": entries})
    runs = {
        (p.series, p.trial.rung, p.trial.optimizer.batch_sequences): p.trial for p in plan.trials
    }
    assert len(runs) == len(plan.trials) == 5
    small = nearest_rung(5000)
    assert runs["ar", small, 8].observe_at_steps == (100, 400)
    assert runs["masked", RUNG, 8].observe_at_steps == (100, 400)
    # The third entry has the settings of the first: the same run, observed once more.
    assert runs["ar", RUNG, 8].observe_at_steps == (100, 400, 800)
    assert runs["ar", RUNG, 16].optimizer.learning_rate == 0.1


def test_published_sizes_are_planned_at_their_own_steps_and_budget() -> None:
    entry = {"budget": "6e18", "steps_by_size": {"sahoo-34M": 300, "sahoo-6M": "1K"}}
    plan = plan_of(design={"list": [entry]}, series={"ar": {"family": "ar"}})
    found = {p.trial.rung: (p.trial.n_steps, p.cells[0].budget_flops) for p in plan.trials}
    assert found == {Rung(8, 512, 8): (300, 6e18), Rung(6, 256, 4): (1000, 6e18)}


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_a_schedule_that_ends_takes_a_run_for_each_observation(schedule: str) -> None:
    train = {"batch_tokens": 1024, "schedule": schedule}
    plan, flat = plan_of(train=train), plan_of()
    assert len(flat.trials) == 2 * 3
    assert len(plan.trials) == plan.totals.n_cells == 2 * 3 * 3
    for planned in plan.trials:
        (cell,) = planned.cells
        assert planned.trial.observe_at_steps == (cell.step,)
        assert planned.trial.optimizer.schedule_steps == cell.step
        assert planned.trial.optimizer.warmup_steps == recipe.warmup_steps(cell.step)
    cells = {(p.series, p.trial.rung, cell) for p in flat.trials for cell in p.cells}
    assert {(p.series, p.trial.rung, p.cells[0]) for p in plan.trials} == cells
    # Other weights at every step: no run may stand in for another, or be mistaken for its start.
    assert len({planned.trial.trajectory_id for planned in plan.trials}) == len(plan.trials)
    all_cells = math.fsum(cell.flops for _, _, cell in cells)
    assert plan.totals.train_flops == pytest.approx(all_cells, rel=1e-12)
    assert [row["schedule"] for row in plan_to_json(plan)["trials"]] == [schedule] * 18


def test_ends_of_schedules_are_resolved_from_the_length_of_each_run() -> None:
    cosine = plan_of(design=isoflop(), train={"batch_tokens": 1024, "schedule": "cosine"})
    assert {p.trial.optimizer.min_learning_rate_ratio for p in cosine.trials} == {0.1}
    assert {p.trial.optimizer.cooldown_steps for p in cosine.trials} == {0}
    train = {"batch_tokens": 1024, "schedule": "wsd"}
    wsd = plan_of(design=isoflop(), train=train)
    assert [p.trial.optimizer.cooldown_steps for p in wsd.trials[:2]] == [227, 2271]  # 20 %
    longer = plan_of(design=isoflop(), train={**train, "cooldown": "40%"})
    assert [p.trial.optimizer.cooldown_steps for p in longer.trials[:2]] == [454, 4541]
    low = {"batch_tokens": 1024, "schedule": "cosine", "min_learning_rate_ratio": 0}
    assert plan_of(design=isoflop(), train=low).trials[0].trial.optimizer == dataclasses.replace(
        cosine.trials[0].trial.optimizer, min_learning_rate_ratio=0.0
    )


def test_automatic_settings_of_a_run_that_ends_suit_its_own_length() -> None:
    budgets = ["1e13", "1e15"]
    plan = plan_of(design=isoflop(budgets=budgets), train={"schedule": "cosine"})
    for budget, planned in zip([1e13, 1e15], plan.trials[:2], strict=True):
        batch = recipe.batch_sequences(budget / 86_016, 64)
        assert planned.trial.optimizer.batch_sequences == batch
        assert planned.trial.optimizer.learning_rate == recipe.learning_rate(batch * 64)
    # So another budget leaves the runs that are there alone.
    more = plan_of(design=isoflop(budgets=[*budgets, "1e14"]), train={"schedule": "cosine"})
    assert set(ids(plan)) < set(ids(more))


def test_series_stay_paired_when_their_schedule_ends() -> None:
    plan = plan_of(train={"schedule": "wsd"})
    settings = [(p.trial.rung, p.cells[0].budget_flops, p.trial.optimizer) for p in plan.trials]
    assert len(set(settings)) == len(settings) / 2


def test_series_may_follow_different_schedules() -> None:
    train = {"schedule": "wsd", "cooldown": "10%"}
    series = {"flat": {"family": "ar"}, "cooled": {"family": "ar", "train": train}}
    plan = plan_of(series=series)
    n_trials = {label: sum(p.series == label for p in plan.trials) for label in series}
    assert n_trials == {"flat": 3, "cooled": 9}


def test_limits_count_every_run_of_a_schedule_that_ends() -> None:
    train = {"batch_tokens": 1024, "schedule": "wsd"}
    cost = plan_of(train=train).totals.train_flops
    assert plan_of(train=train, limits={"flops": cost, "trials": 18}).totals.train_flops == cost
    assert problems_of(train=train, limits={"trials": 17})["limits", "trials"].startswith(
        "the plan has 18"
    )


def test_a_window_leaves_out_runs_of_their_own_as_it_does_cells() -> None:
    keys = {"sizes": ["5K", "10K", "40K"], "tokens_per_param": [50, 400]}
    flat = plan_of(design=isoflop(**keys))
    plan = plan_of(design=isoflop(**keys), train={"batch_tokens": 1024, "schedule": "cosine"})
    assert {dataclasses.astuple(cell) for cell in plan.skipped} == {
        dataclasses.astuple(cell) for cell in flat.skipped
    }
    assert plan.skipped
    assert plan.totals.n_cells == flat.totals.n_cells == len(plan.trials)
    # A size is idle, or its data repeated, by all of its runs and not by one of them.
    assert plan.warnings == flat.warnings


def test_what_is_left_of_runs_that_end_is_each_run_by_itself() -> None:
    plan = plan_of(train={"batch_tokens": 1024, "schedule": "cosine"}).plan
    first = plan.trials[0]
    record = Published(
        trial_id=first.trial_id,
        trajectory_id=first.trajectory_id,
        sweep=plan.name,
        attempt=1,
        is_diverged=False,
        steps=first.trial.n_steps,
        observed_steps=first.trial.observe_at_steps,
        train_flops=first.cells[-1].flops,
        last_bound_nats_per_token=3.0,
        work_time_s=1.0,
        eval_time_s=0.5,
        startup_s=None,
        device="cpu",
        finished_at="",
    )
    left = pending_trials(plan.trials, [record])
    assert [each.trial for each in left] == [planned.trial for planned in plan.trials[1:]]
    assert [each.train_flops for each in left] == [p.cells[-1].flops for p in plan.trials[1:]]


def test_settings_survive_json() -> None:
    for train in (
        {"optimizer": "laprop", "clip_norm": "none", "ema": 0.9999},
        {"schedule": "cosine", "min_learning_rate_ratio": "10%"},
        {"schedule": "wsd", "cooldown": "20%"},
    ):
        plan = plan_of(design=isoflop(), train={"batch_tokens": 1024, **train})
        trial = plan.trials[-1].trial
        again = from_canonical(json.loads(json.dumps(canonical(trial), allow_nan=False)))
        assert again == trial
        assert again.trial_id == trial.trial_id
    settings = plan_of(train={"clip_norm": "none", "optimizer": "laprop"}).trials[0].trial.optimizer
    assert (settings.clip_norm, settings.name) == (None, "laprop")


def test_a_trial_ends_where_its_schedule_does() -> None:
    trial = plan_of(design=isoflop(), train={"schedule": "wsd"}).trials[0].trial
    with pytest.raises(ValueError, match="has a wsd schedule of"):
        dataclasses.replace(trial, observe_at_steps=(trial.n_steps + 1,))


def test_micro_batches_are_resources_and_change_no_trial() -> None:
    whole, cut = plan_of(), plan_of(resources={"micro_batch_tokens": 200})
    assert ids(cut) == ids(whole)
    assert {planned.resources.micro_batch_sequences for planned in whole.trials} == {None}
    assert {planned.resources.micro_batch_sequences for planned in cut.trials} == {
        3
    }  # of 64 tokens
