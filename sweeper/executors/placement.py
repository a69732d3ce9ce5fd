"""Which node a trial fits on. Pure: no Ray, no clock.

A sweep counts what is free itself, because Ray silently queues what does not fit, even what will
never fit.
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
class FreeResources:
    """What is free on a node."""

    node: Node
    cpus: float
    gpus: tuple[float, ...]
    """Of each GPU."""

    @classmethod
    def of(cls, node: Node) -> "FreeResources":
        """All of a node."""
        return cls(node, node.cpus, (1.0,) * node.gpus)

    def holds(self, demand: Demand) -> bool:
        """Whether one rank fits."""
        if demand.is_alone and self != FreeResources.of(self.node):
            return False
        return self.cpus >= demand.cpus - TOLERANCE and (
            not demand.gpus or self._fullest(demand.gpus) is not None
        )

    def without(self, demand: Demand) -> "FreeResources":
        """What is left once one rank, which must fit, is placed."""
        if demand.is_alone:
            return FreeResources(self.node, 0.0, ())
        gpus = list(self.gpus)
        if demand.gpus:
            i = self._fullest(demand.gpus)
            assert i is not None
            gpus[i] -= demand.gpus
        return FreeResources(self.node, self.cpus - demand.cpus, tuple(gpus))

    def n_ranks(self, demand: Demand) -> int:
        """How many ranks fit, up to all of them."""
        left, n = self, 0
        while n < demand.n_ranks and left.holds(demand):
            left, n = left.without(demand), n + 1
        return n

    def _fullest(self, share: float) -> int | None:
        """The GPU with the least free that is enough, which is how Ray chooses, too."""
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


def place(demand: Demand, free: Sequence[FreeResources]) -> Placement | None:
    """Nodes for all ranks, or None where they do not fit now.

    All on one node if possible, on the one with the least free; else on as few as possible.
    """
    fits = [(each.n_ranks(demand), each) for each in free]
    whole = [each for n, each in fits if n == demand.n_ranks]
    if whole:
        each = min(whole, key=lambda each: (sum(each.gpus), each.cpus, each.node.node_id))
        return (each.node.node_id,) * demand.n_ranks
    placement: list[str] = []
    for n, each in sorted(fits, key=lambda fit: (-fit[0], fit[1].node.node_id)):
        placement += [each.node.node_id] * min(n, demand.n_ranks - len(placement))
    return tuple(placement) if len(placement) == demand.n_ranks else None


def occupied(
    free: Iterable[FreeResources], demand: Demand, placement: Placement
) -> tuple[FreeResources, ...]:
    """The resources with a placement taken from them; nodes that are gone do not matter."""
    left = []
    for each in free:
        for _ in range(placement.count(each.node.node_id)):
            # A trial that was placed while the node looked larger takes what there is.
            each = each.without(demand) if each.holds(demand) else FreeResources(each.node, 0.0, ())
        left.append(each)
    return tuple(left)


def why_infeasible(demand: Demand, nodes: Sequence[Node], max_ranks: int | None = None) -> str:
    """Why a demand would not fit even if nothing else ran; empty if it would."""
    if max_ranks is not None and demand.n_ranks > max_ranks:
        return f"asks for {demand}; expected at most {max_ranks} here: use --executor ray"
    free = [FreeResources.of(node) for node in nodes]
    if place(demand, free) is not None:
        return ""
    one = dataclasses.replace(demand, n_ranks=1)
    offers = dict.fromkeys(
        _count(node.cpus, "CPU") + (f" and {_count(node.gpus, 'GPU')}" if node.gpus else "")
        for node in sorted(nodes, key=lambda node: (-node.gpus, -node.cpus))
    )
    there = " or ".join(offers) if offers else "no node"
    if demand.n_ranks > 1 and place(one, free) is not None:
        n_fit = sum(each.n_ranks(demand) for each in free)
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
