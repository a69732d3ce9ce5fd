"""Valleys: planted optima, brackets, intervals, and what is left out by name."""

import numpy as np
import pandas as pd
import pytest
from planted_tables import BUDGETS, Surface, isoflop_rows, table, trajectory_rows

from analysis.fitting.fit import FitSettings, fit_table
from analysis.isoflop.curves import IsoFlopMethod
from analysis.isoflop.isoflop import IsoFlopFit, fit_isoflop
from analysis.stats.bootstrap import Resampler
from analysis.stats.power_law import PowerLaw
from analysis.tables.points import points_by_family

PLANTED = Surface()
ASYMMETRIC = Surface(alpha=0.3, beta=0.6, A=40.0, B=2e4)


def fitted(
    frame: pd.DataFrame, method: IsoFlopMethod = "pair", n_resamples: int = 200
) -> IsoFlopFit:
    points = points_by_family(table(frame).frame)["a"]
    return fit_isoflop(points, method, Resampler.create([points], n_resamples, 0))


def codes(fit: IsoFlopFit) -> list[str]:
    return [warning.code for warning in fit.warnings]


@pytest.mark.parametrize("surface", [PLANTED, ASYMMETRIC])
def test_pair_is_exact_on_surfaces_of_its_form(surface: Surface) -> None:
    fit = fitted(isoflop_rows(surface=surface))
    assert fit.params_law is not None
    assert fit.tokens_law is not None
    assert fit.params_law.exponent == pytest.approx(surface.params_exponent, abs=1e-6)
    assert fit.tokens_law.exponent == pytest.approx(1 - surface.params_exponent, abs=1e-6)
    assert fit.exponents == pytest.approx((surface.alpha, surface.beta), rel=1e-4)
    for optimum in fit.optima:
        assert optimum.bracketed
        assert optimum.params == pytest.approx(surface.best_params(optimum.flops), rel=1e-5)
        assert optimum.loss == pytest.approx(surface.best_loss(optimum.flops), rel=1e-7)


def test_pair_extrapolates_without_the_bias_of_parabolas() -> None:
    # Targets of the fitting spec: |bias| of log10 N*(1e24) below .005 without noise.
    frame = isoflop_rows(surface=ASYMMETRIC, n_sizes=15)
    truth = np.log10(ASYMMETRIC.best_params(1e24))
    miss = {}
    for method in ("pair", "parabola"):
        law = fitted(frame, method).params_law
        assert law is not None
        miss[method] = abs(np.log10(law(1e24)) - truth)
    assert miss["pair"] < 0.005
    assert miss["parabola"] > 0.02


HOFFMANN = Surface(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


def tokens_law(half_width: float, method: IsoFlopMethod) -> PowerLaw:
    """Of noise-free valleys of 15 sizes, 10¹⁷ to 10²¹ FLOPs, from 1/w to w times the best size."""
    rows = isoflop_rows(
        surface=HOFFMANN,
        budgets=np.geomspace(1e17, 1e21, 5),
        n_sizes=15,
        half_width=half_width,
    )
    law = fitted(rows, method, n_resamples=20).tokens_law
    assert law is not None
    return law


@pytest.mark.parametrize(
    ("half_width", "percent"), [(2.0, -0.33), (4.0, -1.30), (8.0, -2.90), (16.0, -5.10)]
)
def test_parabolas_are_biased_as_published_and_pair_is_not(
    half_width: float, percent: float
) -> None:
    # arXiv 2603.22339: the error of tokens extrapolated to 1e24 FLOPs.
    truth = 1e24 / 6 / HOFFMANN.best_params(1e24)
    by_parabola = 100 * (tokens_law(half_width, "parabola")(1e24) / truth - 1)
    assert by_parabola == pytest.approx(percent, abs=0.005)  # the digits printed
    bias = np.log10(tokens_law(half_width, "pair")(1e24) / truth)
    assert abs(bias) < 0.005


def test_the_intercept_of_biased_parabolas_is_the_published_one() -> None:
    log_truth = np.log10(1e20 / 6 / HOFFMANN.best_params(1e20))
    slope = 1 - HOFFMANN.params_exponent
    assert log_truth - 20 * slope == pytest.approx(-0.555357, abs=1e-6)
    assert np.log10(tokens_law(16.0, "parabola").coefficient) == pytest.approx(-0.578092, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "tolerance"),
    # Parabolas are biased on valleys 64 times wide, Akima minima move with single points.
    [("pair", 0.03), ("parabola", 0.06), ("akima", 0.1)],
)
def test_planted_exponent_is_recovered_from_noisy_points(
    method: IsoFlopMethod, tolerance: float
) -> None:
    fit = fitted(isoflop_rows(noise=0.002, seed=2, n_sizes=9), method)
    assert fit.params_law is not None
    assert fit.params_law.exponent == pytest.approx(PLANTED.params_exponent, abs=tolerance)
    assert fit.noise == pytest.approx(0.002, rel=0.6) or method != "pair"


def test_intervals_hold_the_truth_and_are_finite() -> None:
    fit = fitted(trajectory_rows(seed=4), n_resamples=400)
    assert len(fit.bracketed) >= 4
    assert fit.params_law is not None
    low, high = fit.params_law.exponent_ci
    assert low < PLANTED.params_exponent < high
    for optimum in fit.bracketed:
        assert optimum.params_ci is not None
        assert optimum.params_ci[0] < PLANTED.best_params(optimum.flops) < optimum.params_ci[1]
        assert np.all(np.isfinite([*optimum.params_ci, *(optimum.loss_ci or ())]))


def test_budgets_whose_flops_jitter_do_not_move_the_optimum() -> None:
    frame = isoflop_rows()
    rng = np.random.default_rng(0)
    frame["tokens"] *= np.exp(0.05 * rng.standard_normal(len(frame)))
    frame["flops"] = 6 * frame["params"] * frame["tokens"]
    frame["loss"] = PLANTED.loss(frame["params"].to_numpy(), frame["tokens"].to_numpy())
    for optimum in fitted(frame).optima:
        assert optimum.params == pytest.approx(PLANTED.best_params(optimum.flops), rel=1e-4)


def test_a_cost_per_token_that_is_not_6n_moves_the_optimum_as_it_should() -> None:
    # C = 6·(N + H·sqrt(N))·D: a head that weighs on small models, as in real ladders.
    frame = isoflop_rows(n_sizes=11)
    cost = 6 * (frame["params"] + 300 * np.sqrt(frame["params"]))
    frame["tokens"] = frame["budget_flops"] / cost
    frame["loss"] = PLANTED.loss(frame["params"].to_numpy(), frame["tokens"].to_numpy())
    for optimum in fitted(frame).optima:
        params = np.geomspace(0.1, 10, 20001) * (optimum.params or 1.0)
        tokens = optimum.flops / (6 * (params + 300 * np.sqrt(params)))
        best = params[np.argmin(PLANTED.loss(params, tokens))]
        assert optimum.params == pytest.approx(best, rel=0.01)


def test_a_valley_without_an_end_is_named_and_left_out() -> None:
    frame = isoflop_rows(noise=0.001, n_sizes=9)
    first = frame["budget_flops"] == BUDGETS[0]
    small = frame["params"] < 0.9 * PLANTED.best_params(BUDGETS[0])
    fit = fitted(frame[~(first & small)])
    assert fit.optima[0].reason == "minimum_at_smallest"
    assert fit.optima[0].params is None
    assert len(fit.optima[0].curve_loss) > 10
    assert len(fit.bracketed) == 4
    unbracketed = next(c for c in fit.warnings if c.code == "unbracketed_budget")
    assert unbracketed.budget_flops == BUDGETS[0]
    assert "add smaller sizes" in unbracketed.message


def test_flat_concave_and_thin_budgets_are_not_bracketed() -> None:
    rng = np.random.default_rng(0)
    flat = isoflop_rows(noise=0.001)
    last = flat["budget_flops"] == BUDGETS[-1]
    flat.loc[last, "loss"] = 2.0 * np.exp(0.001 * rng.standard_normal(last.sum()))
    assert not fitted(flat).optima[-1].bracketed
    concave = isoflop_rows(noise=0.001)
    concave.loc[last, "loss"] = 8.0 - concave.loc[last, "loss"]
    assert not fitted(concave).optima[-1].bracketed
    thin = isoflop_rows(noise=0.001).drop(index=range(4))
    assert fitted(thin).optima[0].reason == "too_few_sizes"


def test_laws_need_two_bracketed_budgets() -> None:
    single = fitted(isoflop_rows(noise=0.001, budgets=BUDGETS[:1]))
    assert single.params_law is None
    assert single.optima[0].bracketed
    assert "single_budget" in codes(single)
    double = fitted(isoflop_rows(noise=0.001, budgets=BUDGETS[:2]))
    assert double.params_law is not None
    assert "law_from_two_budgets" in codes(double)


def test_few_points_get_parabolas_and_a_remark() -> None:
    fit = fitted(isoflop_rows(noise=0.001, budgets=BUDGETS[:3], n_sizes=4))
    assert fit.method == "parabola"
    assert "parabola_instead_of_pair" in codes(fit)


def test_one_misread_point_does_not_choose_the_shape_of_all_valleys() -> None:
    frame = isoflop_rows(noise=0.001, n_sizes=9)
    frame["loss"] *= np.where(frame.index == 0, 1.2, 1.0)
    fit = fitted(frame)
    assert fit.params_law is not None
    assert fit.params_law.exponent == pytest.approx(PLANTED.params_exponent, abs=0.03)


def test_points_far_apart_in_flops_are_remarked() -> None:
    frame = isoflop_rows(noise=0.001)
    frame.loc[frame.index % 2 == 0, "flops"] *= 2
    assert "uneven_budget" in codes(fitted(frame))


def test_the_same_seed_gives_the_same_intervals_whatever_the_order_of_rows() -> None:
    frame = isoflop_rows(noise=0.002)
    again, other = fitted(frame), fitted(frame.sample(frac=1, random_state=1))
    once = fitted(frame)
    assert once.params_law is not None
    assert again.params_law is not None
    assert other.params_law is not None
    assert once.params_law.exponent_ci == again.params_law.exponent_ci
    assert once.params_law.exponent == pytest.approx(other.params_law.exponent, abs=1e-9)


def test_a_minimum_that_noise_leaves_anywhere_among_the_sizes_is_no_optimum() -> None:
    frame = isoflop_rows("a", noise=0.005)
    frame.loc[::6, "loss"] *= 3.0
    fit = fit_table(table(frame), FitSettings(n_bootstrap=200)).families["a"].isoflop
    assert fit is not None
    for optimum in fit.bracketed:
        assert optimum.params_ci is not None
        assert optimum.params_ci[1] / optimum.params_ci[0] < 64  # sizes span a factor 64
    assert any(o.reason == "flat" and o.params is None for o in fit.optima)
