"""Best batch and best learning rate: planted laws come back, open curves are left out."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from planted_tables import isoflop_rows, table

from analysis.fitting.batch_laws import BatchLaws, VaryingCurves, find_vertices, isoloss_curves
from analysis.fitting.fit import FitSettings, fit_table, to_json
from analysis.tables.points import points_by_family

BATCHES = 2.0 ** np.arange(12, 20)
RATES = 2.0 ** np.arange(-9, 1)
SIZES = (1e6, 4e6, 16e6)
SETTINGS = FitSettings(n_bootstrap=200)


def batch_sweep(noise: float = 0.0) -> pd.DataFrame:
    """Curves of every size and batch: the best batch is 0.01 · D^0.8, others need more tokens."""
    rng = np.random.default_rng(0)
    rows = []
    for params in SIZES:
        for batch in BATCHES:
            luck = noise * rng.normal()
            for best_tokens in np.geomspace(1e7, 1e9, 12):
                best_batch = 0.01 * best_tokens**0.8
                waste = 0.08 * np.log(batch / best_batch) ** 2
                loss = 40 * best_tokens**-0.1 * params**-0.05
                tokens = best_tokens * np.exp(waste + luck)
                rows.append((params, batch, tokens, loss, f"{params:g}-{batch:g}"))
    columns = ["params", "batch_tokens", "tokens", "loss", "run_id"]
    frame = pd.DataFrame(rows, columns=columns).assign(family="a")
    return frame.assign(flops=6 * frame["params"] * frame["tokens"])


def rate_sweep(noise: float = 0.0) -> pd.DataFrame:
    """Every rate at every size, batch and length: the best is 0.002 · B^0.35."""
    rng = np.random.default_rng(0)
    rows = []
    for params in SIZES:
        for batch in BATCHES[::2]:
            for rate in RATES:
                loss = 3.0 + 0.05 * np.log(rate / (0.002 * batch**0.35)) ** 2
                loss = np.exp(loss - 3.0) * 3.0 * params**-0.02 * np.exp(noise * rng.normal())
                rows.append((params, batch, rate, 1000 * batch, loss))
    columns = ["params", "batch_tokens", "learning_rate", "tokens", "loss"]
    frame = pd.DataFrame(rows, columns=columns).assign(family="a")
    return frame.assign(flops=6 * frame["params"] * frame["tokens"])


def laws_of(frame: pd.DataFrame) -> BatchLaws:
    laws = fit_table(table(frame), SETTINGS).family("a").batch_laws
    assert laws is not None
    return laws


def test_the_planted_best_batch_is_recovered_from_training_curves() -> None:
    law = laws_of(batch_sweep()).batch_by_tokens
    assert law is not None
    assert law.exponent == pytest.approx(0.8, abs=1e-6)
    assert law.coefficient == pytest.approx(0.01, rel=1e-4)


def test_targets_between_the_stated_losses_are_interpolated() -> None:
    frame = batch_sweep()
    # Every batch is evaluated at tokens of its own: no loss is stated twice.
    shift = np.exp(0.01 * np.log2(frame["batch_tokens"]))
    frame["loss"] *= shift**-0.1
    frame["tokens"] *= shift
    frame["flops"] *= shift
    law = laws_of(frame).batch_by_tokens
    assert law is not None
    assert law.exponent == pytest.approx(0.8, abs=0.02)  # waste bends between the points


def test_the_interval_of_the_best_batch_holds_the_planted_exponent() -> None:
    law = laws_of(batch_sweep(noise=0.03)).batch_by_tokens
    assert law is not None
    assert law.exponent_ci[0] < 0.8 < law.exponent_ci[1]
    assert np.ptp(law.exponent_ci) > 0.001


def test_the_planted_best_rate_is_recovered() -> None:
    laws = laws_of(rate_sweep())
    assert laws.rate_by_batch is not None
    assert laws.rate_by_batch.exponent == pytest.approx(0.35, abs=1e-6)
    assert laws.rate_by_batch.coefficient == pytest.approx(0.002, rel=1e-4)
    assert laws.rate_by_tokens is not None
    assert laws.rate_by_tokens.exponent == pytest.approx(0.35, abs=1e-6)  # tokens = 1000 · batch


def test_the_interval_of_the_best_rate_holds_the_planted_exponent() -> None:
    law = laws_of(rate_sweep(noise=0.005)).rate_by_batch
    assert law is not None
    assert law.exponent_ci[0] < 0.35 < law.exponent_ci[1]


def test_curves_without_a_bracketed_vertex_are_counted_and_left_out() -> None:
    x = np.tile([1.0, 2.0, 4.0], 3)
    bracketed, falling, concave = [2.0, 1.0, 2.1], [3.0, 2.0, 1.5], [1.0, 2.0, 1.0]
    y = np.array([*bracketed, *falling, *concave])
    curve = np.repeat(np.arange(3), 3)
    best = find_vertices(VaryingCurves(x, y, curve, curve))
    assert best.curve_V.tolist() == [0]
    assert best.n_open == 2
    assert 1.0 < best.x_V[0] < 4.0
    assert best.y_V[0] <= 1.0


def test_a_curve_is_never_read_beyond_its_points() -> None:
    points = points_by_family(table(batch_sweep()).frame)["a"]
    curves = isoloss_curves(points)
    for batch in BATCHES:
        seen = points.tokens_P[points.batch_tokens_P == batch]
        read = curves.y_P[curves.x_P == batch]
        assert seen.min() * (1 - 1e-9) <= read.min()
        assert read.max() <= seen.max() * (1 + 1e-9)


def test_a_table_that_varies_neither_has_no_such_key() -> None:
    answer = to_json(fit_table(table(isoflop_rows()), SETTINGS))
    assert "batch_laws" not in answer["families"]["a"]
    frame = isoflop_rows().assign(batch_tokens=65536, learning_rate=0.3)
    answer = to_json(fit_table(table(frame), SETTINGS))
    assert "batch_laws" not in answer["families"]["a"]


def test_batches_that_are_all_too_small_are_null_with_a_named_warning() -> None:
    frame = batch_sweep()
    frame = frame[frame["batch_tokens"].isin(BATCHES[:3])]
    frame = frame[frame["loss"] < frame["loss"].median()]
    answer = to_json(fit_table(table(frame), SETTINGS))
    assert answer["families"]["a"]["batch_laws"]["batch_by_tokens"] is None
    assert "no_batch_law" in {warning["code"] for warning in answer["warnings"]}


def test_a_batch_that_follows_the_budget_is_no_sweep_of_batches() -> None:
    frame = isoflop_rows(noise=0.002)
    frame["batch_tokens"] = 2.0 ** np.round(np.log2(frame["tokens"] ** 0.8))
    answer = to_json(fit_table(table(frame), SETTINGS))
    assert "batch_laws" not in answer["families"]["a"]
    assert "no_batch_law" not in {warning["code"] for warning in answer["warnings"]}


def rates_of_sizes(
    sizes: tuple[float, ...],
    ratios: tuple[float, ...],
    best: Callable[[float, float], float],
    noise: float = 0.0,
) -> pd.DataFrame:
    """Rates a factor 2 apart about the best one, at every size and tokens per parameter."""
    rng = np.random.default_rng(1)
    rows = []
    for params in sizes:
        for tokens in (ratio * params for ratio in ratios):
            centre = 2.0 ** np.round(np.log2(best(params, tokens)))
            for rate in centre * 2.0 ** np.arange(-4, 5):
                waste = 0.004 * np.log(rate / best(params, tokens)) ** 2
                loss = 1.8 + 400 * params**-0.34 + 1200 * tokens**-0.34
                rows.append((params, tokens, rate, loss * np.exp(waste + noise * rng.normal())))
    frame = pd.DataFrame(rows, columns=["params", "tokens", "learning_rate", "loss"])
    return frame.assign(family="a", batch_tokens=131072, flops=6 * frame.params * frame.tokens)


LADDER = (1e8, 2e8, 4e8, 8e8)
RATIOS = (20.0, 40.0, 80.0, 160.0)


def step_law(params: float, tokens: float) -> float:
    return float(1.79 * params**-0.713 * tokens**0.307)


@pytest.mark.parametrize("noise", [0.0, 0.0005])
def test_the_best_rate_of_tokens_is_told_apart_from_that_of_size(noise: float) -> None:
    # Larger models see more tokens: over tokens alone the rate seems to fall.
    law = laws_of(rates_of_sizes(LADDER, RATIOS, step_law, noise)).rate_by_tokens
    assert law is not None
    assert law.params_exponent is not None
    assert law.exponent == pytest.approx(0.307, abs=0.08 if noise else 1e-6)
    assert law.params_exponent == pytest.approx(-0.713, abs=0.08 if noise else 1e-6)
    slack = 1e-6
    assert law.exponent_ci[0] - slack <= 0.307 <= law.exponent_ci[1] + slack
    assert law.at(3e8, 1e10) == pytest.approx(step_law(3e8, 1e10), rel=0.1 if noise else 1e-4)


def test_sizes_keep_levels_of_their_own_where_no_power_of_the_size_fits() -> None:
    level = dict(zip(LADDER, (0.02, 0.005, 0.03, 0.004), strict=True))
    frame = rates_of_sizes(LADDER, RATIOS, lambda n, d: level[n] * (d / 1e10) ** 0.3)
    law = laws_of(frame).rate_by_tokens
    assert law is not None
    assert law.exponent == pytest.approx(0.3, abs=1e-6)
    assert law.params_exponent is None
    assert law.coefficient is None
    assert law.at(4e8, 1e10) == pytest.approx(0.03, rel=1e-4)


def test_tokens_that_only_grow_with_size_say_nothing_about_tokens() -> None:
    frame = rates_of_sizes((*LADDER, 16e8), (20.0,), step_law)
    result = fit_table(table(frame), SETTINGS)
    laws = result.family("a").batch_laws
    assert laws is not None
    assert laws.rate_by_tokens is None
    assert "sizes_disagree" in {warning.code for warning in result.warnings}


def test_sizes_that_disagree_on_the_exponent_are_named() -> None:
    slope = dict(zip(LADDER, (0.3, 0.3, -0.3, -0.3), strict=True))
    frame = rates_of_sizes(LADDER, RATIOS, lambda n, d: 0.01 * (d / 1e10) ** slope[n])
    result = fit_table(table(frame), SETTINGS)
    remarks = [w.message for w in result.warnings if w.code == "sizes_disagree"]
    assert any("eta*(D)" in remark and "-0.30 to 0.30" in remark for remark in remarks)
