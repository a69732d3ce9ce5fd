"""Proposed runs: they bracket what is open, tell more than others of their cost, and can be run."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table, trajectory_rows

from analysis.answers.asked import Interval
from analysis.answers.candidates import nearest_rung
from analysis.answers.information import linearised
from analysis.answers.propose import Proposals, Request, propose, to_json
from analysis.errors import SettingsError
from analysis.fitting.fit import FitResult, FitSettings, fit_table
from analysis.report.text import fragment, proposals_text
from analysis.stats.power_law import LawName
from sweeper.sweepfile.schema import load_sweep
from sweeper.trials.ladder import ladder, trunk_params

PLANTED = Surface()
SETTINGS = FitSettings(n_bootstrap=200)
NOISE = 0.004


def fitted(*parts: pd.DataFrame) -> FitResult:
    return fit_table(table(*parts), SETTINGS)


def proposed(
    result: FitResult, interval: Interval = "params", n_runs: int = 6, *labels: str
) -> Proposals:
    return propose(result, Request(labels or ("a",), interval, None, n_runs))


@dataclass(frozen=True)
class Cell:
    """A size trained to a budget by a run of its own."""

    params: float
    flops: float


def with_runs(rows: pd.DataFrame, runs: Sequence[Cell], seed: int) -> pd.DataFrame:
    """The table after the runs were trained."""
    noise = np.exp(NOISE * np.random.default_rng(seed).standard_normal(len(runs)))
    params, flops = np.array([c.params for c in runs]), np.array([c.flops for c in runs])
    loss = PLANTED.loss(params, flops / 6 / params) * noise
    new = pd.DataFrame({"family": "a", "params": params, "tokens": flops / 6 / params})
    new = new.assign(loss=loss, flops=flops, budget_flops=flops)
    return pd.concat([rows, new], ignore_index=True)


def width(rows: pd.DataFrame, quantity: LawName) -> float:
    """Of the bootstrap interval of the optimum's law, or of the loss, at the largest budget."""
    fit = fitted(rows).family("a").isoflop
    assert fit is not None
    assert fit.params_law is not None
    assert fit.tokens_law is not None
    laws = {"params": fit.params_law, "tokens": fit.tokens_law}
    ends = fit.bracketed[-1].loss_ci if quantity == "loss" else laws[quantity].interval(BUDGETS[-1])
    assert ends is not None
    return float(np.log(ends[1] / ends[0]))


def random_runs(flops: float, rng: np.random.Generator) -> list[Cell]:
    """Any sizes at any budgets, as many as the FLOPs pay for."""
    chosen = []
    for budget in rng.choice(BUDGETS, size=200):
        if budget <= flops * (1 + 1e-9):
            size = PLANTED.best_params(budget) * 8 ** rng.uniform(-1, 1)
            chosen.append(Cell(size, budget))
            flops -= budget
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("quantity", ["params", "loss"])
def test_proposed_runs_shrink_the_bootstrap_interval_more_than_others_of_equal_cost(
    quantity: LawName,
) -> None:
    ours, others, expected = [], [], []
    for seed in range(40):  # the difference is about 0.12 with a scatter of 0.19
        rows = isoflop_rows(noise=NOISE, seed=seed, n_sizes=6)
        result = fitted(rows)
        found = proposed(result, quantity)
        runs = [Cell(each.run.params, each.run.flops) for each in found.proposals]
        rivals = random_runs(found.flops, np.random.default_rng([seed, 1]))
        now = width(rows, quantity)
        ours.append(np.log(width(with_runs(rows, runs, seed + 50), quantity) / now))
        others.append(np.log(width(with_runs(rows, rivals, seed + 50), quantity) / now))
        assert found.proposals[-1].width is not None
        expected.append(np.log(found.proposals[-1].width))
    difference = np.array(ours) - np.array(others)
    # Paired over sweeps: three standard errors below zero.
    assert difference.mean() + 3 * difference.std() / np.sqrt(len(difference)) < 0
    # The delta method knows neither resampling nor re-estimated noise: half its effect shows.
    assert np.mean(ours) < 0.5 * np.mean(expected)


@pytest.mark.parametrize("quantity", ["params", "tokens", "loss"])
def test_the_linearised_optimum_moves_as_the_optimum_does(quantity: LawName) -> None:
    """Gradient against central differences of the optimum of changed valleys."""
    linear = linearised(fitted(isoflop_rows(noise=1e-4)).family("a"))
    assert linear is not None
    step, log_flops = 1e-4, float(linear.log_flops_K[2])
    for column in (2, 7, 12):  # level and both arms of the third budget
        flat = linear.coefficient_3K.ravel()
        ends = []
        for sign in (1, -1):
            changed = flat.copy()
            changed[column] += sign * step
            moved = dataclasses.replace(linear, coefficient_3K=changed.reshape(3, -1))
            log_params, log_tokens = moved.optimum(2, log_flops)
            level, size, data = moved.coefficient_3K[:, 2]
            u = log_params - linear.log_params_origin
            v = log_tokens - linear.log_tokens_origin_K[2]
            loss = level + size * np.exp(-linear.alpha * u) + data * np.exp(-linear.beta * v)
            ends.append(
                {"params": log_params, "tokens": log_tokens, "loss": np.log(loss)}[quantity]
            )
        slope = (ends[0] - ends[1]) / (2 * step)
        gradient = linear.gradient(quantity, 2, log_flops)[column]
        # Central differences: error of order step² times third derivatives of order 10.
        assert gradient == pytest.approx(slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("kept", "side"), [(slice(4, None), "below"), (slice(0, 3), "above"), (slice(0, 2), "few")]
)
def test_an_open_budget_gets_sizes_on_the_side_of_its_minimum(kept: slice, side: str) -> None:
    rows = isoflop_rows(n_sizes=7)
    cheap = rows["budget_flops"] == BUDGETS[0]
    sizes = np.sort(rows.loc[cheap, "params"].to_numpy())
    seen = sizes[kept]
    if side == "below":  # four sizes are needed for a valley
        seen = np.append(seen, seen[-1] * 2)
    if side == "above":
        seen = np.append(seen[0] / 2, seen)
    some = rows[cheap].iloc[[0] * len(seen)].assign(params=seen, tokens=BUDGETS[0] / 6 / seen)
    some["loss"] = PLANTED.loss(some["params"].to_numpy(), some["tokens"].to_numpy())
    found = proposed(fitted(pd.concat([rows[~cheap], some], ignore_index=True)))
    first = [p.run for p in found.proposals if p.purpose == "bracket"]
    assert first
    assert [p.purpose for p in found.proposals[: len(first)]] == ["bracket"] * len(first)
    assert {run.budget_flops for run in first} == {BUDGETS[0]}
    new = np.array([run.params for run in first])
    best = PLANTED.best_params(BUDGETS[0])
    if side == "below":
        assert (new < seen.min()).all()
        assert new.min() < best
    if side == "above":
        assert (new > seen.max()).all()
        assert new.max() > best
    if side == "few":
        assert len(new) + len(seen) >= 5


def test_without_a_law_only_bracketing_runs_are_proposed_and_no_width_is_claimed() -> None:
    rows = isoflop_rows(budgets=BUDGETS[:1], n_sizes=9)
    lowest = rows.groupby("budget_flops")["params"].transform("min")
    found = proposed(fitted(rows[rows["params"] < 5 * lowest]))
    assert {proposal.purpose for proposal in found.proposals} == {"bracket"}
    assert all(proposal.width is None for proposal in found.proposals)
    assert found.target_flops is None
    assert "no_interval" in {warning.code for warning in found.warnings}
    json.dumps(to_json(found), allow_nan=False)


def test_every_further_run_narrows_the_interval_and_none_was_observed() -> None:
    rows = isoflop_rows(noise=NOISE)
    found = proposed(fitted(rows))
    widths = [p.width for p in found.proposals if p.width is not None]
    assert widths
    assert 0 < widths[-1] < 1
    assert (np.diff([1.0, *widths]) < 0).all()
    cells = [(each.run.params, each.run.flops, each.run.seed) for each in found.proposals]
    assert len(cells) == len(set(cells))
    for run in (proposal.run for proposal in found.proposals):
        # No run is proposed twice, and those of an observed cell are further seeds.
        at_budget = rows[np.isclose(rows["budget_flops"], run.flops)]["params"]
        is_observed = (np.abs(np.log(at_budget / run.params)) < 1e-6).any()
        assert (run.seed > 0) >= is_observed
        assert run.params * run.tokens * 6 == pytest.approx(run.flops, rel=1e-9)


def test_a_multiplier_asks_both_series_where_they_are_compared() -> None:
    result = fitted(
        isoflop_rows("a", noise=NOISE), isoflop_rows("b", noise=NOISE, handicap=3.0, seed=1)
    )
    found = propose(result, Request(("a", "b"), "multiplier", 1e16, 12))
    assert {proposal.run.family for proposal in found.proposals} == {"a", "b"}
    assert found.target_flops == 1e16


def test_without_budgets_runs_are_proposed_from_the_surface() -> None:
    rows = isoflop_rows(noise=NOISE)
    shift = np.exp(np.random.default_rng(1).uniform(-0.4, 0.4, len(rows)))
    rows = rows.assign(tokens=rows["tokens"] * shift, flops=rows["flops"] * shift)
    rows = rows.drop(columns="budget_flops")
    found = proposed(fitted(rows))
    assert found.proposals
    assert all(proposal.run.budget_flops is None for proposal in found.proposals)
    assert "budget" not in fragment(found)


def test_sizes_of_a_trunk_convention_are_rungs() -> None:
    sizes = {float(trunk_params(rung)) for rung in ladder()}
    for wanted in np.geomspace(min(sizes), max(sizes), 200):
        found = nearest_rung(np.log(wanted))
        assert found in sizes
        nearest = min(abs(np.log(size / wanted)) for size in sizes)
        assert abs(np.log(found / wanted)) == pytest.approx(nearest)


def test_the_fragment_is_a_design_that_can_be_planned(tmp_path: Path) -> None:
    found = proposed(fitted(trajectory_rows()))
    (tmp_path / "more.yaml").write_text(
        "name: more\ncorpus: {source: stdlib, seq_len: 8}\nseries: {a: {family: ar}}\n"
        + fragment(found)
    )
    listed = load_sweep(tmp_path / "more.yaml", ()).sweep.design.listed
    assert listed is not None
    assert len(listed) == sum(len(proposal.run.points) for proposal in found.proposals)
    seeds = {entry.train.seeds for entry in listed}
    assert seeds == {(proposal.run.seed,) for proposal in found.proposals}
    assert fragment(found) in proposals_text(found)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (lambda: Request(("a",), "param", None, 5), "did you mean 'params'"),  # type: ignore[arg-type]
        (lambda: Request(("a",), "multiplier", None, 5), "two series"),
        (lambda: Request(("a",), "loss", -1.0, 5), "--at -1"),
        (lambda: Request(("a",), "loss", None, 0), "--number 0"),
    ],
)
def test_requests_that_make_no_sense_are_refused(request_: object, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        request_()  # type: ignore[operator]


def test_an_unknown_series_is_refused() -> None:
    with pytest.raises(SettingsError, match="no series 'z'"):
        proposed(fitted(isoflop_rows()), "params", 5, "z")
