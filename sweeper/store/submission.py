"""Submitting: what a user asked for, the plan that follows, and where it is about to run."""

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from sweeper.errors import StoreError
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.trials.plan import Plan, PlannedTrial

PLAN_VERSION = 1  # of the layout of `plan.json`
# Distributions whose versions can matter for a result.
PACKAGES = ("sweeper", "torch", "ray", "numpy", "pyarrow", "pandas", "scipy")


def submit(store: Store, plan: Plan, text: str) -> None:
    """Record, holding the sweep, its file with overrides, its plan, versions and hardware."""
    if isinstance(store.published, Path):
        store.published.mkdir(parents=True, exist_ok=True)
    files.replace(store.manifest, files.to_json(manifest()))
    record_plan(store, plan, text)


def record_plan(store: Store, plan: Plan, text: str) -> None:
    """Record a sweep file and its plan; all that a driver at work needs to know (`replan.py`)."""
    current, data = store.folder / "sweep.yaml", text.encode()
    if not current.exists() or current.read_bytes() != data:
        revisions = store.folder / "revisions"
        number = 1 + len(list(revisions.glob("[0-9]*.yaml")))
        while not files.create_exclusively(revisions / f"{number:04d}.yaml", data):
            number += 1  # somebody else submits at the same time
        files.replace(current, data)
    write_plan(store, plan)


def write_plan(store: Store, plan: Plan) -> None:
    """Replace `plan.json`."""
    head = f'"version": {PLAN_VERSION},\n"name": {json.dumps(plan.name)}'
    if plan.price_per_hour is not None:
        head += f',\n"price_per_hour": {json.dumps(plan.price_per_hour)}'
    if plan.keep != "optimal":
        head += f',\n"keep": {json.dumps(plan.keep)}'
    # One trial per line: indented, ten thousand of them take two seconds to write.
    lines = ",\n".join(json.dumps(planned.to_json(), allow_nan=False) for planned in plan.trials)
    files.replace(store.plan, f'{{\n{head},\n"trials": [\n{lines}\n]\n}}\n'.encode())


def read_plan(store: Store) -> Plan:
    """The plan in the store; raises StoreError when it is absent, torn or of another version."""
    # Those who read it do not plan again, so none of them imports families, corpora or torch.
    try:
        fields: dict[str, Any] = files.read_json(store.plan)
        version = fields["version"]
        if version == PLAN_VERSION:
            trials = tuple(map(PlannedTrial.from_json, fields["trials"]))
            keep = fields.get("keep", "optimal")
            return Plan(fields["name"], trials, fields.get("price_per_hour"), keep)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.plan} cannot be read ({type(error).__name__}: {error}); run the sweep again "
            "to rewrite it"
        ) from error
    raise StoreError(
        f"{store.plan} has layout version {version}, this sweeper reads {PLAN_VERSION}; run the "
        "sweep again with this version to rewrite it"
    )


def manifest() -> dict[str, Any]:
    """Versions, git commit and hardware as plain JSON values: where and with what a sweep ran.

    Nothing in it identifies a user, a host or a path, and no environment variable is read.
    """
    here = str(Path(__file__).parent)
    commit = _command("git", "-C", here, "rev-parse", "HEAD")
    changes = commit and _command("git", "-C", here, "status", "--porcelain", "-uno")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "git": {"commit": commit[0], "has_uncommitted_changes": bool(changes)} if commit else None,
        **machine(),
    }


def machine() -> dict[str, Any]:
    """Hardware and system of this machine, as plain JSON values."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_info("model name") or platform.processor(),
        "cpu_cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "gpus": _command("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"),
    }


def version(package: str) -> str | None:
    """Installed version of a package, without importing it."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _command(*words: str) -> list[str]:
    """Output lines of a program; none when it is absent, fails or hangs."""
    try:
        run = subprocess.run(words, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return run.stdout.splitlines()


def cpu_info(*names: str) -> str:
    """The first field of `/proc/cpuinfo` with one of these names; empty where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in names:
                return value.strip()
    return ""
