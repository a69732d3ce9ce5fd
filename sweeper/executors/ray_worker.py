"""The actor that runs attempts, as the only rank of a trial or as one of several.

Imports neither Ray nor torch: who makes an actor sets their environment first.
"""

import dataclasses
import datetime
import faulthandler
import os
import signal
import socket
import tempfile
import threading
from types import FrameType

from sweeper.executors.base import Failure
from sweeper.store.assignment import Assignment, Outcome, RunTrial

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Set in each worker before it imports torch."""

Address = tuple[str, int]
"""Host and port where the ranks of an attempt meet."""

RANKS_WAIT = datetime.timedelta(minutes=30)
"""For each other: to meet, and in every exchange."""

_LOOPBACK = "127.0.0.1"
_ON_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}

_SIGNS_OF_A_LOST_RANK = ("Connection closed", "Connection reset", "Broken pipe", "remote process")
"""Of what gloo and NCCL say in one rank when another is gone."""


class Worker:
    """The body of an actor of three threads: one trains, the others hear and answer meanwhile."""

    def __init__(self, environment: dict[str, str]) -> None:
        """SIGTERM is heeded from now on. Ray makes actors in the main thread, which can do that."""
        os.environ.update(environment)
        self._stop = threading.Event()
        self._result: Outcome | Failure | None = None
        self._meeting_point: socket.socket | None = None
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def run(
        self,
        run_trial: RunTrial,
        assignment: Assignment,
        rank: int = 0,
        address: Address | None = None,
    ) -> Outcome | Failure:
        """Run an attempt; a trial of several ranks has an `address`, that of its first one."""
        self._result = None
        try:
            if address is not None:
                self._join(assignment, rank, address)
            # The first attempt imports the function to run, and with it torch.
            self._result = run_trial(assignment, stop=self._stop.is_set)
        except Exception as error:  # noqa: BLE001 (recorded with the attempt; the sweep goes on)
            failure = Failure.of(error)
            has_lost_rank = any(sign in failure.traceback for sign in _SIGNS_OF_A_LOST_RANK)
            if address is not None and failure.kind == "error" and has_lost_rank:
                failure = dataclasses.replace(failure, kind="crashed")
            self._result = failure
        return self._result

    def address(self, host: str) -> Address:
        """Open the port of this machine where the ranks of an attempt meet, for the first rank."""
        family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        self._meeting_point = socket.socket(family, socket.SOCK_STREAM)
        self._meeting_point.bind(address)
        return host, self._meeting_point.getsockname()[1]

    def stop(self) -> None:
        """Ask the attempt to write a checkpoint and end; one of its ranks is enough."""
        self._stop.set()

    def result(self) -> Outcome | Failure | None:
        """What `run` returned last, for callers that could not be reached then."""
        return self._result

    def stacks(self) -> str:
        """What the threads of this process do."""
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return file.read()

    def _join(self, assignment: Assignment, rank: int, address: Address) -> None:
        """Set up `torch.distributed`. A rank sees one GPU only, so that this is the current one."""
        host, port = address
        if host == _LOOPBACK:  # of one machine, which nobody else has to reach
            os.environ.update(_ON_LOOPBACK)
        import torch.distributed as dist  # reads the environment

        n_ranks = assignment.planned.resources.n_ranks
        # A socket of its own, or the store would listen on all interfaces.
        listening = self._meeting_point.detach() if self._meeting_point and rank == 0 else None
        store = dist.TCPStore(  # type: ignore[attr-defined]
            host, port, n_ranks, rank == 0, timeout=RANKS_WAIT, master_listen_fd=listening
        )
        dist.init_process_group(
            "nccl" if assignment.attempt.device == "cuda" else "gloo",
            store=store,
            timeout=RANKS_WAIT,
            world_size=n_ranks,
            rank=rank,
        )

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()
