"""Writes files whole or not at all."""

import os
from pathlib import Path

from analysis.errors import FitError


def write_file(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename; raises `FitError` for a path that cannot be.

    Missing folders are made.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        if path.is_dir():
            raise FitError(f"{path}: is a folder, expected the name of a file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FitError(f"{path}: cannot be written ({reason}); choose another path") from error
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except (OSError, ValueError):  # what kept the file from being written is reported already
        return
