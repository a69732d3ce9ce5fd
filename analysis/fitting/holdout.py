"""Which form of the loss law predicts best, by an expanding window in compute: fit what cost less,
predict what cost more.

Where a series has no isoFLOP structure the surfaces predict the final loss of the runs that cost
more. The curves of `pair` share their two exponents with the budgets that are held out; the level
and the arms of a curve, which set L*, are its own.

Suffixes: R resamples, K budgets.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.errors import FitWarning
from analysis.isoflop.isoflop import IsoFlopFit
from analysis.stats.bootstrap import Resampler
from analysis.stats.power_law import (
    MIN_BUDGETS_FOR_OFFSET,
    PowerLaw,
    fit_power_law,
    nested_law,
    percentile_interval,
)
from analysis.surface.surface import SurfaceFit, resampled_surface
from analysis.surface.tied import TiedSurface, fit_tied_surface
from analysis.tables.points import FloatArray, Points

FormName = Literal["power", "offset", "surface", "tied"]
"""The pure law L*(C) = A · C^s through the optima of the smaller budgets; that with an offset ≥ 0;
E + A/N^alpha + B/D^beta through all their points; and the same with alpha = beta."""

MIN_BUDGETS = 2
"""Of a window for surfaces: within one budget size and tokens cannot be told apart."""
MIN_SHARED = 3
"""Predictions that forms are compared on."""
MIN_WINDOW = 3
"""Budgets: a line, and one point that could contradict it."""
MIN_WINDOW_FOR_OFFSET = 4
MOST_POINTS = 4000
"""That a surface is fitted to, chosen by chance: it is to be judged, not to be shown."""
N_DRAWS = 60
"""Resamples of each surface: enough for coverage, few enough to fit a surface per window."""
N_LAW_DRAWS = 300
"""Resamples of each law: the ends of an interval to a tenth of its width."""
LAW_NORMALS, TARGET_NORMALS = 10, 11
"""Streams of random numbers: scatter about the laws, noise of what is predicted."""


@dataclass(frozen=True)
class HoldOutTarget:
    """A loss to be predicted."""

    flops: float
    params: float
    tokens: float
    loss: float
    """Nats per token."""
    log_sd: float
    """Standard deviation of its log."""


@dataclass(frozen=True)
class HoldOutPrediction:
    """One form's prediction of one target."""

    form: FormName
    n_train: int
    """Budgets, or points, that it rests on."""
    target: HoldOutTarget
    loss: float
    ci: tuple[float, float]
    """95 %."""

    def has_failed(self, losses: float) -> bool:
        """Whether it is no loss, or says less than that the next loss is like the others.

        `losses` is the range of what was observed.
        """
        return not (self.ci[0] > 0 and self.loss > 0 and self.ci[1] - self.ci[0] <= losses)

    @property
    def error(self) -> float:
        """Predicted over observed, minus 1."""
        return self.loss / self.target.loss - 1.0

    @property
    def is_covered(self) -> bool:
        """Whether the interval holds what was observed."""
        return self.ci[0] <= self.target.loss <= self.ci[1]


@dataclass(frozen=True)
class Score:
    """How well a form predicts; all forms with a score predicted the same targets."""

    n: int
    mean_abs_error: float
    """Relative."""
    worst_abs_error: float
    coverage: float


@dataclass(frozen=True)
class HoldOut:
    """All predictions, and the form to trust."""

    unit: Literal["budgets", "points"]
    """What windows are counted in."""
    predictions: tuple[HoldOutPrediction, ...]
    scores: dict[FormName, Score]
    """Over the predictions that all these forms made."""
    failed: tuple[FormName, ...] = ()
    """Forms with a prediction that is no loss, or whose interval is wider than all losses."""

    @property
    def best(self) -> FormName | None:
        """The form with the least mean error; None where nothing could tell it from another."""
        form = min(self.scores, key=lambda form: self.scores[form].mean_abs_error)
        return form if len(self.scores) > 1 and self.scores[form].n >= MIN_SHARED else None

    def refutes(self, form: FormName, by: FormName) -> bool:
        """Whether a form errs so much more than another that its intervals hold no longer."""
        if self.best is None or not {form, by} <= set(self.scores):
            return False
        # An interval of nominally 95 % that covers half is no longer one.
        worse, better = self.scores[form], self.scores[by]
        return worse.coverage <= 0.5 and worse.mean_abs_error >= 3.0 * better.mean_abs_error

    def warnings(self, family: str) -> tuple[FitWarning, ...]:
        """A remark where the surface would mislead who extrapolates with it."""
        best = self.best
        if best is None or not self.refutes("surface", best):
            return ()
        missed, least = (self.scores[form].mean_abs_error for form in ("surface", best))
        message = (
            f"the surface of what cost less misses what cost more by {missed:.1%} "
            f"({best}: {least:.1%}): do not extrapolate with it"
        )
        return (FitWarning("surface_extrapolates_badly", message, family),)


def hold_out(
    points: Points,
    isoflop: IsoFlopFit | None,
    huber_delta: float | Literal["auto"],
    resampler: Resampler,
) -> HoldOut | FitWarning:
    """Predict the costly part of a series from its cheap part, or say why that is impossible."""
    few = resampler.first(N_DRAWS)
    predictions: list[HoldOutPrediction] = []
    unit: Literal["budgets", "points"] = "points"
    # A point without a budget goes by its FLOPs.
    spent_P = np.where(np.isfinite(points.budget_P), points.budget_P, points.flops_P)
    if isoflop is not None and len(isoflop.bracketed) > MIN_WINDOW:
        unit = "budgets"
        names: tuple[Literal["flops", "params", "tokens", "loss"], ...]
        names = ("flops", "params", "tokens", "loss")
        sd_K = np.std(isoflop.log_loss_RK, axis=0)
        columns = [*(isoflop.values(name) for name in names), sd_K]
        optima = [HoldOutTarget(*row) for row in np.stack(columns, axis=1).tolist()]
        n = len(optima)
        least = MIN_WINDOW if n < MIN_BUDGETS_FOR_OFFSET else MIN_WINDOW_FOR_OFFSET
        for n_train in _evenly(max(least, n // 2), n - 1):
            train = points.take(spent_P <= isoflop.bracketed[n_train - 1].budget_flops)
            fitted = [*_laws(isoflop, n_train, resampler), *_surfaces(train, huber_delta, few)]
            targets = [optima[i] for i in _evenly(n_train, n - 1)]
            predictions += _predict(fitted, n_train, targets, resampler)
    else:
        # Windows end at whole budgets; runs without any have one of their own.
        final = _final_points(points, spent_P)
        budgets = sorted({spent for spent, _ in final})
        least = MIN_BUDGETS if len(points.budgets_K) else MIN_WINDOW
        for n_train in _evenly(max(least, len(budgets) // 2), len(budgets) - 1):
            last = budgets[n_train - 1]
            train = points.take(spent_P <= last)
            beyond = [target for spent, target in final if spent > last]
            targets = [beyond[i] for i in _evenly(0, len(beyond) - 1)]
            fitted = _surfaces(train, huber_delta, few)
            predictions += _predict(fitted, len(train.loss_P), targets, resampler)
    losses = float(np.ptp(points.loss_P))
    failed = {each.form for each in predictions if each.has_failed(losses)}
    scores = held_out_scores([each for each in predictions if each.form not in failed])
    if not scores:
        why = "too few budgets or runs to leave the costly ones out"
        if failed:
            why = f"no form of the law ({', '.join(sorted(failed))}) predicts what costs more"
        return FitWarning("no_holdout", f"no hold-out: {why}", points.family)
    return HoldOut(unit, tuple(predictions), scores, tuple(sorted(failed)))


def held_out_scores(predictions: list[HoldOutPrediction]) -> dict[FormName, Score]:
    """Of every form over the predictions that all of them made, of enough forms to share some."""
    made: dict[FormName, dict[tuple[int, HoldOutTarget], HoldOutPrediction]] = {}
    for each in predictions:
        made.setdefault(each.form, {})[each.n_train, each.target] = each
    while made:
        shared = set.intersection(*(set(own) for own in made.values()))
        # Where all made the same predictions no form is the one to drop, however few they are.
        if len({frozenset(own) for own in made.values()}) == 1 or len(shared) >= MIN_SHARED:
            return {
                form: _score([each for key, each in own.items() if key in shared])
                for form, own in made.items()
            }
        del made[min(made, key=lambda form: len(made[form]))]
    return {}


def _final_points(points: Points, spent_P: FloatArray) -> list[tuple[float, HoldOutTarget]]:
    """Compute and last point of every run, compute ascending; their noise is the surface's."""
    last = [
        int(np.flatnonzero(points.run_P == run)[np.argmax(points.tokens_P[points.run_P == run])])
        for run in np.unique(points.run_P)
    ]
    columns = (spent_P, points.flops_P, points.params_P, points.tokens_P, points.loss_P)
    rows = sorted(tuple(float(column[i]) for column in columns) for i in last)
    return [(row[0], HoldOutTarget(row[1], row[2], row[3], row[4], 0.0)) for row in rows]


def _evenly(first: int, last: int) -> list[int]:
    """At most four whole numbers from first to last, both included."""
    n = max(0, min(4, last - first + 1))
    return sorted({round(value) for value in np.linspace(first, last, n).tolist()})


@dataclass(frozen=True)
class _Fitted:
    """A form fitted to the cheap part of a series."""

    form: FormName
    fit: PowerLaw | SurfaceFit | TiedSurface
    scatter: float
    """Relative standard deviation of optima about the form beyond their own noise."""
    point_noise: float
    """Relative standard deviation of single points about the form."""

    def at(self, target: HoldOutTarget) -> tuple[float, FloatArray]:
        """The loss that it predicts there, and its draws, (R,)."""
        fit = self.fit
        if isinstance(fit, PowerLaw):
            return fit(target.flops), fit.draws(target.flops)
        # At its size and tokens, about which the loss of an optimum is flat in both.
        place = target.params, target.tokens
        return fit(*place), fit.draws_at(*place)


def _laws(isoflop: IsoFlopFit, n_train: int, resampler: Resampler) -> list[_Fitted]:
    """The pure law and the law with an offset through the first optima."""
    flops_K, loss_K = isoflop.values("flops")[:n_train], isoflop.values("loss")[:n_train]
    log_loss_RK = isoflop.log_loss_RK[:N_LAW_DRAWS, :n_train]
    normal_RK = resampler.normals(LAW_NORMALS, n_train)[:N_LAW_DRAWS]
    is_pair = isoflop.method == "pair"
    pure = fit_power_law(flops_K, np.log(loss_K), log_loss_RK, normal_RK, weighted=is_pair)
    fitted: dict[FormName, PowerLaw] = {"power": pure}
    if n_train >= MIN_WINDOW_FOR_OFFSET:
        fitted["offset"] = nested_law(pure, flops_K, loss_K, np.exp(log_loss_RK))
    return [_Fitted(form, law, law.scatter, 0.0) for form, law in fitted.items()]


def _surfaces(
    train: Points, huber_delta: float | Literal["auto"], resampler: Resampler
) -> list[_Fitted]:
    fitted = []
    if len(train.loss_P) > MOST_POINTS:
        chosen = np.random.default_rng(resampler.seed).permutation(len(train.loss_P))
        train = train.take(np.sort(chosen[:MOST_POINTS]))
    surface = resampled_surface(train, huber_delta, resampler)
    if isinstance(surface, SurfaceFit):
        fitted.append(_Fitted("surface", surface, 0.0, surface.sigma))
    tied = fit_tied_surface(train, resampler)
    if isinstance(tied, TiedSurface):
        fitted.append(_Fitted("tied", tied, 0.0, tied.sigma / float(np.mean(train.loss_P))))
    return fitted


def _predict(
    fitted: list[_Fitted], n_train: int, targets: list[HoldOutTarget], resampler: Resampler
) -> list[HoldOutPrediction]:
    normal_RT = resampler.normals(TARGET_NORMALS, len(targets))
    predictions = []
    for form in fitted:
        for index, target in enumerate(targets):
            # The uncertainty of the form, and the noise of what is held out.
            sd = float(np.hypot(target.log_sd or form.point_noise, form.scatter))
            loss, draws_R = form.at(target)
            noise_R = np.exp(sd * normal_RT[: len(draws_R), index])
            ends = percentile_interval(draws_R * noise_R)
            predictions.append(HoldOutPrediction(form.form, n_train, target, loss, ends))
    return predictions


def _score(predictions: list[HoldOutPrediction]) -> Score:
    error = np.abs([prediction.error for prediction in predictions])
    return Score(
        n=len(predictions),
        mean_abs_error=float(error.mean()),
        worst_abs_error=float(error.max()),
        coverage=float(np.mean([prediction.is_covered for prediction in predictions])),
    )
