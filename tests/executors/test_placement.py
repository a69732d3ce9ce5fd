"""Which node a trial fits on, and what is said of one that fits on none."""

import itertools

import pytest

from sweeper.executors.placement import (
    Demand,
    FreeResources,
    Node,
    demand_of,
    n_places,
    place,
    why_infeasible,
)
from sweeper.trials.resources import Resources

LAPTOP = Node("laptop", cpus=2)
BIG, SMALL = Node("big", cpus=16, gpus=8), Node("small", cpus=4, gpus=2)


@pytest.mark.parametrize(
    ("resources", "nodes", "expected"),
    [
        (Resources(), [LAPTOP], Demand(1, 1.0, 0.0)),
        (Resources(), [LAPTOP, BIG], Demand(1, 1.0, 1.0)),
        (Resources(gpus=0), [BIG], Demand(1, 1.0, 0.0)),
        (Resources(gpus=0.25), [BIG], Demand(1, 0.5, 0.25)),
        (Resources(gpus=0.15), [BIG], Demand(1, 16 / 48, 1 / 6)),
        (Resources(gpus=0.4, cpus=3), [BIG], Demand(1, 3.0, 0.5)),
        (Resources(gpus=0.25), [LAPTOP], Demand(1, 1.0, 0.0)),
        (Resources(gpus=1), [LAPTOP], Demand(1, 1.0, 0.0)),
        (Resources(gpus=4, n_ranks=4), [BIG], Demand(4, 1.0, 1.0)),
        (Resources(gpus=4, n_ranks=4), [LAPTOP], Demand(4, 1.0, 1.0)),
        (Resources(gpus=0, n_ranks=2), [LAPTOP], Demand(2, 1.0, 0.0)),
    ],
)
def test_auto_takes_what_there_is(
    resources: Resources, nodes: list[Node], expected: Demand
) -> None:
    assert demand_of(resources, nodes) == expected


def test_shares_of_a_gpu_fill_it_without_waste() -> None:
    room, third = FreeResources.of(Node("n", cpus=8, gpus=2)), Demand(1, 1.0, 1 / 3)
    for n_left in range(6, 0, -1):
        assert room.n_ranks(Demand(6, 1.0, 1 / 3)) == n_left
        room = room.without(third)
    assert not room.holds(third)


def test_a_share_goes_where_least_is_left_so_that_whole_gpus_stay_whole() -> None:
    room = FreeResources.of(Node("n", cpus=8, gpus=2))
    for _ in range(2):
        room = room.without(Demand(1, 1.0, 0.5))
    assert room.gpus == (0.0, 1.0)
    assert room.holds(Demand(1, 1.0, 1.0))


def test_a_trial_alone_takes_an_empty_node_and_leaves_nothing() -> None:
    alone, room = Demand(1, 1.0, 0.0, is_alone=True), FreeResources.of(LAPTOP)
    assert room.holds(alone)
    assert not room.without(alone).holds(Demand(1, 0.1, 0.0))
    assert not room.without(Demand(1, 1.0, 0.0)).holds(alone)


def test_ranks_stay_together_where_they_can() -> None:
    rooms = [FreeResources.of(BIG), FreeResources.of(SMALL)]
    assert place(Demand(2, 1.0, 1.0), rooms) == ("small", "small")
    assert place(Demand(4, 1.0, 1.0), rooms) == ("big",) * 4
    assert place(Demand(10, 1.0, 1.0), rooms) == ("big",) * 8 + ("small",) * 2
    assert place(Demand(11, 1.0, 1.0), rooms) is None


@pytest.mark.parametrize(("n_cpus", "n_gpus"), [(2, 0), (3.5, 0), (16, 2), (4, 4), (0, 0)])
def test_room_is_never_given_twice(n_cpus: float, n_gpus: int) -> None:
    for cpus, gpus in itertools.product((0.25, 1.0, 3.0), (0.0, 0.2, 0.5, 1.0)):
        demand, node = Demand(1, cpus, gpus), Node("n", n_cpus, n_gpus)
        room, n = FreeResources.of(node), 0
        while room.holds(demand):
            room, n = room.without(demand), n + 1
        assert n * cpus <= n_cpus + 1e-3
        assert n * gpus <= n_gpus + 1e-3
        assert n == n_places(node, [demand])
        assert all(free > -1e-3 for free in (room.cpus, *room.gpus))


@pytest.mark.parametrize(
    ("demand", "nodes", "words"),
    [
        (Demand(8, 1.0, 1.0), [LAPTOP], ["8 GPUs", "8 ranks", "2 CPUs"]),
        (Demand(1, 4.0, 0.0), [LAPTOP], ["4 CPUs", "offers, 2 CPUs"]),
        (Demand(12, 1.0, 1.0), [BIG, SMALL], ["12 GPUs", "only 10 of its ranks"]),
        (Demand(1, 1.0, 0.0), [], ["no node"]),
        (Demand(1, 32.0, 1.0), [SMALL, BIG], ["32 CPUs", "16 CPUs and 8 GPUs"]),
    ],
)
def test_what_fits_nowhere_is_told_with_what_there_is(
    demand: Demand, nodes: list[Node], words: list[str]
) -> None:
    reason = why_infeasible(demand, nodes)
    assert [word for word in words if word not in reason] == []


def test_what_fits_on_empty_nodes_is_feasible() -> None:
    assert why_infeasible(Demand(10, 1.0, 1.0), [BIG, SMALL]) == ""
    assert "at most 1" in why_infeasible(Demand(2, 1.0, 0.0), [BIG], max_ranks=1)
