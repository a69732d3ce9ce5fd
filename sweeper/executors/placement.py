"""Which node a trial fits on. Pure: no Ray, no clock.

A sweep keeps its own books of what is free, because Ray queues what does not fit without a word,
and never says that something will not fit at all.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sweeper.trials.resources import Resources

TOLERANCE = 1e-6
"""Shares are sums of floating-point numbers: three thirds of a GPU are one."""


@dataclass(frozen=True)
class Node:
    """A machine, or a part of one, that runs trials."""

    node_id: str
    cpus: float
    gpus: int = 0
    name: str = ""
    """For people."""


@dataclass(frozen=True)
class Demand:
    """What one attempt occupies: equal bundles, one for each rank."""

    n_ranks: int
    cpus: float
    """Cores of each rank."""
    gpus: float
    """Of each rank: 0, a share 1/k, or 1."""
    is_alone: bool = False
    """Whether its node may run nothing else meanwhile."""

    def __str__(self) -> str:
        cpus, gpus = self.n_ranks * self.cpus, self.n_ranks * self.gpus
        what = _count(cpus, "CPU") + (f" and {_count(gpus, 'GPU')}" if gpus else "")
        return what if self.n_ranks == 1 else f"{what} for {self.n_ranks} ranks"


_REMEDY = "lower resources.gpus, .ranks or .cpus in the sweep file, or use a larger cluster"

Placement = tuple[str, ...]
"""The node of each rank."""


@dataclass(frozen=True)
class Room:
    """What is free on a node."""

    node: Node
    cpus: float
    gpus: tuple[float, ...]
    """Of each GPU."""

    @classmethod
    def of(cls, node: Node) -> "Room":
        """All of a node."""
        return cls(node, node.cpus, (1.0,) * node.gpus)

    def holds(self, demand: Demand) -> bool:
        """Whether one rank fits."""
        if demand.is_alone and self != Room.of(self.node):
            return False
        return self.cpus >= demand.cpus - TOLERANCE and (
            not demand.gpus or self._fullest(demand.gpus) is not None
        )

    def without(self, demand: Demand) -> "Room":
        """What is left beside one rank, which must fit."""
        if demand.is_alone:
            return Room(self.node, 0.0, ())
        gpus = list(self.gpus)
        if demand.gpus:
            i = self._fullest(demand.gpus)
            assert i is not None
            gpus[i] -= demand.gpus
        return Room(self.node, self.cpus - demand.cpus, tuple(gpus))

    def n_ranks(self, demand: Demand) -> int:
        """How many ranks fit, up to all of them."""
        room, n = self, 0
        while n < demand.n_ranks and room.holds(demand):
            room, n = room.without(demand), n + 1
        return n

    def _fullest(self, share: float) -> int | None:
        """The GPU with the least room that is enough, which is how Ray chooses, too."""
        fitting = [i for i, free in enumerate(self.gpus) if free >= share - TOLERANCE]
        return min(fitting, key=lambda i: self.gpus[i], default=None)


def demand_of(resources: Resources, nodes: Iterable[Node]) -> Demand:
    """What a trial occupies on these nodes, `auto` resolved.

    Where no node has a GPU, a trial of one rank that wants one, or a share, computes on the CPU.
    """
    with_gpus = [node for node in nodes if node.gpus]
    gpus = _gpus_of_rank(resources, bool(with_gpus))
    cpus = 1.0 if resources.cpus == "auto" else resources.cpus
    if resources.cpus == "auto" and gpus:
        per_gpu = math.floor(1 / gpus + TOLERANCE)
        cpus = min([1.0, *(node.cpus / (node.gpus * per_gpu) for node in with_gpus)])
    return Demand(resources.n_ranks, cpus, gpus)


def place(demand: Demand, rooms: Sequence[Room]) -> Placement | None:
    """Nodes for all ranks, or None where they do not fit now.

    All on one node if possible, on the one with the least room; else on as few as possible.
    """
    fits = [(room.n_ranks(demand), room) for room in rooms]
    whole = [room for n, room in fits if n == demand.n_ranks]
    if whole:
        room = min(whole, key=lambda room: (sum(room.gpus), room.cpus, room.node.node_id))
        return (room.node.node_id,) * demand.n_ranks
    placement: list[str] = []
    for n, room in sorted(fits, key=lambda fit: (-fit[0], fit[1].node.node_id)):
        placement += [room.node.node_id] * min(n, demand.n_ranks - len(placement))
    return tuple(placement) if len(placement) == demand.n_ranks else None


def occupied(rooms: Iterable[Room], demand: Demand, placement: Placement) -> tuple[Room, ...]:
    """The rooms with a placement taken from them; nodes that are gone do not matter."""
    left = []
    for room in rooms:
        for _ in range(placement.count(room.node.node_id)):
            # A trial that was placed while the node looked larger takes what there is.
            room = room.without(demand) if room.holds(demand) else Room(room.node, 0.0, ())
        left.append(room)
    return tuple(left)


def why_infeasible(demand: Demand, nodes: Sequence[Node], max_ranks: int | None = None) -> str:
    """Why a demand would not fit even if nothing else ran; empty if it would."""
    if max_ranks is not None and demand.n_ranks > max_ranks:
        return f"asks for {demand}; expected at most {max_ranks} here: use --executor ray"
    rooms = [Room.of(node) for node in nodes]
    if place(demand, rooms) is not None:
        return ""
    one = dataclasses.replace(demand, n_ranks=1)
    offers = dict.fromkeys(
        _count(node.cpus, "CPU") + (f" and {_count(node.gpus, 'GPU')}" if node.gpus else "")
        for node in sorted(nodes, key=lambda node: (-node.gpus, -node.cpus))
    )
    there = " or ".join(offers) if offers else "no node"
    if demand.n_ranks > 1 and place(one, rooms) is not None:
        n_fit = sum(room.n_ranks(demand) for room in rooms)
        return f"asks for {demand}; only {n_fit} of its ranks fit on all nodes; {_REMEDY}"
    return f"asks for {demand}; expected no more than one node offers, {there}; {_REMEDY}"


def n_places(node: Node, demands: Iterable[Demand]) -> int:
    """How many ranks of the smallest of these demands run on a node at the same time."""
    places = [0]
    for demand in demands:
        n = math.floor(node.cpus / demand.cpus + TOLERANCE)
        if demand.gpus:
            n = min(n, node.gpus * math.floor(1 / demand.gpus + TOLERANCE))
        places.append(n)
    return max(places)


def _gpus_of_rank(resources: Resources, has_gpus: bool) -> float:
    if resources.gpus == "auto":
        return 1.0 if has_gpus else 0.0
    if resources.n_ranks > 1:
        return 1.0 if resources.gpus else 0.0
    if not resources.gpus or not has_gpus:
        return 0.0
    return 1 / math.floor(1 / resources.gpus + TOLERANCE)  # the next 1/k: nothing is wasted


def _count(number: float, unit: str) -> str:
    return f"{number:.3g} {unit}" + ("" if number == 1 else "s")
