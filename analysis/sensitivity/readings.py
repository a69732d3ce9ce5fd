"""One series read in one way: three exponents and a frontier, or the reason why not.

Every function here starts from what the fit already has and changes one thing. A reading is never
a substitute: where a way needs more data than there are, its numbers are absent.

Suffixes: R resamples, P points, K budgets.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import PchipInterpolator

from analysis.fitting.fit import FamilyFit
from analysis.isoflop.cost import CostPerToken
from analysis.isoflop.curves import IsoFlopMethod
from analysis.isoflop.frontier import Frontier, frontier
from analysis.isoflop.isoflop import IsoFlopFit, fit_isoflop, with_laws
from analysis.stats.bootstrap import Resampler
from analysis.stats.power_law import LawName, PowerLaw
from analysis.surface.optimum import surface_optima
from analysis.tables.points import BoolArray, FloatArray, Points

SEARCH_MARGIN = 2.0
"""How far beyond the observed log sizes a surface's optimum is looked for."""


@dataclass(frozen=True)
class Reading:
    """What one series says in one way."""

    laws: Mapping[LawName, PowerLaw] = field(default_factory=dict)
    """Those there are."""
    frontier: Frontier | None = None
    reason: str = ""
    """Why a law or the frontier is missing."""
    is_touched: bool = True
    """Whether the way changes anything about this series."""


@dataclass(frozen=True)
class Ways:
    """What all readings of a comparison share."""

    resampler: Resampler
    with_offset: bool
    """Whether the loss laws of the fit have an offset: without, their exponents mean another
    thing."""


def reading_of(fit: IsoFlopFit, *, with_offset: bool) -> Reading:
    """The laws of a fit, the loss law in the form asked for."""
    if fit.params_law is None or fit.tokens_law is None or fit.loss_law is None:
        return Reading(reason=_why_no_laws(fit))
    laws: dict[LawName, PowerLaw] = {"params": fit.params_law, "tokens": fit.tokens_law}
    loss_law = fit.offset_law if with_offset else fit.loss_law
    if loss_law is None:
        reason = "here the losses do not support the offset that the fitted loss law has"
        return Reading(laws, frontier(fit), reason)
    laws["loss"] = loss_law
    return Reading(laws, frontier(dataclasses.replace(fit, loss_law=loss_law)))


def _why_no_laws(fit: IsoFlopFit) -> str:
    return f"{len(fit.bracketed)} of {len(fit.optima)} budgets bracketed, a law needs two"


def refitted(points: Points, method: IsoFlopMethod, ways: Ways) -> Reading:
    """Valleys and laws anew; none where the data are too few for this method."""
    fit = fit_isoflop(points, method, ways.resampler)
    if fit.method != method:
        return Reading(reason=f"too few points for method {method}")
    return reading_of(fit, with_offset=ways.with_offset)


def first_draws(fit: IsoFlopFit, n_draws: int) -> IsoFlopFit:
    """The fit with its first resamples only."""
    return dataclasses.replace(
        fit,
        log_params_RK=fit.log_params_RK[:n_draws],
        log_tokens_RK=fit.log_tokens_RK[:n_draws],
        log_loss_RK=fit.log_loss_RK[:n_draws],
    )


def on_budgets(fit: IsoFlopFit, family: str, kept_K: BoolArray, ways: Ways) -> Reading:
    """Laws through some of the bracketed budgets; their valleys stay as they were drawn."""
    kept = tuple(o for o, keep in zip(fit.bracketed, kept_K, strict=True) if keep)
    if len(kept) < 2:
        return Reading(reason=f"{len(kept)} bracketed budgets are left, a law needs two")
    fewer = dataclasses.replace(
        fit,
        optima=kept,
        log_params_RK=fit.log_params_RK[:, kept_K],
        log_tokens_RK=fit.log_tokens_RK[:, kept_K],
        log_loss_RK=fit.log_loss_RK[:, kept_K],
    )
    return _with_new_laws(fewer, family, ways)


def relabelled(fit: IsoFlopFit, points: Points, params_P: FloatArray, ways: Ways) -> Reading:
    """The best models under another count of parameters.

    Which model is best does not depend on what its size is called, so valleys stay as drawn and
    their lowest points are renamed, between two sizes by a monotone cubic in logs.
    """
    if len(fit.bracketed) < 2:
        return Reading(reason=_why_no_laws(fit))
    old, rung_P = np.unique(np.log(points.params_P), return_inverse=True)
    new = np.bincount(rung_P, np.log(params_P)) / np.bincount(rung_P)
    if np.any(np.diff(new) <= 0):
        return Reading(reason="sizes are ordered differently under this count")
    rename = PchipInterpolator(old, new)
    renamed = {
        optimum.budget_flops: float(np.exp(rename(np.log(optimum.params))))
        for optimum in fit.bracketed
        if optimum.params is not None
    }
    optima = tuple(
        dataclasses.replace(o, params=renamed.get(o.budget_flops, o.params)) for o in fit.optima
    )
    again = dataclasses.replace(fit, optima=optima, log_params_RK=rename(fit.log_params_RK))
    return _with_new_laws(again, points.family, ways)


def along_surface(fit: FamilyFit, ways: Ways) -> Reading:
    """Optima of the surface L(N, D) at the bracketed budgets, and the laws through them."""
    if fit.isoflop is None or len(fit.isoflop.bracketed) < 2:
        return Reading(reason="fewer than two bracketed budgets to read the surface at")
    if fit.surface is None:
        return Reading(reason="no surface is fitted")
    bracketed, cost = fit.isoflop.bracketed, CostPerToken.of(fit.points)
    log_flops_K = np.log([optimum.flops for optimum in bracketed])
    n_draws = ways.resampler.n_resamples
    found = surface_optima(fit.surface, cost, log_flops_K, SEARCH_MARGIN, n_draws)
    if found is None:
        return Reading(reason="the surface has no optimum near the sizes that were trained")
    best_3K = np.exp([found.log_params_RK[0], found.log_tokens_RK[0], found.log_loss_RK[0]])
    optima = tuple(
        dataclasses.replace(optimum, params=params, tokens=tokens, loss=loss)
        for optimum, (params, tokens, loss) in zip(bracketed, best_3K.T.tolist(), strict=True)
    )
    moved = dataclasses.replace(
        fit.isoflop,
        optima=optima,
        log_params_RK=found.log_params_RK[1:],
        log_tokens_RK=found.log_tokens_RK[1:],
        log_loss_RK=found.log_loss_RK[1:],
    )
    return _with_new_laws(moved, fit.family, ways)


def _with_new_laws(fit: IsoFlopFit, family: str, ways: Ways) -> Reading:
    """Laws through changed optima; their draws may be fewer than the resampler's."""
    n_draws = len(fit.log_params_RK)
    resampler = dataclasses.replace(ways.resampler, n_resamples=n_draws)
    weighted = fit.method == "pair"
    again = with_laws(fit, family, resampler, weighted=weighted)
    return reading_of(again, with_offset=ways.with_offset)
