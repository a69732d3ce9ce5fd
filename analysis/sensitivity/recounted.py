"""A fit under every other count of parameters and FLOPs that the source has the ingredients for.

For drawing: isoFLOP curves, optima and laws alone, and comparisons by them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.answers.compare import Comparison, compare
from analysis.fitting.fit import FamilyFit, FitResult, FitSettings
from analysis.isoflop.isoflop import IsoFlopFit, Optimum, fit_isoflop, with_laws
from analysis.isoflop.noise_correlation import noise_correlation
from analysis.notation import Interval
from analysis.sensitivity.variations import (
    SizeNames,
    differing,
    regrouped,
    size_names,
    spent_alike,
)
from analysis.stats.bootstrap import Resampler
from analysis.stats.power_law import percentile_interval
from analysis.tables.points import FloatArray, Points
from analysis.tables.tidy import TidyTable

N_DRAWS = 200
"""Resamples of a refit: an end of an interval then wobbles by a twelfth of its width."""


@dataclass(frozen=True)
class Recount:
    """A fit under other conventions, and the same comparisons by it."""

    fit: FitResult
    comparisons: tuple[Comparison, ...]


def recounts(
    table: TidyTable, result: FitResult, comparisons: Sequence[Comparison]
) -> tuple[Recount, ...]:
    """Every combination of conventions but the fit's own; none where nothing can be recounted."""
    by_params = differing(table.counts.params, table.frame["params"].to_numpy())
    by_flops = differing(table.counts.flops, table.frame["flops"].to_numpy())
    own = Recount(result, tuple(comparisons))
    pairs = [(each.baseline, each.against) for each in comparisons]
    found = []
    for recount in [own, *_by_flops(table, result, by_flops, pairs)]:
        renamed = (_renamed(table, recount, name, each) for name, each in by_params.items())
        found += [recount, *(each for each in renamed if each is not None)]
    return tuple(found[1:])


def _by_flops(
    table: TidyTable,
    result: FitResult,
    others: dict[str, FloatArray],
    pairs: Sequence[tuple[str, str]],
) -> list[Recount]:
    families, settings = result.families, result.settings
    found = []
    for name, flops in others.items():
        points = {
            label: dataclasses.replace(
                family.points, flops_P=flops[(table.frame["family"] == label).to_numpy()]
            )
            for label, family in families.items()
        }
        even = points if all(map(spent_alike, points.values())) else regrouped(points)
        # Method `pair` needs no equal compute, the others have nothing to fit without it.
        fits = _curves(even or (points if settings.isoflop == "pair" else {}), settings)
        refitted = {
            label: _drawn(points[label], fits.get(label), families[label]) for label in points
        }
        changed = dataclasses.replace(result, families=refitted, flops_convention=name)
        compared = tuple(compare(changed, *pair) for pair in pairs)
        found.append(Recount(changed, compared))
    return found


def _curves(series: Mapping[str, Points], settings: FitSettings) -> dict[str, IsoFlopFit]:
    """IsoFLOP curves and laws of every series that has a budget."""
    series = {label: points for label, points in series.items() if len(points.budgets_K)}
    if not series:
        return {}
    correlation = noise_correlation(tuple(series.values()), settings.isoflop)
    n_draws = min(N_DRAWS, settings.n_bootstrap)
    resampler = Resampler.create(series.values(), n_draws, settings.seed, correlation)
    return {
        label: fit_isoflop(points, settings.isoflop, resampler) for label, points in series.items()
    }


def _drawn(points: Points, fit: IsoFlopFit | None, family: FamilyFit) -> FamilyFit:
    """What is drawn of a series, its loss law in the form that the fitted one has."""
    own = family.isoflop.loss_law if family.isoflop else None
    if fit is not None and own is not None and own.offset is not None and fit.offset_law:
        fit = dataclasses.replace(fit, loss_law=fit.offset_law)
    return FamilyFit(family.family, points, fit, None, None, None, None, None)


def _renamed(table: TidyTable, recount: Recount, name: str, params: FloatArray) -> Recount | None:
    """Sizes called otherwise: no curve is fitted again, and no comparison changes."""
    result, families = recount.fit, {}
    every = [family.points for family in result.families.values()]
    for label, family in result.families.items():
        mine = params[(table.frame["family"] == label).to_numpy()]
        names = size_names(family.points, mine)
        if names is None:
            return None
        points = dataclasses.replace(family.points, params_P=mine)
        isoflop = family.isoflop
        if isoflop is not None and isoflop.optima:
            n_draws = len(isoflop.log_params_RK) or 1
            resampler = Resampler.create(every, n_draws, result.settings.seed)
            isoflop = _with_names(isoflop, label, names, resampler)
        families[label] = dataclasses.replace(family, points=points, isoflop=isoflop)
    fit = dataclasses.replace(result, families=families, params_convention=name)
    return Recount(fit, recount.comparisons)


def _with_names(fit: IsoFlopFit, label: str, names: SizeNames, resampler: Resampler) -> IsoFlopFit:
    draws_RK = names(fit.log_params_RK)
    # Draws are of the bracketed budgets, in their order.
    ends = iter([percentile_interval(np.exp(draws_R)) for draws_R in draws_RK.T])
    optima = tuple(
        _optimum(each, names, next(ends) if each.bracketed else None) for each in fit.optima
    )
    changed = dataclasses.replace(fit, optima=optima, log_params_RK=draws_RK)
    if fit.params_law is None:
        return changed
    laws = with_laws(changed, label, resampler, weighted=fit.method == "pair")
    return dataclasses.replace(changed, params_law=laws.params_law)


def _optimum(optimum: Optimum, names: SizeNames, ends: Interval | None) -> Optimum:
    curve = np.exp(names(np.log(optimum.curve_params))) if optimum.curve_params else ()
    params = None if optimum.params is None else float(np.exp(names(np.log(optimum.params))))
    drawn = tuple(float(size) for size in curve)
    return dataclasses.replace(optimum, params=params, params_ci=ends, curve_params=drawn)
