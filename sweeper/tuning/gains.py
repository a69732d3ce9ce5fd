"""What tuning gains over the rate and batch of the sweep as it was, and what was checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.trials.ladder import Rung, trunk_params
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.tuned_laws import TunedLaw
from sweeper.tuning.tuning_sweep import Revision, Tried, Tuning, all_tried, is_tuning_size


@dataclass(frozen=True)
class Gain:
    """What a size of the sweep gains from a law."""

    params: int
    tokens: float
    """Geometric middle of the run's first and last observation."""
    learning_rate: float
    """Of the sweep as it was, which the batch is, too."""
    batch_tokens: int
    expected: float
    """Relative excess loss of that rate and batch over the best, by the law."""
    measured: float | None
    """Log loss of the centre of the size's hexagon over that of its run nearest to the best, by the
    law, at the most tokens; None where no run shows it."""


@dataclass(frozen=True)
class CheckedRate:
    """A run at the law's batch that no law was fitted to."""

    params: int
    tokens: int
    learning_rate: float
    batch_tokens: int
    bound: float | None
    """Nats per token; None where it diverged."""
    stderr: float | None
    expected: float
    """Relative excess loss by the law."""


def gains(tuning: Tuning, revision: Revision, label: str, law: TunedLaw) -> tuple[Gain, ...]:
    """At the smallest and the largest size that the sweep trains for a series."""
    runs = [one for one in tuning.base.trials if one.series == label]
    tried = [
        each for each in all_tried(tuning, revision)[label] if is_tuning_size(tuning, each.rung)
    ]
    ends = {
        one.trial.rung: one
        for one in (
            min(runs, key=lambda each: trunk_params(each.trial.rung)),
            max(runs, key=lambda each: trunk_params(each.trial.rung)),
        )
    }
    return tuple(_gain(one, law, tried) for one in ends.values())


def checked_rates(
    tuning: Tuning, revision: Revision, label: str, law: TunedLaw
) -> tuple[CheckedRate, ...]:
    """The runs of a series that check its law, in increasing order of rates."""
    found = [
        CheckedRate(
            params=one.params,
            tokens=one.tokens,
            learning_rate=one.point.learning_rate,
            batch_tokens=one.point.batch_tokens,
            bound=None if math.isnan(one.bound) else one.bound,
            stderr=None if math.isnan(one.stderr) else one.stderr,
            expected=_excess(law, one),
        )
        for one in all_tried(tuning, revision)[label]
        if not is_tuning_size(tuning, one.rung)
    ]
    return tuple(sorted(found, key=lambda each: each.learning_rate))


def _gain(one: PlannedTrial, law: TunedLaw, tried: Sequence[Tried]) -> Gain:
    tokens = math.sqrt(one.cells[0].tokens) * math.sqrt(one.cells[-1].tokens)
    rate, batch = one.trial.optimizer.learning_rate, one.trial.tokens_per_step
    params = one.params.trunk
    return Gain(
        params=params,
        tokens=tokens,
        learning_rate=rate,
        batch_tokens=batch,
        expected=law.excess(params, tokens, rate, batch),
        measured=_measured(one.trial.rung, law, tried),
    )


def _measured(rung: Rung, law: TunedLaw, tried: Sequence[Tried]) -> float | None:
    last: dict[int, Tried] = {}
    for each in tried:
        if each.rung == rung:
            last[each.run] = each
    if not last or math.isnan((centre := next(iter(last.values()))).bound):
        return None
    finite = [each for each in last.values() if not math.isnan(each.bound)]
    nearest = min(finite, key=lambda each: _excess(law, each))
    return math.log(centre.bound / nearest.bound)


def _excess(law: TunedLaw, one: Tried) -> float:
    return law.excess(one.params, one.tokens, one.point.learning_rate, one.point.batch_tokens)
