"""What one series promises at a budget: size, tokens and loss, and how to train there.

Read off the isoFLOP laws and the frontier, else off the surface; so is a budget outside the others
where hold-out says that the surface predicts better. Suffixes: R resamples, P points.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis import notation
from analysis.answers.forms import (
    SIZE_MARGIN,
    Outlook,
    are_apart,
    errors_of_forms,
    ranked,
    span,
)
from analysis.errors import FitWarning, SettingsError
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.fitting.holdout import FormName
from analysis.isoflop.frontier import frontier
from analysis.stats.cost import CostPerToken
from analysis.stats.power_law import PowerLaw, percentile_interval
from analysis.surface.optimum import surface_optima
from analysis.surface.surface import N_COEFFICIENTS, SurfaceFit
from analysis.tables.points import FloatArray
from analysis.tables.published import recipe_law
from analysis.tables.tidy import AS_GIVEN

BUDGETS = (1.0, 1e40)
"""What can be asked for: within it no law overflows, and outside it nothing was ever trained."""

Json = dict[str, Any]
Source = Literal["isoflop", "surface"]


@dataclass(frozen=True)
class Estimate:
    """A value and its prediction interval, 95 % of what the next budget would show."""

    value: float
    ci: tuple[float, float]


@dataclass(frozen=True)
class Advice:
    """A training setting from a law, and whose law it is."""

    value: float
    source: str


@dataclass(frozen=True)
class Prediction:
    """What `sweeper predict` says; parts are None where the data cannot support them."""

    family: str
    flops: float
    source: Source | None
    params: Estimate | None
    tokens: Estimate | None
    loss: Estimate | None
    """Of one new run at the optimum, nats per token."""
    extrapolation_decades: float
    """Distance from the budgets behind the numbers in log10 of compute; 0 among them."""
    batch_tokens: Advice | None
    learning_rate: Advice | None
    params_convention: str
    warnings: tuple[FitWarning, ...]
    fit_warnings: tuple[FitWarning, ...]
    """On the fit that it is read off."""


@dataclass(frozen=True)
class _OptimumDraws:
    """Log of the optimum at a budget; entry 0 is the estimate, the others are draws, (1 + R,)."""

    source: Source
    log_params_R: FloatArray
    log_tokens_R: FloatArray
    log_loss_R: FloatArray
    residual_P: FloatArray
    """Relative, of single runs."""


def predict(result: FitResult, family: str, flops: float) -> Prediction:
    """Predict one series at a budget; raises `SettingsError` for no such series or budget."""
    if not BUDGETS[0] <= flops <= BUDGETS[1]:
        low, high = BUDGETS
        message = f"--flops {flops:g}: expected a budget of {low:g} to {high:g} FLOPs, say 1e21"
        raise SettingsError(message)
    fit = result.family(family)
    fit_warnings = tuple(c for c in result.warnings if c.family in (None, family))
    # Compute behind the numbers: of the bracketed budgets, else of all points.
    bracketed = () if fit.isoflop is None else fit.isoflop.bracketed
    behind = [value for o in bracketed for value in (o.budget_flops, o.flops)]
    behind = behind or fit.points.flops_P.tolist()
    observed = min(behind), max(behind)
    decades = max(0.0, math.log10(observed[0] / flops), math.log10(flops / observed[1]))
    rng = np.random.default_rng([result.settings.seed, 3])  # stream 3 of the fit's seed
    optimum = _optimum(fit, flops, decades > 0, rng)
    if isinstance(optimum, FitWarning):
        return Prediction(
            family, flops, None, None, None, None, decades, None, None,
            result.params_convention, (optimum,), fit_warnings,
        )  # fmt: skip
    optimum, other = _ranked(fit, optimum, flops) if decades > 0 else (optimum, None)
    warnings = _trust_warnings(fit, optimum, decades, observed)
    params, tokens, loss = _estimates(optimum, rng)
    if other is not None:
        # No data say which form holds outside the budgets: intervals span what both predict, unless
        # hold-out refutes one.
        alternative = _estimates(other, rng)
        warnings += _disagreement(optimum, loss, alternative[2], family)
        params, tokens, loss = (
            Estimate(one.value, span(one.ci, two.ci))
            for one, two in zip((params, tokens, loss), alternative, strict=True)
        )
    batch_tokens, learning_rate, advice_warnings = _advice(result, fit, params.value, tokens.value)
    return Prediction(
        family=family,
        flops=flops,
        source=optimum.source,
        params=params,
        tokens=tokens,
        loss=loss,
        extrapolation_decades=decades,
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        params_convention=result.params_convention,
        warnings=(*warnings, *advice_warnings),
        fit_warnings=fit_warnings,
    )


def to_json(prediction: Prediction) -> Json:
    """The answer of `sweeper predict --json`: numbers are finite or null."""
    warnings = (*prediction.warnings, *prediction.fit_warnings)
    answer: Json = notation.to_json(
        prediction, "family", "flops", "source", "params", "tokens", "loss",
        "extrapolation_decades", "batch_tokens", "learning_rate",
    )  # fmt: skip
    return answer | {"warnings": notation.to_json(warnings)}


def _optimum(
    fit: FamilyFit, flops: float, is_outside: bool, rng: np.random.Generator
) -> _OptimumDraws | FitWarning:
    """Off the laws and the frontier, else off the surface, or why there is neither."""
    isoflop, found = fit.isoflop, frontier(fit.isoflop)
    if isoflop is None or found is None:
        if fit.surface is not None:
            return _surface_optimum(fit, fit.surface, flops)
        message = (
            "no frontier is identified: fewer than two budgets are bracketed and there is no "
            "surface; `sweeper propose` names the runs to add"
        )
        return FitWarning("no_prediction", message, fit.family)
    params_law, tokens_law, loss_law = isoflop.params_law, isoflop.tokens_law, isoflop.loss_law
    assert params_law is not None, "a frontier comes with all three laws"
    assert tokens_law is not None, "a frontier comes with all three laws"
    assert loss_law is not None, "a frontier comes with all three laws"
    log_loss_R = found.log_loss(math.log(flops))
    if is_outside:  # among its budgets the frontier passes through them, whatever the law misses
        log_loss_R = log_loss_R + _scatter(loss_law, rng)
    return _OptimumDraws(
        source="isoflop",
        log_params_R=_law_draws(params_law, flops, rng),
        log_tokens_R=_law_draws(tokens_law, flops, rng),
        log_loss_R=log_loss_R,
        residual_P=isoflop.residual_P,
    )


def _ranked(
    fit: FamilyFit, optimum: _OptimumDraws, flops: float
) -> tuple[_OptimumDraws, _OptimumDraws | None]:
    """The form that predicted larger budgets better, then the other; the laws first if untried."""
    if optimum.source == "surface" or fit.surface is None:
        return optimum, None
    other = _surface_optimum(fit, fit.surface, flops)
    if isinstance(other, FitWarning):
        return optimum, None
    outlook = Outlook.of(fit)
    assert outlook is not None, "laws come with a frontier"
    law = outlook.law_form
    found: dict[FormName, _OptimumDraws] = {law: optimum, "surface": other}
    first, *rest = (found[form] for form in ranked([outlook], law, "surface"))
    return first, rest[0] if rest else None


def _law_draws(law: PowerLaw, flops: float, rng: np.random.Generator) -> FloatArray:
    # Log of a law's value, then its draws as a new budget would scatter about them.
    draws_R = np.concatenate([[law(flops)], law.draws(flops)])
    result: FloatArray = np.log(draws_R) + _scatter(law, rng)
    return result


def _scatter(law: PowerLaw, rng: np.random.Generator) -> FloatArray:
    """Deviation of a budget from its law beyond the noise of its points; none for the estimate."""
    scatter_R = law.scatter * rng.standard_normal(len(law.exponent_R))
    return np.concatenate([[0.0], scatter_R])


def _surface_optimum(
    fit: FamilyFit, surface: SurfaceFit, flops: float
) -> _OptimumDraws | FitWarning:
    points = fit.points
    cost, n_draws = CostPerToken.of(points), len(surface.draws["E"])
    found = surface_optima(surface, cost, np.log([flops]), SIZE_MARGIN, n_draws)
    if found is None:
        message = f"the surface has no optimum within four decades of the sizes at {flops:.3g}"
        return FitWarning("no_prediction", message, fit.family)
    fitted_P = [surface(n, d) for n, d in zip(points.params_P, points.tokens_P, strict=True)]
    n_points = len(points.loss_P)
    # Residuals as if the fit had absorbed none of the noise.
    absorbed = math.sqrt(n_points / (n_points - N_COEFFICIENTS))
    residual_P = absorbed * (np.log(points.loss_P) - np.log(fitted_P))
    return _OptimumDraws(
        source="surface",
        log_params_R=found.log_params_RK[:, 0],
        log_tokens_R=found.log_tokens_RK[:, 0],
        log_loss_R=found.log_loss_RK[:, 0],
        residual_P=residual_P,
    )


def _estimates(optimum: _OptimumDraws, rng: np.random.Generator) -> tuple[Estimate, ...]:
    """Size and tokens of the optimum, and the loss of a run there."""
    # Every draw of the curve gets the residual of some run.
    n_draws = len(optimum.log_loss_R) - 1
    residual_R = rng.choice(optimum.residual_P, n_draws) * rng.choice([-1.0, 1.0], n_draws)
    log_loss_R = optimum.log_loss_R + np.concatenate([[0.0], residual_R])
    estimates = []
    for log_value_R in (optimum.log_params_R, optimum.log_tokens_R, log_loss_R):
        low, high = percentile_interval(log_value_R[1:])
        estimates.append(Estimate(math.exp(log_value_R[0]), (math.exp(low), math.exp(high))))
    return tuple(estimates)


def _disagreement(
    optimum: _OptimumDraws, loss: Estimate, alternative: Estimate, family: str
) -> list[FitWarning]:
    """A remark where neither form would expect the loss that the other predicts."""
    if not are_apart(loss.ci, alternative.ci):
        return []
    forms = ("loss law", "surface") if optimum.source == "isoflop" else ("surface", "loss law")
    message = (
        f"the {forms[0]} predicts {loss.value:.4g} there and the {forms[1]} "
        f"{alternative.value:.4g}; the intervals span both"
    )
    return [FitWarning("forms_disagree", message, family)]


def _trust_warnings(
    fit: FamilyFit, optimum: _OptimumDraws, decades: float, observed: tuple[float, float]
) -> list[FitWarning]:
    warnings = []
    if optimum.source == "surface":
        why = f"there are no isoFLOP {'laws' if fit.isoflop else 'budgets'}"
        if (outlook := Outlook.of(fit)) is not None:
            errors = errors_of_forms(outlook, outlook.law_form, "surface")
            of = "predicting larger budgets from smaller ones" if errors.is_held_out else "of L*"
            why = (
                f"{of} it misses by {errors.other:.2%} on average, the loss law by {errors.law:.2%}"
            )
        message = f"read off the surface L(N, D): {why}"
        warnings.append(FitWarning("read_off_the_surface", message, fit.family))
        log_params_P = np.log(fit.points.params_P)
        is_within = log_params_P.min() <= optimum.log_params_R[0] <= log_params_P.max()
        if decades == 0 and not is_within:
            message = "the surface's optimum lies outside the sizes that were trained"
            warnings.append(FitWarning("optimum_outside_sizes", message, fit.family))
    if decades > 1:  # from there no interval covers what the functional form gets wrong
        message = (
            f"{decades:.1f} decades outside {observed[0]:.3g} to {observed[1]:.3g} FLOPs: the "
            "intervals assume that the same laws go on there"
        )
        warnings.append(FitWarning("far_extrapolation", message, fit.family))
    return warnings


def _advice(
    result: FitResult, fit: FamilyFit, params: float, tokens: float
) -> tuple[Advice | None, Advice | None, list[FitWarning]]:
    """Batch size and learning rate at the optimum, each None where no law reaches there."""
    own = fit.batch_laws
    is_ours = result.params_convention != AS_GIVEN
    if is_ours and (own is None or own.batch_by_tokens is None or own.rate_by_batch is None):
        return _recipe(fit, tokens)
    batch = rate = None
    source = "law fitted to this series"
    if own is not None and own.batch_by_tokens is not None:
        value = own.batch_by_tokens.at(params, tokens)
        batch = None if value is None else Advice(value, f"{source}, at D*")
    if own is not None and own.rate_by_tokens is not None:
        value = own.rate_by_tokens.at(params, tokens)
        rate = None if value is None else Advice(value, f"{source}, at N* and D*")
    elif own is not None and own.rate_by_batch is not None and batch is not None:
        value = own.rate_by_batch.at(params, batch.value)
        rate = None if value is None else Advice(value, f"{source}, at that batch")
    missing = [
        name for name, one in (("batch size", batch), ("learning rate", rate)) if one is None
    ]
    if not missing:
        return batch, rate, []
    # The rates of another parametrisation differ by orders of magnitude.
    message = (
        f"no {' or '.join(missing)}: no law fitted to this series reaches the optimum, and laws "
        "of another parametrisation do not hold for it; tune there"
    )
    return batch, rate, [FitWarning("no_recipe", message, fit.family)]


def _recipe(fit: FamilyFit, tokens: float) -> tuple[Advice | None, Advice | None, list[FitWarning]]:
    """What `auto` means in a sweep of ours, within what its laws were fitted over."""
    batch_law, rate_law = recipe_law("batch_tokens"), recipe_law("learning_rate")
    batch_tokens = batch_law(tokens)
    assert batch_tokens is not None, "the laws of the recipe have coefficients"
    rate = rate_law(batch_tokens)
    assert rate is not None, "the laws of the recipe have coefficients"
    if not (batch_law.covers(tokens) and rate_law.covers(batch_tokens)):
        assert batch_law.x_range is not None, "the laws of the recipe have ranges"
        low, high = (notation.count(value) for value in batch_law.x_range)
        message = (
            f"no batch size or learning rate: {notation.count(tokens)} tokens are outside the "
            f"{low} to {high} that the laws of {batch_law.source} were fitted over; tune them"
        )
        return None, None, [FitWarning("recipe_extrapolated", message, fit.family)]
    # Learning rates of hidden matrices at depth and width 1, which CompleteP divides by both.
    rate_source = f"{rate_law.source}, {rate_law.place} at that batch: base rate of `auto`"
    return (
        Advice(batch_tokens, f"{batch_law.source}, {batch_law.place} at D*"),
        Advice(rate, f"{rate_source}, which the worker scales by width (CompleteP)"),
        [],
    )
