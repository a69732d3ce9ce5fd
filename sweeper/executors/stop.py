"""Ctrl-C and other reasons to stop: once = checkpoint and stop, twice = now."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Literal

StopReason = Literal["signal", "limit", "same_error", "disk_full", "stop", "stop_now", "superseded"]
"""Why a driver stops; the last three are orders from outside (`lease.py`)."""

_URGENT = ("stop_now", "superseded")


class StopSignal:
    """A flag that is raised once, for the first reason given; only urgent ones replace it."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None

    def request(self, reason: StopReason) -> None:
        """Ask for a graceful stop. Safe in signal handlers and threads: it takes no lock."""
        if self.reason is None or reason in _URGENT:
            self.reason = reason

    def is_requested(self) -> bool:
        """Whether a stop was asked for."""
        return self.reason is not None

    def is_urgent(self) -> bool:
        """Whether there is no time for checkpoints."""
        return self.reason in _URGENT

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Stop gracefully on the first SIGINT or SIGTERM, raise KeyboardInterrupt on the second.

        Enter after the executor, because Ray installs a SIGTERM handler of its own. Outside the
        main thread signals are somebody else's, and nothing is installed.
        """
        if not _has_signals():
            yield
            return
        n_signals = 0

        def handle(_number: int, _frame: FrameType | None) -> None:
            nonlocal n_signals
            n_signals += 1
            self.request("signal")
            if n_signals > 1:
                raise KeyboardInterrupt

        previous = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def after(self, wall_s: float) -> Iterator[None]:
        """Stop gracefully, for the reason `limit`, when `wall_s` seconds have passed."""
        if wall_s >= threading.TIMEOUT_MAX:
            yield
            return
        timer = threading.Timer(wall_s, self.request, ["limit"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C during what is over in a moment, and worse when it stops half way."""
    if not _has_signals():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _has_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
