"""Ctrl-C and other reasons to stop: once = checkpoint and stop, twice = now."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Literal

StopReason = Literal[
    "signal", "limit", "same_error", "disk_full", "executor", "stop", "stop_now", "superseded"
]
"""Why a driver stops; the last three are orders from outside (`lease.py`)."""

WARNINGS = (signal.SIGHUP, signal.SIGUSR1)
"""Of a terminal that was closed, and of batch systems some minutes before their time limit."""

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
        """Stop gracefully on the first signal; the second Ctrl-C or SIGTERM is KeyboardInterrupt.

        Enter after the executor, because Ray installs a SIGTERM handler of its own. Outside the
        main thread signals are somebody else's, and nothing is installed.
        """
        if not in_main_thread():
            yield
            return
        is_warned = False
        terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

        def handle(number: int, _frame: FrameType | None) -> None:
            nonlocal is_warned
            if (
                number in WARNINGS
            ):  # sent more than once: by the kernel, by a shell, to each process
                _let_go(terminals)
            elif is_warned:
                raise KeyboardInterrupt
            else:
                is_warned = True
            self.request("signal")

        numbers = {signal.SIGINT, signal.SIGTERM, *WARNINGS}
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            numbers.remove(signal.SIGHUP)  # by nohup
        previous = {number: signal.signal(number, handle) for number in numbers}
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
    if not in_main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def in_main_thread() -> bool:
    """Whether this thread may install signal handlers."""
    return threading.current_thread() is threading.main_thread()


def _let_go(terminals: list[int]) -> None:
    """Write to nowhere instead of to a terminal that is gone, where every write would fail."""
    for descriptor in terminals:
        if not os.isatty(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
