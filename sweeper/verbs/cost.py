"""What verbs say before a sweep runs about the time and money it takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.store.storage import StoragePath

if TYPE_CHECKING:
    from sweeper.orchestration.cost import ExpectedCost
    from sweeper.trials.plan import Plan, PlannedTrial
    from sweeper.trials.resources import Limits


def cost_here(plan: "Plan", results: StoragePath, *, is_on_gpus: bool) -> "ExpectedCost | None":
    """Of what is missing of a plan on this machine, by what `results` knows of its speed.

    None where it is for GPUs and there are none.
    """
    from sweeper.executors.machine import available_cores
    from sweeper.executors.placement import Node, demand_of, n_places
    from sweeper.orchestration.cost import (
        CostModel,
        expected_cost,
        probe_timings,
        record_timings,
    )
    from sweeper.store.layout import Store, share_kept
    from sweeper.store.probes import probes_here
    from sweeper.store.results import published

    n_gpus = 0
    if is_on_gpus:
        import torch

        n_gpus = torch.cuda.device_count()
    node = Node("here", available_cores(), gpus=n_gpus)
    device = "cuda" if is_on_gpus else "cpu"
    demands = {demand_of(each, [node]) for each in {trial.resources for trial in plan.trials}}
    n_slots = max(n_places(node, [demand]) // demand.n_ranks for demand in demands)
    if is_on_gpus and not n_gpus:
        return None
    # Planning needs no object store to answer.
    store = Store(results / plan.name)
    is_local = isinstance(results, Path)
    records = published(store) if is_local else ()
    model = CostModel(
        record_timings(plan.trials, records, device),
        probe_timings(plan.trials, probes_here(results), device),
    )

    has_checkpoints = is_local and store.all_checkpoints.exists()

    def share_done(planned: "PlannedTrial") -> float:
        is_kept = has_checkpoints and planned.keeps_checkpoint
        return share_kept(store, planned.trial) if is_kept else 0.0

    return expected_cost(plan, records, model, device, max(1, n_slots), share_done)


def probe_here(plan: "Plan", results: StoragePath, *, is_on_gpus: bool) -> Iterator[str]:
    """Probe what has not been probed on this machine, and keep it; says what it does."""
    import torch

    from sweeper.orchestration.driver import N_THREADS
    from sweeper.store.probes import keep_probes, probe_key, probes_here
    from sweeper.training.probe import probe, probed_trials

    device = "cuda" if is_on_gpus else "cpu"
    known = probes_here(results)
    missing = [each for each in probed_trials(plan.trials) if probe_key(each, device) not in known]
    found, n_before = {}, torch.get_num_threads()
    for planned in missing:
        seconds = probe(planned, torch.device(device), N_THREADS)
        what = f"{planned.series} {planned.params.trunk:,}"
        if seconds is None:
            yield f"no probe of {what}: one sequence takes too long here, or too much memory"
            continue
        found[probe_key(planned, device)] = seconds
        yield f"probed {what}: {1e6 * seconds:.3g} µs per token"
    torch.set_num_threads(n_before)
    if found:
        keep_probes(results, found)


def cost_text(cost: "ExpectedCost", n_planned: int) -> str:
    """One line on time, device-hours and money."""
    from sweeper.sweepfile.quantities import duration

    if not cost.n_trials:
        return "all of these trials are published"
    what = "" if cost.n_trials == n_planned else f", for the {cost.n_trials} that are missing"
    money = ""
    if cost.price_per_hour is not None:
        money = f", {cost.device_hours * cost.price_per_hour:.2f} at {cost.price_per_hour:g} each"
    basis = "" if cost.is_measured else "; at an assumed speed, which --probe measures"
    return (
        f"on this machine, {cost.n_slots} × {cost.device}{what}: about "
        f"{duration(cost.wall.p50_s)} (p90 {duration(cost.wall.p90_s)}), "
        f"{cost.device_hours:.3g} device-hours{money}{basis}"
    )


def limit_warnings(cost: "ExpectedCost", limits: "Limits") -> Iterator[str]:
    """Limits that the driver is expected to stop at, as far as speeds were measured."""
    from sweeper.sweepfile.quantities import duration

    if not cost.is_measured:
        return
    if cost.wall.p50_s > limits.wall_s:
        yield (
            f"it is expected to take {duration(cost.wall.p50_s)}, longer than limits.wall: the "
            "driver stops there, and running it again goes on [wall_limit]"
        )
    hours = cost.device_hours_spent + cost.device_hours
    for key, limit, expected in (
        ("device_hours", limits.device_hours, hours),
        ("cost", limits.cost, hours * (cost.price_per_hour or 0.0)),
    ):
        if expected > limit:
            yield (
                f"it is expected to come to {expected:.3g} in all, more than limits.{key}: the "
                f"driver stops there; raise it, or plan less [{key}_limit]"
            )
