"""What would be known of each series, and of what is asked, with further runs.

Suffixes: n options, K budgets.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial, reduce

import numpy as np

from analysis.answers.asked import Asked
from analysis.answers.candidates import CandidateRun, Nearest, Option, after, options
from analysis.answers.expected import Information, half_width, half_widths, nothing, of_run
from analysis.answers.territory import Levels, Territory, TrainedRun, territory
from analysis.fitting.fit import FamilyFit
from analysis.tables.points import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Choices:
    """The options of a series, and the variance of its share of what is asked with each."""

    options: Sequence[Option]
    n_runs_n: IntArray
    flops_n: FloatArray
    """To be spent on each."""
    variance_n: FloatArray
    dof_n: IntArray


@dataclass(frozen=True)
class SeriesProspect:
    """A series, and what would be known of it."""

    fit: FamilyFit
    asked: Asked | None
    known: Territory
    information: Information | None
    observed_K: BoolArray
    told: Callable[[TrainedRun], Information]
    """What a run tells of the coefficients."""

    @classmethod
    def of(cls, fit: FamilyFit, asked: Asked | None, *, resumes: bool) -> "SeriesProspect":
        """As it was observed."""
        known = territory(fit.points, levels_of(fit, asked), resumes=resumes)
        told = cache(partial(_told, asked))
        if asked is None:
            return cls(fit, None, known, None, np.zeros(0, dtype=bool), told)
        all_told = reduce(Information.plus, map(told, known.runs), nothing(asked.curves))
        observed_K = np.arange(len(asked.curves.log_flops_K)) < asked.n_observed
        return cls(fit, asked, known, all_told, observed_K, told)

    def added(self, run: CandidateRun) -> Information:
        """What a new run tells, or a run that gets longer tells more."""
        if run.lengthens is None:
            return self.told(TrainedRun(run.params, 0, run.points))
        longer = TrainedRun(run.params, run.seed, (*run.lengthens.places, *run.points))
        return self.told(longer).plus(self.told(run.lengthens), -1)

    def after(self, option: Option) -> "SeriesProspect":
        """With the runs trained."""
        known, told, observed_K = self.known, self.information, self.observed_K.copy()
        for run in option.runs:
            told = None if told is None else told.plus(self.added(run))
            known = after(known, run)
        if option.new_level is not None:
            observed_K[known.levels.set_K[option.new_level]] = True
        return dataclasses.replace(self, known=known, information=told, observed_K=observed_K)

    @cached_property
    def variance(self) -> float:
        """Of its share of what is asked."""
        assert self.asked is not None
        assert self.information is not None
        return float(self.asked.share.variance([self.information], self.observed_K)[0])

    def choices(self, nearest: Nearest) -> "Choices":
        """Every option of the series, looked at once however often the others change."""
        if nearest not in self._choices:
            found = options(self.known, nearest)
            n_runs_n = np.array([len(each.runs) for each in found], np.int64)
            flops_n = np.array([each.flops for each in found])
            variance_n, dofs = self._variances(found)
            dof_n = np.array(dofs, np.int64)
            self._choices[nearest] = Choices(found, n_runs_n, flops_n, variance_n, dof_n)
        return self._choices[nearest]

    @cached_property
    def _choices(self) -> "dict[Nearest, Choices]":
        return {}

    def _variances(self, found: Sequence[Option]) -> tuple[FloatArray, list[int]]:
        """Of its share with each option (n,), and the degrees of freedom."""
        assert self.asked is not None
        assert self.information is not None
        share, now = self.asked.share, self.information
        variance_n, dofs = np.empty(len(found)), [0] * len(found)
        single, others = list[int](), list[int]()
        for i, each in enumerate(found):
            (single if each.is_single_point else others).append(i)
        if single:
            points = [(found[i].runs[0].params, found[i].runs[0].points[0]) for i in single]
            slope_nc = self.asked.curves.slopes(
                np.array([place.set for _, place in points]),
                np.log([params for params, _ in points]),
                np.log([place.tokens for _, place in points]),
            )
            variance_n[single] = share.variance_with_point(now, slope_nc, self.observed_K)
            dof = share.dof(now.n_points + 1, now.n_runs + 1, self.observed_K)
            dofs = [dof] * len(found)
        told = {i: reduce(Information.plus, map(self.added, found[i].runs), now) for i in others}
        for level in {found[i].new_level for i in others}:
            mine = [i for i in others if found[i].new_level == level]
            observed_K = self.observed_K.copy()
            if level is not None:
                observed_K[self.known.levels.set_K[level]] = True
            variance_n[mine] = share.variance([told[i] for i in mine], observed_K)
            for i in mine:
                dofs[i] = share.dof(told[i].n_points, told[i].n_runs, observed_K)
        return variance_n, dofs

    @property
    def dof(self) -> int:
        """Degrees of freedom of its noise."""
        assert self.asked is not None
        assert self.information is not None
        known = self.information
        return self.asked.share.dof(known.n_points, known.n_runs, self.observed_K)


def _told(asked: Asked | None, run: TrainedRun) -> Information:
    """What a run tells of the coefficients."""
    assert asked is not None, "where nothing is asked nothing is told"
    places = [place for place in run.places if place.set >= 0]
    log_params_P = np.full(len(places), run.log_params)
    set_P = np.array([place.set for place in places], dtype=np.int64)
    log_tokens_P = np.log([place.tokens for place in places])
    return of_run(asked.curves, set_P, log_params_P, log_tokens_P)


def levels_of(fit: FamilyFit, asked: Asked | None) -> Levels:
    """The budgets of a series, and those that could be new."""
    points = fit.points
    if fit.isoflop is None:
        n_levels = 0 if asked is None else 5
        log_flops_P = np.log(points.flops_P)
        nothing_K, zero_K = np.full(n_levels, np.nan), np.zeros(n_levels, dtype=np.int64)
        between_K = np.linspace(log_flops_P.min(), log_flops_P.max(), n_levels)
        return Levels(between_K, nothing_K, zero_K, {})
    log_flops_K = np.log([optimum.flops for optimum in fit.isoflop.optima])
    nominal_K = np.array([optimum.budget_flops for optimum in fit.isoflop.optima])
    set_K = np.full(len(log_flops_K), -1)
    if asked is None or np.isnan(asked.curves.log_flops_K).all():
        return Levels(log_flops_K, nominal_K, set_K if asked is None else set_K + 1, {})
    curves, n_levels = asked.curves, len(log_flops_K)
    for number, log_flops in enumerate(curves.log_flops_K[: asked.n_observed]):
        set_K[np.argmin(np.abs(log_flops_K - log_flops))] = number
    new = np.arange(asked.n_observed, len(curves.log_flops_K))
    per_flop = float(np.median(nominal_K / np.exp(log_flops_K)))
    names = [float(f"{math.exp(at) * per_flop:.3g}") for at in curves.log_flops_K[new]]
    best = {
        n_levels + i: curves.optimum(number, float(curves.log_flops_K[number]))[0]
        for i, number in enumerate(new.tolist())
    }
    return Levels(
        np.append(log_flops_K, curves.log_flops_K[new]),
        np.append(nominal_K, names),
        np.append(set_K, new),
        best,
    )


@dataclass(frozen=True)
class Prospect:
    """All series, and the quantities asked of them."""

    series: Mapping[str, SeriesProspect]
    quantities: tuple[tuple[str, ...], ...]
    """Labels of the series that each depends on."""
    goal: float
    """Half width in logs below which a quantity is narrow enough."""

    def half_widths(self) -> list[float]:
        """Of the logs of the quantities."""
        variance = {
            label: self.series[label].variance for each in self.quantities for label in each
        }
        return [
            half_width(
                [variance[label] for label in each], [self.series[label].dof for label in each]
            )
            for each in self.quantities
        ]

    @property
    def ratio(self) -> float:
        """Upper over lower end of the widest interval."""
        return math.exp(min(2.0 * max(self.half_widths()), 700.0))

    @property
    def excess(self) -> float:
        """Squared half widths beyond the goal, together."""
        return sum(self._beyond(half) for half in self.half_widths())

    def _beyond(self, half: float) -> float:
        return max(half**2 - self.goal**2, 0.0)

    def after(self, option: Option) -> "Prospect":
        """With the runs trained."""
        label = option.runs[0].family
        changed = {label: self.series[label].after(option)}
        return dataclasses.replace(self, series={**self.series, **changed})

    def excesses(self, label: str, choices: Choices) -> FloatArray:
        """What each choice of one series leaves of the excess, (n,)."""
        total_n = np.zeros(len(choices.options))
        for each in self.quantities:
            others = [other for other in each if other != label]
            variances = [self.series[other].variance for other in others]
            own_dofs = [self.series[other].dof for other in others]
            if label in each:
                half_n = half_widths(variances, own_dofs, choices.variance_n, choices.dof_n)
            else:
                half_n = np.full(len(total_n), half_width(variances, own_dofs))
            total_n += np.maximum(half_n**2 - self.goal**2, 0.0)
        return total_n


@dataclass(frozen=True)
class Limit:
    """How much may be added."""

    n_runs: float
    flops: float

    def left(self, runs: Sequence[CandidateRun]) -> "Limit":
        """What remains after runs."""
        return Limit(self.n_runs - len(runs), self.flops - sum(run.flops_added for run in runs))

    def allows(self, option: Option) -> bool:
        """Whether the runs fit in."""
        return len(option.runs) <= self.n_runs and option.flops <= self.most_flops

    @property
    def most_flops(self) -> float:
        """But for rounding."""
        return self.flops * (1 + 1e-9)

    @property
    def half(self) -> "Limit":
        """Half of it, of runs rounded up."""
        n_runs = math.ceil(0.5 * self.n_runs) if math.isfinite(self.n_runs) else math.inf
        return Limit(n_runs, 0.5 * self.flops)
