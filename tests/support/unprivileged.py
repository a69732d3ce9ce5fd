"""Permission bits that bind root, too: for the length of a context, another user asks."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def folder_of_anyone() -> Iterator[Path]:
    """A temporary folder that every user may enter, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def unprivileged(*closed: Path) -> Iterator[None]:
    """As a user whom the permissions of the `closed` paths, taken away meanwhile, keep out."""
    modes = [path.stat().st_mode for path in closed]
    own = os.geteuid()
    for path in closed:
        path.chmod(0)
    try:
        if own == 0:
            os.seteuid(NOBODY)  # the kernel drops root's capabilities with the effective id
        yield
    finally:
        os.seteuid(own)
        for path, mode in zip(closed, modes, strict=True):
            path.chmod(mode)
