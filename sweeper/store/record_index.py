"""Heads of all published records in one file, so that nobody has to open ten thousand.

`records.json` is derived and only a hint: an entry counts while the record it was made from has
the size and time of change noted with it. One listing tells, so a record that was deleted, added
or replaced by hand is noticed at once. The driver writes the file together with the tables, whose
state it notes, too; readers fall back to the records wherever it is absent, torn or behind.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.store import files
from sweeper.store.layout import Store

INDEX_VERSION = 2
"""Version of the layout of `records.json`, and of what the fields of a head mean."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """The head of a record: what resuming and `status` need to know."""

    trial_id: str
    trajectory_id: str
    sweep: str
    """Name of the sweep that trained it."""
    attempt: int
    is_diverged: bool
    steps: int
    """Optimiser steps taken."""
    observed_steps: tuple[int, ...]
    train_flops: float
    last_bound_nats_per_token: float | None
    """Bound of the last observation; null when it diverged before the first."""
    work_time_s: float
    """Seconds in training and evaluation, over all attempts."""


@dataclass(frozen=True)
class RecordIndex:
    """What the driver last noted of the records and of the tables made from them."""

    stamps: Mapping[str, str] = field(default_factory=dict)
    """Size and time of change of each record then, by trial."""
    heads: Mapping[str, Published] = field(default_factory=dict)
    """By trial, the same trials."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Size and time of change of the file of each table, by its name."""
    labels: str = ""
    """Digest of the labels that the tables were given."""
    failures: str = ""
    """Digest of the rows of failed trials."""

    def unchanged(self, stamps: Mapping[str, str]) -> dict[str, Published]:
        """Heads of the records that are as they were, by trial."""
        return {
            trial_id: head
            for trial_id, head in self.heads.items()
            if stamps.get(trial_id) == self.stamps[trial_id]
        }


def record_stamps(store: Store) -> dict[str, str]:
    """Size and time of change of every published record, by trial and in their order."""
    stamps = files.stamps(store.published)
    return {
        name.removesuffix(".json"): stamps[name]
        for name in sorted(stamps)
        if name.endswith(".json") and name[0] not in "._"
    }


def read_index(store: Store) -> RecordIndex:
    """The index; an empty one where there is none that this version can read."""
    try:
        fields: dict[str, Any] = files.read_json(store.record_index)
        if fields["version"] != INDEX_VERSION:
            return RecordIndex()
        heads = {trial_id: _head(head) for trial_id, head in fields["heads"].items()}
        stamps = {trial_id: str(fields["stamps"][trial_id]) for trial_id in heads}
        digests = str(fields["labels"]), str(fields["failures"])
        return RecordIndex(stamps, heads, dict(fields["tables"]), *digests)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return RecordIndex()


def write_index(store: Store, index: RecordIndex) -> None:
    """Replace the index. Only the driver does."""
    fields = {
        "version": INDEX_VERSION,
        "labels": index.labels,
        "failures": index.failures,
        "tables": index.tables,
        "stamps": index.stamps,
        "heads": {trial_id: vars(head) for trial_id, head in index.heads.items()},
    }
    files.replace(store.record_index, json.dumps(fields, allow_nan=False).encode())


def _head(fields: dict[str, Any]) -> Published:
    return Published(**{**fields, "observed_steps": tuple(fields["observed_steps"])})
