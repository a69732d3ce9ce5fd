"""Results shared between the sweeps of one results folder: what one has trained, no other repeats.

A driver copies from its siblings `results/<other>/published/` the records that settle one of its
missing cells, so every folder stays complete. What is torn, edited or of an older version there is
skipped: their own `verify` names it. Links are not followed: nothing outside the folder is read.
"""

import contextlib
import json
import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import StoreError
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.pending import DonePoints, pending_trials
from sweeper.store.results import Published, flaws, published, read_head, record_paths
from sweeper.store.storage import StoragePath
from sweeper.trials.plan import Plan, PlannedTrial

logger = logging.getLogger(__name__)

# What reading a torn, edited or foreign record may raise.
UNSOUND = (OSError, StoreError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class _Offer:
    """A record of a sibling."""

    path: StoragePath
    head: Published

    def settles(self, steps: Collection[int]) -> set[int]:
        """Those of some steps of its trajectory that need no training if it is taken."""
        done = DonePoints.of([self.head])
        return {step for step in steps if done.include(self.head.trajectory_id, step)}


def adopt(store: Store, plan: Plan) -> tuple[Published, ...]:
    """Take over, holding the sweep, what settles missing cells; returns what was taken."""
    left = pending_trials(plan.trials, published(store))
    offers: dict[str, list[_Offer]] = {each.trajectory_id: [] for each in left}
    for sibling in _siblings(store) if left else ():
        for offer in _offers_of(sibling):
            if offer.head.trajectory_id in offers:
                offers[offer.head.trajectory_id].append(offer)
    return tuple(
        head for pending in left for head in _take(store, pending, offers[pending.trajectory_id])
    )


def adopt_one(
    store: Store, pending: PlannedTrial, planned_ids: Iterable[str] = ()
) -> Published | None:
    """Take over one trial from a sibling that has published it meanwhile, whole or not at all.

    `planned_ids` are those of its trajectory in the plan. Cheap enough for every attempt.
    """
    steps = {cell.step for cell in pending.cells}
    trial_ids = dict.fromkeys((pending.trial_id, *planned_ids))
    for sibling in _siblings(store):
        for trial_id in trial_ids:
            offer = _offer(sibling.record(trial_id))
            if offer and offer.settles(steps) == steps and _copy(store, offer):
                return offer.head
    return None


def _take(store: Store, pending: PlannedTrial, offers: list[_Offer]) -> Iterator[Published]:
    """Copy as few records as settle what can be settled."""
    steps = {cell.step for cell in pending.cells}
    while offers and steps:
        # Of equals the one that observed fewest other steps: those may be here already.
        best = max(offers, key=lambda o: (len(o.settles(steps)), -len(o.head.observed_steps)))
        offers.remove(best)
        if best.settles(steps) and _copy(store, best):
            steps -= best.settles(steps)
            yield best.head


def _copy(store: Store, offer: _Offer) -> bool:
    """Copy a record, if it is sound; one that has appeared here meanwhile is as good."""
    try:
        data = offer.path.read_bytes()
        found = [message for _, message in flaws(offer.path, json.loads(data))]
    except UNSOUND as error:
        found = [f"{type(error).__name__}: {error}"]
    if found:
        logger.info("%s is not taken over: %s", offer.path, found[0])
        return False
    files.create_exclusively(store.record(offer.head.trial_id), data)
    return True


def _offers_of(sibling: Store) -> Iterator[_Offer]:
    """All records of a sibling that can be read."""
    paths = record_paths(sibling)
    if all(map(_is_plain, paths)) and not _is_link(sibling.record_index):
        with contextlib.suppress(*UNSOUND):  # one is torn: read them one by one
            yield from [_Offer(sibling.record(head.trial_id), head) for head in published(sibling)]
            return
    yield from filter(None, map(_offer, paths))


def _offer(path: StoragePath) -> _Offer | None:
    """The record at `path`, if there is one that can be read."""
    try:
        return _Offer(path, read_head(path)) if _is_plain(path) else None
    except FileNotFoundError:
        return None
    except UNSOUND as error:
        logger.info("%s is not taken over: %s", path, error)
        return None


def _siblings(store: Store) -> Iterator[Store]:
    """The other sweeps of the results folder, in the order of their names."""
    folders: list[StoragePath] = sorted(store.folder.parent.iterdir(), key=str)
    for folder in folders:
        records = Store(folder).published
        if folder == store.folder or folder.name[0] in "._" or _is_link(folder):
            continue
        # In an object store, reading tells whether there are any.
        if not isinstance(records, Path) or (records.is_dir() and not records.is_symlink()):
            yield Store(folder)


def _is_plain(path: StoragePath) -> bool:
    """Whether it is an object, or a file: not a link to one, nor a pipe."""
    return not isinstance(path, Path) or (not _is_link(path) and path.is_file())


def _is_link(path: StoragePath) -> bool:
    return isinstance(path, Path) and path.is_symlink()
