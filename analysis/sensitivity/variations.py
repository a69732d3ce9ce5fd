"""Variations of a fit, one thing at a time: a changed table to fit, or changed optima of the fit.

flops    another count of FLOPs, points regrouped at budgets of that count
form     pair, parabola, akima, or the surface's optimum at the same budgets
size     without one size (neighbours together where there are many)
params   another count of parameters: the optima are renamed
window   laws without the smallest or the largest quarter of the budgets (at least one)
budget   laws without one of the others (neighbours together where there are many)

Suffixes: R resamples, P points, K budgets, T new budgets; row 0 of an RK array is the estimate.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.interpolate import PchipInterpolator

from analysis import notation
from analysis.fitting.fit import FamilyFit, FitResult
from analysis.isoflop.curves import IsoFlopMethod
from analysis.isoflop.isoflop import MIN_SIZES, IsoFlopFit
from analysis.stats.cost import CostPerToken
from analysis.surface.optimum import surface_optima
from analysis.tables.points import BoolArray, FloatArray, IntArray, Points, rungs
from analysis.tables.tidy import TidyTable

VariationKind = Literal["params", "flops", "form", "window", "budget", "size"]
Series = Mapping[str, Points]
Changed = Points | IsoFlopFit | str
"""A table to fit, optima to put laws through, or why the data support neither."""

_PHRASES: dict[VariationKind, str] = {
    "params": "under parameters {}",
    "flops": "under FLOPs {}",
    "form": "with form {}",
    "window": "{} FLOPs",
    "budget": "{} FLOPs",
    "size": "{} parameters",
}


@dataclass(frozen=True)
class Variation:
    """One thing changed."""

    kind: VariationKind
    label: str
    """Short: `6N`, `parabola`, `without 25.2M`."""

    @property
    def phrase(self) -> str:
        """In a sentence: `under FLOPs 6N`, `without 25.2M parameters`."""
        return _PHRASES[self.kind].format(self.label)


@dataclass(frozen=True)
class Case:
    """A variation, and what it makes of each series."""

    variation: Variation
    changed: Mapping[str, Changed]
    """Without the series that stay as they are, maybe with others than the chosen."""
    method: IsoFlopMethod
    """By which changed tables are fitted."""
    otherwise: Series | None = None
    """Tables to fit instead where those leave a series without laws."""


def cases(table: TidyTable, result: FitResult, fits: Mapping[str, IsoFlopFit]) -> list[Case]:
    """All variations of the chosen fits; sizes and budgets are those of all series."""
    method = next(iter(fits.values())).method
    points = {label: family.points for label, family in result.families.items()}
    surface = {label: _along_surface(result.families[label], fit) for label, fit in fits.items()}
    return [
        *_by_params(table, points, fits, method),
        *_by_flops(table, points, method),
        *(
            Case(Variation("form", other), points, other)
            for other in get_args(IsoFlopMethod)
            if other != method
        ),
        Case(Variation("form", "surface"), surface, method),
        *_by_budget(result, fits, method),
        *_by_size(points, method),
    ]


def _by_params(
    table: TidyTable, series: Series, fits: Mapping[str, IsoFlopFit], method: IsoFlopMethod
) -> Iterator[Case]:
    others = differing(table.counts.params, table.frame["params"].to_numpy())
    if not others:
        reason = "no columns to recount parameters from"
        yield Case(Variation("params", "other conventions"), dict.fromkeys(fits, reason), method)
    for name, params in others.items():
        renamed = {
            label: _renamed(fit, series[label], params[_rows(table, label)])
            for label, fit in fits.items()
        }
        yield Case(Variation("params", name), renamed, method)


def _renamed(fit: IsoFlopFit, points: Points, params_P: FloatArray) -> IsoFlopFit | str:
    """The optima under another count of parameters, by a monotone cubic in logs between sizes."""
    rename = size_names(points, params_P)
    if rename is None:
        return "sizes are ordered differently under this count"
    if len(fit.bracketed) < 2:
        return fit
    # Curves are not fitted again: which model is best does not depend on what its size is called,
    # and curves over another axis would move every optimum by its noise.
    # Only bracketed optima have a size, and only they enter laws.
    optima = tuple(
        dataclasses.replace(o, params=float(np.exp(rename(np.log(o.params)))))
        if o.params is not None
        else o
        for o in fit.optima
    )
    return dataclasses.replace(fit, optima=optima, log_params_RK=rename(fit.log_params_RK))


SizeNames = Callable[[FloatArray], FloatArray]
"""Log params under one count as log params under another."""


def size_names(points: Points, params_P: FloatArray) -> SizeNames | None:
    """By monotone cubics between the sizes; None where they are ordered differently."""
    old, rung_P = np.unique(np.log(points.params_P), return_inverse=True)
    new = np.bincount(rung_P, np.log(params_P)) / np.bincount(rung_P)
    if np.any(np.diff(new) <= 0):
        return None
    if len(old) == 1:
        return lambda log_params: log_params + (new[0] - old[0])
    return PchipInterpolator(old, new)


def _by_flops(table: TidyTable, series: Series, method: IsoFlopMethod) -> Iterator[Case]:
    others = differing(table.counts.flops, table.frame["flops"].to_numpy())
    if not others:
        reason = "no columns to recount FLOPs from"
        yield Case(Variation("flops", "other conventions"), dict.fromkeys(series, reason), method)
    few = f"sizes recur at too few budgets to regroup, and {method} needs equal FLOPs"
    for name, flops in others.items():
        recounted = {
            label: dataclasses.replace(points, flops_P=flops[_rows(table, label)])
            for label, points in series.items()
        }
        is_even = all(map(spent_alike, recounted.values()))
        changed: Mapping[str, Changed] | None = recounted if is_even else regrouped(recounted)
        # Method `pair` needs no equal compute; it then judges sizes at compute at which they were
        # not all observed, which its intervals show.
        otherwise = recounted if method == "pair" else None
        if changed is None:
            changed = otherwise or dict.fromkeys(series, few)
        yield Case(Variation("flops", name), changed, method, otherwise)


def _by_budget(
    result: FitResult, fits: Mapping[str, IsoFlopFit], method: IsoFlopMethod
) -> Iterator[Case]:
    """Laws without either end of the budgets, then without each of the others in turn."""
    optima = [optimum for family in result.families.values() for optimum in family.optima]
    budgets = np.array(sorted({o.budget_flops for o in optima if o.bracketed}))
    if len(budgets) < 2:
        return
    quarter = max(1, len(budgets) // 4)
    inner = _blocks(budgets[quarter:-quarter])
    for rank, dropped in enumerate([budgets[:quarter], budgets[-quarter:], *inner]):
        changed: dict[str, Changed] = {}
        for label, fit in fits.items():
            kept_K = ~np.isin([o.budget_flops for o in fit.bracketed], dropped)
            # Curves are not fitted again: with fewer budgets fewer others would be bracketed.
            if not kept_K.all():
                changed[label] = _on_budgets(fit, kept_K)
        label = f"without {_span(dropped, notation.flops)}"
        yield Case(Variation("window" if rank < 2 else "budget", label), changed, method)


def _on_budgets(fit: IsoFlopFit, kept_K: BoolArray) -> IsoFlopFit | str:
    """The optima of some of the bracketed budgets."""
    if kept_K.sum() < 2:
        return f"{kept_K.sum()} bracketed budgets are left, a law needs two"
    return dataclasses.replace(
        fit,
        optima=tuple(o for o, keep in zip(fit.bracketed, kept_K, strict=True) if keep),
        log_params_RK=fit.log_params_RK[:, kept_K],
        log_tokens_RK=fit.log_tokens_RK[:, kept_K],
        log_loss_RK=fit.log_loss_RK[:, kept_K],
    )


def _by_size(series: Series, method: IsoFlopMethod) -> Iterator[Case]:
    """Without each rung of the ladder, the same rungs for all series."""
    params_P = np.concatenate([points.params_P for points in series.values()])
    rung_P = rungs(params_P)
    ends = np.cumsum([len(points.params_P) for points in series.values()])
    rung_of = dict(zip(series, np.split(rung_P, ends[:-1]), strict=True))
    typical = np.array([np.median(params_P[rung_P == rung]) for rung in np.unique(rung_P)])
    for block in _blocks(np.arange(len(typical))):
        kept = {label: ~np.isin(rung_of[label], block) for label in series}
        changed: dict[str, Changed] = {
            label: points.take(kept[label]) if kept[label].any() else "no points are left"
            for label, points in series.items()
            if not kept[label].all()
        }
        label = f"without {_span(typical[block], notation.count)}"
        yield Case(Variation("size", label), changed, method)


def _along_surface(family: FamilyFit, fit: IsoFlopFit) -> IsoFlopFit | str:
    """The optima of the surface L(N, D) at the bracketed budgets."""
    if len(fit.bracketed) < 2:
        return "fewer than two bracketed budgets to read the surface at"
    if family.surface is None:
        return "no surface is fitted"
    cost = CostPerToken.of(family.points)
    log_flops_K = np.log([optimum.flops for optimum in fit.bracketed])
    n_draws = len(fit.log_params_RK)
    # Looked for up to 2 in log N beyond the observed sizes.
    found = surface_optima(family.surface, cost, log_flops_K, 2.0, n_draws)
    if found is None:
        return "the surface has no optimum near the sizes that were trained"
    best_3K = np.exp([found.log_params_RK[0], found.log_tokens_RK[0], found.log_loss_RK[0]])
    optima = tuple(
        dataclasses.replace(optimum, params=params, tokens=tokens, loss=loss)
        for optimum, (params, tokens, loss) in zip(fit.bracketed, best_3K.T.tolist(), strict=True)
    )
    return dataclasses.replace(
        fit,
        optima=optima,
        log_params_RK=found.log_params_RK[1:],
        log_tokens_RK=found.log_tokens_RK[1:],
        log_loss_RK=found.log_loss_RK[1:],
    )


def _blocks(values: np.ndarray) -> list[np.ndarray]:
    """Each value by itself, or ten runs of neighbours where there are more."""
    return np.array_split(values, min(len(values), 10)) if len(values) else []


def _span(values: FloatArray, write: Callable[[float], str]) -> str:
    first, last = write(float(values[0])), write(float(values[-1]))
    return first if len(values) == 1 else f"{first}–{last}"


def differing(counts: Mapping[str, FloatArray], own: FloatArray) -> dict[str, FloatArray]:
    """The conventions under which some row is counted otherwise than in the fit."""
    # Counts that agree to 0.5 % are one convention.
    return {k: each for k, each in counts.items() if np.max(np.abs(each / own - 1.0)) > 0.005}


def _rows(table: TidyTable, label: str) -> np.ndarray:
    return (table.frame["family"] == label).to_numpy()


def spent_alike(points: Points) -> bool:
    """Whether the FLOPs of each budget's points agree, to 0.02 in their logs."""
    spread = [np.ptp(np.log(points.flops_P[points.budget_P == b])) for b in points.budgets_K]
    return max(spread, default=0.0) <= 0.02


def regrouped(series: Series) -> dict[str, Points] | None:
    """Series at common budgets of their FLOPs; None where none was observed at enough sizes."""
    # Runs that spent alike under one count did not under another: a small model's head may cost it
    # 2.6 times what a large one's costs. So each size's loss is read along its own curve at new
    # budgets, as far apart as the old ones, and never beyond what the size was observed at.
    ranges = [found for points in series.values() if (found := _well_observed(points)) is not None]
    steps = np.concatenate([np.diff(np.log(points.budgets_K)) for points in series.values()])
    if not ranges or not steps.size:
        return None
    low, high = min(start for start, _ in ranges), max(end for _, end in ranges)
    n_budgets = max(2, round((high - low) / float(np.median(steps))) + 1)
    targets_T: FloatArray = np.exp(np.linspace(low, high, n_budgets))
    result = {}
    for label, points in series.items():
        parts = [_read_curve(points.take(mine), targets_T) for mine in _curves(points)]
        names = [f.name for f in dataclasses.fields(Points) if f.name != "family"]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        result[label] = Points(family=points.family, **arrays)
    return result


def _well_observed(points: Points) -> tuple[float, float] | None:
    """Log FLOPs between which `MIN_SIZES` sizes were observed; None where nowhere."""
    log_flops_P = np.log(points.flops_P)
    curves = [log_flops_P[mine] for mine in _curves(points)]
    starts = sorted(curve.min() for curve in curves)
    ends = sorted(curve.max() for curve in curves)
    if len(starts) < MIN_SIZES or starts[MIN_SIZES - 1] >= ends[-MIN_SIZES]:
        return None
    return float(starts[MIN_SIZES - 1]), float(ends[-MIN_SIZES])


def _curves(points: Points) -> list[IntArray]:
    """Indices of the points of each run, or of each size where runs have one point each."""
    curve_P = points.run_P if points.has_shared_runs else rungs(points.params_P)
    _, count = np.unique(curve_P, return_counts=True)
    return np.split(np.argsort(curve_P, kind="stable"), np.cumsum(count)[:-1])


def _read_curve(curve: Points, targets_T: FloatArray) -> Points:
    """One size's points, by monotone cubics in logs, at the new budgets within its FLOPs."""
    log_flops, first = np.unique(np.log(curve.flops_P), return_index=True)
    curve = curve.take(first)  # seeds of one size and budget: the first stands for all
    at = np.clip(np.log(targets_T), log_flops[0], log_flops[-1])
    is_inside_T = np.abs(np.log(targets_T) - at) <= 1e-9
    inside_T, at = targets_T[is_inside_T], at[is_inside_T]
    if not len(at):  # as of a size that was observed once
        return curve.take(np.empty(0, dtype=np.int64))
    # Run, slot and standard error are those of the nearest observed point, so that resampling
    # knows which points share their luck.
    nearest = curve.take(np.abs(at[:, None] - log_flops).argmin(axis=1))
    nearest = dataclasses.replace(nearest, flops_P=inside_T, budget_P=inside_T)
    if len(log_flops) == 1:
        return nearest
    return dataclasses.replace(
        nearest,
        tokens_P=np.exp(np.interp(at, log_flops, np.log(curve.tokens_P))),
        loss_P=np.exp(PchipInterpolator(log_flops, np.log(curve.loss_P))(at)),
    )
