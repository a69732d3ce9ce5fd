"""The answer of the samples: fronts, which series wins at which speed, and how much faster.

Suffixes: R resamples after the measured values themselves, which are row 0; X speeds, Q qualities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from analysis import notation
from analysis.errors import FitWarning, SettingsError
from analysis.notation import Interval
from analysis.pareto.fronts import Front, fronts_by_draw, on_front
from analysis.pareto.matched import (
    CommonEntropy,
    NotCompared,
    Point,
    common_entropy,
    matched,
)
from analysis.pareto.metrics import Metric
from analysis.pareto.samples import SPEED_UNITS, EntropyOf, SamplesTable, Setting
from analysis.tables.points import FloatArray

N_SPEEDS = 64
N_QUALITIES = 9
LEVEL = (2.5, 97.5)
REACHED = 95.0


@dataclass(frozen=True)
class FrontPoint:
    """A sampler at the common entropy."""

    series: str
    sampler: str
    n_steps: int
    temperatures: tuple[float, float]
    speed: float
    speed_ci: Interval
    quality: float
    quality_ci: Interval
    is_on_front: bool


@dataclass(frozen=True)
class Winner:
    """A range of speeds in which one series is most often the best."""

    series: str
    speeds: Interval
    probability: float
    """Share of resamples in which it wins, averaged over the range."""
    least_probability: float
    """The same where it is least sure."""


@dataclass(frozen=True)
class SpeedRatio:
    """How much faster one series is than another at equal quality."""

    baseline: str
    against: str
    ratio: float | None
    """Geometric mean over the qualities that both reach; None where there is none."""
    ci: Interval | None
    by_quality: tuple[tuple[float, float], ...]
    """Quality and ratio."""
    probability_faster: float | None
    """Share of resamples in which the mean ratio is above 1."""
    remark: str


@dataclass(frozen=True)
class MetricAnswer:
    """All that one metric says."""

    metric: Metric
    speed_unit: str
    ranks_controls_last: bool | None
    """None where no control has a number."""
    better_controls: tuple[str, ...]
    """Controls that beat the best of some series."""
    points: tuple[FrontPoint, ...]
    bands: Mapping[str, tuple[tuple[float, float, float, float], ...]]
    """By series, along its front: speed, quality, and the ends of its interval."""
    winners: tuple[Winner, ...]
    speed_ratios: tuple[SpeedRatio, ...]
    not_compared: tuple[NotCompared, ...]
    without: tuple[str, ...]
    """Series that have no number of it."""

    @property
    def title(self) -> str:
        """With what is wrong with it beside its name."""
        if self.ranks_controls_last is False:
            return f"{self.metric.title}; prefers {', '.join(self.better_controls)}: do not trust"
        return self.metric.title


@dataclass(frozen=True)
class ParetoAnswer:
    """Everything the samples of one protocol say."""

    source: str
    fingerprint: str
    """Of the rows."""
    entropy: CommonEntropy
    protocol: Mapping[str, str]
    metrics: tuple[MetricAnswer, ...]
    settings: tuple[Setting, ...]
    warnings: tuple[FitWarning, ...]
    n_resamples: int

    @property
    def headline(self) -> MetricAnswer | None:
        """Of the metrics that rank the controls last, or at least were not seen to fail, the one
        that can be fooled least."""
        return next((each for each in self.metrics if each.ranks_controls_last is not False), None)

    def to_json(self) -> dict[str, Any]:
        """The answer as a JSON object."""
        return {
            "source": self.source,
            "entropy": vars(self.entropy),
            "protocol": dict(self.protocol),
            "headline": self.headline.metric.name if self.headline else None,
            "metrics": {
                each.metric.name: {
                    "title": each.title,
                    "speed_unit": each.speed_unit,
                    **notation.to_json(
                        each,
                        *("ranks_controls_last", "better_controls", "points", "winners"),
                        *("speed_ratios", "not_compared", "without"),
                    ),
                }
                for each in self.metrics
            },
            "settings": {"n_resamples": self.n_resamples},
            "warnings": [warning.to_json() for warning in self.warnings],
        }


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How samples are to be compared."""

    baseline: str | None = None
    """Series whose speed the others are compared with; None: masked, or the first."""
    entropy_of: EntropyOf = "unigram"
    entropy_nats: float | None = None
    """At which they are compared; None: that which most samplers reach."""
    n_resamples: int = 1000
    seed: int = 0


def answer(table: SamplesTable, asked: Asked) -> ParetoAnswer:
    """What the samples say; raises `SettingsError` for a baseline that is not in the table."""
    labels = sorted({each.series for each in table.trained})
    baseline = asked.baseline
    if not labels:
        raise SettingsError(f"{table.name}: samples of controls only; expected trained models")
    if baseline is None:
        baseline = "masked" if "masked" in labels else labels[0]
    if baseline not in labels:
        raise SettingsError(f"--baseline {baseline!r}: expected one of {', '.join(labels)}")
    at = common_entropy(table.trained, asked.entropy_of)
    if asked.entropy_nats is not None:
        at = CommonEntropy(asked.entropy_of, asked.entropy_nats)
    answers = tuple(_of_metric(metric, table, at, baseline, asked) for metric in table.metrics)
    return ParetoAnswer(
        table.name,
        table.fingerprint,
        at,
        table.protocol,
        answers,
        table.settings,
        _warnings(answers),
        asked.n_resamples,
    )


def _of_metric(
    metric: Metric, table: SamplesTable, at: CommonEntropy, baseline: str, asked: Asked
) -> MetricAnswer:
    points, others = matched(table.trained, metric.name, at, asked.n_resamples, asked.seed)
    by_series = {
        label: list(group) for label, group in groupby(points, key=lambda point: point.series)
    }
    fronts = {label: fronts_by_draw(group) for label, group in by_series.items()}
    better, has_controls = _better_controls(metric, table, by_series)
    return MetricAnswer(
        metric=metric,
        speed_unit=SPEED_UNITS[table.speed_of],
        ranks_controls_last=not better if has_controls and by_series else None,
        better_controls=better,
        points=tuple(each for group in by_series.values() for each in _described(group)),
        bands={label: _band(drawn) for label, drawn in fronts.items()},
        winners=_winners(fronts),
        speed_ratios=tuple(
            _speed_ratio(fronts, baseline, label)
            for label in fronts
            if baseline in fronts and label != baseline
        ),
        not_compared=tuple(others),
        without=tuple(sorted({each.series for each in table.trained} - _measured(metric, table))),
    )


def _measured(metric: Metric, table: SamplesTable) -> set[str]:
    return {each.series for each in table.trained if metric.name in each.qualities}


def _better_controls(
    metric: Metric, table: SamplesTable, by_series: Mapping[str, Sequence[Point]]
) -> tuple[tuple[str, ...], bool]:
    """Controls no worse than the best of some series, and whether there are any controls.

    At one step a sampler may be no better than a control, so that only the best of each counts.
    """
    controls = [each for each in table.controls if metric.name in each.qualities]
    worst_best = max((min(p.quality for p in group) for group in by_series.values()), default=None)
    if worst_best is None:
        return (), bool(controls)
    better = {each.series for each in controls if each.qualities[metric.name].value <= worst_best}
    return tuple(sorted(better)), bool(controls)


def _described(points: Sequence[Point]) -> list[FrontPoint]:
    log_speed = np.array([point.log_speed_R[0] for point in points])
    quality = np.array([point.quality_R[0] for point in points])
    front = set(on_front(log_speed, quality).tolist())
    return [
        FrontPoint(
            point.series,
            point.sampler,
            point.n_steps,
            point.temperatures,
            point.speed,
            _ends(np.exp(point.log_speed_R[1:])),
            point.quality,
            _ends(point.quality_R[1:]),
            number in front,
        )
        for number, point in enumerate(points)
    ]


def _ends(draws: FloatArray) -> Interval:
    low, high = np.percentile(draws, LEVEL)
    return float(low), float(high)


def _band(drawn: Sequence[Front]) -> tuple[tuple[float, float, float, float], ...]:
    """The front of the values, with its interval over the resamples that reach that speed."""
    own = drawn[0]
    speeds_X = np.unique(
        np.concatenate(
            [np.linspace(own.log_speed_F[0], own.log_speed_F[-1], N_SPEEDS), own.log_speed_F]
        )
    )
    quality_RX = np.stack([front.quality_at(speeds_X) for front in drawn])
    rows = []
    for speed, column in zip(speeds_X, quality_RX.T, strict=True):
        low, high = _ends(column[np.isfinite(column)])  # the values themselves do
        rows.append((float(np.exp(speed)), float(column[0]), low, high))
    return tuple(rows)


def _winners(fronts: Mapping[str, Sequence[Front]]) -> tuple[Winner, ...]:
    """Ranges of speed by the series that is most often best there."""
    if len(fronts) < 2:
        return ()
    labels = list(fronts)
    ends = [front[0].log_speed_F[[0, -1]] for front in fronts.values()]
    speeds_X = np.linspace(min(end[0] for end in ends), max(end[1] for end in ends), N_SPEEDS)
    quality_SRX = np.stack(
        [[front.quality_at(speeds_X) for front in fronts[label]] for label in labels]
    )
    best_RX = np.argmin(quality_SRX, axis=0)[1:]
    best_RX[~np.isfinite(quality_SRX[:, 1:].min(axis=0))] = -1  # too fast for all of them
    share_SX = np.stack([(best_RX == rank).mean(axis=0) for rank in range(len(labels))])
    most_X = share_SX.argmax(axis=0)
    found = []
    for rank, members in groupby(range(N_SPEEDS), key=lambda x: int(most_X[x])):
        where = list(members)
        share = share_SX[rank, where]
        # Up to the next range, or to the end.
        last = min(where[-1] + 1, N_SPEEDS - 1)
        span = (float(np.exp(speeds_X[where[0]])), float(np.exp(speeds_X[last])))
        found.append(Winner(labels[rank], span, float(share.mean()), float(share.min())))
    return tuple(found)


def _speed_ratio(fronts: Mapping[str, Sequence[Front]], baseline: str, against: str) -> SpeedRatio:
    ours, theirs = fronts[against], fronts[baseline]
    best = max(ours[0].quality_F[0], theirs[0].quality_F[0])
    worst = min(ours[0].quality_F[-1], theirs[0].quality_F[-1])
    if best > worst:
        is_ahead = ours[0].quality_F[0] < theirs[0].quality_F[0]
        which = "better" if is_ahead else "worse"
        remark = f"no quality that both reach: all of {against} are {which} than any of {baseline}"
        return SpeedRatio(baseline, against, None, None, (), None, remark)
    # At its best a front is flat, where a resample that does not reach a quality has no speed.
    best = max(best, _mostly_reached(ours), _mostly_reached(theirs))
    quality_Q = np.linspace(best, max(best, worst), N_QUALITIES)
    with np.errstate(invalid="ignore"):  # neither reaches it in that draw
        log_ratio_RQ = np.stack(
            [
                mine.log_speed_at(quality_Q) - other.log_speed_at(quality_Q)
                for mine, other in zip(ours, theirs, strict=True)
            ]
        )
    reached_RQ = np.isfinite(log_ratio_RQ)
    used_R = reached_RQ.any(axis=1)
    sums_R = np.where(reached_RQ, log_ratio_RQ, 0.0).sum(axis=1)
    mean_R = sums_R[used_R] / reached_RQ.sum(axis=1)[used_R]
    draws = mean_R[1:]
    remark = ""
    if len(draws) < 0.9 * (len(log_ratio_RQ) - 1):
        remark = f"only in {len(draws)} of {len(log_ratio_RQ) - 1} resamples both reach a quality"
    return SpeedRatio(
        baseline,
        against,
        float(np.exp(mean_R[0])),
        _ends(np.exp(draws)) if len(draws) else None,
        tuple(
            (float(quality), float(np.exp(log_ratio)))
            for quality, log_ratio in zip(quality_Q, log_ratio_RQ[0], strict=True)
        ),
        float((draws > 0).mean()) if len(draws) else None,
        remark,
    )


def _mostly_reached(drawn: Sequence[Front]) -> float:
    """The best quality that 95 % of the resamples of a front reach."""
    return float(np.percentile([front.quality_F[0] for front in drawn], REACHED))


def _warnings(answers: Sequence[MetricAnswer]) -> tuple[FitWarning, ...]:
    found = []
    for each in answers:
        name = each.metric.name
        if each.ranks_controls_last is False:
            controls = ", ".join(each.better_controls)
            message = f"{name} prefers {controls} to the best samples of some series"
            found.append(FitWarning("controls_not_last", f"{message}: do not trust it"))
        if each.ranks_controls_last is None:
            message = f"{name}: no negative control was measured, so nothing tells whether it ranks"
            found.append(FitWarning("no_controls", message))
        if each.without:
            message = f"{name}: not measured for {', '.join(each.without)}"
            why = "; a judge does not judge itself" if each.metric.needs_judge else ""
            found.append(FitWarning("not_measured", message + why))
        for label, group in groupby(each.not_compared, key=lambda other: other.series):
            steps = ", ".join(f"{other.n_steps}" for other in group)
            message = f"{name}: {label} at {steps} steps never has the common entropy: not compared"
            found.append(FitWarning("entropy_not_reached", message, label))
    return tuple(found)
