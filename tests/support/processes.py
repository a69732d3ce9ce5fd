"""Which processes a test has started, what they are called and where they listen, by /proc."""

import os
import re
from collections.abc import Collection
from pathlib import Path

LOOPBACK = "0100007F"
"""End of 127.0.0.1 as /proc writes it, also behind the prefix of IPv6."""


def marked(mark: str, folders: Collection[str] = ()) -> list[int]:
    """Other processes with a mark in their environment, and those of the Ray that they started.

    Ray's workers and agents write their names over their environment. They are known by the files
    that they hold open in the folder of their Ray, which the raylet's command line names, or which
    is among `folders` when the raylet is gone.
    """
    with_mark = {pid for pid in running() if mark.encode() in _read(pid, "environ")}
    own_folders = {*folders, *ray_folders(with_mark)}
    with_files = {pid for pid in running() if _has_open(pid, own_folders)}
    return sorted((with_mark | with_files) - {os.getpid()})


def ray_folders(pids: Collection[int]) -> set[str]:
    """Temporary folders of the raylets among some processes."""
    lines = [_read(pid, "cmdline").decode() for pid in pids]
    return {folder for line in lines for folder in re.findall(r"--temp-dir=([^\0]+)", line)}


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that they have."""
    parents = {each: _parent(each) for each in running()}
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def title(pid: int) -> str:
    """What a process calls itself; empty once it is gone."""
    return _read(pid, "cmdline").replace(b"\0", b" ").decode().strip()


def running() -> list[int]:
    """All processes."""
    return [int(process.name) for process in Path("/proc").glob("[0-9]*")]


def listening_beyond_loopback(pids: Collection[int]) -> list[str]:
    """Addresses of the listening TCP sockets of some processes; at least one must listen."""
    sockets = {name for pid in pids for name in _open_files(pid)}
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in (Path("/proc/net") / name).read_text().splitlines()[1:]
    ]
    listening = [line for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]
    assert listening, "none of these processes listens at all"
    return [line[1] for line in listening if not line[1].split(":")[0].endswith(LOOPBACK)]


def _has_open(pid: int, folders: Collection[str]) -> bool:
    return any(name.startswith(f"{folder}/") for name in _open_files(pid) for folder in folders)


def _open_files(pid: int) -> list[str]:
    """What the descriptors of a process stand for: paths, and sockets as `socket:[inode]`."""
    found = []
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            found.append(str(descriptor.readlink()))
    except OSError:  # it, or that descriptor, is gone or somebody else's
        pass
    return found


def _parent(pid: int) -> int:
    # After the name, which may hold anything: state, parent, …
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return b""
