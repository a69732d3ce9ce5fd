"""Processes that stay, joined by gloo as the ranks of a trial are."""

import contextlib
import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


class RankError(Exception):
    """A rank has raised; the message is its traceback."""


class RankProcesses:
    """Ranks that run the same function at the same time, again and again until one raises."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def run(self, function: Callable[..., Any], *args: object) -> list[Any]:
        """What `function(*args)` returns in each rank; raises RankError if any raises."""
        for connection in self._connections:
            connection.send((function, args))
        answers = [connection.recv() for connection in self._connections]
        errors = [error for error, _ in answers if error]
        if errors:
            raise RankError("\n".join(errors))
        return [result for _, result in answers]


@contextlib.contextmanager
def rank_processes(n_ranks: int, folder: Path) -> Iterator[RankProcesses]:
    """Ranks that meet by a file in `folder`, and end with the context."""
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(n_ranks)]
    meeting_point = (folder / "meeting-point").as_uri()
    processes = [
        context.Process(target=_serve, args=(rank, n_ranks, meeting_point, theirs), daemon=True)
        for rank, (_, theirs) in enumerate(pairs)
    ]
    for process in processes:
        process.start()
    for _, theirs in pairs:
        theirs.close()
    try:
        yield RankProcesses([ours for ours, _ in pairs])
    finally:
        for process in processes:
            process.kill()
            process.join()


def _serve(rank: int, n_ranks: int, meeting_point: str, connection: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting_point, rank=rank, world_size=n_ranks)
    while True:
        function, args = connection.recv()
        try:
            connection.send(("", function(*args)))
        except Exception:  # noqa: BLE001 (told to the test)
            connection.send((traceback.format_exc(), None))
            return  # which the others notice
