"""The sweep files of the two published grids list exactly the runs that were made."""

import csv
import math
from collections import Counter
from pathlib import Path

import pytest
from sahoo_steps import sahoo_steps

from sweeper.planning.planner import PlannedSweep, preview_sweep
from sweeper.sweepfile.schema import load_sweep
from sweeper.trials.published_ladders import GIDD, SAHOO

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = ROOT / "sweeps"
POINTS = ROOT.parent / "shared" / "data" / "sahoo_isoflop_points.csv"


def planned(name: str) -> PlannedSweep:
    return preview_sweep(load_sweep(SWEEPS / name), bfloat16_from_width=math.inf)


@pytest.fixture(scope="module")
def gidd() -> PlannedSweep:
    return planned("gidd_grid.yaml")


def test_the_gidd_grid_has_its_510_runs(gidd: PlannedSweep) -> None:
    """5 noise types × (20 batches and rates × 5 sizes + 2 of the largest alone)."""
    assert len(gidd.trials) == 510
    shifts = {p.series: dict(p.trial.family_options)["shift"] for p in gidd.trials}
    assert shifts == {
        "masked": "-inf",
        "low-uniform": -2.0,
        "balanced": 0.0,
        "high-uniform": 2.0,
        "uniform": "inf",
    }
    assert set(Counter(p.series for p in gidd.trials).values()) == {102}
    per_size = Counter(p.trial.rung for p in gidd.trials)
    grid = [rung for name, rung in GIDD.items() if name not in SCALED_UP]
    assert per_size == dict.fromkeys(grid[:-1], 100) | {grid[-1]: 110}


SCALED_UP = ("gidd-3B-masked", "gidd-3B-uniform", "gidd-10B")

RATES = {
    8: (0.1, 0.2, 0.3),
    16: (0.2, 0.3, 0.5),
    32: (0.2, 0.3, 0.5),
    64: (0.3, 0.5, 1.0),
    128: (0.3, 0.5, 1.0),
    256: (0.5, 1.0),
    512: (0.5, 1.0, 2.0),
    1024: (1.0, 2.0),
}
"""Base learning rates by batch, in sequences of 2,048 tokens."""


def test_the_gidd_grid_has_its_batches_rates_and_steps(gidd: PlannedSweep) -> None:
    largest = GIDD["gidd-570M"]
    for series in ("masked", "uniform"):
        for rung in (GIDD["gidd-25M"], largest):
            trials = [p.trial for p in gidd.trials if (p.series, p.trial.rung) == (series, rung)]
            found = {(t.optimizer.batch_sequences, t.optimizer.learning_rate) for t in trials}
            batches = [batch for batch in RATES if batch < 1024 or rung == largest]
            assert found == {(batch, rate) for batch in batches for rate in RATES[batch]}
    for trial in (p.trial for p in gidd.trials):
        batch, settings = trial.optimizer.batch_sequences, trial.optimizer
        is_short = batch == 1024 or (batch == 512 and trial.rung != largest)
        assert trial.n_steps == (40_000 if is_short else 80_000)
        assert settings.betas == (0.9, 0.98 if batch >= 256 else 0.99)
        assert settings.auxiliary_learning_rate == pytest.approx(0.02 * settings.learning_rate)
        assert (settings.name, settings.schedule, settings.clip_norm) == (
            "laprop",
            "constant",
            None,
        )
        assert (settings.warmup_steps, settings.embedding_learning_rate_ratio) == (2000, 1.0)
        assert trial.prefix_share == 0.2
        assert dict(trial.family_options)["per_token_share"] == 0.2


@pytest.fixture(scope="module")
def sahoo() -> PlannedSweep:
    return planned("sahoo_isoflop.yaml")


def test_the_sahoo_grid_has_its_134_runs_at_their_steps(sahoo: PlannedSweep) -> None:
    assert len(sahoo.trials) == sahoo.totals.n_cells == 134
    assert Counter(p.series for p in sahoo.trials) == {
        "ar": 34,
        "masked-ce": 29,
        "uniform": 30,
        "esolm": 41,
    }
    names = {rung: name for name, rung in SAHOO.items()}
    for trial in sahoo.trials:
        (cell,) = trial.cells
        assert cell.budget_flops is not None
        assert cell.step == sahoo_steps(names[trial.trial.rung], cell.budget_flops)
        assert cell.tokens == cell.step * 256 * 2048


def test_the_sahoo_grid_trains_as_the_study_did(sahoo: PlannedSweep) -> None:
    for planned_trial in sahoo.trials:
        trial, settings = planned_trial.trial, planned_trial.trial.optimizer
        assert trial.backbone == "dit"
        assert (settings.name, settings.betas, settings.weight_decay) == ("adamw", (0.9, 0.95), 0.1)
        assert (settings.schedule, settings.min_learning_rate_ratio) == ("cosine", 0.1)
        assert settings.schedule_steps == trial.n_steps
        assert settings.warmup_steps == max(100, round(0.01 * trial.n_steps))
        assert (settings.learning_rate, settings.clip_norm) == (2e-4, 1.0)
    objectives = {p.series: dict(p.trial.family_options).get("objective") for p in sahoo.trials}
    assert objectives["masked-ce"] == objectives["esolm"] == "cross_entropy"
    assert {dict(p.trial.family_options).get("alpha_0") for p in sahoo.trials} == {None, 1.0}


@pytest.mark.skipif(not POINTS.exists(), reason="the digitised points are not beside the project")
def test_the_sahoo_grid_is_that_of_the_published_points(sahoo: PlannedSweep) -> None:
    series = {"AR": "ar", "MDLM": "masked-ce", "Duo": "uniform", "EsoLM": "esolm"}
    with POINTS.open(newline="") as file:
        published = {
            (series[row["family"]], float(row["budget_flops"]), int(row["tokens"]))
            for row in csv.DictReader(file)
        }
    assert published == {
        (p.series, p.cells[0].budget_flops, p.cells[0].tokens) for p in sahoo.trials
    }
