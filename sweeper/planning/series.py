"""The series of a sweep with their families' options and training settings resolved."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.errors import ConfigError
from sweeper.families import decoded_option, encoded_options, load_family
from sweeper.planning.design import Variant
from sweeper.sweepfile.choices.training import Series, Train
from sweeper.sweepfile.problems import InvalidSweep, KeyPath, Problem, expected_one_of
from sweeper.sweepfile.schema import Sweep

if TYPE_CHECKING:  # importing a family's base module loads torch
    from sweeper.families.base import Needs

LARGEST_BATCH_MISMATCH = 0.05  # of `batch_tokens` and whole sequences, as a share of the former


@dataclass(frozen=True)
class ResolvedSeries:
    """One series as the planner needs it."""

    label: str
    family: str
    options: tuple[tuple[str, Any], ...]
    """All options of the family as a trial keeps them."""
    needs: "Needs"
    train: Train
    variant: Variant | None = None
    """What overrides the series' training settings for some of its runs."""

    def varied(self, variant: Variant) -> "ResolvedSeries":
        """The series with the training settings of one of its variants."""
        train = self.train.model_copy(update=dict(variant.train))
        return dataclasses.replace(self, train=train, variant=variant)

    def train_path(self, sweep: Sweep, key: str) -> KeyPath:
        """Where the sweep file sets a training key for this series."""
        if self.variant and key in dict(self.variant.train):
            return (*self.variant.train_path, key)
        if key in sweep.series[self.label].train.model_fields_set:
            return ("series", self.label, "train", key)
        return ("train", key)


def resolve_series(sweep: Sweep, vocab_size: int) -> tuple[ResolvedSeries, ...]:
    """All series in the order of the file; raises InvalidSweep with every problem among them."""
    resolved: list[ResolvedSeries] = []
    problems: list[Problem] = []
    for label, series in sweep.series.items():
        try:
            resolved.append(_resolve(label, series, sweep.train, vocab_size))
        except InvalidSweep as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidSweep(problems)
    return tuple(resolved)


def _resolve(label: str, series: Series, train: Train, vocab_size: int) -> ResolvedSeries:
    options = {name: decoded_option(value) for name, value in series.options.items()}
    if "vocab_size" in options:  # a field of every family, but no option
        path, expected = ("series", label, "vocab_size"), "leave it out: the corpus says it"
        raise InvalidSweep([Problem(path, expected, "unknown key 'vocab_size'", at_key=True)])
    try:
        # Loads torch, which the schema does not.
        family = load_family(series.family, vocab_size=vocab_size, **options)
        encoded = encoded_options(family)
    except ConfigError as error:
        found = _option_problems(label, series.family, options, vocab_size, error)
        raise InvalidSweep(found) from error
    merged = train.overridden_by(series.train)
    return ResolvedSeries(label, series.family, encoded, family.needs, merged)


def _option_problems(
    label: str, family: str, options: Mapping[str, Any], vocab_size: int, error: ConfigError
) -> list[Problem]:
    """The options that the family refuses on their own, or the whole series where none is."""
    known: list[str] | None = None
    with contextlib.suppress(ConfigError):  # of a family that cannot be loaded without options
        known = [name for name, _ in encoded_options(load_family(family, vocab_size=vocab_size))]
    found: list[Problem] = []
    for name, value in options.items():
        path = ("series", label, name)
        if known is not None and name not in known:
            hint = expected_one_of(name, [*known, "train"])
            expected = f"family {family} has no option {name!r}; {hint}"
            found.append(Problem(path, expected, f"unknown key {name!r}", at_key=True))
            continue
        try:
            encoded_options(load_family(family, vocab_size=vocab_size, **{name: value}))
        except ConfigError as refusal:
            found.append(Problem(path, str(refusal)))
    return found or [Problem(("series", label), str(error))]


def misfit_batches(sweep: Sweep, series: Iterable[ResolvedSeries]) -> Iterator[Problem]:
    """Batches that are not near a whole number of sequences."""
    seq_len = sweep.corpus.seq_len
    for one in series:
        path, tokens = one.train_path(sweep, "batch_tokens"), one.train.batch_tokens
        if isinstance(tokens, str):  # auto or tuned
            continue
        below = tokens // seq_len * seq_len
        nearest = round(tokens / seq_len) * seq_len
        if not below or abs(nearest / tokens - 1) > LARGEST_BATCH_MISMATCH:
            near = " or ".join(f"{n:,}" for n in (below, below + seq_len) if n)
            yield Problem(path, f"expected whole sequences of {seq_len} tokens, such as {near}")
