"""Changing the plan of a sweep while its driver is at work.

The new `plan.json` is written as by a submission. The driver sees that the file has changed,
continues with the new plan, and acknowledges it: `drivers/<epoch>.plan` holds the digest of the
plan it works on. A driver that was about to end may not have looked, so `replan` waits for that.
"""

import contextlib
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
    """A new plan that was written for a driver at work."""

    driver: DriverAtWork
    is_taken: bool
    """Whether that driver has acknowledged it; else it will when it next looks."""


def replan(store: Store, plan: Plan, text: str) -> Replanned | None:
    """Give another plan to the driver at work; `text` is the sweep file, as in `submit`.

    None when there is no driver, or none any more, or when the plan equals the one submitted
    last: then the caller should try to become the driver, with `held`.
    """
    if (driver := driver_at_work(store)) is None:
        return None
    with contextlib.suppress(StoreError):  # a damaged plan is replaced
        if read_plan(store) == plan:
            return None
    record_plan(store, plan, text)
    digest = _digest(store)
    give_up_s = time.monotonic() + REPLAN_WAIT_S
    while time.monotonic() < give_up_s:
        with contextlib.suppress(OSError, ValueError):  # before the driver has written any
            if files.read_json(_acknowledgement(store, driver.epoch)) == digest:
                return Replanned(driver, is_taken=True)
        if driver_at_work(store) != driver:
            return None
        time.sleep(_POLL_S)
    return Replanned(driver, is_taken=False)


class PlanMonitor:
    """Tells a driver when another plan was submitted than the one it works on."""

    def __init__(self, store: Store, lease: Lease) -> None:
        """Make it after submitting: it acknowledges the plan that is there then."""
        self._store, self._epoch = store, lease.epoch
        self._stamp = self._read_stamp()
        self._acknowledge(_digest(store))

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
        self._acknowledge(digest)
        return plan

    def _read_stamp(self) -> str | None:
        return files.stamps(self._store.folder).get(self._store.plan.name)

    def _acknowledge(self, digest: str) -> None:
        files.replace_lightly(_acknowledgement(self._store, self._epoch), files.to_json(digest))


def _digest(store: Store) -> str:
    return hashlib.sha256(store.plan.read_bytes()).hexdigest()


def _acknowledgement(store: Store, epoch: int) -> StoragePath:
    return store.drivers / f"{epoch}.plan"
