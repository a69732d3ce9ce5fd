"""A process that is a driver on request: `python lease_process.py`, commands on standard input.

A command is one line of JSON, `{"hold": FOLDER, "takeover": …, "at_s": …}` or `{"release": true}`;
`at_s` says at which monotonic time to try, so that several processes try at the same instant.
Prints one line of JSON per event: held, refused, order, released.
"""

import json
import select
import sys
import time
from typing import Any

import object_folder  # noqa: F401 -- so that its stores are known here

from sweeper.errors import StoreError
from sweeper.orchestration import lease
from sweeper.orchestration.lease import Lease, held
from sweeper.store.layout import Store
from sweeper.store.storage import place

FASTER = (
    (lease, "BEAT_INTERVAL_S", lease.BEAT_INTERVAL_S / 10),
    # Six beats: a process of a busy machine may lose some.
    (lease, "WATCH_S", lease.WATCH_S / 5),
    (lease, "REMOTE_LOOK_INTERVAL_S", lease.REMOTE_LOOK_INTERVAL_S / 10),
)
"""Times of leases in object stores, where heartbeats decide, shortened for tests."""


def main() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        if "://" in command.get("hold", ""):
            for module, name, value in FASTER:
                setattr(module, name, value)
        if "hold" in command:
            hold(command)


def hold(command: dict[str, Any]) -> None:
    while time.monotonic() < command.get("at_s", 0.0):
        pass
    start_s = time.monotonic()
    try:
        with held(Store(place(command["hold"])), takeover=command.get("takeover", False)) as own:
            say(held=own.epoch, after_s=time.monotonic() - start_s)
            until_released(own)
    except StoreError as error:
        say(refused=str(error))
    else:
        say(released=own.epoch)


def until_released(own: Lease) -> None:
    """Wait for a line of input, or to be superseded."""
    order = None
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        if own.stop_request() != order:
            order = own.stop_request()
            say(order=order)
        if order == "superseded":
            return
    sys.stdin.readline()


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
