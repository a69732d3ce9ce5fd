"""Files that are complete whenever they exist: replaced, or created exactly once.

The only module that knows how a file becomes visible. On local and NFS file systems a temporary
file is flushed, then renamed or linked: a power cut, `kill -9` or full disk in the middle leaves
the old file or none, and at worst a temporary file whose name starts with a dot, which every reader
ignores and `verify` names. An object store renames by copying, but puts an object whole: there the
final name is written at once, and created exclusively by a conditional PUT.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sweeper.store.storage import TEMPORARY_PREFIX, ObjectPath, StorePath, remove_many

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that a disk, or a share of it, is used up."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def create_exclusively(path: StorePath, data: bytes) -> bool:
    """Create `path` with `data`, or return False and change nothing when it exists already.

    A hard link is the one POSIX operation that publishes complete contents and refuses to
    replace: of two processes exactly one succeeds.
    """
    if isinstance(path, ObjectPath):
        return path.create(data)
    temporary = _write_temporary(path, data, flush=True)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)
    return True


def replace(path: StorePath, data: bytes) -> None:
    """Replace `path` by `data`, durably."""
    if isinstance(path, ObjectPath):
        path.write_bytes(data)
        return
    _rename(_write_temporary(path, data, flush=True), path)
    _flush_folder(path.parent)


def replace_with(path: StorePath, write: Callable[[Path], object]) -> None:
    """Replace `path`, durably, by the file that `write` leaves at the local path it is given."""
    if isinstance(path, ObjectPath):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            path.upload(temporary)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        write(temporary)
        _flush(temporary, os.O_RDONLY)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _rename(temporary, path)
    _flush_folder(path.parent)


def create_folder_with(path: Path, write: Callable[[Path], object]) -> bool:
    """Create the folder `path` with what `write` leaves in the folder it is given, durably.

    Returns False, keeping what is there, when a folder that is not empty has the name by then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        write(temporary)
        for written in temporary.iterdir():
            _flush(written, os.O_RDONLY)
        _flush_folder(temporary)
        is_created = _rename_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _flush_folder(path.parent)
    return is_created


def replace_lightly(path: StorePath, data: bytes) -> None:
    """Replace `path` by `data` at once for all readers, without waiting for disk or store.

    For what is rewritten every few seconds and worth nothing after a power cut.
    """
    if isinstance(path, ObjectPath):
        path.write_without_waiting(data)
        return
    _rename(_write_temporary(path, data, flush=False), path)


@contextlib.contextmanager
def local_file(path: StorePath) -> Iterator[Path]:
    """A local file with the contents of `path`: itself, or a copy while the context lasts."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        path.download(copy)
        yield copy


def remove_folder(folder: StorePath) -> None:
    """Remove a folder with all it holds, as far as that is possible. It need not exist."""
    with contextlib.suppress(OSError):
        if isinstance(folder, ObjectPath):
            folder.remove_all()
        else:
            shutil.rmtree(folder, ignore_errors=True)


def remove_files(paths: Sequence[StorePath]) -> None:
    """Remove files of one store, and folders that are empty then, as far as that is possible."""
    with contextlib.suppress(OSError):
        remove_many([path for path in paths if isinstance(path, ObjectPath)])
    files = [path for path in paths if isinstance(path, Path)]
    for path in files:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:
        with contextlib.suppress(OSError):
            folder.rmdir()


def remove_temporaries(folder: StorePath, before_s: float) -> None:
    """Remove temporary files that were last changed before `before_s`, seconds since the epoch."""
    if isinstance(folder, ObjectPath):
        return  # objects have no temporary names
    for path in folder.rglob(f"{TEMPORARY_PREFIX}*"):
        if path.stat().st_mtime < before_s:
            path.unlink(missing_ok=True)


def stamp(path: StorePath) -> str | None:
    """What changes when a file does: its size and time of change; None where there is none."""
    if isinstance(path, ObjectPath):
        return path.parent.stamps().get(path.name)
    with contextlib.suppress(FileNotFoundError):
        return _stamp(path.stat())
    return None


def stamps(folder: StorePath) -> dict[str, str]:
    """The stamp of every file in `folder`, by name; none for a folder that does not exist."""
    if isinstance(folder, ObjectPath):
        return folder.stamps()
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # temporary files come and go
                found[entry.name] = _stamp(entry.stat())
    return found


def to_json(value: Any) -> bytes:
    """Readable JSON with a final newline; raises ValueError on NaN and infinities."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: StorePath) -> Any:
    """The value of a JSON file; raises ValueError when it is torn, OSError when it is absent."""
    return json.loads(path.read_bytes())


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _write_temporary(path: Path, data: bytes, *, flush: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            if flush:
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _rename(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _rename_folder(temporary: Path, path: Path) -> bool:
    try:
        temporary.rename(path)  # refuses to replace a folder that is not empty
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _temporary(path: Path) -> Path:
    return path.parent / f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex[:12]}"


def _flush_folder(folder: Path) -> None:
    # Without this a power cut may forget the new name although the contents are on disk. Some
    # network file systems refuse to flush a folder; their server orders it for us.
    with contextlib.suppress(OSError):
        _flush(folder, os.O_RDONLY | os.O_DIRECTORY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
