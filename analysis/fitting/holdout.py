"""Which form of the loss law predicts best, by an expanding window in compute: fit what cost less,
predict what cost more.

Where a series has no isoFLOP structure the surfaces predict the final loss of the runs that cost
more. The curves of `pair` share their two exponents with the budgets that are held out; the level
and the arms of a curve, which set L*, are its own.

Suffixes: R resamples, K budgets.
"""

from collections.abc import Callable, Iterator
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
from analysis.surface.surface import SurfaceFit, fit_surface
from analysis.surface.tied import TiedSurface, fit_tied_surface
from analysis.tables.points import FloatArray, Points

FormName = Literal["power", "offset", "surface", "tied"]
"""The pure law L*(C) = A · C^s through the optima of the smaller budgets; that with an offset ≥ 0;
E + A/N^alpha + B/D^beta through all their points; and the same with alpha = beta."""

MIN_WINDOW = 3
"""Budgets: a line, and one point that could contradict it."""
MIN_WINDOW_FOR_OFFSET = 4
MAX_WINDOWS = 4
MAX_TARGETS = 4
"""Per window, evenly from the next one to the last."""
MIN_PREDICTIONS = 3
"""Fewer cannot choose a form."""
BAD_RATIO = 3.0
"""Mean error of the surface over the best form's, from which it is remarked."""
HALF = 0.5
"""Coverage of a nominal 95 % at which an interval is no longer one."""
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

    @property
    def best(self) -> FormName | None:
        """The form with the least mean error; None where too few predictions could tell."""
        form = min(self.scores, key=lambda form: self.scores[form].mean_abs_error)
        return form if self.scores[form].n >= MIN_PREDICTIONS else None

    def warnings(self, family: str) -> tuple[FitWarning, ...]:
        """A remark where the surface would mislead who extrapolates with it."""
        best, surface = self.best, self.scores.get("surface")
        if best is None or surface is None or surface.coverage > HALF:
            return ()
        least = self.scores[best].mean_abs_error
        if surface.mean_abs_error < BAD_RATIO * least:
            return ()
        message = (
            f"the surface of what cost less misses what cost more by {surface.mean_abs_error:.1%} "
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
    if isoflop is not None and len(isoflop.bracketed) > MIN_WINDOW:
        unit = "budgets"
        for n_train, targets in _windows(_optima(isoflop)):
            train = _up_to(points, isoflop.bracketed[n_train - 1].budget_flops)
            fitted = [*_laws(isoflop, n_train, resampler), *_surfaces(train, huber_delta, few)]
            predictions += _predict(fitted, n_train, targets, resampler)
    else:
        for _, targets in _windows(_final_points(points)):
            train = points.take(points.flops_P < targets[0].flops)
            fitted = _surfaces(train, huber_delta, few)
            predictions += _predict(fitted, len(train.loss_P), targets, resampler)
    scores = _scores(predictions)
    if not scores:
        message = "no hold-out: too few budgets or runs to leave the costly ones out"
        return FitWarning("no_holdout", message, points.family)
    return HoldOut(unit, tuple(predictions), scores)


def _optima(isoflop: IsoFlopFit) -> list[HoldOutTarget]:
    names: tuple[Literal["flops", "params", "tokens", "loss"], ...]
    names = ("flops", "params", "tokens", "loss")
    columns = [isoflop.values(name) for name in names]
    sd_K = np.std(isoflop.log_loss_RK, axis=0)
    return [HoldOutTarget(*row) for row in np.stack([*columns, sd_K], axis=1).tolist()]


def _final_points(points: Points) -> list[HoldOutTarget]:
    """The last point of every run, compute ascending; their noise is the surface's."""
    last = [
        int(np.flatnonzero(points.run_P == run)[np.argmax(points.tokens_P[points.run_P == run])])
        for run in np.unique(points.run_P)
    ]
    columns = (points.flops_P, points.params_P, points.tokens_P, points.loss_P)
    rows = sorted(tuple(float(column[i]) for column in columns) for i in last)
    return [HoldOutTarget(flops, params, tokens, loss, 0.0) for flops, params, tokens, loss in rows]


def _up_to(points: Points, budget: float) -> Points:
    """Points of budgets up to this one; a point without a budget goes by its FLOPs."""
    spent_P = np.where(np.isfinite(points.budget_P), points.budget_P, points.flops_P)
    return points.take(spent_P <= budget)


def _windows(targets: list[HoldOutTarget]) -> Iterator[tuple[int, list[HoldOutTarget]]]:
    """How many to train on, from half of them to all but one, and what is then predicted."""
    n = len(targets)
    least = MIN_WINDOW if n < MIN_BUDGETS_FOR_OFFSET else MIN_WINDOW_FOR_OFFSET
    first = max(least, n // 2)
    for n_train in _evenly(first, n - 1, MAX_WINDOWS):
        yield n_train, [targets[i] for i in _evenly(n_train, n - 1, MAX_TARGETS)]


def _evenly(first: int, last: int, at_most: int) -> list[int]:
    """Whole numbers from first to last, both included."""
    if last < first:
        return []
    n = min(at_most, last - first + 1)
    return sorted({round(value) for value in np.linspace(first, last, n).tolist()})


@dataclass(frozen=True)
class _Fitted:
    """A form fitted to the cheap part of a series."""

    form: FormName
    loss: Callable[[HoldOutTarget], float]
    draws: Callable[[HoldOutTarget], FloatArray]
    scatter: float
    """Relative standard deviation of optima about the form beyond their own noise."""
    point_noise: float
    """Relative standard deviation of single points about the form."""


def _laws(isoflop: IsoFlopFit, n_train: int, resampler: Resampler) -> list[_Fitted]:
    """The pure law and the law with an offset through the first optima."""
    flops_K, loss_K = isoflop.values("flops")[:n_train], isoflop.values("loss")[:n_train]
    log_loss_RK = isoflop.log_loss_RK[:N_LAW_DRAWS, :n_train]
    normal_RK = resampler.normals(LAW_NORMALS, n_train)[:N_LAW_DRAWS]
    is_pair = isoflop.method == "pair"
    pure = fit_power_law(flops_K, np.log(loss_K), log_loss_RK, normal_RK, weighted=is_pair)
    fitted = [_law("power", pure)]
    if n_train >= MIN_WINDOW_FOR_OFFSET:
        fitted.append(_law("offset", nested_law(pure, flops_K, loss_K, np.exp(log_loss_RK))))
    return fitted


def _law(form: FormName, law: PowerLaw) -> _Fitted:
    return _Fitted(
        form=form,
        loss=lambda target: law(target.flops),
        draws=lambda target: law.draws(target.flops),
        scatter=law.scatter,
        point_noise=0.0,
    )


def _surfaces(
    train: Points, huber_delta: float | Literal["auto"], resampler: Resampler
) -> list[_Fitted]:
    """Both surfaces, as far as the cheap points pin them down.

    They are read at the size and tokens of the target, about which its loss is flat in both.
    """
    fitted = []
    surface = fit_surface(train, huber_delta, resampler)
    if isinstance(surface, SurfaceFit):
        fitted.append(_of_surface("surface", surface, surface.sigma))
    tied = fit_tied_surface(train, resampler)
    if isinstance(tied, TiedSurface):
        fitted.append(_of_surface("tied", tied, tied.sigma / float(np.mean(train.loss_P))))
    return fitted


def _of_surface(form: FormName, surface: SurfaceFit | TiedSurface, noise: float) -> _Fitted:
    return _Fitted(
        form=form,
        loss=lambda target: surface(target.params, target.tokens),
        draws=lambda target: surface.draws_at(target.params, target.tokens),
        scatter=0.0,
        point_noise=noise,
    )


def _predict(
    fitted: list[_Fitted], n_train: int, targets: list[HoldOutTarget], resampler: Resampler
) -> list[HoldOutPrediction]:
    normal_RT = resampler.normals(TARGET_NORMALS, len(targets))
    predictions = []
    for form in fitted:
        for index, target in enumerate(targets):
            # The uncertainty of the form, and the noise of what is held out.
            sd = float(np.hypot(target.log_sd or form.point_noise, form.scatter))
            draws_R = form.draws(target)
            noise_R = np.exp(sd * normal_RT[: len(draws_R), index])
            ends = percentile_interval(draws_R * noise_R)
            predictions.append(
                HoldOutPrediction(form.form, n_train, target, form.loss(target), ends)
            )
    return predictions


def _scores(predictions: list[HoldOutPrediction]) -> dict[FormName, Score]:
    """Scores of the forms that could be fitted to most windows, over the same targets."""
    of_form: dict[FormName, list[HoldOutPrediction]] = {}
    for prediction in predictions:
        of_form.setdefault(prediction.form, []).append(prediction)
    most = max((len(made) for made in of_form.values()), default=0)
    return {form: _score(made) for form, made in of_form.items() if len(made) == most}


def _score(predictions: list[HoldOutPrediction]) -> Score:
    error = np.abs([prediction.error for prediction in predictions])
    return Score(
        n=len(predictions),
        mean_abs_error=float(error.mean()),
        worst_abs_error=float(error.max()),
        coverage=float(np.mean([prediction.is_covered for prediction in predictions])),
    )
