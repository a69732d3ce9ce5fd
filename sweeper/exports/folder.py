"""A folder that an export makes and finds again: its mark, and file names for any label."""

import contextlib
import fcntl
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sweeper.errors import OutputError
from sweeper.store import files
from sweeper.store.storage import TEMPORARY_PREFIX

MARK_FILE = ".sweeper-export.json"
"""Written first: a folder that has it holds an export, whole or begun."""

_LONGEST_NAME = 60


def file_name(label: str) -> str:
    """A name for files and folders on any system; other labels have other names."""
    plain = re.sub(r"[^A-Za-z0-9._=+-]", "_", label).lstrip(".-")[:_LONGEST_NAME]
    if plain == label:
        return label
    return f"{plain or 'series'}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"


@contextlib.contextmanager
def claimed(folder: Path, kind: str, sweep: str) -> Iterator[None]:
    """Make a folder, or find that of an earlier export of the same kind and sweep, to write to.

    Raises OutputError for any other folder that is not empty, and while another process exports
    to it. What a killed export left half-written is removed.
    """
    try:
        _check(folder, {"export": kind, "sweep": sweep})
        with (folder / MARK_FILE).open("rb") as mark:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(
                    f"{folder}: another export writes to it now; wait for it to end"
                ) from error
            _remove_unfinished(folder)
            yield
    except OSError as error:
        if files.is_disk_full(error):
            raise
        raise OutputError(
            f"{error.filename or folder}: cannot be written ({error.strerror}); choose a folder "
            "that is yours"
        ) from error


def _check(folder: Path, wanted: dict[str, str]) -> None:
    """Raise OutputError unless the folder is such an export; one that is new is marked."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; expected a folder, or a name that is free")
    mark = folder / MARK_FILE
    if not mark.exists():
        if folder.is_dir() and any(not _is_unfinished(each) for each in folder.iterdir()):
            raise OutputError(
                f"{folder}: holds files that no export has written; choose another name, or an "
                "empty folder"
            )
        files.create_exclusively(mark, files.to_json(wanted))
    try:
        found = files.read_json(mark)
        described = f"an export of {found['sweep']!r} to {found['export']}"
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{mark}: is not what an export writes; choose another folder") from error
    if found != wanted:
        raise OutputError(
            f"{folder}: holds {described}, and this is one of {wanted['sweep']!r} to "
            f"{wanted['export']}; choose another folder for each"
        )


def _remove_unfinished(folder: Path) -> None:
    for path in list(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith(TEMPORARY_PREFIX)
