"""What is `tuned`: the law that says it for a run, how far that reaches, and what it leaves.

One run serves budgets whose best rate and batch differ. It is tuned for the geometric middle of its
own first and last observation, so that what it loses at both ends is known from the law.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sweeper.planning import recipe
from sweeper.planning.series import ResolvedSeries
from sweeper.sweepfile.choices.training import Train
from sweeper.sweepfile.fields import TUNED
from sweeper.sweepfile.law_file import LawEntry
from sweeper.sweepfile.problems import InvalidSweep, Problem, expected_one_of
from sweeper.sweepfile.schema import Sweep
from sweeper.trials.tuned_laws import LawKey, TunedLaw

FAR = 4.0  # from this factor outside the measured sizes or tokens, a law's numbers are a guess
TUNABLE = ("learning_rate", "batch_tokens")
# In what a law must agree with a run; in the rest of the key it had better agree.
IDENTITY = ("family", "family_options", "backbone", "optimizer", "schedule")


@dataclass(frozen=True)
class FoundLaw:
    """The law of a file that fits a series."""

    law: TunedLaw
    label: str
    """What the file calls the series that it was measured for."""
    file: str
    """As the sweep file names it."""
    differences: tuple[str, ...]
    """Parts of the key, of those that may differ, in which it does."""


@dataclass(frozen=True)
class TunedPoint:
    """A law at the size and the tokens of a run."""

    found: FoundLaw
    params: int
    tokens: float
    """Geometric middle of its first and last observation."""

    def batch_sequences(self, seq_len: int) -> int:
        """The best batch in whole sequences, but never fewer than any batch has."""
        best = self.found.law.best_batch(self.params, self.tokens)
        return max(recipe.MIN_BATCH_SEQUENCES, round(best / seq_len))

    def learning_rate(self, batch_tokens: int) -> float:
        """The best rate at a batch, of three digits."""
        rate = self.found.law.best_rate(self.params, self.tokens, batch_tokens)
        return float(f"{rate:.3g}")


@dataclass(frozen=True)
class TunedRun:
    """Where the rate or batch of a run comes from, and what it is expected to cost."""

    series: str
    params: int
    tokens: float
    """Training tokens that it was tuned for."""
    keys: tuple[str, ...]
    """What of it is tuned."""
    learning_rate: float
    batch_tokens: int
    law: str
    file: str
    extrapolation: float
    """Factor by which size or tokens lie outside the law's; 1 inside."""
    first_excess: float
    """Expected relative excess loss at the first observation, over its own best rate and batch."""
    last_excess: float
    """The same at the last one."""

    @property
    def bias(self) -> float:
        """Expected relative excess loss, the larger of both ends."""
        return max(self.first_excess, self.last_excess)


def tuned_keys(train: Train) -> tuple[str, ...]:
    """What of the training settings is tuned."""
    return tuple(key for key in TUNABLE if getattr(train, key) == TUNED)


def law_for(sweep: Sweep, series: ResolvedSeries) -> FoundLaw | None:
    """The law of a series, or None if nothing of it is tuned.

    Raises InvalidSweep if its law file has none, saying in what those that it has differ.
    """
    train, keys = series.train, tuned_keys(series.train)
    if not keys:
        path = series.train_path(sweep, "max_horizon_bias")
        # One for the whole sweep may be there for other series.
        is_for_others = path == ("train", "max_horizon_bias") and sweep.law_files
        if math.isfinite(train.max_horizon_bias) and not is_for_others:
            expected = f"nothing of series {series.label!r} is tuned: leave it out, or name laws"
            raise InvalidSweep([Problem(path, expected)])
        return None
    path = series.train_path(sweep, keys[0])
    if not train.laws:
        expected = "expected a law file, too: `laws: FILE`, which `sweeper tune` makes"
        raise InvalidSweep([Problem(path, expected)])
    if train.laws not in sweep.law_files:
        expected = expected_one_of(train.laws, sweep.law_files)
        raise InvalidSweep([Problem(series.train_path(sweep, "laws"), expected)])
    key, entries = law_key(sweep, series), sweep.law_files[train.laws].laws
    fitting = [entry for entry in entries if not _in_identity(entry.key.key.differences(key))]
    if not fitting:
        expected = f"no law of {train.laws} is for {_described(key)}: {_what_differs(key, entries)}"
        raise InvalidSweep([Problem(path, expected)])
    best = min(fitting, key=lambda entry: len(entry.key.key.differences(key)))
    return FoundLaw(best.law, best.series, train.laws, best.key.key.differences(key))


def law_key(sweep: Sweep, series: ResolvedSeries) -> LawKey:
    """What a law for a series must have been measured for."""
    train = series.train
    return LawKey(
        family=series.family,
        family_options=series.options,
        backbone=sweep.backbone,
        optimizer=train.optimizer,
        schedule=train.schedule,
        betas=train.betas,
        weight_decay=train.weight_decay,
        ema_decay=train.ema,
    )


def _in_identity(differences: Iterable[str]) -> list[str]:
    return [name for name in differences if name in IDENTITY]


def _what_differs(key: LawKey, entries: Iterable[LawEntry]) -> str:
    found = []
    for entry in entries:
        other = entry.key.key
        parts = [f"{_name(n)} {_text(other, n)}" for n in _in_identity(other.differences(key))]
        found.append(f"{entry.series!r} is for {', '.join(parts)}")
    return "; ".join(found)


def _described(key: LawKey) -> str:
    return ", ".join(f"{_name(name)} {_text(key, name)}" for name in IDENTITY)


def _name(part: str) -> str:
    return {"family_options": "options", "ema_decay": "ema"}.get(part, part)


def _text(key: LawKey, part: str) -> str:
    value = getattr(key, part)
    if part == "family_options":
        return "{" + ", ".join(f"{name}: {option}" for name, option in value) + "}"
    return str(value)


def difference_text(found: FoundLaw, train: Train) -> str:
    """In what a law that is used differs from the run, as a warning says it."""
    here = {"betas": train.betas, "weight_decay": train.weight_decay, "ema_decay": train.ema}
    return ", ".join(
        f"{_name(part)} {_text(found.law.key, part)} (here {here[part]})"
        for part in found.differences
    )
