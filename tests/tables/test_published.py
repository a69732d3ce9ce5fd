"""Published laws: rows that agree with each other and with the data behind them, and the choice."""

import dataclasses

import pytest
from planted_tables import SHARED_DATA, isoflop_rows, table

from analysis.errors import SettingsError
from analysis.fitting.fit import FitSettings, fit_table
from analysis.report.published_table import exponents_of, published_json, with_published
from analysis.tables.load import load
from analysis.tables.published import (
    FRONTIER,
    PublishedLaw,
    chosen_laws,
    counted_alike,
    published_laws,
    published_names,
)

SAHOO = {"sahoo-ar": "AR", "sahoo-mdlm": "MDLM", "sahoo-duo": "Duo", "sahoo-esolm": "EsoLM"}


def law(name: str, quantity: str, **counts: str) -> PublishedLaw:
    found = [x for x in chosen_laws(name) if x.quantity == quantity]
    found = [x for x in found if all(getattr(x, k) == v for k, v in counts.items())]
    assert len(found) == 1, found
    return found[0]


def test_no_law_is_listed_twice_and_each_says_where_it_is_from() -> None:
    keys = [(x.name, x.quantity, x.against, x.params, x.flops) for x in published_laws()]
    assert len(set(keys)) == len(keys)
    assert all(x.source and x.place for x in published_laws())


def test_intervals_hold_their_exponents_and_state_their_level() -> None:
    for one in published_laws():
        if one.exponent_ci is not None:
            assert one.exponent_ci[0] <= one.exponent <= one.exponent_ci[1], one
            assert one.level in (0.9, 0.95, 0.99)


@pytest.mark.parametrize("name", ["masked", "low-uniform", "balanced", "high-uniform", "uniform"])
def test_sizes_and_tokens_that_count_6n_multiply_to_the_budget(name: str) -> None:
    params = law(f"gidd-{name}", "params", flops="6N")
    tokens = law(f"gidd-{name}", "tokens", flops="6N")
    # Two fits to the vertices of two sets of parabolas, printed to five digits.
    assert params.exponent + tokens.exponent == pytest.approx(1.0, abs=1e-4)
    sizes, amounts = params(1e19), tokens(1e19)
    assert sizes is not None
    assert amounts is not None
    # The coefficient of N* is printed to two digits.
    assert 6 * sizes * amounts == pytest.approx(1e19, rel=0.03)


@pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason=f"the reference tables are absent: no folder {SHARED_DATA}"
)
@pytest.mark.parametrize("name", SAHOO)
def test_laws_read_off_a_figure_are_those_of_its_points(name: str) -> None:
    settings = FitSettings(isoflop="parabola", n_bootstrap=20)
    result = fit_table(load(SHARED_DATA / "sahoo_isoflop_points.csv"), settings)
    fit = result.family(SAHOO[name]).isoflop
    assert fit is not None
    fitted = {"loss": fit.loss_law, "params": fit.params_law, "tokens": fit.tokens_law}
    for quantity, ours in fitted.items():
        counts = {"params": "trunk+head"} if quantity == "params" else {}
        theirs = law(name, quantity, **counts)
        assert ours is not None
        # Vertices in the published table have four digits; tokens come from another parabola.
        tolerance = 0.01 if quantity == "tokens" else 1e-3
        assert theirs.exponent == pytest.approx(ours.exponent, rel=tolerance)
        assert theirs(3e19) == pytest.approx(ours(3e19), rel=tolerance)


def test_names_are_chosen_by_pattern_and_by_group() -> None:
    assert {x.name for x in chosen_laws("gidd-m*, ni")} == {"gidd-masked", "ni"}
    assert {x.name for x in chosen_laws("all")} == set(published_names())
    assert {x.name for x in chosen_laws("main")} < set(published_names())
    assert {x.quantity for x in chosen_laws("all")} <= set(FRONTIER)
    assert {x.against for x in chosen_laws("all")} == {"flops"}


def test_an_unknown_name_is_refused_with_a_hint() -> None:
    with pytest.raises(SettingsError, match="did you mean 'chinchilla'"):
        chosen_laws("chinchila")


def test_laws_that_count_as_we_do_are_preferred() -> None:
    for params, flops in (("trunk", "6N"), ("trunk+head", "no-attention"), ("as given", "full")):
        chosen = counted_alike(chosen_laws("gidd-masked,sahoo-ar"), params, flops)
        assert len({(x.name, x.quantity) for x in chosen}) == len(chosen) == 6
    (ours,) = (x for x in counted_alike(chosen_laws("sahoo-ar"), "trunk", "full") if x.params)
    assert ours.params == "trunk"


def test_a_law_without_coefficient_has_an_exponent_and_no_value() -> None:
    assert law("nie-ar", "loss").exponent == -0.0633
    assert law("nie-ar", "loss")(1e20) is None


def test_a_fit_that_carries_published_laws_says_that_levels_do_not_compare() -> None:
    fit = fit_table(table(isoflop_rows()), FitSettings(n_bootstrap=20))
    beside = with_published(fit, "gidd-masked,nie-ar")
    assert "published_levels_differ" in {warning.code for warning in beside.warnings}
    assert dataclasses.replace(beside, published=(), warnings=fit.warnings) == fit
    found = exponents_of(beside.published)
    assert "−0.0496 [−0.0500, −0.0493] 95%" in "\n".join(found.lines())
    assert len(found.lines()) == 3
    assert all(len(row) == len(found.columns) for row in found.rows)
    assert {x["name"] for x in published_json(beside.published)} == {"gidd-masked", "nie-ar"}
