"""Changing the plan of a sweep while its driver is at work.

The new `plan.json` is written as by a submission, and then a request to read it,
`drivers/<epoch>.replan`, which the driver deletes when it does.
"""

import contextlib
import logging
import time
from dataclasses import dataclass

from sweeper.errors import StoreError
from sweeper.orchestration.lease import DriverAtWork, driver_at_work
from sweeper.store import files
from sweeper.store.attempts import utc_now
from sweeper.store.layout import Store
from sweeper.store.storage import StoragePath
from sweeper.store.submission import read_plan, record_plan
from sweeper.trials.plan import Plan

logger = logging.getLogger(__name__)

# Longest wait for the driver. It looks every few seconds, unless it rebuilds large tables or trains
# by itself; then it looks after the trial.
REPLAN_WAIT_S = 20.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Replanned:
    """A new plan that was written for a driver at work."""

    driver: DriverAtWork
    is_taken: bool
    """Whether that driver has begun to read it; else it will when it next looks."""


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
    request = replan_request(store, driver.epoch)
    files.replace(request, files.to_json(utc_now()))
    # A driver that was about to end may not look any more: wait until it has, or has ended.
    give_up_s = time.monotonic() + REPLAN_WAIT_S
    while time.monotonic() < give_up_s:
        if not request.exists():
            return Replanned(driver, is_taken=True)
        if driver_at_work(store) != driver:
            return None
        time.sleep(_POLL_S)
    return Replanned(driver, is_taken=False)


def new_plan(store: Store, epoch: int) -> Plan | None:
    """The plan, when the driver of an epoch was asked to read it again; ask every few seconds."""
    request = replan_request(store, epoch)
    try:
        if not request.exists():
            return None
        request.unlink()  # before reading: a request that comes in between is for the next time
        return read_plan(store)
    except (OSError, StoreError) as error:
        # It changes nothing: a submission replaces the plan as a whole.
        logger.warning("going on with the plan as it was: %s", error)
        return None


def replan_request(store: Store, epoch: int) -> StoragePath:
    """The file that asks the driver of an epoch to read the plan again."""
    return store.drivers / f"{epoch}.replan"
