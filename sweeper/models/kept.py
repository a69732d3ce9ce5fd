"""The models that a results folder keeps, and which of them stay. Needs no torch.

    models/<trajectory_id>/step-<step>-<digest>/     a model folder (model_file.py)
    models/kept.json                                 those that stay; for `verify`

A worker writes a model at every observation. It counts from when a record is published that has its
run, its step and its very bound: of two attempts only the one that was published has that. Which
models stay is a function of plan and records alone, and the driver deletes the others, so a sweep
that was killed and resumed ends with the same files.
"""

import contextlib
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeper.errors import StoreError
from sweeper.models.config import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    ModelConfig,
    read_config,
)
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.pending import pending_trials
from sweeper.store.results import head_of, read_without_losses, record_paths
from sweeper.store.storage import StoragePath
from sweeper.store.submission import read_plan
from sweeper.trials.plan import Labels, Plan

INDEX_FILE = "kept.json"

Point = tuple[str, int]
"""Trajectory and step."""


@dataclass(frozen=True, kw_only=True)
class KeptModel:
    """A model that belongs to a published trial."""

    label: str
    """Of its series, as the plan calls it now."""
    family: str
    trial_id: str
    step: int
    budget_flops: float | None
    """Budget that this step stands for; None outside isoFLOP designs."""
    tokens: int
    """Tokens trained on."""
    bound_nats_per_token: float
    path: StoragePath
    """The model folder; `local_model` makes one of it that can be loaded."""
    n_bytes: int
    """Of the weights."""


@dataclass(frozen=True)
class Observed:
    """One published observation, as the plan labels it."""

    trial_id: str
    label: str
    budget_flops: float | None
    tokens: int
    bound_nats_per_token: float

    @property
    def competes_in(self) -> tuple[str, float]:
        """Its series, and its budget or its tokens."""
        return self.label, self.tokens if self.budget_flops is None else self.budget_flops


def kept_models(store: Store) -> tuple[KeptModel, ...]:
    """Models of published trials, sorted by series, budget or tokens, trial and step."""
    found = tuple(stored_models(store))
    if not found:
        return ()
    observed = observations(read_without_losses(record_paths(store)), read_plan(store))
    return kept_of(found, observed)


def kept_of(
    found: Iterable[tuple[StoragePath, ModelConfig]], observed: Mapping[Point, Observed]
) -> tuple[KeptModel, ...]:
    """Those of some models whose run, step and bound are published, sorted."""
    kept = []
    for path, config in found:
        row = observed.get((config.trial.trajectory_id, config.step))
        if row is not None and row.bound_nats_per_token == config.bound_nats_per_token:
            kept.append(
                KeptModel(
                    label=row.label,
                    family=config.family,
                    trial_id=row.trial_id,
                    step=config.step,
                    budget_flops=row.budget_flops,
                    tokens=row.tokens,
                    bound_nats_per_token=row.bound_nats_per_token,
                    path=path,
                    n_bytes=config.weights_bytes,
                )
            )
    return tuple(
        sorted(kept, key=lambda m: (m.label, m.budget_flops or m.tokens, m.trial_id, m.step))
    )


def stored_models(store: Store) -> Iterator[tuple[StoragePath, ModelConfig]]:
    """Folder and config of every model that has one, published or not, in the order of names."""
    for folder in model_folders(store):
        with contextlib.suppress(StoreError):  # being written, or `verify` names it
            yield folder, read_config(folder)


def model_folders(store: Store) -> list[StoragePath]:
    """All folders of models, whole or not."""
    return sorted((each for run in store.models.glob("*") for each in run.glob("step-*")), key=str)


def observations(records: Iterable[dict[str, Any]], plan: Plan) -> dict[Point, Observed]:
    """The observations of done trials by trajectory and step; of equals, the first trial's."""
    labels, found = Labels.of(plan), dict[Point, Observed]()
    for record in sorted(records, key=lambda record: str(record["trial"]["trial_id"])):
        if record["trial"]["status"] != "done":
            continue
        for row in record["observations"]:
            point = (row["trajectory_id"], row["step"])
            # As in the tables: what another sweep observed and this one does not plan is not ours.
            if row["sweep"] == labels.sweep or point in labels.budget_flops:
                observed = Observed(
                    row["trial_id"],
                    labels.series.get(row["trajectory_id"], row["series"]),
                    labels.budget_flops.get(point, row["budget_flops"]),
                    row["tokens"],
                    row["bound_nats_per_token"],
                )
                found.setdefault(point, observed)
    return found


def chosen_points(observed: Mapping[Point, Observed], plan: Plan) -> frozenset[Point]:
    """Whose weights stay; of equal bounds, those of the first trajectory and step."""
    match plan.keep:
        case "none":
            return frozenset()
        case "all":
            return frozenset(observed)
        case "optimal":
            best: dict[tuple[str, float], tuple[float, Point]] = {}
            for point, row in observed.items():
                candidate = (row.bound_nats_per_token, point)
                best[row.competes_in] = min(candidate, best.get(row.competes_in, candidate))
            return frozenset(point for _, point in best.values())


@dataclass
class Keeper:
    """Deletes, for one driver, models that no longer stay; every record is read once."""

    store: Store
    _records: dict[str, dict[str, Any]] = field(default_factory=dict)

    def reduce(self, plan: Plan) -> None:
        """Keep what `chosen_points` says, and what trials that are not published may still need."""
        found = tuple(stored_models(self.store))
        if not found and not (self.store.models / INDEX_FILE).exists():
            return
        there = {path.stem: path for path in record_paths(self.store)}
        new = [path for trial_id, path in there.items() if trial_id not in self._records]
        read = dict(zip((path.stem for path in new), read_without_losses(new), strict=True))
        known = self._records | read
        self._records = {trial_id: known[trial_id] for trial_id in there}
        staying, dropped = sorted_out(self.store, plan, self._records.values())
        # Listed before anything goes, so that no list names what is gone.
        index = files.to_json(
            [
                {"folder": "/".join(str(path).split("/")[-2:]), "sha256": config.weights_sha256}
                for path, config in staying
            ]
        )
        path = self.store.models / INDEX_FILE
        if not path.exists() or path.read_bytes() != index:
            files.replace(path, index)
        for folder in dropped:
            # The config first: without it the folder is no model any more.
            named = [folder / name for name in (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE)]
            for file in named:
                files.remove_files([file])
            files.remove_folder(folder)


def sorted_out(
    store: Store, plan: Plan, records: Collection[dict[str, Any]]
) -> tuple[list[tuple[StoragePath, ModelConfig]], list[StoragePath]]:
    """The models that stay, and the folders that nobody needs any more."""
    observed = observations(records, plan)
    chosen = chosen_points(observed, plan)
    found = dict(stored_models(store))
    stay = {
        model.path
        for model in kept_of(found.items(), observed)
        if (found[model.path].trial.trajectory_id, model.step) in chosen
    }
    # From the same records: a trial that is published meanwhile keeps its models until next time.
    pending = pending_trials(plan.trials, map(head_of, records))
    unfinished = {each.trajectory_id for each in pending}
    dropped = [
        folder
        for folder in model_folders(store)
        if folder not in stay and folder.parent.name not in unfinished
    ]
    return [(path, config) for path, config in found.items() if path in stay], dropped


@contextlib.contextmanager
def local_model(path: StoragePath) -> Iterator[Path]:
    """A local folder with the files of a model: itself, or a copy while the context lasts."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        for file in path.iterdir():
            file.download(Path(folder) / file.name)
        yield Path(folder)


def index_of(store: Store) -> dict[str, str]:
    """sha-256 of the weights of each model that was kept, by folder below `models`.

    Raises ValueError, KeyError or TypeError for a torn index.
    """
    try:
        listed = json.loads((store.models / INDEX_FILE).read_bytes())
    except FileNotFoundError:
        return {}
    return {str(each["folder"]): str(each["sha256"]) for each in listed}
