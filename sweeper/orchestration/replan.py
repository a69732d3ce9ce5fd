"""Extending a sweep while its driver is at work: the new plan is handed to it.

Whoever hands over writes `plan.json` as a submission does. The driver notices that the file has
changed, goes on with the new plan, and notes in `drivers/<epoch>.plan` the digest of the one it
works on; the other waits for that, because a driver that was about to end may not have looked.
"""

import hashlib
import logging
import time
from dataclasses import dataclass

from sweeper.errors import StoreError
from sweeper.orchestration.lease import DriverAtWork, Lease, driver_at_work
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.plan_file import read_plan
from sweeper.store.storage import StoragePath
from sweeper.store.submission import record_plan
from sweeper.trials.plan import Plan

logger = logging.getLogger(__name__)

REPLAN_WAIT_S = 20.0
"""Longest wait for the driver. It looks every few seconds, unless it rebuilds large tables or
trains by itself; then it looks after the trial."""

_POLL_S = 0.2


@dataclass(frozen=True)
class Replanned:
    """A plan that lies ready for a driver at work."""

    driver: DriverAtWork
    is_taken: bool
    """Whether that driver goes on with it already; else it does when it next looks."""


def replan(store: Store, plan: Plan, text: str) -> Replanned | None:
    """Let the driver at work go on with another plan; `text` is the sweep file, as in `submit`.

    None when there is no driver to take it, not any more, or when the plan is no other than the
    one submitted last: then it is `held` that has the right answer.
    """
    if (driver := driver_at_work(store)) is None or _is_submitted(store, plan):
        return None
    record_plan(store, plan, text)
    digest = _digest(store)
    give_up_s = time.monotonic() + REPLAN_WAIT_S
    while time.monotonic() < give_up_s:
        if _taken(store, driver.epoch) == digest:
            return Replanned(driver, is_taken=True)
        if driver_at_work(store) != driver:
            return None
        time.sleep(_POLL_S)
    return Replanned(driver, is_taken=False)


class PlanMonitor:
    """Tells a driver when another plan was submitted than the one it works on."""

    def __init__(self, store: Store, lease: Lease) -> None:
        """Make it after submitting: it notes the plan that lies there as the driver's."""
        self._store, self._epoch = store, lease.epoch
        self._stamp = self._read_stamp()
        self._note(_digest(store))

    def new_plan(self) -> Plan | None:
        """The plan, when it has changed since the last call; ask every few seconds.

        A plan that cannot be read changes nothing: a submission replaces it as a whole.
        """
        try:
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return None
            # Before reading, so that a change in between shows the next time.
            self._stamp, digest = stamp, _digest(self._store)
            plan = read_plan(self._store)
        except (OSError, StoreError) as error:
            logger.warning("going on with the plan as it was: %s", error)
            return None
        self._note(digest)
        return plan

    def _read_stamp(self) -> str | None:
        return files.stamps(self._store.folder).get(self._store.plan.name)

    def _note(self, digest: str) -> None:
        files.replace_lightly(_note_path(self._store, self._epoch), files.to_json(digest))


def _is_submitted(store: Store, plan: Plan) -> bool:
    try:
        return read_plan(store) == plan
    except StoreError:
        return False


def _digest(store: Store) -> str:
    return hashlib.sha256(store.plan.read_bytes()).hexdigest()


def _taken(store: Store, epoch: int) -> object:
    """Digest of the plan that a driver works on; None before it has noted any."""
    try:
        return files.read_json(_note_path(store, epoch))
    except (OSError, ValueError):
        return None


def _note_path(store: Store, epoch: int) -> StoragePath:
    return store.drivers / f"{epoch}.plan"
