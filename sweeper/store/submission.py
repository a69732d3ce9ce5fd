"""Submitting: what a user asked for, the plan that follows, and where it is about to run."""

from pathlib import Path

from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.manifest import manifest
from sweeper.store.plan_file import write_plan
from sweeper.trials.plan import Plan


def submit(store: Store, plan: Plan, text: str) -> None:
    """Record a sweep file, its plan, and versions and hardware.

    `text` is the sweep file as submitted, overrides included. Call it while holding
    `held(store)`.
    """
    if isinstance(store.published, Path):
        store.published.mkdir(parents=True, exist_ok=True)
    files.replace(store.manifest, files.to_json(manifest()))
    record_plan(store, plan, text)


def record_plan(store: Store, plan: Plan, text: str) -> None:
    """Record a sweep file and its plan; all that a driver at work needs to know (`replan.py`)."""
    _add_revision(store, text.encode())
    write_plan(store, plan)


def _add_revision(store: Store, data: bytes) -> None:
    current = store.folder / "sweep.yaml"
    if current.exists() and current.read_bytes() == data:
        return
    revisions = store.folder / "revisions"
    number = 1 + len(list(revisions.glob("[0-9]*.yaml")))
    while not files.create_exclusively(revisions / f"{number:04d}.yaml", data):
        number += 1  # somebody else submits at the same time
    files.replace(current, data)
