"""Submitting: what a user asked for, the plan that follows, and where it is about to run."""

from pathlib import Path
from typing import TYPE_CHECKING

from sweeper import durable
from sweeper.manifest import manifest
from sweeper.plan_file import StoredCell, StoredPlan, StoredTrial, write_plan
from sweeper.store import Store

if TYPE_CHECKING:  # planning loads families and corpora, and with them torch
    from sweeper.plan import Plan, PlannedTrial


def submit(store: Store, plan: StoredPlan, text: str) -> None:
    """Record a sweep file, its plan, and versions and hardware.

    `text` is the sweep file as submitted, overrides included. Call it while holding
    `held(store)`.
    """
    if isinstance(store.published, Path):
        store.published.mkdir(parents=True, exist_ok=True)
    durable.replace(store.manifest, durable.to_json(manifest()))
    record_plan(store, plan, text)


def record_plan(store: Store, plan: StoredPlan, text: str) -> None:
    """Record a sweep file and its plan; all that a driver at work is told (`handover.py`)."""
    _add_revision(store, text.encode())
    write_plan(store, plan)


def stored_plan(plan: "Plan") -> StoredPlan:
    """A plan as the store keeps it."""
    return StoredPlan(plan.name, tuple(_stored(planned) for planned in plan.trials))


def _add_revision(store: Store, data: bytes) -> None:
    current = store.folder / "sweep.yaml"
    if current.exists() and current.read_bytes() == data:
        return
    revisions = store.folder / "revisions"
    number = 1 + len(list(revisions.glob("[0-9]*.yaml")))
    while not durable.create_exclusively(revisions / f"{number:04d}.yaml", data):
        number += 1  # somebody else submits at the same time
    durable.replace(current, data)


def _stored(planned: "PlannedTrial") -> StoredTrial:
    return StoredTrial(
        series=planned.series,
        trial_id=planned.trial.trial_id,
        trajectory_id=planned.trial.trajectory_id,
        source=planned.source,
        reading=planned.reading,
        resources=planned.resources,
        trial=planned.trial,
        cells=tuple(
            StoredCell(cell.budget_flops, cell.step, cell.tokens, cell.flops)
            for cell in planned.cells
        ),
        params=planned.params,
        flops_per_token=planned.flops_per_token,
    )
