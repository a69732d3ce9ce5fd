"""Attempts at trials, and the progress of the one that runs.

The driver numbers attempts and writes how they ended; the worker writes progress. The highest
number is the only attempt that may publish.
"""

import contextlib
import dataclasses
import datetime
import functools
import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.store import files
from sweeper.store.assignment import Assignment, Attempt, AttemptOutcome, Device
from sweeper.store.layout import Store
from sweeper.store.storage import StoragePath, read_many

# Of the file beside a failed attempt; in the archive it is the attempt's field `traceback`.
TRACEBACK_SUFFIX = ".traceback.txt"

_TORN = (ValueError, TypeError, AttributeError)  # what reading a torn attempt may raise

PROGRESS_INTERVAL_S = 2.0  # shortest time between two progress files of one trial
# The same in an object store, where each keeps training waiting for a moment and costs money.
REMOTE_PROGRESS_INTERVAL_S = 8.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the running attempt is; seconds and FLOPs are those of all attempts."""

    step: int
    n_steps: int
    flops_done: float
    loss_nats_per_token: float | None
    """Training loss as last logged; null before that."""
    train_time_s: float
    eval_time_s: float
    own_steps: int | None = None
    """Steps taken for this trial, not for the published one that it goes on from; None: all."""

    @property
    def steps_taken(self) -> int:
        """Those that the seconds are of."""
        return self.step if self.own_steps is None else self.own_steps


@dataclass(frozen=True)
class ReportedProgress:
    """Progress as read back."""

    attempt: int
    age_s: float
    """Since it was written, by the clock of the file system; in an object store, of the writer."""
    updated_at: str
    progress: Progress

    def is_news_after(self, other: "ReportedProgress") -> bool:
        """Whether it was written after another report of the same attempt."""
        return (self.updated_at, self.progress) != (other.updated_at, other.progress)


def begin_attempt(
    store: Store,
    trial_id: str,
    *,
    executor: str,
    device: Device,
    n_threads: int,
    micro_batch_sequences: int | None = None,
) -> Attempt:
    """Start a new attempt; every earlier one can no longer publish."""
    folder = store.attempts(trial_id)
    number = latest_number(store, trial_id)
    while True:
        number += 1
        attempt = Attempt(
            number=number,
            executor=executor,
            device=device,
            n_threads=n_threads,
            micro_batch_sequences=micro_batch_sequences,
            started_at=utc_now(),
        )
        data = files.to_json(vars(attempt))
        if files.create_exclusively(folder / f"{number}.json", data):
            return attempt


def end_attempt(
    store: Store,
    trial_id: str,
    number: int,
    outcome: AttemptOutcome,
    *,
    error: tuple[str, str, str] | None = None,
) -> None:
    """Record how an attempt ended; `error` is class, one-line message and traceback."""
    folder = store.attempts(trial_id)
    try:
        attempt = dataclasses.replace(
            _read(folder / f"{number}.json"), outcome=outcome, ended_at=utc_now()
        )
    except FileNotFoundError:
        return  # archived: its trial was published by another attempt
    # Not flushed to the disk: after a power cut it reads as one that was interrupted, as good.
    if error is not None:
        attempt = dataclasses.replace(attempt, error_class=error[0], error_message=error[1])
        files.replace_lightly(folder / f"{number}{TRACEBACK_SUFFIX}", error[2].encode())
    files.replace_lightly(folder / f"{number}.json", files.to_json(vars(attempt)))


def attempts(store: Store, trial_id: str) -> tuple[Attempt, ...]:
    """The attempts at a trial that can be read, oldest first."""
    folder = store.attempts(trial_id)
    archived = _archive(store).get(trial_id, {})
    found = {number: _of(fields) for number, fields in archived.items()}
    for number in _numbers(folder):
        with contextlib.suppress(FileNotFoundError, *_TORN):  # archived meanwhile, or torn
            found[number] = _read(folder / f"{number}.json")
    return tuple(found[number] for number in sorted(found))


def torn_attempts(store: Store, trial_id: str) -> Iterator[tuple[StoragePath, Exception]]:
    """The files of attempts at a trial that cannot be read, and why."""
    folder = store.attempts(trial_id)
    for number in _numbers(folder):
        try:
            _read(folder / f"{number}.json")
        except FileNotFoundError:
            continue  # archived meanwhile
        except _TORN as error:
            yield folder / f"{number}.json", error


def latest_number(store: Store, trial_id: str) -> int:
    """Number of the latest attempt at a trial, 0 before the first."""
    archived = _archive(store).get(trial_id, {})
    return max([*_numbers(store.attempts(trial_id)), *archived], default=0)


def progress_reporter(assignment: Assignment) -> Callable[[Progress], None]:
    """A function that writes progress, at most once per PROGRESS_INTERVAL_S.

    Call it every step, and during long evaluations: a trial that is silent counts as stopped.
    """
    path = Store(assignment.store_folder).attempts(assignment.task_id) / "progress.json"
    is_local = isinstance(path, Path)
    interval_s = PROGRESS_INTERVAL_S if is_local else REMOTE_PROGRESS_INTERVAL_S
    last_written_s = -interval_s

    def report(progress: Progress) -> None:
        nonlocal last_written_s
        now_s = time.monotonic()
        if now_s - last_written_s >= interval_s:
            last_written_s = now_s
            fields: dict[str, Any] = {"attempt": assignment.attempt.number, "updated_at": utc_now()}
            fields |= dataclasses.asdict(progress)
            if not math.isfinite(progress.loss_nats_per_token or 0.0):
                fields["loss_nats_per_token"] = None
            # What an object store does not take now is left to the next report.
            with contextlib.nullcontext() if is_local else contextlib.suppress(OSError):
                files.replace_lightly(path, files.to_json(fields))

    return report


def read_progress(store: Store, trial_id: str) -> ReportedProgress | None:
    """What a trial's worker last reported; None when there is nothing readable."""
    path = store.attempts(trial_id) / "progress.json"
    try:
        fields: dict[str, Any] = files.read_json(path)
        attempt, updated_at = fields.pop("attempt"), fields.pop("updated_at")
        written_s = datetime.datetime.fromisoformat(updated_at).timestamp()
        changed_s = path.stat().st_mtime if isinstance(path, Path) else written_s
        return ReportedProgress(attempt, time.time() - changed_s, updated_at, Progress(**fields))
    except (OSError, ValueError, TypeError, KeyError):
        # Written without waiting for the disk: after a power cut it may be torn, and is worthless.
        return None


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _read(path: StoragePath) -> Attempt:
    return _of(files.read_json(path))


def _of(fields: dict[str, Any]) -> Attempt:
    return Attempt(**{name: value for name, value in fields.items() if name != "traceback"})


def _numbers(folder: StoragePath) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.json") if _is_attempt(path))


def begun_trials(store: Store) -> frozenset[str]:
    """Trials with attempts that are not archived."""
    return frozenset(path.name for path in (store.folder / "attempts").glob("*"))


def archive_attempts(store: Store, trial_ids: Collection[str]) -> None:
    """Move the attempts at these trials to the archive. A folder with a torn attempt stays.

    Call it as the driver, for published trials that do not run: their records keep late workers
    from publishing.
    """
    # Ten thousand trials would leave thirty thousand small files and folders.
    names = begun_trials(store).intersection(trial_ids)
    found = (store.folder / "attempts").rglob("*") if names else ()
    ours = [
        path
        for path in found
        if path.parent.name in names
        and (_is_attempt(path) or path.name.endswith(("progress.json", TRACEBACK_SUFFIX)))
    ]
    contents = dict(zip(ours, read_many(ours), strict=True))
    archive, torn = dict(_archive(store)), set()
    for path in filter(_is_attempt, ours):
        trial_id = path.parent.name
        traceback = contents.get(path.parent / f"{path.stem}{TRACEBACK_SUFFIX}")
        try:
            attempt = dict(json.loads(contents[path]))
        except (ValueError, TypeError):
            torn.add(trial_id)
            continue
        if traceback is not None:
            attempt["traceback"] = traceback.decode(errors="replace")
        archive[trial_id] = {**archive.get(trial_id, {}), int(path.stem): attempt}
    if ours:
        lines = [
            json.dumps([trial_id, [by_number[number] for number in sorted(by_number)]]) + "\n"
            for trial_id, by_number in sorted(archive.items())
        ]
        files.replace(store.attempt_archive, "".join(lines).encode())
    # Only now, so that whoever reads in between finds an attempt in both, and the same in both.
    files.remove_files([path for path in ours if path.parent.name not in torn])


def torn_lines(store: Store) -> list[int]:
    """Numbers of the lines of the archive that cannot be read, counted from 1."""
    return [number for number, (_, attempts) in enumerate(_lines(store), 1) if not attempts]


def _is_attempt(path: StoragePath) -> bool:
    return path.suffix == ".json" and path.stem.isdecimal()


def _archive(store: Store) -> Mapping[str, Mapping[int, dict[str, Any]]]:
    """Fields of the archived attempts by trial and number, without lines that are torn."""
    stamp = files.stamp(store.attempt_archive)
    return _archive_at(store, stamp) if stamp else {}


@functools.lru_cache(maxsize=1)
def _archive_at(store: Store, stamp: str) -> Mapping[str, Mapping[int, dict[str, Any]]]:  # noqa: ARG001 (tells versions)
    """The archive as it is at a stamp: a driver asks once per trial it starts."""
    return {trial_id: attempts for trial_id, attempts in _lines(store) if attempts}


def _lines(store: Store) -> Iterator[tuple[str, Mapping[int, dict[str, Any]]]]:
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
