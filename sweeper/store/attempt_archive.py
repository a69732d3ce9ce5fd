"""Attempts at published trials, in one file instead of a folder of small ones each.

`attempts.jsonl` has one line per trial. The driver writes it anew, whole, before it removes the
files that went into it; who reads in between finds an attempt in both, and the same in both. What
keeps a late worker from publishing needs none of these files: its trial has a record.
"""

import functools
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.storage import StorePath, read_many

TRACEBACK_SUFFIX = ".traceback.txt"
"""Of the file beside a failed attempt; in the archive it is the attempt's field `traceback`."""

Attempts = Mapping[int, dict[str, Any]]
"""Attempts at one trial by their numbers, as plain JSON values."""


def begun_trials(store: Store) -> frozenset[str]:
    """Trials whose attempts have a folder of their own: all that were begun and not archived."""
    return frozenset(path.name for path in (store.folder / "attempts").glob("*"))


def archived(store: Store, trial_id: str) -> Attempts:
    """Archived attempts at a trial; none where its line is torn."""
    return _archive(store).get(trial_id, {})


def torn_lines(store: Store) -> list[int]:
    """Numbers of the lines of the archive that cannot be read, counted from 1."""
    return [number for number, (_, attempts) in enumerate(_lines(store), 1) if not attempts]


def archive_attempts(store: Store, trial_ids: Collection[str], *, at_least: int = 1) -> None:
    """Move the attempts at these trials to the archive, once so many have a folder of their own.

    Call it as the driver, for published trials that do not run. A folder with a torn attempt stays.
    """
    names = begun_trials(store).intersection(trial_ids)
    if len(names) < at_least:
        return
    found = (store.folder / "attempts").rglob("*")
    ours = [path for path in found if path.parent.name in names and _is_ours(path)]
    contents = dict(zip(ours, read_many(ours), strict=True))
    archive, torn = dict(_archive(store)), set()
    for path in filter(_is_attempt, ours):
        trial_id = path.parent.name
        try:
            attempt = _attempt(contents, path)
        except (ValueError, TypeError):
            torn.add(trial_id)
        else:
            archive[trial_id] = {**archive.get(trial_id, {}), int(path.stem): attempt}
    _write(store, archive)
    files.remove_files([path for path in ours if path.parent.name not in torn])


def _attempt(contents: Mapping[StorePath, bytes], path: StorePath) -> dict[str, Any]:
    """One attempt with its traceback; raises ValueError or TypeError when it is torn."""
    traceback = contents.get(path.with_suffix(TRACEBACK_SUFFIX))
    added = {} if traceback is None else {"traceback": traceback.decode(errors="replace")}
    return dict(json.loads(contents[path]), **added)


def _is_attempt(path: StorePath) -> bool:
    return path.suffix == ".json" and path.stem.isdecimal()


def _is_ours(path: StorePath) -> bool:
    return _is_attempt(path) or path.name == "progress.json" or path.name.endswith(TRACEBACK_SUFFIX)


def _archive(store: Store) -> Mapping[str, Attempts]:
    stamp = files.stamp(store.attempt_archive)
    return _parsed(store, stamp) if stamp else {}


@functools.lru_cache(maxsize=1)
def _parsed(store: Store, stamp: str) -> Mapping[str, Attempts]:  # noqa: ARG001 (tells versions)
    """The archive as it is at a stamp: a driver asks once per trial it starts."""
    return {trial_id: attempts for trial_id, attempts in _lines(store) if attempts}


def _lines(store: Store) -> Iterator[tuple[str, Attempts]]:
    """Trial and attempts of each line; without attempts where it is torn."""
    try:
        lines = store.attempt_archive.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            trial_id, attempts = json.loads(line)
            yield trial_id, {int(each["number"]): each for each in attempts}
        except (ValueError, KeyError, TypeError):
            yield "", {}


def _write(store: Store, archive: Mapping[str, Attempts]) -> None:
    lines = (
        json.dumps([trial_id, [attempts[number] for number in sorted(attempts)]])
        for trial_id, attempts in sorted(archive.items())
    )
    files.replace(store.attempt_archive, "".join(f"{line}\n" for line in lines).encode())
