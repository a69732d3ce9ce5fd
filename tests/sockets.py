"""Which processes of a test listen where, by /proc."""

from pathlib import Path

LOOPBACK = "0100007F"
"""End of 127.0.0.1 as /proc writes it, also behind the prefix of IPv6."""


def listening_beyond_loopback(marker: str) -> list[str]:
    """Addresses of listening TCP sockets of all processes whose environment holds `marker`."""
    inodes = set()
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if marker.encode() in (fd.parent.parent / "environ").read_bytes():
                inodes.add(fd.readlink().name)
        except OSError:
            continue
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in (Path("/proc/net") / name).read_text().splitlines()[1:]
    ]
    listening = [line for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in inodes]
    assert listening, "no process with this marker listens at all"
    return [line[1] for line in listening if not line[1].split(":")[0].endswith(LOOPBACK)]
