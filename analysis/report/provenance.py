"""Where the numbers of a source come from: versions, hardware, corpus, and what is in no fit."""

import json
from dataclasses import dataclass

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
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{source}: its trials or manifest cannot be read ({error}); run the sweep again to "
            "rewrite them, or `sweeper verify` to see what is wrong"
        ) from error
    facts = [("trials", f"{len(trials)}")]
    for column, name in CONSTANT_COLUMNS.items():
        values = sorted(str(value) for value in trials[column].dropna().unique())
        facts.append((name, ", ".join(values)))
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
