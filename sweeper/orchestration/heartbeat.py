"""The heartbeat by which a driver shows that it lives, where no lock can tell.

A file that is rewritten every BEAT_INTERVAL_S. An observer waits, by its own monotonic clock, for
the file to change. No clock is compared with another, so neither a clock that jumps nor two that
differ do harm.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sweeper.store import files
from sweeper.store.layout import Store

BEAT_INTERVAL_S = 2.0  # time between two heartbeats
WATCH_S = 6.0
"""Time without a heartbeat after which a driver that cannot be asked about counts as dead: three
intervals, and short enough to resume within 10 s of a driver's death."""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a driver writes every BEAT_INTERVAL_S."""

    number: int
    up_s: float
    """Seconds that it has been at work, by its monotonic clock."""
    at_s: float
    """By its wall clock. For people only: nothing is decided by it."""
    is_last: bool
    """Whether its driver has ended."""


@contextlib.contextmanager
def sending_heartbeats(store: Store, epoch: int) -> Iterator[None]:
    """Send the heartbeats of a driver from a thread, and a last one at the end."""
    ended = threading.Event()

    def send() -> None:
        start_s, number, is_last = time.monotonic(), 0, False
        while not is_last:
            # Waits at the end of the loop: the first comes at once, the last without delay.
            is_last, number = ended.is_set(), number + 1
            up_s = time.monotonic() - start_s
            heartbeat = Heartbeat(number=number, up_s=up_s, at_s=time.time(), is_last=is_last)
            with contextlib.suppress(OSError):  # a full disk or a network that is away: next time
                if not (store.drivers / f"{epoch}.json").exists():
                    return  # pruned: too many drivers have followed
                data = files.to_json(dataclasses.asdict(heartbeat))
                files.replace_lightly(store.drivers / f"{epoch}.beat", data)
            if not is_last:
                ended.wait(BEAT_INTERVAL_S)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def read_heartbeat(store: Store, epoch: int) -> Heartbeat | None:
    """The latest heartbeat of a driver; None before its first."""
    try:
        return Heartbeat(**files.read_json(store.drivers / f"{epoch}.beat"))
    except (OSError, ValueError, TypeError):
        # Written without waiting for the disk: after a power cut it may be torn, and is worthless.
        return None


def is_beating(store: Store, epoch: int, before: Heartbeat | None) -> bool:
    """Whether another heartbeat than `before` comes within WATCH_S, and not the last one."""
    give_up_s = time.monotonic() + WATCH_S
    while time.monotonic() < give_up_s:
        time.sleep(BEAT_INTERVAL_S / 4)
        latest = read_heartbeat(store, epoch)
        if latest and latest != before:
            return not latest.is_last
    return False
