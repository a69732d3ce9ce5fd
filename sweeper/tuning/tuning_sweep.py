"""Tuning as an ordinary sweep, `<name>-tune`: what it trains first, and what follows from that.

Each round is a revision of its sweep file that only adds runs. What a round adds follows from the
published results of those before and from nothing else, so that tuning which is killed and started
again goes on as if it had not been.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import ConfigError
from sweeper.planning.planner import PlannedSweep
from sweeper.planning.runs import Setting
from sweeper.planning.series import ResolvedSeries, resolve_series
from sweeper.planning.tuned import law_key
from sweeper.store.layout import Store
from sweeper.store.pending import pending_trials
from sweeper.store.results import published, read_records, record_paths
from sweeper.sweepfile.document import document_of
from sweeper.sweepfile.problems import InvalidSweep
from sweeper.sweepfile.schema import LoadedSweep, validated
from sweeper.sweepfile.strict_yaml.dump import dump
from sweeper.trials.ladder import Rung
from sweeper.trials.plan import PlannedTrial
from sweeper.trials.tuned_laws import LawKey
from sweeper.tuning.further import FittedLaw, checks, further_runs
from sweeper.tuning.hexagon import Point, TuningSize, first_round, tuning_sizes

Entries = list[dict[str, Any]]
"""Of a `list` design."""


@dataclass(frozen=True)
class Tried:
    """One observation of a tuning run."""

    trial_id: str
    run: int
    """Number of its run; all observations of a run share its luck."""
    rung: Rung
    params: int
    tokens: int
    point: Point
    bound: float
    """Nats per token; NaN where the run had diverged by then."""
    stderr: float


FitLaw = Callable[[str, LawKey, Sequence[Tried]], FittedLaw]
"""From a series' label, its key and what was tried."""


@dataclass(frozen=True)
class Tuning:
    """How a sweep is tuned; all of it follows from the sweep file and the corpus."""

    loaded: LoadedSweep
    """The sweep that is tuned, as before it is."""
    base: PlannedSweep
    """Its plan, with `auto` where a law is to say."""
    series: tuple[ResolvedSeries, ...]
    setting: Setting
    sizes: tuple[TuningSize, ...]
    store: Store
    """Of the tuning sweep."""
    plan: Callable[[LoadedSweep], PlannedSweep]
    fit: FitLaw

    @property
    def radius(self) -> float:
        """Factor from the centre of a hexagon to its points."""
        return self.loaded.sweep.tune.radius


@dataclass(frozen=True)
class Revision:
    """The tuning sweep after a number of rounds."""

    loaded: LoadedSweep
    planned: PlannedSweep


def tuning_name(name: str) -> str:
    """The sweep in which a sweep is tuned."""
    return f"{name}-tune"


def tuning_of(
    loaded: LoadedSweep,
    base: PlannedSweep,
    store: Store,
    plan: Callable[[LoadedSweep], PlannedSweep],
    fit: FitLaw,
) -> Tuning:
    """How a sweep without laws is tuned; raises ConfigError where its sizes do not allow it."""
    setting = Setting(base.corpus.seq_len, base.corpus.vocab_size, backbone=loaded.sweep.backbone)
    series = resolve_series(loaded.sweep, base.corpus.vocab_size)
    try:
        sizes = tuning_sizes(base, series, setting, loaded.sweep.tune)
    except InvalidSweep as error:
        raise ConfigError(loaded.document.describe(error.problems)) from error
    return Tuning(loaded, base, series, setting, sizes, store, plan, fit)


def open_revision(tuning: Tuning) -> Revision | None:
    """The first round of which a result is missing; None when tuning is over."""
    for revision in rounds(tuning):
        if pending_trials(revision.planned.trials, published(tuning.store)):
            return revision
    return None


def rounds(tuning: Tuning) -> Iterator[Revision]:
    """Every round; ask for the next when all results of the last are published."""
    entries = first_round(tuning.series, tuning.sizes, tuning.setting, tuning.radius)
    yield (revision := revision_of(tuning, entries))
    laws, remarks = fitted_laws(tuning, revision), []
    further = further_runs(tuning.series, tuning.sizes, tuning.setting, tuning.radius, laws)
    if further:
        entries += further
        remarks.append("further runs where the best rate or batch lies outside those tried")
        yield (revision := revision_of(tuning, entries, remarks))
        laws = fitted_laws(tuning, revision)
    tuned, base = revision.planned.trials, tuning.base.trials
    if checked := checks(tuning.series, tuning.sizes, tuning.setting, laws, tuned, base):
        remarks.append("three rates at the law's batch, at the largest size that costs no more")
        yield revision_of(tuning, [*entries, *checked], remarks)


def revision_of(tuning: Tuning, entries: Entries, remarks: Sequence[str] = ()) -> Revision:
    """The tuning sweep of some runs: the sweep's own file with another design."""
    asked: dict[str, Any] = tuning.loaded.document.value
    left_out = ("name", "description", "design", "ask", "tune", "law_files", "train", "limits")
    seeds = [tuning.loaded.sweep.tune.seed]
    fields = {
        "name": tuning_name(tuning.loaded.sweep.name),
        "description": f"Learning rates and batch sizes tried for {tuning.loaded.sweep.name}",
        **{key: value for key, value in asked.items() if key not in left_out},
        "series": {label: _untuned(part) for label, part in asked["series"].items()},
        "train": {**_untuned(asked).get("train", {}), "seeds": seeds},
        "design": {"list": entries},
        "keep": "none",
        # How many runs and FLOPs a sweep may have says nothing of its tuning.
        "limits": {
            k: v for k, v in asked.get("limits", {}).items() if k not in ("flops", "trials")
        },
    }
    document = document_of(dump(fields), f"{tuning.loaded.document.source} (tuning)")
    loaded = validated(dataclasses.replace(document, remarks=tuple(remarks)))
    return Revision(loaded, tuning.plan(loaded))


def fitted_laws(tuning: Tuning, revision: Revision) -> dict[str, FittedLaw]:
    """The law of each series, by label, from its runs at the tuning sizes."""
    tried = all_tried(tuning, revision)
    laws = {}
    for series in tuning.series:
        own = [each for each in tried[series.label] if is_tuning_size(tuning, each.rung)]
        key = law_key(tuning.loaded.sweep, series)
        laws[series.label] = tuning.fit(series.label, key, own)
    return laws


def is_tuning_size(tuning: Tuning, rung: Rung) -> bool:
    """Whether laws are fitted to runs of this size; others check them."""
    return any(size.rung == rung for size in tuning.sizes)


def all_tried(tuning: Tuning, revision: Revision) -> dict[str, list[Tried]]:
    """What each series' published runs have shown, in the order of the plan."""
    bounds: dict[tuple[str, int], tuple[float, float]] = {}
    for record in read_records(record_paths(tuning.store)):
        for row in record["observations"]:
            measured = row["bound_nats_per_token"], row["bound_stderr_nats_per_token"]
            bounds[record["trial"]["trajectory_id"], row["step"]] = measured
    tried: dict[str, list[Tried]] = {series.label: [] for series in tuning.series}
    for run, planned in enumerate(revision.planned.trials):
        tried[planned.series].extend(_tried(planned, run, bounds))
    return tried


def _tried(
    planned: PlannedTrial, run: int, bounds: Mapping[tuple[str, int], tuple[float, float]]
) -> Iterator[Tried]:
    trial = planned.trial
    for cell in planned.cells:
        bound, stderr = bounds.get((trial.trajectory_id, cell.step), (math.nan, math.nan))
        yield Tried(
            trial_id=trial.trial_id,
            run=run,
            rung=trial.rung,
            params=planned.params.trunk,
            tokens=cell.tokens,
            point=Point(trial.optimizer.learning_rate, trial.tokens_per_step),
            bound=bound,
            stderr=stderr,
        )


def _untuned(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a sweep file without what is tuned, and without the seeds, in its `train`."""
    given = part.get("train") or {}
    left_out = ("learning_rate", "batch_tokens", "laws", "max_horizon_bias", "seeds")
    train = {key: value for key, value in given.items() if key not in left_out}
    return {**part, "train": train} if train else {k: v for k, v in part.items() if k != "train"}
