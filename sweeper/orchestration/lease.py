"""One driver per sweep: who may write to a store, how others know, and how they ask it to stop.

    drivers/<epoch>.json         who: host, process, since when; created once, never replaced
    drivers/<epoch>.lock         locked while that driver lives, on file systems
    drivers/<epoch>.beat         its heartbeat, rewritten every BEAT_INTERVAL_S
    drivers/<epoch>.stop         a request to that driver; also `.stop_now`
    drivers/<epoch>.replan       a request to read the plan again (replan.py)

Drivers are fenced by numbers, as attempts are: whoever creates the next epoch's record is the
driver, and any earlier one is superseded and stops when it next looks. So a mistake about who is
alive costs work, never results.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweeper.errors import StoreError
from sweeper.store import files
from sweeper.store.attempts import utc_now
from sweeper.store.layout import Store

StopRequest = Literal["stop", "stop_now"]
"""Let running trials write checkpoints and stop; or stop without waiting for them."""

Superseded = Literal["superseded"]
"""A later driver has taken over: stop at once and write nothing more."""

BEAT_INTERVAL_S = 2.0  # time between two heartbeats
# Time without a heartbeat after which a driver that cannot be asked about counts as dead: three
# intervals, and short enough to resume within 10 s of a driver's death.
WATCH_S = 6.0
TAKEOVER_WAIT_S = 10.0  # longest wait for the driver before; one that hangs can publish no more
N_EPOCHS_KEPT = 4  # epochs whose files stay, the highest included
LOOK_INTERVAL_S = 0.2  # shortest time between two looks for requests; each lists one small folder
REMOTE_LOOK_INTERVAL_S = 1.0  # the same on object stores, where a look costs time and money
_POLL_S = 0.05
_LOCK_TRIES, _LOCK_PAUSE_S = 5, 0.02


@dataclass(frozen=True, kw_only=True)
class DriverAtWork:
    """A driver, as its record names it."""

    epoch: int
    host: str
    pid: int
    started_s: float
    """Start in seconds since 1970, to the second, by its own clock."""
    took_over: bool = False
    """Whether another one was at work when it started."""
    token: str = ""
    """Random: nobody else's record is equal to this one's."""


@dataclass(frozen=True, kw_only=True)
class _Heartbeat:
    """What a driver writes every BEAT_INTERVAL_S."""

    number: int
    up_s: float
    """Seconds that it has been at work, by its monotonic clock."""
    at_s: float
    """By its wall clock. For people only: nothing is decided by it."""
    is_last: bool
    """Whether its driver has ended."""


class Lease:
    """The right of one driver to write to a store; what `held` gives."""

    def __init__(self, store: Store, driver: DriverAtWork) -> None:
        self.epoch = driver.epoch
        self._store = store
        is_remote = not isinstance(store.folder, Path)
        self._look_interval_s = REMOTE_LOOK_INTERVAL_S if is_remote else LOOK_INTERVAL_S
        self._looked_s = -self._look_interval_s
        self._request: StopRequest | Superseded | None = None

    def stop_request(self) -> StopRequest | Superseded | None:
        """What was asked of this driver; ask several times a second, most calls cost nothing."""
        now_s = time.monotonic()
        if self._request == "superseded" or now_s - self._looked_s < self._look_interval_s:
            return self._request
        self._looked_s = now_s
        # A store that cannot be read for a moment leaves the answer as it was.
        with contextlib.suppress(OSError):
            found = _files(self._store)
            requests: tuple[StopRequest, ...] = ("stop_now", "stop")
            asked = next((each for each in requests if f"{self.epoch}.{each}" in found), None)
            # Its own record is missing once so many have followed that it was pruned.
            self._request = asked if _highest(found) == self.epoch else "superseded"
        return self._request


@contextlib.contextmanager
def held(store: Store, *, takeover: bool = False) -> Iterator[Lease]:
    """Be the driver of a sweep.

    Raises StoreError naming the driver at work when there is one. With `takeover` that one is
    superseded instead, and gets TAKEOVER_WAIT_S to end. Of several that start at the same
    instant one succeeds.
    """
    latest = _latest(store)
    other = latest if latest and _is_at_work(store, latest) else None
    if other:
        # Of two takeovers at once one is refused: it finds the other taking over just now.
        heartbeat = _read_heartbeat(store, other.epoch)
        has_settled = not other.took_over or (heartbeat and heartbeat.up_s > TAKEOVER_WAIT_S)
        if not takeover or not has_settled:
            raise StoreError(_refusal(store, other, takeover=takeover))
    driver = DriverAtWork(
        epoch=latest.epoch + 1 if latest else 1,
        host=socket.gethostname(),
        pid=os.getpid(),
        started_s=float(int(time.time())),
        took_over=other is not None,
        token=uuid.uuid4().hex,
    )
    with _locked(store, driver), _registered(store, driver):
        give_up_s = time.monotonic() + TAKEOVER_WAIT_S
        while other and not _has_ended(store, other) and time.monotonic() < give_up_s:
            time.sleep(_POLL_S)
        yield Lease(store, driver)


def driver_at_work(store: Store) -> DriverAtWork | None:
    """The driver at work on a store, or None."""
    # Takes up to WATCH_S where only its heartbeat can tell: on object stores, and for drivers on
    # other machines that have not said that they ended.
    latest = _latest(store)
    return latest if latest and _is_at_work(store, latest) else None


def request_stop(store: Store, request: StopRequest) -> DriverAtWork | None:
    """Ask the driver at work to stop, and return it; None when there is none."""
    driver = driver_at_work(store)
    if driver:  # the request names it, and never stops a later one
        files.replace(store.drivers / f"{driver.epoch}.{request}", files.to_json(utc_now()))
    return driver


@contextlib.contextmanager
def _registered(store: Store, driver: DriverAtWork) -> Iterator[None]:
    """Be the driver of the highest epoch, with a heartbeat. Raises StoreError for a lost race."""
    path = store.drivers / f"{driver.epoch}.json"
    # Reading back tells who was first, also where the reply to a request that succeeded was lost.
    started = datetime.datetime.fromtimestamp(driver.started_s, datetime.UTC)
    fields = {"host": driver.host, "pid": driver.pid, "started_at": started.isoformat()}
    data = files.to_json({**fields, "took_over": driver.took_over, "token": driver.token})
    files.create_exclusively(path, data)
    if _latest(store) != driver:
        raise _lost_race(store)
    for name in _files(store):
        epoch = name.partition(".")[0]
        if epoch.isdecimal() and int(epoch) <= driver.epoch - N_EPOCHS_KEPT:
            (store.drivers / name).unlink(missing_ok=True)
    with _sending_heartbeats(store, driver.epoch):
        yield


def _lost_race(store: Store) -> StoreError:
    if other := driver_at_work(store):
        return StoreError(_refusal(store, other, takeover=False))
    return StoreError(
        f"{store.folder}: another driver started on this sweep at the same instant; see "
        f"`sweeper status {store.folder}`"
    )


def _has_ended(store: Store, driver: DriverAtWork) -> bool:
    """Whether a driver is known to have ended, without waiting for a heartbeat."""
    heartbeat = _read_heartbeat(store, driver.epoch)
    return (heartbeat is not None and heartbeat.is_last) or _is_locked(store, driver) is False


def _is_at_work(store: Store, driver: DriverAtWork) -> bool:
    heartbeat = _read_heartbeat(store, driver.epoch)
    if heartbeat and heartbeat.is_last:
        return False
    # The kernel of its own machine knows: its lock is gone the moment it is, by `kill -9` or a
    # reboot, too. Between machines nobody can ask: an object store has no locks, on Lustre they may
    # hold on one node only, and on NFS they outlive a dead client by minutes.
    is_locked = _is_locked(store, driver)
    return _is_beating(store, driver.epoch, heartbeat) if is_locked is None else is_locked


@contextlib.contextmanager
def _sending_heartbeats(store: Store, epoch: int) -> Iterator[None]:
    """Send the heartbeats of a driver from a thread, and a last one at the end."""
    ended = threading.Event()

    def send() -> None:
        start_s, number, is_last = time.monotonic(), 0, False
        while not is_last:
            # Waits at the end of the loop: the first comes at once, the last without delay.
            is_last, number = ended.is_set(), number + 1
            up_s = time.monotonic() - start_s
            heartbeat = _Heartbeat(number=number, up_s=up_s, at_s=time.time(), is_last=is_last)
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


def _read_heartbeat(store: Store, epoch: int) -> _Heartbeat | None:
    try:
        return _Heartbeat(**files.read_json(store.drivers / f"{epoch}.beat"))
    except (OSError, ValueError, TypeError):
        # Written without waiting for the disk: after a power cut it may be torn, and is worthless.
        return None


def _is_beating(store: Store, epoch: int, before: _Heartbeat | None) -> bool:
    """Whether another heartbeat than `before` comes within WATCH_S, and not the last one."""
    # No clock is compared with another: one that jumps, or two that differ, do no harm.
    give_up_s = time.monotonic() + WATCH_S
    while time.monotonic() < give_up_s:
        time.sleep(BEAT_INTERVAL_S / 4)
        latest = _read_heartbeat(store, epoch)
        if latest and latest != before:
            return not latest.is_last
    return False


@contextlib.contextmanager
def _locked(store: Store, driver: DriverAtWork) -> Iterator[None]:
    """Hold the lock of an epoch, where there are locks; taken before anybody can look for it."""
    path = store.drivers / f"{driver.epoch}.lock"
    if not isinstance(path, Path):
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        # Several times, because somebody may be looking whether it is locked.
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_LOCK_PAUSE_S)
            except OSError:
                break  # this file system has no locks; the heartbeat must do
        else:
            raise _lost_race(store)
        yield


def _is_locked(store: Store, driver: DriverAtWork) -> bool | None:
    """Whether a driver's lock is held; None where locks do not tell."""
    path = store.drivers / f"{driver.epoch}.lock"
    if not isinstance(path, Path) or driver.host != socket.gethostname():
        return None
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False  # a copy of a folder, or of its records
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _files(store: Store) -> set[str]:
    try:
        return {path.name for path in store.drivers.iterdir()}
    except FileNotFoundError:
        return set()


def _highest(names: set[str]) -> int:
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return max((int(stem) for stem in stems if stem.isdecimal()), default=0)


def _latest(store: Store) -> DriverAtWork | None:
    """The driver of the highest epoch, alive or not."""
    epoch = _highest(_files(store))
    if not epoch:
        return None
    path = store.drivers / f"{epoch}.json"
    try:
        fields = files.read_json(path)
        started_at = datetime.datetime.fromisoformat(fields.pop("started_at"))
        return DriverAtWork(epoch=epoch, started_s=started_at.timestamp(), **fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            f"{path} is not the record of a driver ({type(error).__name__}: {error}); delete it "
            "when no driver is at work on this sweep"
        ) from error


def _refusal(store: Store, other: DriverAtWork, *, takeover: bool) -> str:
    since = datetime.datetime.fromtimestamp(other.started_s, datetime.UTC)
    heartbeat, last = _read_heartbeat(store, other.epoch), "no heartbeat yet"
    if heartbeat:  # between machines the age is as wrong as their clocks differ
        last = f"last heartbeat {max(0.0, time.time() - heartbeat.at_s):.0f} s ago"
    remedy = (
        "it is just taking over itself; wait for it"
        if takeover
        else f"stop it with `sweeper cancel {store.folder}`, or put this one in its place with "
        "`--takeover`"
    )
    return (
        f"{store.folder}: a driver is at work on this sweep, process {other.pid} on {other.host} "
        f"since {since:%Y-%m-%d %H:%M:%S} UTC, {last}; {remedy}"
    )
