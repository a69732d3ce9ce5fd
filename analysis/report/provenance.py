"""Where the numbers of a source come from: versions, hardware, corpus, and what is in no fit."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from analysis.errors import SourceError
from analysis.tables.parquet_parts import read_parquet
from sweeper.store.storage import StoragePath

CONSTANT_COLUMNS = {
    "data_source": "corpus",
    "data_fingerprint": "corpus fingerprint",
    "eval_sequences": "validation sequences",
    "precision": "precision",
    "device": "device",
}
"""Columns of `trials` that a report names, with the words for them."""


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from, as far as it is known."""

    source: str
    """Path or name of the source, as the user gave it."""
    facts: tuple[tuple[str, str], ...] = ()
    excluded: tuple[tuple[str, str, str, str], ...] = ()
    """Trials that are in no fit as (trial id, series, status, reason)."""


def provenance_of(source: StoragePath) -> Provenance:
    """Of a results folder, SourceError where it is damaged; of any other source its name alone."""
    if not (source / "trials").is_dir():
        return Provenance(source.name)
    try:
        trials = read_parquet(source / "trials")
        manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
        sweep = yaml.safe_load((source / "sweep.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SourceError(
            f"{source}: its trials, manifest or sweep file cannot be read ({error}); run the sweep "
            "again to rewrite them, or `sweeper verify` to see what is wrong"
        ) from error
    facts = [("trials", f"{len(trials)}")]
    for column, name in CONSTANT_COLUMNS.items():
        values = sorted(str(value) for value in trials[column].dropna().unique())
        facts.append((name, ", ".join(values)))
    facts += _training(trials, sweep)
    left_out = trials[trials["status"] != "done"].to_dict("records")
    excluded = tuple(
        (t["trial_id"], t["series"], t["status"], f"{t['error_class']}: {t['error_message']}")
        for t in left_out
    )
    packages = manifest.get("packages") or {}
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    git = manifest.get("git") or {}
    commit = git.get("commit", "unknown")
    if git.get("has_uncommitted_changes"):
        commit += ", with uncommitted changes"
    facts += [
        ("python", str(manifest.get("python", "unknown"))),
        ("packages", versions),
        ("git commit", commit),
        ("hardware", f"{manifest.get('cpu_cores')} cores, {manifest.get('cpu')}"),
        ("GPUs", ", ".join(manifest.get("gpus") or []) or "none"),
    ]
    return Provenance(source.name, tuple(facts), excluded)


def _training(trials: pd.DataFrame, sweep: Any) -> Iterator[tuple[str, str]]:
    """For each series its learning rates and batches, and how these were chosen."""
    fields = sweep if isinstance(sweep, dict) else {}
    files = (fields.get("law_files") or {}).values()
    n_runs = {law["series"]: law["measured"]["runs"] for file in files for law in file["laws"]}
    entries = (fields.get("design") or {}).get("list") or ()
    listed = {key for entry in entries for key in entry.get("train") or {}}
    for label, mine in trials.groupby("series", sort=False):
        own = ((fields.get("series") or {}).get(label) or {}).get("train") or {}
        train = {**(fields.get("train") or {}), **own}
        parts = []
        for key, word in (("learning_rate", "learning rate"), ("batch_tokens", "tokens a batch")):
            low, high = mine[key].min(), mine[key].max()
            values = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            written = "run by run" if key in listed else train.get(key, "auto")
            parts.append(f"{word} {values}, {_how(written, n_runs.get(label))}")
        yield f"training of {label}", "; ".join(parts)


def _how(written: object, n_runs: int | None) -> str:
    """How a setting was chosen, by what the sweep file says."""
    if written == "tuned":
        return "tuned" if n_runs is None else f"tuned in {n_runs} runs"
    return "untuned, auto" if written == "auto" else "as written in the sweep file"
