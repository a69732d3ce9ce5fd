"""Files that are complete whenever they exist: replaced, or created exactly once.

On local and NFS file systems a temporary file is flushed, then renamed or linked: a power cut,
`kill -9` or full disk in the middle leaves the old file or none, and at worst a temporary file,
which every reader ignores and `verify` names. An object store puts an object whole.
"""

import contextlib
import errno
import filecmp
import hashlib
import json
import os
import shutil
import stat as stat_module
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from sweeper.errors import OutputError
from sweeper.store.storage import TEMPORARY_PREFIX, ObjectPath, StoragePath, remove_many


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that a disk, or a share of it, is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def create_exclusively(path: StoragePath, data: bytes) -> bool:
    """Create `path` with `data`, or return False and change nothing when it exists already."""
    if isinstance(path, ObjectPath):
        return path.create(data)
    with _temporary(path) as temporary:
        temporary.write_bytes(data)
        _flush(temporary)
        try:
            # A hard link is the one POSIX operation that publishes complete contents and refuses
            # to replace: of two processes exactly one succeeds.
            os.link(temporary, path)
        except FileExistsError:
            return False
    _flush_folder(path.parent)
    return True


def replace(path: StoragePath, data: bytes) -> None:
    """Replace `path` by `data`, which is on the disk then."""
    if isinstance(path, ObjectPath):
        path.write_bytes(data)
    else:
        replace_with(path, lambda temporary: temporary.write_bytes(data))


def replace_with(path: StoragePath, write: Callable[[Path], object]) -> None:
    """Replace `path` by the file that `write` leaves at the local path it is given."""
    if isinstance(path, ObjectPath):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            path.upload(temporary)
        return
    with _temporary(path) as temporary:
        write(temporary)
        _flush(temporary)
        temporary.replace(path)
    _flush_folder(path.parent)


def replace_if_changed(
    path: Path, write: Callable[[Path], object], *, staged_as: str = ""
) -> Literal["new", "changed", "same"]:
    """Replace `path` by the file that `write` leaves, unless its bytes are there already.

    `staged_as` stands for the name of `path` in the temporary one, where programs that look on take
    whatever has a name like it.
    """
    with _temporary(path, staged_as) as temporary:
        write(temporary)
        is_new = not path.exists()
        if not is_new and filecmp.cmp(temporary, path, shallow=False):
            return "same"
        _flush(temporary)
        temporary.replace(path)
    _flush_folder(path.parent)
    return "new" if is_new else "changed"


def replace_lightly(path: StoragePath, data: bytes) -> None:
    """Replace `path` by `data` for all readers, without waiting for disk or store."""
    if isinstance(path, ObjectPath):
        path.write_bytes(data, patience_s=0.0)
        return
    with _temporary(path) as temporary:
        temporary.write_bytes(data)
        temporary.replace(path)


def write_output(path: Path, data: bytes) -> None:
    """Replace a file that the user names; raises OutputError for a path that cannot be written."""
    try:
        if path.is_dir():
            raise OutputError(f"{path}: is a folder, expected the name of a file to write")
        replace(path, data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot be written ({reason}); choose another path") from error


def create_folder_with(path: Path, write: Callable[[Path], object]) -> bool:
    """Create the folder `path` with what `write` leaves in the folder it is given.

    Returns False, keeping what is there, when a folder that is not empty has the name by then.
    """
    with _temporary(path) as temporary:
        temporary.mkdir()
        write(temporary)
        for written in (*temporary.iterdir(), temporary):
            _flush(written)
        try:
            temporary.rename(path)  # refuses to replace a folder that is not empty
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
    _flush_folder(path.parent)
    return True


@contextlib.contextmanager
def local_file(path: StoragePath) -> Iterator[Path]:
    """A local file with the contents of `path`: itself, or a copy while the context lasts."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        path.download(copy)
        yield copy


def remove_folder(folder: StoragePath) -> None:
    """Remove a folder with all it holds, as far as that is possible. It need not exist."""
    with contextlib.suppress(OSError):
        if isinstance(folder, ObjectPath):
            remove_many(list(folder.rglob("*")))
        else:
            shutil.rmtree(folder, ignore_errors=True)


def remove_files(paths: Sequence[StoragePath]) -> None:
    """Remove files of one store, and folders that are empty then, as far as that is possible."""
    with contextlib.suppress(OSError):
        remove_many([path for path in paths if isinstance(path, ObjectPath)])
    files = [path for path in paths if isinstance(path, Path)]
    for path in files:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:
        with contextlib.suppress(OSError):
            folder.rmdir()


def remove_temporaries(folder: StoragePath, before_s: float) -> None:
    """Remove temporary files that were last changed before `before_s`, seconds since the epoch."""
    if isinstance(folder, ObjectPath):
        return  # objects have no temporary names
    for path in folder.rglob(f"{TEMPORARY_PREFIX}*"):
        if path.stat().st_mtime < before_s:
            path.unlink(missing_ok=True)


def stamp(path: StoragePath) -> str | None:
    """What changes when a file does: its size and time of change; None where there is none."""
    return stamps(path.parent).get(path.name)


def stamps(folder: StoragePath) -> dict[str, str]:
    """The stamp of every file in `folder`, by name; none for a folder that does not exist."""
    if isinstance(folder, ObjectPath):
        return folder.stamps()
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # temporary files come and go
                status = entry.stat()
                found[entry.name] = f"{status.st_size}-{status.st_mtime_ns}"
    return found


def walk(
    folder: Path, enters: Callable[[str], bool], broken: Callable[[OSError], None]
) -> Iterator[tuple[Path, os.stat_result]]:
    """The files at any depth below `folder`, links followed and every folder entered once.

    `enters` says by name what is looked at; `broken` is called for a link that leads nowhere.
    Raises OSError, which names it, for whatever cannot be listed.
    """
    status = folder.stat()
    yield from _walk(folder, enters, broken, {(status.st_dev, status.st_ino)})


def _walk(
    folder: Path,
    enters: Callable[[str], bool],
    broken: Callable[[OSError], None],
    entered: set[tuple[int, int]],
) -> Iterator[tuple[Path, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not enters(entry.name):
                continue
            try:
                status = entry.stat()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    raise
                broken(error)
                continue
            if stat_module.S_ISREG(status.st_mode):
                yield Path(entry.path), status
            elif stat_module.S_ISDIR(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                if identity not in entered:
                    entered.add(identity)
                    yield from _walk(Path(entry.path), enters, broken, entered)


def sha256(path: Path) -> str:
    """Digest of a local file, in hex digits; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(value: Any) -> bytes:
    """Readable JSON; raises ValueError on NaN and infinities."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: StoragePath) -> Any:
    """The value of a JSON file; raises ValueError when it is torn, OSError when it is absent."""
    return json.loads(path.read_bytes())


@contextlib.contextmanager
def _temporary(path: Path, name: str = "") -> Iterator[Path]:
    """A name in the folder of `path` for what is to become it; whatever stays there is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{name or path.name}-{uuid.uuid4().hex[:12]}"
    try:
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    # Without this a power cut may forget the new name although the contents are on disk. Some
    # network file systems refuse to flush a folder; their server orders it for us.
    with contextlib.suppress(OSError):
        _flush(folder)
