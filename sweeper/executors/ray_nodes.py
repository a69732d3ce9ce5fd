"""Nodes of a Ray cluster: alive, about to go, or such as its autoscaler may start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeper.executors import ray_private
from sweeper.executors.placement import Demand, Node

MAX_ANNOUNCED = 1000
"""Waiting trials that the autoscaler is told of."""

MAX_NODES_OF_A_KIND = 64
"""More tell no more about what would fit."""


@dataclass(frozen=True)
class ClusterNodes:
    """What a cluster says of its nodes at one moment."""

    usable: tuple[Node, ...] = ()
    draining_ids: frozenset[str] = frozenset()
    """Alive, but about to be taken away."""
    host_by_id: Mapping[str, str] = field(default_factory=dict)
    """Addresses of all nodes that are alive."""


def cluster_nodes(ray: Any) -> ClusterNodes:
    """The nodes of a cluster now."""
    draining_ids = frozenset(ray_private.draining_nodes(ray))
    alive = [entry for entry in ray.nodes() if entry["Alive"]]
    usable = tuple(
        Node(
            node_id=entry["NodeID"],
            cpus=entry["Resources"].get("CPU", 0.0),
            gpus=int(entry["Resources"].get("GPU", 0)),
            name=entry["NodeManagerHostname"],
        )
        for entry in alive
        if entry["NodeID"] not in draining_ids
    )
    hosts = {entry["NodeID"]: entry["NodeManagerAddress"] for entry in alive}
    return ClusterNodes(usable, draining_ids, hosts)


def nodes_of_autoscaler(ray: Any) -> tuple[Node, ...]:
    """Nodes that the autoscaler may start; none where there is no autoscaler."""
    return tuple(
        Node(
            node_id=f"{group.name}-{number}",
            cpus=group.resources["CPU"],
            gpus=int(group.resources["GPU"]),
            name=group.name,
        )
        for group in ray_private.node_groups_of_autoscaler(ray)
        for number in range(min(group.max_count, MAX_NODES_OF_A_KIND))
    )


def bundles_of(waiting: Sequence[Demand]) -> list[dict[str, float]]:
    """What waiting trials ask for, one bundle per rank, as the autoscaler wants to be told."""
    return [
        {"CPU": demand.cpus} | ({"GPU": demand.gpus} if demand.gpus else {})
        for demand in waiting[:MAX_ANNOUNCED]
        for _ in range(demand.n_ranks)
    ]
