"""The ways in which a conclusion is tried: conventions, forms, windows, and what is left out.

One thing is changed at a time, from the fit as it was asked for:

params   another count of parameters: the best models are renamed
flops    another count of FLOPs: points are regrouped in new budgets, valleys fitted anew
form     pair, parabola, akima, or the surface's optimum at the same budgets
window   laws without the smallest or the largest quarter of the budgets (at least one)
budget   laws without one of the others (neighbours together where there are many)
size     valleys and laws without one size (likewise)

Every refit draws `N_DRAWS` resamples, paired between series as in the fit itself.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from analysis import notation
from analysis.fitting.fit import FitResult
from analysis.isoflop.curves import IsoFlopMethod
from analysis.isoflop.isoflop import IsoFlopFit
from analysis.isoflop.noise_correlation import noise_correlation
from analysis.sensitivity.readings import (
    Reading,
    Ways,
    along_surface,
    first_draws,
    on_budgets,
    reading_of,
    refitted,
    relabelled,
)
from analysis.sensitivity.regroup import regrouped, spent_alike
from analysis.stats.bootstrap import Resampler
from analysis.tables.conventions import ConventionCounts
from analysis.tables.points import FloatArray, Points, rungs
from analysis.tables.tidy import TidyTable

VariationKind = Literal["params", "flops", "form", "window", "budget", "size"]

N_DRAWS = 100
"""Resamples of every refit: an end of an interval then wobbles by about an eighth of its width."""
MAX_LEFT_OUT = 10
"""More sizes or budgets than this are left out by neighbouring groups."""
SAME_COUNT = 0.005
"""Counts that agree to this share of themselves are one convention."""


@dataclass(frozen=True)
class Variation:
    """One thing changed."""

    kind: VariationKind
    label: str
    """Short: `6N`, `parabola`, `25.2M`, `largest budget`."""
    changes_compute: bool = False
    """Whether FLOPs mean something else, so that budgets cannot be held."""

    @property
    def phrase(self) -> str:
        """In a sentence: `under FLOPs 6N`, `without 25.2M parameters`."""
        return _PHRASES[self.kind].format(self.label)


_PHRASES: dict[VariationKind, str] = {
    "params": "under parameters {}",
    "flops": "under FLOPs {}",
    "form": "with form {}",
    "window": "{} FLOPs",
    "budget": "{} FLOPs",
    "size": "{} parameters",
}


@dataclass(frozen=True)
class Variants:
    """The readings of all series, in the fit itself and under every variation."""

    baseline: Mapping[str, Reading]
    varied: tuple[tuple[Variation, Mapping[str, Reading]], ...]
    params_convention: str
    flops_convention: str
    n_draws: int


@dataclass(frozen=True)
class _Study:
    """The chosen series and what every variation of them needs."""

    result: FitResult
    isoflop: Mapping[str, IsoFlopFit]
    """Of every chosen series, with the first draws only."""
    ways: Ways
    method: IsoFlopMethod

    def points(self, label: str) -> Points:
        return self.result.families[label].points

    @property
    def every_series(self) -> dict[str, Points]:
        """Chosen or not: sizes and budgets are grouped alike whichever series are asked about."""
        return {label: family.points for label, family in self.result.families.items()}

    def each(self, read: Callable[[str], Reading]) -> dict[str, Reading]:
        return {label: read(label) for label in self.isoflop}


def read_variants(table: TidyTable, result: FitResult, labels: Sequence[str]) -> Variants | None:
    """All readings of these series; None where one of them has no isoFLOP budgets."""
    fits = {label: result.families[label].isoflop for label in labels}
    isoflop = {label: fit for label, fit in fits.items() if fit is not None}
    if len(isoflop) < len(labels) or not isoflop:
        return None
    n_draws = min(N_DRAWS, result.settings.n_bootstrap)
    with_offset = any(f.loss_law is not None and f.loss_law.offset for f in isoflop.values())
    series = [family.points for family in result.families.values()]
    correlation_FF = noise_correlation(series, result.settings.isoflop)
    resampler = Resampler.create(series, n_draws, result.settings.seed, correlation_FF)
    study = _Study(
        result,
        {label: first_draws(fit, n_draws) for label, fit in isoflop.items()},
        Ways(resampler, with_offset),
        next(iter(isoflop.values())).method,
    )
    return Variants(
        baseline={k: reading_of(f, with_offset=with_offset) for k, f in isoflop.items()},
        varied=(
            *_by_params(study, table),
            *_by_flops(study, table),
            *_by_form(study),
            *_by_budgets(study),
            *_by_size(study),
        ),
        params_convention=result.params_convention,
        flops_convention=result.flops_convention,
        n_draws=n_draws,
    )


Varied = list[tuple[Variation, Mapping[str, Reading]]]


def _by_params(study: _Study, table: TidyTable) -> Varied:
    own = table.frame["params"].to_numpy()
    others = _differing(table.counts.params, own)
    if not others:
        return [_unsupported(study, "params", "no columns to recount parameters from")]
    recounts = {
        label: ConventionCounts(params=others).take(_rows(table, label)) for label in study.isoflop
    }

    def read(name: str) -> Mapping[str, Reading]:
        return study.each(
            lambda label: relabelled(
                study.isoflop[label], study.points(label), recounts[label].params[name], study.ways
            )
        )

    return [(Variation("params", name), read(name)) for name in others]


def _by_flops(study: _Study, table: TidyTable) -> Varied:
    others = _differing(table.counts.flops, table.frame["flops"].to_numpy())
    if not others:
        return [_unsupported(study, "flops", "no columns to recount FLOPs from")]
    result: Varied = []
    for name, flops in others.items():
        series = {
            label: dataclasses.replace(points, flops_P=flops[_rows(table, label)])
            for label, points in study.every_series.items()
        }
        variation = Variation("flops", name, changes_compute=True)
        result.append((variation, _recounted(study, series)))
    return result


def _recounted(study: _Study, series: Mapping[str, Points]) -> Mapping[str, Reading]:
    """Series under another count of FLOPs: regrouped, or as they are where that leaves a series
    without laws. Method `pair` needs no equal compute; it then judges sizes at compute at which
    they were not all observed, which its intervals show.
    """
    evenly = series if all(map(spent_alike, series.values())) else regrouped(series)
    if evenly is not None:
        readings = study.each(lambda label: refitted(evenly[label], study.method, study.ways))
        if study.method != "pair" or all(reading.laws for reading in readings.values()):
            return readings
    if study.method == "pair":
        return study.each(lambda label: refitted(series[label], study.method, study.ways))
    reason = f"sizes recur at too few budgets to regroup, and {study.method} needs equal FLOPs"
    return study.each(lambda _: Reading(reason=reason))


def _by_form(study: _Study) -> Varied:
    result: Varied = []
    for method in get_args(IsoFlopMethod):
        if method != study.method:
            readings = study.each(
                lambda label, m=method: refitted(study.points(label), m, study.ways)  # type: ignore[misc]
            )
            result.append((Variation("form", method), readings))
    surface = study.each(lambda label: along_surface(study.result.families[label], study.ways))
    return [*result, (Variation("form", "surface"), surface)]


def _by_budgets(study: _Study) -> Varied:
    """Laws without either end of the budgets, then without each of the others in turn."""
    fits = [family.isoflop for family in study.result.families.values()]
    found = {o.budget_flops for fit in fits if fit is not None for o in fit.bracketed}
    budgets = np.array(sorted(found))
    quarter = max(1, len(budgets) // 4)
    ends: list[tuple[VariationKind, FloatArray]] = [
        ("window", budgets[:quarter]),
        ("window", budgets[-quarter:]),
    ]
    inner = budgets[quarter:-quarter]
    others: list[tuple[VariationKind, FloatArray]] = [
        ("budget", inner[block]) for block in _blocks(len(inner))
    ]
    result: Varied = []
    for kind, dropped in [*ends, *others] if len(budgets) > 1 else []:
        label = f"without {_span(dropped, notation.flops)}"
        result.append((Variation(kind, label), _without_budgets(study, dropped)))
    return result


def _without_budgets(study: _Study, dropped: FloatArray) -> Mapping[str, Reading]:
    def read(label: str) -> Reading:
        fit = study.isoflop[label]
        kept_K = ~np.isin([o.budget_flops for o in fit.bracketed], dropped)
        reading = on_budgets(fit, label, kept_K, study.ways)
        return dataclasses.replace(reading, is_touched=not kept_K.all())

    return study.each(read)


def _by_size(study: _Study) -> Varied:
    params = {label: points.params_P for label, points in study.every_series.items()}
    everything = np.concatenate(list(params.values()))
    rung_P = rungs(everything)
    ends = np.cumsum([len(values) for values in params.values()])
    rung_of = dict(zip(params, np.split(rung_P, ends[:-1]), strict=True))
    typical = np.array([np.median(everything[rung_P == rung]) for rung in np.unique(rung_P)])
    result: Varied = []
    for block in _blocks(len(typical)):

        def read(label: str, dropped: FloatArray = block) -> Reading:
            kept_P = ~np.isin(rung_of[label], dropped)
            if kept_P.all():
                fit = study.isoflop[label]
                whole = on_budgets(fit, label, np.full(len(fit.bracketed), True), study.ways)
                return dataclasses.replace(whole, is_touched=False)
            if not kept_P.any():
                return Reading(reason="no points are left")
            return refitted(study.points(label).take(kept_P), study.method, study.ways)

        label = f"without {_span(typical[block], notation.count)}"
        result.append((Variation("size", label), study.each(read)))
    return result


def _blocks(n: int) -> list[FloatArray]:
    """Indices 0 … n − 1 singly, or in `MAX_LEFT_OUT` runs of neighbours where there are more."""
    return list(np.array_split(np.arange(n), min(n, MAX_LEFT_OUT))) if n else []


def _span(values: FloatArray, write: Callable[[float], str]) -> str:
    first, last = write(float(values[0])), write(float(values[-1]))
    return first if len(values) == 1 else f"{first}–{last}"


def _unsupported(
    study: _Study, kind: VariationKind, reason: str
) -> tuple[Variation, Mapping[str, Reading]]:
    return Variation(kind, "other conventions"), study.each(lambda _: Reading(reason=reason))


def _differing(counts: Mapping[str, FloatArray], own: FloatArray) -> dict[str, FloatArray]:
    """The conventions under which some row is counted otherwise than in the fit."""
    return {
        name: values
        for name, values in counts.items()
        if np.max(np.abs(values / own - 1.0)) > SAME_COUNT
    }


def _rows(table: TidyTable, label: str) -> np.ndarray:
    return (table.frame["family"] == label).to_numpy()
